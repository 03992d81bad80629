"""What the protocols ask a loaded model, and what they are told about it.

Invariants:
    * The protocols know arrays by name; which library answers is behind ``ServedModel``.
    * Inputs reach the model checked against the version's signature.
    * Whatever a model raises becomes one line for the caller and a traceback in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from stemma.domain.component import ValueSpec
from stemma.domain.errors import StemmaError

Inputs = Mapping[str, NDArray[Any]]
"""Arrays by the names of the signature, in its order."""

PREDICT: Final = "predict"
_MESSAGE_LIMIT: Final = 500

_Answer = TypeVar("_Answer")
_log = logging.getLogger(__name__)


class ServedModel(Protocol):
    """A loaded model."""

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods that ``answer`` takes; ``predict`` first where there is one."""
        ...

    @property
    def outputs(self) -> tuple[ValueSpec, ...]:
        """Outputs that ``infer`` gives, in order."""
        ...

    def answer(self, inputs: Inputs, method: str) -> NDArray[Any]:
        """Return one answer per row."""
        ...

    def infer(self, inputs: Inputs, names: tuple[str, ...]) -> list[NDArray[Any]]:
        """Return the outputs with these names."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A model that gave its golden answer.

    Attributes:
        model: The model.
        is_quick: It answers so fast that handing it to a thread would cost more.
    """

    model: ServedModel
    is_quick: bool


def ask(question: Callable[[], _Answer]) -> _Answer:
    """Return what the model answers.

    Raises:
        StemmaError: With the exception's class and message, if the model raises.
    """
    try:
        # A reader may not see numpy's complaints about the values callers sent.
        with np.errstate(all="ignore"):
            return question()
    except Exception as error:  # the edge to foreign code: a model may raise anything
        _log.exception("the model raised")
        text = " ".join(str(error).split())[:_MESSAGE_LIMIT]
        kind = type(error).__name__
        raise StemmaError(
            f"the model raised {kind}: {text}" if text else f"the model raised {kind}",
            code="model-raised",
            hint="stemma status shows where its log is",
        ) from error
