"""``Run``: what a training script talks to while its run is open.

Invariants:
    * Recording never changes what it is given, and ``log`` never stops a training.
    * A run that failed, was interrupted or has no model cannot be released.
    * In a forked child, and on every rank but 0, all of this does nothing.

Example:
    >>> with stemma.run("digits") as run:  # doctest: +SKIP
    ...     run.data("digits-train", (X, y))
    ...     run.log(loss=0.31, step=10)
    ...     run.model(model, test=(X_test, y_test))
    >>> run.release()  # doctest: +SKIP
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from typing_extensions import override

from stemma.domain.errors import ConflictError, InvalidInputError
from stemma.domain.manifest import Manifest
from stemma.sdk.intake import ModelOffer, take_dataset, take_model
from stemma.sdk.notices import Terminated, ending_on_sigterm, warn
from stemma.sdk.process import is_recording_rank
from stemma.sdk.reporting import Reporting
from stemma.sdk.session import Session
from stemma.sdk.settings import Overrides, read_overrides
from stemma.sdk.settings import settings as process_settings
from stemma.sdk.versions import Version, release


class Run(Reporting):
    """One recorded training.

    Attributes:
        name: Name of the model.
        settings: Values given with ``stemma run --set name=value``.
        licence: SPDX expression of the model's licence; empty: as the policy says.
        personal_data: ``none``, ``pseudonymised``, ``personal`` or ``sensitive``;
            empty: undeclared.
        has_model: Whether the model has been recorded.
    """

    def __init__(self, name: str, *, reason: str = "") -> None:
        """Prepare a run; it starts when the ``with`` block is entered."""
        self.name = name
        self.settings: Overrides = read_overrides(os.environ)
        self.licence = ""
        self.personal_data = ""
        self._reason = reason
        self._session: Session | None = None
        self._manifest: Manifest | None = None
        self._has_ended = False
        self.has_model = False
        self._warned: set[str] = set()
        self._passed: dict[str, object] = {}
        self._defaulted: dict[str, object] = {}
        self._guard = ExitStack()

    # the block ------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        """Start the run."""
        if is_recording_rank():
            self._session = Session(self.name, reason=self._reason)
            self._guard.enter_context(ending_on_sigterm())
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Finish the run, or record how it failed; the exception goes on."""
        session = self._active
        self._has_ended = True
        if session is None:
            return
        with self._guard:
            if error is None or (isinstance(error, SystemExit) and error.code in {0, None}):
                self._finish(session)
            else:
                is_interrupted = isinstance(error, KeyboardInterrupt | Terminated)
                session.fail(error, is_interrupted=is_interrupted)

    def _finish(self, session: Session) -> None:
        if not self.has_model:
            missing = InvalidInputError(
                f"run {session.id} recorded no model",
                code="no-model",
                hint="call run.model(model, test=(X, y)) inside the block",
            )
            session.fail(missing, is_interrupted=False)
            raise missing
        settings = {name: self.settings[name] for name in sorted(self._used_settings())}
        session.recorder.set_hyperparameters({**settings, **self._passed}, self._defaulted)
        if self.licence or self.personal_data:
            session.recorder.set_licence(self.licence, personal_data=self.personal_data)
        self._manifest = session.finish()
        # After the end: a warning that is turned into an error cannot undo the recording.
        for warning in [
            *session.recorder.warnings,
            *_unused_settings(self.settings, self._used_settings()),
        ]:
            warn(warning)

    def _used_settings(self) -> set[str]:
        """Return the names that the script read, here or from ``stemma.settings``."""
        return (self.settings.used | process_settings.used) & set(self.settings)

    @property
    @override
    def _active(self) -> Session | None:
        """The session, where this process records and the run is open.

        Raises:
            ConflictError: If the run has ended, or was not entered.
        """
        if self._has_ended or (self._session is None and is_recording_rank()):
            state = "has ended" if self._has_ended else "has not started"
            raise ConflictError(
                f"the run of {self.name} {state}",
                code="run-not-open",
                hint='record inside `with stemma.run("name") as run:`',
            )
        if self._session is None or not self._session.is_own_process:
            return None
        return self._session

    # what it is -----------------------------------------------------------------------------

    @property
    @override
    def id(self) -> str:
        """Id of the run, ``r-`` and hexadecimal digits; empty where nothing is recorded."""
        return self._session.id if self._session is not None else ""

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of the recorded candidate by key (``recall[class=8]``); empty before the end."""
        if self._manifest is None:
            return {}
        return {metric.key: metric.number for metric in self._manifest.evidence.metrics}

    @override
    def __repr__(self) -> str:
        """Show name, id and state."""
        state = "recorded" if self._manifest is not None else "not recorded"
        return f"<Run {self.id or '-'} of {self.name}: {state}>"

    # what is recorded -----------------------------------------------------------------------

    def data(
        self,
        name: str,
        value: object,
        role: str = "training",
        preprocessing: Sequence[str] = (),
    ) -> None:
        """Record a dataset.

        Args:
            name: Its name.
            value: ``X`` or ``(X, y)`` with (n, …) numbers or text and (n,) labels; a DataFrame;
                the path of a file or folder; or what ``stemma.data`` returned.
            role: ``training``, ``validation`` or ``test``.
            preprocessing: Each preprocessing or augmentation step, in order.

        Raises:
            InvalidInputError: If the role is unknown or the value cannot be read.
            NotFoundError: If there is nothing at the path.
        """
        session = self._active
        if session is None:
            return
        captured = take_dataset(name, value, role, preprocessing, session.folder)
        session.recorder.add_dataset(captured)

    def model(  # noqa: PLR0913 - one call records a model; each fact is named at the call
        self,
        model: object,
        *,
        test: object = None,
        predict: Callable[[Any], object] | None = None,
        interface: Sequence[str] = (),
        optimizer: object = None,
        unsafe_pickle: bool = False,
        test_name: str = "",
    ) -> None:
        """Record the trained model and, with ``test``, how it behaves.

        Args:
            model: scikit-learn estimator, torch module, ONNX model or session, or the path of a
                file or folder.
            test: Golden set: ``(X, y)`` with (n, …) inputs and (n,) right answers, or ``X``.
            predict: Called with ``X``, returns (n,) answers; without, the model is asked itself.
            interface: Methods that callers rely on; without, every method there is.
            optimizer: torch optimizer, for its hyperparameters.
            unsafe_pickle: Write a pickle. Stemma never loads one.
            test_name: Name of the golden set; without, ``<model>-test``.

        Raises:
            InvalidInputError: If the model cannot be read, or its library is not installed.
            ConflictError: If this run has a model already.
        """
        session = self._active
        if session is None:
            return
        self._refuse_second_model()
        offer = ModelOffer(
            model=model,
            test=test,
            predict=predict,
            interface=tuple(interface),
            optimizer=optimizer,
            is_pickle_allowed=unsafe_pickle,
            test_name=test_name,
            sources=session.code.copies,
        )
        taken = take_model(
            offer, session.make_folder("model"), default_test_name=f"{self.name}-test"
        )
        session.recorder.set_model(taken.model)
        if taken.golden is not None and taken.predictions is not None:
            session.recorder.add_dataset(taken.golden)
            session.recorder.set_predictions(taken.predictions)
        self.has_model = True

    def _refuse_second_model(self) -> None:
        if self.has_model:
            raise ConflictError(
                f"run {self.id} has a model already",
                code="second-model",
                hint="record a second model in a run of its own",
            )

    def release(self, **options: Any) -> Version:
        """Release what this run recorded; takes the options of ``stemma.release``.

        Raises:
            ConflictError: If the run has not finished well.
            GateFailedError: If a gate refuses it.
        """
        if self._manifest is None:
            state = "failed" if self._has_ended else "is still open"
            raise ConflictError(
                f"run {self.id or self.name} {state}: nothing to release",
                code="run-not-finished",
                hint="release after the with block has ended well",
            )
        return release(self.name, run=self.id, **options)


def _unused_settings(settings: Mapping[str, object], used: AbstractSet[str]) -> list[str]:
    """Say which ``--set`` values nobody read, and how to read them."""
    unused = sorted(set(settings) - used)
    if not unused:
        return []
    advice = (
        f"read run.settings.get({unused[0]!r}), or give the decorated function an argument "
        "of that name"
    )
    return [f"--set {', '.join(unused)} was not used: {advice}"]
