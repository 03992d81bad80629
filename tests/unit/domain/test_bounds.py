"""Exact bounds, against scipy."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from stemma.domain import bounds
from stemma.domain.bounds import lower_bound, mcnemar_p, metric_change_bounds, upper_bound

ROWS = [1, 2, 5, 50, 299, 540, 1000, 10_000, 1_000_000]


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.999])
@pytest.mark.parametrize("rows", ROWS)
def test_clopper_pearson_agrees_with_scipy(rows: int, confidence: float) -> None:
    """A release's level would rest on a wrong bound."""
    for events in {0, 1, 2, rows // 100, rows // 10, rows // 2, rows - 1, rows} & {
        *range(rows + 1)
    }:
        upper = stats.beta.ppf(confidence, events + 1, rows - events) if events < rows else 1.0
        lower = stats.beta.ppf(1 - confidence, events, rows - events + 1) if events else 0.0
        assert upper_bound(events, rows, confidence) == pytest.approx(upper, abs=1e-9)
        assert lower_bound(events, rows, confidence) == pytest.approx(lower, abs=1e-9)


@pytest.mark.parametrize("fixed", [0, 1, 2, 5, 82, 500, 5000])
@pytest.mark.parametrize("broken", [0, 1, 4, 5, 100, 700, 4900])
def test_mcnemar_agrees_with_scipy(fixed: int, broken: int) -> None:
    """A chance difference would be called significant, or the reverse."""
    expected = stats.binomtest(fixed, fixed + broken, 0.5).pvalue if fixed + broken else 1.0
    assert mcnemar_p(fixed, broken) == pytest.approx(expected, abs=1e-9)


def test_the_figures_of_the_tutorial() -> None:
    """The tutorial would promise what the program does not say."""
    assert upper_bound(0, 540, 0.95) <= 0.006
    assert upper_bound(0, 299, 0.95) <= 0.01 < upper_bound(0, 298, 0.95)
    assert mcnemar_p(2, 0) == pytest.approx(0.5)
    assert mcnemar_p(4, 82) < 0.001


def test_no_rows_prove_nothing() -> None:
    """An empty golden set would count as evidence."""
    assert upper_bound(0, 0, 0.95) == 1.0
    assert lower_bound(0, 0, 0.95) == 0.0


def test_the_change_of_the_metric_is_bounded_by_the_changed_rows() -> None:
    """A gain would be reported where nothing changed."""
    assert metric_change_bounds(0, 0, 540, 0.95) == (0.0, 0.0)
    low, high = metric_change_bounds(2, 0, 540, 0.95)
    assert low == pytest.approx(2 * (2 * 0.05**0.5 - 1) / 540)
    assert high == pytest.approx(2 / 540)


@pytest.mark.slow
@given(st.data(), st.integers(min_value=1, max_value=3000))
def test_a_bound_encloses_the_rate_and_grows_with_the_events(
    data: st.DataObject, rows: int
) -> None:
    """More broken answers would look like fewer."""
    events = data.draw(st.integers(min_value=0, max_value=rows - 1))
    assert lower_bound(events, rows, 0.95) <= events / rows <= upper_bound(events, rows, 0.95)
    assert upper_bound(events, rows, 0.95) < upper_bound(events + 1, rows, 0.95)


@pytest.mark.slow
@given(
    st.integers(min_value=0, max_value=200),
    st.integers(min_value=0, max_value=200),
    st.integers(min_value=401, max_value=5000),
)
def test_the_lower_bound_of_the_change_falls_with_each_broken_row(
    fixed: int, broken: int, rows: int
) -> None:
    """A worse version would get a better bound."""
    low, high = metric_change_bounds(fixed, broken, rows, 0.95)
    assert low <= (fixed - broken) / rows + 1e-12
    assert high >= (fixed - broken) / rows - 1e-12
    assert metric_change_bounds(fixed, broken + 1, rows, 0.95)[0] < low + 1e-12


def test_the_examples_in_the_docstring_hold() -> None:
    """The documentation would lie."""
    assert doctest.testmod(bounds).failed == 0
