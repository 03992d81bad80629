"""Validation in staging: one table, and a no that says which line."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = pytest.mark.slow

BRIEF = ("--staging", "--seconds", "1", "--rate", "50")


def failed(report: Any) -> dict[str, str]:
    """Return the lines that did not pass, with what was found."""
    return {
        item["gate"]: f"{item['actual']}, needs {item['needed']}"
        for item in report["results"]
        if not item["has_passed"]
    }


def test_a_version_that_may_ship_passes_every_line(shared: Any) -> None:
    """A sound version would be held back, or nobody could see what was tried."""
    report = shared.ask("check", "prices@1.1.0", *BRIEF)
    assert report["passed"], failed(report)
    assert report["requests"] > 10
    gates = " ".join(item["gate"] for item in report["results"])
    for part in ("interface", "environment", "golden", "load", "memory"):
        assert part in gates, gates
    shown = shared.stemma("check", "prices@1.1.0", *BRIEF, STEMMA_FORMAT="human")
    assert shown.returncode == 0, shown.stderr
    assert shared.slot("1.1.0") is None
    assert shared.predict(1, 2).headers["x-stemma-version"] == "1.0.0"


@pytest.mark.parametrize(
    ("version", "says"), [("2.0.0", "interface"), ("1.5.0", "start"), ("1.4.0", "golden")]
)
def test_a_no_exits_3_and_names_its_line(shared: Any, version: str, says: str) -> None:
    """Callers would break at the first request of the new version."""
    report = shared.ask("check", f"prices@{version}", *BRIEF, code=3)
    assert not report["passed"]
    assert says in json.dumps(failed(report)), failed(report)


def test_a_budget_that_is_exceeded_is_a_no(production: Any) -> None:
    """A version that needs more than there is would be found out in production."""
    production.write("stemma.toml", "[model.prices.budgets]\nmemory_mib = 20\n")
    report = production.ask("check", "prices@1.1.0", *BRIEF, code=3)
    assert "memory" in json.dumps(failed(report)), failed(report)
    assert production.processes() == {}


def test_supplied_requests_are_replayed_and_a_bad_line_is_named(shared: Any) -> None:
    """A typing error in a file of requests would look like a bad version."""
    good = '{"instances": [[1, 2]]}\n'
    shared.write("good.jsonl", good * 5)
    report = shared.ask("check", "prices@1.1.0", *BRIEF, "--requests", "good.jsonl")
    assert report["source"] == "supplied"
    shared.write("bad.jsonl", good + "{nothing\n")
    error = shared.refused("check", "prices@1.1.0", *BRIEF, "--requests", "bad.jsonl", code=2)
    assert "line 2" in error["message"] or ":2" in error["message"], error
    shared.write("wrong.jsonl", '{"instances": [[1, 2, 3]]}\n' * 5)
    report = shared.ask("check", "prices@1.1.0", *BRIEF, "--requests", "wrong.jsonl", code=3)
    assert failed(report)
