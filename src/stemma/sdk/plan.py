"""``stemma.run``: a recorded training, as a ``with`` block or as a decorator.

Example:
    >>> @stemma.run("digits")  # doctest: +SKIP
    ... def train(run, C: float = 1.0, hidden: int = 64):
    ...     run.model(fit(C, hidden), test=(X_test, y_test))
    >>> train(C=0.5)  # doctest: +SKIP
    >>> train.sweep(C=[0.1, 1, 10]).best("accuracy").release()  # doctest: +SKIP
"""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Final, Generic, ParamSpec, TypeVar

from stemma.domain.errors import InvalidInputError, NotFoundError
from stemma.sdk.run import Run

P = ParamSpec("P")
R = TypeVar("R")

_RUN_ARGUMENT: Final = "run"
_LOWER_IS_BETTER: Final = ("loss", "error", "rmse", "mae", "mse", "perplexity", "latency")


def run(
    model: str,
    *,
    reason: str = "",
    data: Mapping[str, object] | None = None,
    test: object = None,
) -> RunPlan:
    """Record a training of ``model``: ``with stemma.run("digits") as run:`` or ``@stemma.run``.

    Args:
        model: Name of the model.
        reason: Why, in your words.
        data: Training datasets by name, recorded when the run starts; see ``Run.data``.
        test: Golden set for the model that a decorated function returns; see ``Run.model``.
    """
    return RunPlan(model, reason=reason, data=data or {}, test=test)


class RunPlan:
    """A training to be recorded; enter it, or decorate the function that trains.

    Attributes:
        test: Golden set for the model that a decorated function returns.
    """

    def __init__(
        self, model: str, *, reason: str, data: Mapping[str, object], test: object
    ) -> None:
        """Remember what to record."""
        self.test = test
        self._model = model
        self._reason = reason
        self._data = dict(data)
        self._open: list[Run] = []

    def __enter__(self) -> Run:
        """Start a run."""
        with ExitStack() as stack:
            # A dataset that cannot be read ends the run, which would stay open otherwise.
            started = stack.enter_context(Run(self._model, reason=self._reason))
            for name, value in self._data.items():
                started.data(name, value)
            stack.pop_all()
        self._open.append(started)
        return started

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the run as the block ended."""
        self._open.pop().__exit__(kind, error, traceback)

    def __call__(self, function: Callable[P, R]) -> Training[P, R]:
        """Record each call of ``function``: arguments are hyperparameters, the result the model.

        An argument called ``run`` is filled with the open run.
        """
        return Training(self, function)


class Training(Generic[P, R]):
    """A decorated training function.

    Attributes:
        last_run: The run of the newest call; ``None`` before the first.
    """

    def __init__(self, plan: RunPlan, function: Callable[P, R]) -> None:
        """Wrap ``function``."""
        functools.update_wrapper(self, function)
        self._plan = plan
        self._function = function
        self._signature = inspect.signature(function)
        self.last_run: Run | None = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Train, recorded; returns what the function returns."""
        with self._plan as opened:
            self.last_run = opened
            return self._train(opened, args, dict(kwargs))

    def _train(self, opened: Run, args: tuple[object, ...], kwargs: dict[str, object]) -> R:
        parameters = self._signature.parameters
        if _RUN_ARGUMENT in parameters:
            kwargs.setdefault(_RUN_ARGUMENT, opened)
        bound = self._signature.bind_partial(*args, **kwargs)
        passed = set(bound.arguments)
        for name in parameters:
            if name not in passed and name in opened.settings:
                bound.arguments[name] = opened.settings[name]
                passed.add(name)
        bound.apply_defaults()
        values = {name: value for name, value in bound.arguments.items() if _is_plain(value)}
        opened.params(**{name: value for name, value in values.items() if name in passed})
        opened.default_params(**{n: value for n, value in values.items() if n not in passed})
        result = self._function(*bound.args, **bound.kwargs)
        if result is not None and not opened.has_model:
            opened.model(result, test=self._plan.test)
        return result

    def sweep(self, **grid: Sequence[object]) -> Sweep:
        """Train once per combination of the values, in order.

        Raises:
            InvalidInputError: If nothing is to be varied, or the function has no such argument.
        """
        unknown = sorted(set(grid) - set(self._signature.parameters))
        if unknown or not grid or not all(grid.values()):
            raise InvalidInputError(
                f"cannot sweep over {', '.join(unknown) or 'nothing'}",
                code="bad-sweep",
                hint=f"its arguments are {', '.join(self._signature.parameters)}",
            )
        runs: list[Run] = []
        for values in itertools.product(*grid.values()):
            with self._plan as opened:
                self.last_run = opened
                runs.append(opened)
                self._train(opened, (), dict(zip(grid, values, strict=True)))
        return Sweep(runs)


class Sweep:
    """The runs of a sweep, in order."""

    def __init__(self, runs: Sequence[Run]) -> None:
        """Hold the runs."""
        self._runs = tuple(runs)

    def __iter__(self) -> Iterator[Run]:
        """Iterate over the runs."""
        return iter(self._runs)

    def __len__(self) -> int:
        """Count the runs."""
        return len(self._runs)

    def best(self, metric: str, *, lowest: bool | None = None) -> Run:
        """Return the run with the best value; of equal ones the first.

        Args:
            metric: Key of the metric, e.g. ``accuracy`` or ``recall[class=8]``.
            lowest: Whether lower is better; ``None`` tells by the name (losses and errors).

        Raises:
            NotFoundError: If no run has that metric.
        """
        measured = [run for run in self._runs if metric in run.metrics]
        if not measured:
            known = sorted({name for run in self._runs for name in run.metrics})
            raise NotFoundError(
                f"no run of this sweep has the metric {metric}",
                code="metric-not-found",
                hint=f"measured are {', '.join(known) or 'none; pass test=(X, y) to run.model'}",
            )
        is_lower = metric.endswith(_LOWER_IS_BETTER) if lowest is None else lowest
        choose = min if is_lower else max
        return choose(measured, key=lambda run: run.metrics[metric])


def _is_plain(value: object) -> bool:
    """Say whether an argument is a hyperparameter: plain values, not data and not the run."""
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    if isinstance(value, dict):
        return all(_is_plain(item) for item in value.values())
    return value is None or isinstance(value, bool | int | float | str)
