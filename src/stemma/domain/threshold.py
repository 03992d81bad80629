"""A gate as policy states it: a metric and the values that pass.

Example:
    >>> Gate.parse("recall[class=*]", ">= 0.90").accepts(0.923)
    True
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

from stemma.domain.errors import InvalidInputError
from stemma.domain.manifest import Metric

_KEY: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_.@/-]*)(?:\[([^\[\]=]+=[^\[\]]+)\])?")
_DECIMAL: Final = r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_ONE_SIDED: Final = re.compile(rf"(>=|<=|>|<|≥|≤)\s*({_DECIMAL})")
_BETWEEN: Final = re.compile(rf"between\s+({_DECIMAL})\s+and\s+({_DECIMAL})")
_WRITTEN: Final = {">=": "≥", "<=": "≤", ">": ">", "<": "<", "≥": "≥", "≤": "≤"}
_GATE_HINT: Final = 'a gate reads like accuracy = ">= 0.965" or "between 1 and 2"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A metric and the values that pass.

    Attributes:
        name: Name of the metric.
        slice: Slice such as ``class=8``; ``class=*`` means each of them; empty: all rows.
        minimum: Lowest value that passes; ``None`` when there is none.
        maximum: Highest value that passes; ``None`` when there is none.
        is_strict: The bound itself does not pass.
        needed: The condition as people read it, e.g. ``≥ 0.965``.
    """

    name: str
    slice: str = ""
    minimum: float | None = None
    maximum: float | None = None
    is_strict: bool = False
    needed: str

    @property
    def key(self) -> str:
        """Name with slice, e.g. ``recall[class=*]``."""
        return f"{self.name}[{self.slice}]" if self.slice else self.name

    @classmethod
    def parse(cls, key: str, expression: str) -> Gate:
        """Read a gate, e.g. ``accuracy`` and ``>= 0.965``.

        Raises:
            InvalidInputError: If the key names no metric or the expression is malformed.
        """
        name = _KEY.fullmatch(key)
        if name is None:
            raise InvalidInputError(
                f"not a metric: {key!r}",
                code="bad-gate",
                hint='a metric reads like accuracy or "recall[class=*]"',
            )
        minimum, maximum, is_strict, needed = _condition(key, expression.strip())
        return cls(
            name=name.group(1),
            slice=name.group(2) or "",
            minimum=minimum,
            maximum=maximum,
            is_strict=is_strict,
            needed=needed,
        )

    def accepts(self, value: float) -> bool:
        """Whether ``value`` passes."""
        if self.is_strict:
            return (self.minimum is None or value > self.minimum) and (
                self.maximum is None or value < self.maximum
            )
        return (self.minimum is None or value >= self.minimum) and (
            self.maximum is None or value <= self.maximum
        )

    def concerns(self, metric: Metric) -> bool:
        """Whether this gate asks about ``metric``."""
        if metric.name != self.name:
            return False
        if self.slice.endswith("=*"):
            return metric.slice.startswith(self.slice[:-1])
        return metric.slice == self.slice


def _condition(key: str, expression: str) -> tuple[float | None, float | None, bool, str]:
    """Return minimum, maximum, strictness and the readable form."""
    if match := _BETWEEN.fullmatch(expression):
        low, high = float(match.group(1)), float(match.group(2))
        if low <= high and math.isfinite(low) and math.isfinite(high):
            return low, high, False, f"between {match.group(1)} and {match.group(2)}"
    elif match := _ONE_SIDED.fullmatch(expression):
        sign = _WRITTEN[match.group(1)]
        bound = float(match.group(2))
        needed = f"{sign} {match.group(2)}"
        if math.isfinite(bound):
            if sign in {"≥", ">"}:
                return bound, None, sign == ">", needed
            return None, bound, sign == "<", needed
    raise InvalidInputError(
        f"gate {key}: cannot read {expression!r}", code="bad-gate", hint=_GATE_HINT
    )
