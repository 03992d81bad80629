"""Runs as tables: what was asked about stands in columns."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest

from stemma.cli import run_cards
from stemma.domain.errors import InvalidInputError
from stemma.domain.run import RunId, RunRecord, RunStart, RunState
from stemma.domain.tracking import Point, RunData
from stemma.tracking.search.values import Search

DATA = RunData(
    record=RunRecord(
        id=RunId("r-b5eb309a"),
        start=RunStart(model="digits", created_by="ada", reason="try"),
        state=RunState.FINISHED,
        started_at=datetime(2026, 5, 3, 12, tzinfo=UTC),
    ),
    metrics=(Point("loss", 1 / 3, 1, 1_000), Point("odd", math.nan, 1, 1_000)),
    params={"lr": "0.1"},
    tags={"team": "a"},
)


def test_what_a_search_names_gets_a_column() -> None:
    """A user who orders by a metric would not see it."""
    search = Search(
        filter="params.lr = '0.1' and metrics.loss < 1 and status = 'FINISHED' and tags.x IS NULL",
        order=("metrics.loss DESC, start_time",),
    )
    columns = run_cards.asked_columns(search)
    assert run_cards.run_header(columns)[-3:] == ("loss", "lr", "x")
    (row,) = run_cards.run_table([DATA], columns, is_precise=False)
    assert row[:3] == ["r-b5eb30", "digits", "finished"]
    assert row[-3:] == ["0.333333", "0.1", ""]
    assert run_cards.run_table([DATA], columns, is_precise=True)[0][-3] == repr(1 / 3)
    (absent,) = run_cards.asked_columns(Search(order=("metrics.none",)))
    assert run_cards.run_table([DATA], [absent], is_precise=False)[0][-1] == ""
    with pytest.raises(InvalidInputError):
        run_cards.asked_columns(Search(order=("loss",)))


def test_json_holds_what_was_logged() -> None:
    """A script would have to ask for each metric, or read NaN, which is no JSON."""
    payload = run_cards.run_payload(DATA)
    assert payload["id"] == "r-b5eb309a"
    assert payload["metrics"] == {"loss": 1 / 3, "odd": None}
    assert (payload["params"], payload["tags"]) == ({"lr": "0.1"}, {"team": "a"})
