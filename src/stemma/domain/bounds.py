"""Exact bounds on counted events: what n golden rows can prove."""

from __future__ import annotations


def upper_bound(events: int, rows: int, confidence: float) -> float:
    """Return the one-sided Clopper-Pearson upper bound of a rate."""
    raise NotImplementedError


def lower_bound(events: int, rows: int, confidence: float) -> float:
    """Return the one-sided Clopper-Pearson lower bound of a rate."""
    raise NotImplementedError


def mcnemar_p(fixed: int, broken: int) -> float:
    """Return the exact two-sided McNemar p value."""
    raise NotImplementedError


def metric_change_bounds(
    fixed: int, broken: int, rows: int, confidence: float
) -> tuple[float, float]:
    """Return the one-sided lower and upper bound of the change of the share of right answers."""
    raise NotImplementedError
