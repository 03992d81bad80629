"""Sizes, times and tables as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from stemma.cli import render

NOW = datetime(2026, 5, 3, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 KB"),
        (30_123, "30 KB"),
        (1_400_000_000, "1.4 GB"),
        (5 * 10**15, "5,000 TB"),
    ],
)
def test_a_size_is_short_and_decimal(size_bytes: int, text: str) -> None:
    """Sizes would not add up with what a file manager shows."""
    assert render.size(size_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.41, "0.4 s"), (12, "12 s"), (185, "3:05"), (7380, "2:03:00")],
)
def test_a_duration_is_short(seconds: float, text: str) -> None:
    """The time left would be unreadable."""
    assert render.duration(seconds) == text


@pytest.mark.parametrize(
    ("age", "text"),
    [
        (timedelta(seconds=5), "just now"),
        (timedelta(minutes=1), "1 minute ago"),
        (timedelta(hours=5), "5 hours ago"),
        (timedelta(days=3), "3 days ago"),
        (timedelta(days=61), "2 months ago"),
        (timedelta(days=800), "2 years ago"),
    ],
)
def test_a_moment_is_told_relative_to_now(age: timedelta, text: str) -> None:
    """Old versions would look recent."""
    assert render.ago(NOW - age, NOW) == text


def test_a_table_aligns_its_columns() -> None:
    """Columns would not line up, so a value could be read in the wrong one."""
    assert render.table([["a", "b"], ["long", "c"]]) == ["a     b", "long  c"]


def test_a_table_without_rows_is_empty() -> None:
    """An empty answer would print a stray line."""
    assert render.table([]) == []


def test_a_narrow_terminal_cuts_the_last_column_only() -> None:
    """Long reasons would wrap and break the table."""
    assert render.table([["1.0.0", "a long reason"]], width=12) == ["1.0.0  a lo…"]


def test_tsv_never_cuts_and_never_breaks_a_row() -> None:
    """A tab or line break in a message would shift columns for a script."""
    assert render.tsv([["a\tb", "c\nd\x1b[31m"]]) == ["a b\tc d[31m"]


def test_labels_are_padded_past_the_longest() -> None:
    """A long gate name would run into its figures."""
    assert render.labelled([("recall[class=8]", "0.192"), ("a", "b")]) == [
        "  recall[class=8]  0.192",
        "  a                b",
    ]


def test_counting_uses_the_plural_and_thousands() -> None:
    """`1 rows` would read like a fault."""
    assert render.count(1, "row") == "1 row"
    assert render.count(1257, "row") == "1,257 rows"
