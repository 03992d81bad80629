"""What a training says of itself while it runs: metrics, settings, metadata.

Invariants:
    * Logging never stops a training: what cannot be logged is left out with one warning.
    * In a process that does not record (another rank, a fork) every call does nothing.

``Run`` is made of this; it opens and closes the run, and takes data and models.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from datetime import UTC, datetime
from typing import Any

from stemma.domain.errors import InvalidInputError, StemmaError
from stemma.domain.manifest import Metric
from stemma.domain.run import MetricPoint
from stemma.sdk.callbacks import make_callback
from stemma.sdk.notices import warn
from stemma.sdk.session import Session


class Reporting(ABC):
    """Verbs of an open run that take values.

    Attributes:
        name: Name of the model.
    """

    name: str
    _warned: set[str]
    _passed: dict[str, object]
    _defaulted: dict[str, object]

    @property
    @abstractmethod
    def id(self) -> str:
        """The run's id."""
        ...

    @property
    @abstractmethod
    def _active(self) -> Session | None:
        """The session that records; ``None`` where nothing is recorded."""
        ...

    def log(self, *, step: int | None = None, **metrics: float) -> None:
        """Append one point to each named learning curve; never stops a training.

        Args:
            step: Training step; without, each curve counts its own from 0.
            **metrics: Values; one that is no finite number is left out with one warning.
        """
        session = self._active
        if session is None:
            return
        now = datetime.now(UTC)
        points = []
        for name, value in metrics.items():
            number = _as_number(value)
            if number is None:
                self._warn_once(f"metric {name} is {value!r}, no finite number: left out")
                continue
            at = session.next_step(name) if step is None else session.note_step(name, int(step))
            points.append(MetricPoint(name=name, value=number, step=at, logged_at=now))
        try:
            session.log(points)
        except (StemmaError, OSError) as error:
            self._warn_once(f"learning curves are not recorded: {error}")

    def callback(self, framework: str) -> Any:
        """Return a callback that logs what the framework's training reports.

        Args:
            framework: ``transformers``, ``lightning`` (a logger), ``keras``, ``xgboost`` or
                ``lightgbm``.

        Raises:
            InvalidInputError: If there is none for that framework.
            NotFoundError: If the framework is not installed.
        """
        return make_callback(self, framework)

    def service(self, name: str, value: float, unit: str, sample_size: int = 0) -> None:
        """Record a measure of service level or resource use, which budgets are checked against.

        Args:
            name: As in ``[model.NAME.budgets]``: ``latency_p99``, ``memory_peak``, …
            value: Its value; finite.
            unit: ``ms``, ``s``, ``MiB``, ``GiB``, ``MB`` or ``Wh``, the one of its budget.
            sample_size: Number of requests behind it; 0 when unknown.

        Raises:
            InvalidInputError: If the value is NaN, infinite or no number.
        """
        session = self._active
        if session is None:
            return
        number = repr(_as_float(name, value))
        session.recorder.add_service(
            Metric(name=name, value=number, unit=unit, sample_size=sample_size)
        )

    def metric(self, name: str, value: float, slice: str = "", sample_size: int = 0) -> None:  # noqa: A002 - the word of the manifest
        """Record a measured value of the finished model.

        Args:
            name: e.g. ``bleu``.
            value: Its value; finite.
            slice: Part of the data it was measured on, e.g. ``language=de``.
            sample_size: Number of rows behind it; 0 when unknown.

        Raises:
            InvalidInputError: If the value is NaN, infinite or no number.
        """
        session = self._active
        if session is None:
            return
        number = _as_float(name, value)
        metric = Metric(name=name, value=repr(number), slice=slice, sample_size=sample_size)
        session.recorder.add_metric(metric)

    def params(self, **values: object) -> None:
        """Record hyperparameters beyond those the model knows of itself."""
        if self._active is not None:
            self._passed.update(values)

    def default_params(self, **values: object) -> None:
        """Record hyperparameters that took their default."""
        if self._active is not None:
            self._defaulted.update(values)

    def metadata(self, **values: str | bool | int | list[str]) -> None:
        """Record metadata, such as ``owner="vision-team"``."""
        session = self._active
        if session is not None:
            session.recorder.set_metadata(values)

    def _warn_once(self, message: str) -> None:
        if message.partition(" is ")[0] not in self._warned:
            self._warned.add(message.partition(" is ")[0])
            warn(message)


def _as_number(value: object) -> float | None:
    """Return a finite float of a number, a numpy scalar or a one-element tensor."""
    try:
        number = _to_float(value)
    except (TypeError, ValueError, RuntimeError):
        return None
    return number if math.isfinite(number) else None


def _to_float(value: Any) -> float:
    """Convert a number; a torch tensor is taken out of its graph first, or torch would warn."""
    return float(value.detach() if hasattr(value, "detach") else value)


def _as_float(name: str, value: object) -> float:
    try:
        return _to_float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidInputError(
            f"metric {name} is no number: {value!r}",
            code="bad-metric",
            hint=f"run.metric({name!r}, 0.97)",
        ) from error
