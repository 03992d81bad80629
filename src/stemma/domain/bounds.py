"""Exact bounds on counted events: what n golden rows can prove.

Invariants:
    * ``lower_bound(k, n, c) <= k / n <= upper_bound(k, n, c)``.
    * No normal approximation: the bounds hold for every n and every rate.

Sources:
    * C. J. Clopper, E. S. Pearson, "The use of confidence or fiducial limits
      illustrated in the case of the binomial", Biometrika 26 (1934) 404-413.
    * Q. McNemar, "Note on the sampling error of the difference between correlated
      proportions or percentages", Psychometrika 12 (1947) 153-157, in its exact form.
    * NIST Digital Library of Mathematical Functions, 8.17.22: the continued fraction
      of the incomplete beta function.

Example:
    >>> round(upper_bound(0, 540, 0.95), 4)
    0.0055
    >>> round(mcnemar_p(2, 0), 4)
    0.5
"""

from __future__ import annotations

import math
from typing import Final

_TERM_LIMIT: Final = 100_000
_TINY: Final = 1e-300
_PRECISION: Final = 1e-15
_BISECTION_STEPS: Final = 80


def _fraction(x: float, a: float, b: float) -> float:
    """Return the continued fraction of DLMF 8.17.22 by Lentz's method."""
    c = 1.0
    d = 1.0 / _away_from_zero(1.0 - (a + b) * x / (a + 1.0))
    result, change, m = d, 2.0, 0
    while abs(change - 1.0) > _PRECISION and m < _TERM_LIMIT:
        m += 1
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1.0 / _away_from_zero(1.0 + even * d)
        c = _away_from_zero(1.0 + even / c)
        result *= d * c
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d = 1.0 / _away_from_zero(1.0 + odd * d)
        c = _away_from_zero(1.0 + odd / c)
        change = d * c
        result *= change
    return result


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b) for 0 < x < 1."""
    if x > (a + 1.0) / (a + b + 2.0):
        return 1.0 - _incomplete_beta(1.0 - x, b, a)
    logarithm = (
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    return math.exp(logarithm) * _fraction(x, a, b) / a


def _quantile(probability: float, a: float, b: float) -> float:
    """Return the x with I_x(a, b) = probability, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(_BISECTION_STEPS):
        middle = (low + high) / 2
        if _incomplete_beta(middle, a, b) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def upper_bound(events: int, rows: int, confidence: float) -> float:
    """Return the one-sided Clopper-Pearson upper bound of a rate.

    Args:
        events: Rows with the event, of ``rows``.
        rows: Rows looked at; without any the bound is 1.
        confidence: e.g. 0.95.
    """
    if events >= rows:
        return 1.0
    if events == 0:
        return -math.expm1(math.log1p(-confidence) / rows)
    return _quantile(confidence, events + 1, rows - events)


def lower_bound(events: int, rows: int, confidence: float) -> float:
    """Return the one-sided Clopper-Pearson lower bound of a rate.

    Args:
        events: Rows with the event, of ``rows``.
        rows: Rows looked at; without any the bound is 0.
        confidence: e.g. 0.95.
    """
    return 1.0 - upper_bound(rows - events, rows, confidence)


def mcnemar_p(fixed: int, broken: int) -> float:
    """Return the exact two-sided McNemar p value.

    The probability, were a changed row as likely fixed as broken, of a split
    at least as uneven as this one.
    """
    total, fewer = fixed + broken, min(fixed, broken)
    if total == 0 or fixed == broken:
        return 1.0
    return min(1.0, 2.0 * _incomplete_beta(0.5, total - fewer, fewer + 1))


def metric_change_bounds(
    fixed: int, broken: int, rows: int, confidence: float
) -> tuple[float, float]:
    """Return the one-sided lower and upper bound of the change of the share of right answers.

    Conditional on the m = fixed + broken rows where rightness changed: with p the
    chance that such a row was fixed, the change is m(2p - 1)/n, so bounds on p
    (Clopper-Pearson on fixed of m) are bounds on the change.  0 when m is 0.
    """
    changed = fixed + broken
    if changed == 0:
        return 0.0, 0.0
    scale = changed / rows
    low = lower_bound(fixed, changed, confidence)
    high = upper_bound(fixed, changed, confidence)
    return scale * (2.0 * low - 1.0), scale * (2.0 * high - 1.0)
