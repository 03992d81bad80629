"""A verdict in words: the lines that ``release`` shows, made from the stored verdict alone."""

from __future__ import annotations

from dataclasses import dataclass

from stemma.domain.release import GateResult
from stemma.domain.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One labelled line.

    Attributes:
        label: e.g. ``behaviour``.
        text: e.g. ``0 of 540 predictions differ (≤ 0.6 % at 95 %)``.
    """

    label: str
    text: str


def explain(verdict: Verdict) -> tuple[Line, ...]:
    """Return the lines under ``✓ digits 1.0.1   patch``; whoever prints them aligns the labels."""
    raise NotImplementedError


def explain_gates(gates: tuple[GateResult, ...]) -> tuple[Line, ...]:
    """Return one line per gate that failed, e.g. ``accuracy`` · ``0.8296   needs ≥ 0.965``."""
    raise NotImplementedError
