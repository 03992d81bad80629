"""Records a run from files, for a training whose code does not know Stemma.

Invariants:
    * The run is opened before the command starts, so a crash leaves a failed run.
    * The sources are copied before the command starts: what is edited meanwhile is recorded
      as it ran.
    * What cannot be read from files is left out and said, never guessed.
"""

from __future__ import annotations

import ast
import importlib.metadata
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stemma.catalog.capture.artifact import capture_model_path
from stemma.catalog.capture.base import CapturedCode
from stemma.catalog.capture.code import RunningCode
from stemma.catalog.capture.data import capture_dataset_path
from stemma.catalog.capture.environment import capture_environment
from stemma.catalog.capture.hyperparameters import read_params
from stemma.catalog.capture.work_folder import WorkFolder
from stemma.catalog.recording import Recorder
from stemma.domain.component import DatasetRole
from stemma.domain.errors import InvalidInputError
from stemma.domain.manifest import Provenance
from stemma.domain.names import check_model_name
from stemma.domain.run import RunId, RunStart, RunState
from stemma.hub.relatives import relatives
from stemma.server.settings import load_settings
from stemma.tracking.process import current_process

if TYPE_CHECKING:
    from stemma.hub.base import Hub

_ROLES: Final = {
    "train": DatasetRole.TRAINING,
    "training": DatasetRole.TRAINING,
    "validation": DatasetRole.VALIDATION,
    "test": DatasetRole.TEST,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSpec:
    """One ``--data`` option.

    Attributes:
        name: Name of the dataset.
        role: What it is used for.
        path: Where it is.
    """

    name: str
    role: DatasetRole
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFiles:
    """What a run without SDK is recorded from.

    Attributes:
        model: Name of the model.
        command: What runs.
        artifact: File or folder the command writes; ``None``: nothing to record.
        datasets: Data the command reads.
        params: Parameter file; ``None`` without.
        settings: Values of ``--set``.
        reason: Why, in the user's words.
        invocation: Joins the runs of one command.
    """

    model: str
    command: tuple[str, ...]
    artifact: Path | None = None
    datasets: tuple[DataSpec, ...] = ()
    params: Path | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    reason: str = ""
    invocation: str = ""


def parse_data(text: str) -> DataSpec:
    """Read ``[ROLE:][NAME=]PATH``; the name defaults to the file's name without suffix."""
    role, rest = DatasetRole.TRAINING, text
    word, colon, after = text.partition(":")
    if colon and word in _ROLES:
        role, rest = _ROLES[word], after
    name, equals, path = rest.partition("=")
    if not equals or "/" in name:
        name, path = "", rest
    if not path:
        raise InvalidInputError(
            f"--data {text!r} names no path", code="bad-data", hint="--data test:name=data/test.csv"
        )
    file = Path(path)
    return DataSpec(name=name or file.resolve().name.split(".")[0], role=role, path=file)


def choose_model(hub: Hub, named: str, *, is_from_files: bool = False) -> str:
    """Return the model a run belongs to: the one named, else the only one there is.

    Args:
        hub: Where models are looked up.
        named: The name that was given; empty: none.
        is_from_files: The run is recorded from files, so only a model of files is meant.

    Raises:
        InvalidInputError: If it is not clear.
    """
    if named:
        return check_model_name(named)
    known = sorted(
        {model.name for model in hub.list_models()} | set(load_settings(hub.project_root).models)
    )
    if len(known) == 1:
        if is_from_files:
            _refuse_other_loader(hub, known[0])
        return known[0]
    which = f"it could be {', '.join(known)}" if known else "this project has none yet"
    raise InvalidInputError(
        f"which model is this run of? {which}",
        code="no-model-name",
        hint="stemma run --name digits …",
    )


def _refuse_other_loader(hub: Hub, model: str) -> None:
    """Refuse to take a file for the next version of a model that came from live objects."""
    finished = (run for run in hub.list_runs(model) if run.state is RunState.FINISHED)
    newest = next(finished, None)
    if newest is None:
        return
    loader = hub.resolve(f"{model}@{newest.id}").manifest.artifact.loader
    if loader != "file":
        raise InvalidInputError(
            f"which model is this run of? {model}, the only one here, is a {loader} model that"
            " its script recorded, not a file",
            code="no-model-name",
            hint=f"stemma run --name NEW-NAME … for another model, or --name {model}",
        )


def start_run(hub: Hub, files: RunFiles) -> RunId:
    """Open the run."""
    return hub.start_run(
        RunStart(
            model=files.model,
            command=files.command,
            invocation=files.invocation,
            reason=files.reason,
            created_by=hub.user,
            host=socket.gethostname(),
            process=current_process(),
        )
    )


class FileRun:
    """An open run that will be recorded from files.

    Attributes:
        id: Id of the run.
        files: What it is recorded from.
    """

    def __init__(self, hub: Hub, files: RunFiles) -> None:
        """Open the run and copy the sources of the command."""
        self.files = files
        self._hub = hub
        self._started_at = datetime.now(UTC)
        self.id = start_run(hub, files)
        root = hub.project_root
        self._work = WorkFolder(root / ".stemma" / "tmp", self.id)
        self._code = RunningCode(find_script(files.command), root, self._work.path)

    def finish(self) -> list[str]:
        """Record what the files say and close the run; returns what the user should know.

        Raises:
            NotFoundError: If a named file is missing.
        """
        recorder = self._collect()
        provenance = Provenance(
            run=self.id,
            started_at=self._started_at,
            ended_at=datetime.now(UTC),
            created_by=self._hub.user,
            host=socket.gethostname(),
            reason=self.files.reason,
        )
        recorder.set_earlier(relatives(self._hub, self.files.model))
        with self._hub.writing(is_patient=True):
            self._hub.finish_run(self.id, recorder.build(provenance))
        notes = list(recorder.warnings)
        note = interpreter_note(self.files.command)
        if note:
            notes.append(note)
        return notes

    def close(self) -> None:
        """Remove the copies."""
        self._work.close()

    def _collect(self) -> Recorder:
        hub, files, root = self._hub, self.files, self._hub.project_root
        recorder = Recorder(hub.objects, root, files.model)
        if files.artifact is not None:
            recorder.set_model(capture_model_path(files.artifact))
        for data in files.datasets:
            recorder.add_dataset(capture_dataset_path(data.name, data.path, data.role))
        code = self._code.finish()
        recorder.set_code(code)
        recorder.set_pipeline(files.command, configuration=[files.params] if files.params else [])
        params = read_params(files.params) if files.params else {}
        recorder.set_hyperparameters({**params, **files.settings})
        policy = hub.policy(files.model)
        recorder.set_licence(policy.licence, personal_data=policy.personal_data)
        recorder.set_environment(
            capture_environment(
                _imported_distributions(code),
                root / ".stemma" / "cache",
                project_root=root,
                allow_network=load_settings(root).may_use_network,
            )
        )
        return recorder


def find_script(command: Sequence[str]) -> Path | None:
    """Return the Python script a command runs, if any."""
    for word in command:
        path = Path(word)
        if path.suffix in {".py", ".ipynb"} and path.is_file():
            return path
    return None


def interpreter_note(command: Sequence[str]) -> str:
    """Say when the recorded packages may not be those that ran; empty when they are."""
    name = Path(command[0]).name
    if not name.startswith("python"):
        return (
            f"which interpreter {name} ran cannot be seen: packages are read from stemma's own;"
            " if they differ: stemma run … -- python SCRIPT, with stemma installed beside it"
        )
    found = shutil.which(command[0])
    # Unresolved: a virtual environment's python is a link.
    if found is None or Path(found).parent == Path(sys.executable).parent:
        return ""
    return (
        f"{found} ran, which is not stemma's interpreter: packages are read from {sys.executable};"
        " install stemma beside the training's packages"
    )


def _imported_distributions(code: CapturedCode) -> list[str]:
    """Return the distributions that the captured source imports by name."""
    modules: set[str] = set()
    for path in code.texts.values():
        if path.suffix == ".py":
            modules |= _imports(path)
    providers = importlib.metadata.packages_distributions()
    return sorted({name for module in modules for name in providers.get(module, [])})


def _imports(path: Path) -> set[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return set()
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found
