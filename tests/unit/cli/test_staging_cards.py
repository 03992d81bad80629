"""What ``check --staging`` says, on values."""

from __future__ import annotations

from stemma.cli.staging_cards import load_text, staging_card
from stemma.delivery.values import StagingReport
from stemma.domain.release import GateResult

LATENCY = GateResult(gate="latency_p99_ms", has_passed=True, actual="1.9", needed="≤ 10")
INTERFACE = GateResult(gate="interface", has_passed=False, actual="no predict_proba", needed="all")
REPORT = StagingReport(
    label="digits@1.1.0",
    results=(LATENCY,),
    requests=500,
    source="recorded",
    pattern="production's",
    rate_per_second=50.0,
    latency_p99_ms=1.94,
    memory_mib=141.2,
)
LOAD = "500 recorded requests at 50 a second, spaced as production's   p99 1.9 ms   141 MiB"


def test_a_yes_shows_what_was_replayed() -> None:
    """A pass on three requests would look like one on production's."""
    assert staging_card(REPORT) == [
        "✓ digits@1.1.0 may be deployed   1 of 1 passed",
        "  ✓  latency_p99_ms  1.9  needs ≤ 10",
        f"  load        {LOAD}",
    ]


def test_a_no_counts_what_failed() -> None:
    """The user would have to search the table."""
    report = StagingReport(label="digits@1.1.0", results=(LATENCY, INTERFACE))
    assert staging_card(report)[0] == "✗ digits@1.1.0 may not be deployed: 1 check failed"
    assert load_text(report) == "no requests were sent"
