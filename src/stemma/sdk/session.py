"""One open run: the hub, the collected parts, and how it ends.

Invariants:
    * A run ends once: finished with a manifest, failed, or interrupted.
    * A process that was forked from the one that started the run never ends it.
    * Whatever goes wrong while a failure is recorded becomes a warning: the user's own
      exception is what reaches the user.
    * The sources are copied when the run starts: what is edited while it trains is recorded
      as it ran.
    * The work folder is gone when the run has ended, or when the next one starts.
"""

from __future__ import annotations

import os
import tempfile
import threading
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from stemma.catalog.capture.base import CapturedCode
from stemma.catalog.capture.code import RunningCode
from stemma.catalog.capture.environment import capture_environment
from stemma.catalog.capture.work_folder import WorkFolder
from stemma.catalog.recording import Recorder
from stemma.domain.errors import StemmaError
from stemma.domain.manifest import Manifest, Provenance
from stemma.domain.run import MetricPoint
from stemma.hub.relatives import relatives
from stemma.sdk.lineage import Parents
from stemma.sdk.notices import Terminated, warn
from stemma.sdk.process import make_start, read_process
from stemma.sdk.sources import LoadedSources
from stemma.server.settings import load_settings
from stemma.server.state_folder import STATE_FOLDER
from stemma.server.wiring import open_hub

CELLS_NAME: Final = "cells.py"
"""Where the sources of a notebook's cells stand in a version's code."""

_TRACEBACK_LIMIT: Final = 20_000


class Session:
    """An open run and what was collected for it.

    Attributes:
        id: Id of the run.
        model: Name of the model.
        recorder: The parts so far.
        folder: Work folder, gone at the end.
        code: The sources as they ran.
    """

    def __init__(self, model: str, *, reason: str = "") -> None:
        """Open the project's hub and start the run.

        Raises:
            NoProjectError: If there is no project here or above.
            InvalidInputError: If the model's name or its policy is wrong.
        """
        self.model = model
        self._process_id = os.getpid()
        self._lock = threading.Lock()
        self._steps: dict[str, int] = {}
        self._facts = read_process()
        with ExitStack() as stack:
            self._hub = open_hub()
            stack.callback(self._hub.close)
            self._start = make_start(model, self._facts, user=self._hub.user, reason=reason)
            self.id = self._hub.start_run(self._start)
            self._started_at = datetime.now(UTC)
            root = self._hub.project_root
            self._work = WorkFolder(root / STATE_FOLDER / "tmp", self.id)
            stack.callback(self._work.close)
            self.folder = self._work.path
            self.recorder = Recorder(self._hub.objects, root, model)
            script = self._facts.entry_point
            self._sources = LoadedSources([root, *([script.parent] if script else [])])
            self.code = RunningCode(
                script,
                root,
                self.make_folder("code"),
                self._sources.files(),
                read=self._sources.read,
            )
            self._parents = Parents()
            stack.pop_all()

    @property
    def is_own_process(self) -> bool:
        """Whether this is the process that started the run, not a fork of it."""
        return os.getpid() == self._process_id

    def next_step(self, name: str) -> int:
        """Return the step of the next point of a curve that is logged without one."""
        with self._lock:
            self._steps[name] = self._steps.get(name, -1) + 1
            return self._steps[name]

    def note_step(self, name: str, step: int) -> int:
        """Remember the step a curve has reached and return it."""
        with self._lock:
            self._steps[name] = max(step, self._steps.get(name, -1))
        return step

    def log(self, points: Sequence[MetricPoint]) -> None:
        """Append points of learning curves; safe from several threads."""
        self._hub.log_points(self.id, points)

    def make_folder(self, name: str) -> Path:
        """Return a new, empty folder inside the work folder."""
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))

    def finish(self) -> Manifest:
        """Capture code and environment, store everything and close the run.

        Raises:
            StemmaError: If the version cannot be recorded; the run is failed then.
        """
        try:
            return self._finish()
        except BaseException as error:
            self._record_failure(error, is_interrupted=isinstance(error, KeyboardInterrupt))
            raise
        finally:
            self._close()

    def fail(self, error: BaseException, *, is_interrupted: bool) -> None:
        """Close the run as failed or interrupted, with the traceback."""
        try:
            self._record_failure(error, is_interrupted=is_interrupted)
        finally:
            self._close()

    def _finish(self) -> Manifest:
        root = self._hub.project_root
        self.recorder.set_code(self._finish_code())
        self.recorder.set_environment(
            capture_environment(
                None,
                root / STATE_FOLDER / "cache",
                project_root=root,
                allow_network=load_settings(root).may_use_network,
                loader=self.recorder.loader,
            )
        )
        self.recorder.set_pipeline(self._facts.command)
        provenance = Provenance(
            run=self.id,
            started_at=self._started_at,
            ended_at=datetime.now(UTC),
            created_by=self._start.created_by,
            host=self._start.host,
            reason=self._start.reason,
            parents=self._parents.digests,
            summary_step_count=max(self._steps.values(), default=-1) + 1,
        )
        self.recorder.set_earlier(relatives(self._hub, self.model))
        with self._hub.writing(is_patient=True):
            manifest = self.recorder.build(provenance)
            self._hub.finish_run(self.id, manifest)
        return manifest

    def _finish_code(self) -> CapturedCode:
        code = self.code.finish(self._sources.files())
        # Read again: the cells run since the start are the training.
        cells = read_process().cells
        if self._facts.entry_point is not None or not cells:
            return code
        file = self.folder / CELLS_NAME
        file.write_text("\n\n".join(cells) + "\n", encoding="utf-8")
        return replace(code, files={**code.files, CELLS_NAME: file}, entry_point=CELLS_NAME)

    def _record_failure(self, error: BaseException, *, is_interrupted: bool) -> None:
        text = "".join(traceback.format_exception(error))[-_TRACEBACK_LIMIT:]
        failure = _failure_of(error)
        try:
            self._hub.fail_run(self.id, failure, traceback=text, is_interrupted=is_interrupted)
        except StemmaError as second:
            warn(f"run {self.id} failed, and that could not be recorded: {second}")

    def _close(self) -> None:
        self._parents.close()
        self._work.close()
        self._hub.close()


def _failure_of(error: BaseException) -> str:
    """Say in one line what went wrong, as a traceback ends, without notes."""
    if isinstance(error, Terminated):
        return "terminated (SIGTERM)"
    summary = traceback.TracebackException.from_exception(error)
    summary.__notes__ = []
    line = " ".join(list(summary.format_exception_only())[-1].split())
    return line.removeprefix("stemma.domain.errors.")
