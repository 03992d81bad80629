"""``run.callback("keras")``: learning curves and settings through a framework's own hooks.

Each function returns an object of the framework's own callback class, made when it is asked for.
Nothing is patched: a training that is not handed the callback is not recorded, and a framework's
upgrade can break only what its documented hooks promise.

Invariants:
    * A callback never stops a training: what cannot be logged is left out with one warning.
    * In a distributed training the first process alone logs.
    * No framework is imported before its callback is asked for.

Example:
    >>> Trainer(model, args, callbacks=[run.callback("transformers")])  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Final, Protocol

from stemma.domain.errors import InvalidInputError, NotFoundError
from stemma.domain.ref import did_you_mean, suggest

_PACKAGES: Final = {
    "keras": ("keras",),
    "lightgbm": ("lightgbm",),
    "lightning": ("lightning.pytorch", "pytorch_lightning"),
    "transformers": ("transformers",),
    "xgboost": ("xgboost",),
}
_CLOCKS: Final = frozenset({"epoch", "step", "total_flos"})
_PLACES: Final = frozenset({"output_dir", "logging_dir", "run_name"})
"""Arguments that say where a training writes, not how it learns."""


class Reports(Protocol):
    """A run, as far as callbacks know it."""

    @property
    def name(self) -> str:
        """The model's name."""
        ...

    @property
    def id(self) -> str:
        """The run's id."""
        ...

    def log(self, *, step: int | None = None, **metrics: float) -> None:
        """Append points to learning curves."""
        ...

    def params(self, **values: object) -> None:
        """Take hyperparameters."""
        ...

    def default_params(self, **values: object) -> None:
        """Take hyperparameters that took their default."""
        ...


def make_callback(run: Reports, framework: str) -> Any:
    """Return the callback of ``framework`` that logs to ``run``.

    Raises:
        InvalidInputError: If there is none for that framework.
        NotFoundError: If the framework is not installed.
    """
    if framework not in _PACKAGES:
        near = suggest(framework, list(_PACKAGES))
        raise InvalidInputError(
            f"no callback for {framework!r}{did_you_mean(near)}",
            code="unknown-framework",
            hint=f"there are: {', '.join(_PACKAGES)}",
        )
    return _MAKERS[framework](run, _load(framework))


def _load(framework: str) -> Any:
    names = _PACKAGES[framework]
    for name in names:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if not name.startswith(str(error.name)):
                raise
    raise NotFoundError(
        f"{framework} is not installed",
        code="framework-not-installed",
        hint=f"pip install {framework}",
    )


def _transformers(run: Reports, library: Any) -> object:
    base: Any = library.TrainerCallback

    class StemmaCallback(base):  # type: ignore[misc]  # a class of an optional library
        """Logs what the ``Trainer`` logs, and the arguments that differ from their defaults."""

        def on_train_begin(self, args: Any, state: Any, _: Any, **__: object) -> None:
            """Take the training arguments."""
            if state.is_world_process_zero:
                _keep_settings(run, args)

        def on_log(
            self,
            _: Any,
            state: Any,
            __: Any,
            logs: Mapping[str, object] | None = None,
            **___: object,
        ) -> None:
            """Take one line of the log."""
            if state.is_world_process_zero:
                _log(run, state.global_step, logs or {})

    return StemmaCallback()


def _keep_settings(run: Reports, args: object) -> None:
    """Tell arguments that were set from those that took their default."""
    if not is_dataclass(args):
        return
    for field in fields(args):
        value = getattr(args, field.name)
        if field.name in _PLACES or not isinstance(value, str | int | float | bool | None):
            continue
        default = field.default if field.default is not MISSING else None
        keep = run.default_params if value == default else run.params
        keep(**{field.name: value})


