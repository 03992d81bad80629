"""Profiles: every number that the table "SemVer from evidence" judges by, as data.

Invariants:
    * Shares are fractions (0.01 is one per cent, one point); counts are rows.
    * ``strict`` is never more lenient than ``default``, ``default`` never than ``lenient``.

Example:
    >>> PROFILES["default"].churn_patch
    0.01
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Thresholds of one profile.

    Attributes:
        name: ``strict``, ``default`` or ``lenient``; ``… (adjusted)`` with own thresholds.
        golden_set_minimum_rows: Fewer rows are no evidence; 299 rows without an event
            bound its rate by 1 % at 95 %.
        confidence: Of every one-sided bound.
        churn_patch: Most differing answers that a PATCH may have.
        broken_patch: Most negative flips that a PATCH may have.
        metric_patch_points: Most that the metric may move either way in a PATCH.
        broken_minor: Most negative flips that a MINOR may have.
        metric_minor_points: Most that the metric may fall in a MINOR.
        slice_minimum_rows: Smaller slices are not judged.
        slice_drop_points: Most that any slice may fall.
        fix_set_maximum_share: Largest declared fix set, as a share of the golden set.
        redesign_share: Under this share of kept parameter tensors it is a redesign.
        service_growth: Most that latency or memory may grow where no budget is declared.
    """

    name: str = "default"
    golden_set_minimum_rows: int = 299
    confidence: float = 0.95
    churn_patch: float = 0.01
    broken_patch: float = 0.01
    metric_patch_points: float = 0.005
    broken_minor: float = 0.02
    metric_minor_points: float = 0.005
    slice_minimum_rows: int = 100
    slice_drop_points: float = 0.02
    fix_set_maximum_share: float = 0.05
    redesign_share: float = 0.5
    service_growth: float = 1.2


DEFAULT: Final = Profile()
"""The table of ``docs/explanation/semver-from-evidence.md``."""

PROFILES: Final = {
    "strict": replace(
        DEFAULT,
        name="strict",
        golden_set_minimum_rows=1000,
        churn_patch=0.005,
        broken_patch=0.005,
        metric_patch_points=0.0025,
        broken_minor=0.01,
        metric_minor_points=0.0025,
        slice_minimum_rows=50,
        slice_drop_points=0.01,
        fix_set_maximum_share=0.02,
        redesign_share=0.75,
        service_growth=1.1,
    ),
    "default": DEFAULT,
    "lenient": replace(
        DEFAULT,
        name="lenient",
        golden_set_minimum_rows=100,
        churn_patch=0.05,
        broken_patch=0.03,
        metric_patch_points=0.02,
        broken_minor=0.05,
        metric_minor_points=0.02,
        slice_minimum_rows=200,
        slice_drop_points=0.05,
        fix_set_maximum_share=0.1,
        redesign_share=0.25,
        service_growth=1.5,
    ),
}
"""Profiles by name."""