def _lightning(run: Reports, library: Any) -> object:
    loggers = importlib.import_module(f"{library.__name__}.loggers.logger")
    base: Any = loggers.Logger
    rank_zero_only: Any = importlib.import_module(
        f"{library.__name__}.utilities.rank_zero"
    ).rank_zero_only

    class StemmaLogger(base):  # type: ignore[misc]  # a class of an optional library
        """Logs what modules log with ``self.log``, and what they save as hyperparameters."""

        @property
        def name(self) -> str:
            """The model's name."""
            return run.name

        @property
        def version(self) -> str:
            """The run's id."""
            return run.id

        @rank_zero_only  # type: ignore[untyped-decorator]  # of the library
        def log_metrics(self, metrics: Mapping[str, object], step: int | None = None) -> None:
            """Take the values of one step."""
            _log(run, step, metrics)

        @rank_zero_only  # type: ignore[untyped-decorator]  # of the library
        def log_hyperparams(self, params: Any, *_: object, **__: object) -> None:
            """Take hyperparameters."""
            run.params(**_plain(params if isinstance(params, Mapping) else vars(params)))

    return StemmaLogger()


def _keras(run: Reports, library: Any) -> object:
    base: Any = library.callbacks.Callback

    class StemmaCallback(base):  # type: ignore[misc]  # a class of an optional library
        """Logs each epoch, and the settings of fit and optimizer."""

        def on_train_begin(self, _: object = None) -> None:
            """Take what ``fit`` and the optimizer were given."""
            run.params(**_plain(self.params or {}))
            optimizer = getattr(self.model, "optimizer", None)
            if optimizer is not None:
                settings = {
                    f"optimizer_{key}": value for key, value in optimizer.get_config().items()
                }
                run.params(**_plain(settings))

        def on_epoch_end(self, epoch: int, logs: Mapping[str, object] | None = None) -> None:
            """Take the values of one epoch."""
            _log(run, epoch, logs or {})

    return StemmaCallback()


def _xgboost(run: Reports, library: Any) -> object:
    base: Any = library.callback.TrainingCallback

    class StemmaCallback(base):  # type: ignore[misc]  # a class of an optional library
        """Logs each round's evaluations, and the booster's settings."""

        def before_training(self, model: Any) -> Any:
            """Take the booster's settings."""
            if hasattr(model, "save_config"):
                run.params(**_leaves(json.loads(model.save_config())["learner"]))
            return model

        def after_iteration(
            self, _: object, epoch: int, evals_log: Mapping[str, Mapping[str, list[Any]]]
        ) -> bool:
            """Take the values of one round; never asks for an end."""
            _log(
                run,
                epoch,
                {
                    f"{data}-{metric}": _mean(values[-1])
                    for data, metrics in evals_log.items()
                    for metric, values in metrics.items()
                },
            )
            return False

    return StemmaCallback()


def _lightgbm(run: Reports, _: object) -> Callable[[Any], None]:
    """LightGBM takes any function; it is called after each round."""

    def log_round(environment: Any) -> None:
        if environment.iteration == environment.begin_iteration:
            run.params(**_plain(environment.params))
        _log(
            run,
            environment.iteration,
            {f"{entry[0]}-{entry[1]}": entry[2] for entry in environment.evaluation_result_list},
        )

    return log_round


_MAKERS: Final[Mapping[str, Callable[[Any, Any], object]]] = {
    "keras": _keras,
    "lightgbm": _lightgbm,
    "lightning": _lightning,
    "transformers": _transformers,
    "xgboost": _xgboost,
}


def _log(run: Reports, step: int | None, values: Mapping[str, object]) -> None:
    """Log values that are numbers; clocks are no metrics."""
    numbers: dict[str, Any] = {
        name: value
        for name, value in values.items()
        if name not in _CLOCKS and not isinstance(value, str | bool)
    }
    if numbers:
        run.log(step=step, **numbers)


def _plain(values: Mapping[str, object]) -> dict[str, object]:
    """Return the values that can be written down."""
    return {
        str(name): value
        for name, value in values.items()
        if isinstance(value, str | int | float | bool | None)
    }


def _leaves(tree: Mapping[str, Any]) -> dict[str, object]:
    """Return the innermost settings of XGBoost's nested configuration, by their own names."""
    found: dict[str, object] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            found.update(_leaves(value))
        elif isinstance(value, str):
            found[name] = value
    return found


def _mean(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) else value
