"""The table of validation: what passes, what does not, and what is said about it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from stemma.delivery.load.result import LoadResult, Sample
from stemma.delivery.staging.table import (
    Drilled,
    Hardware,
    Measured,
    Start,
    Usage,
    describe,
    make_table,
)
from stemma.delivery.values import Phase, RollbackReport, StagingReport
from stemma.domain.configuration import Configuration
from stemma.domain.facts import VersionFacts
from stemma.domain.manifest import Manifest
from stemma.domain.policy import parse_policy
from stemma.domain.release import GateResult

NOW = datetime(2026, 5, 10, tzinfo=UTC)
Make = Callable[..., Measured]
Version = Callable[..., Manifest]


def row(measured: Measured, gate: str) -> GateResult:
    found = [row for row in make_table(measured) if row.gate == gate]
    assert len(found) == 1
    return found[0]


def report(measured: Measured) -> StagingReport:
    return StagingReport(
        label="digits@1.1.0",
        results=make_table(measured),
        requests=2000,
        rate_per_second=200.0,
        latency_p99_ms=1.9,
        memory_mib=141.0,
    )


def load(latency_us: int = 1000, errors: int = 0, total: int = 1000) -> LoadResult:
    samples = tuple(
        Sample(scheduled_at=i / 100, latency_us=latency_us, status=500, error="HTTP 500")
        if i < errors
        else Sample(scheduled_at=i / 100, latency_us=latency_us, status=200)
        for i in range(total)
    )
    return LoadResult(samples=samples, seconds=total / 100)


def drill(*, days: int, failure: str = "", seconds: float = 1.0) -> RollbackReport:
    return RollbackReport(
        model="digits",
        before="1.1.0",
        after="1.0.0",
        phases=(Phase(name="traffic", seconds=seconds, limit_seconds=60, detail=""),),
        is_drill=True,
        at=NOW - timedelta(days=days),
        by="ann",
        failure=failure,
    )


def test_a_good_version_is_said_in_one_line(make_measured: Make) -> None:
    """The user could not see at a glance what was tried."""
    found = report(make_measured())
    assert found.has_passed, [row for row in found.results if not row.has_passed]
    assert describe(found) == (
        "interface, environment (0 conflicts), 1 gate, "
        "load 200 req/s: p99 1.9 ms ≤ 10 ms, 141 MiB ≤ 512 MiB"
    )


def test_without_budgets_the_figures_are_said_all_the_same(make_measured: Make) -> None:
    """A user without budgets would learn nothing about speed."""
    found = report(make_measured(policy=parse_policy({}, "model.digits")))
    assert describe(found) == (
        "interface, environment (0 conflicts), load 200 req/s: p99 1.9 ms, 141 MiB ≤ 2,048 MiB"
    )


def test_a_failed_table_says_only_what_failed(make_measured: Make) -> None:
    """The reason of a refused rollout would drown in what went well."""
    found = report(make_measured(load=load(latency_us=14_000)))
    assert describe(found) == "latency_p99_ms: 14.0 ms, needed ≤ 10 ms"


def test_staging_overrules_what_the_training_machine_measured(make_measured: Make) -> None:
    """A version that is slow here would pass for having been fast elsewhere, or the reverse."""
    assert row(make_measured(), "latency_p99_ms").has_passed  # 99 ms was recorded


def test_a_budget_that_staging_does_not_measure_takes_the_recorded_figure(
    make_measured: Make,
) -> None:
    """A budget on training energy would fail every validation."""
    policy = parse_policy({"budgets": {"training_energy_wh": 5}}, "model.digits")
    assert row(make_measured(policy=policy), "training_energy_wh").actual == "not measured"


@pytest.mark.parametrize(
    ("key", "limit", "actual"),
    [
        ("latency_p50_ms", 2, "1.4 ms"),
        ("latency_mean_s", 1, "0.0015 s"),
        ("latency_p999_ms", 2, "1.9 ms"),
        ("memory_peak_gib", 1, "0.14 GiB"),
        ("memory_peak_mb", 200, "148 MB"),
        ("cpu_per_request_ms", 1, "0.5 ms"),
    ],
)
def test_budgets_are_measured_in_their_own_unit(
    make_measured: Make, key: str, limit: float, actual: str
) -> None:
    """A budget in seconds would be compared with milliseconds."""
    policy = parse_policy({"budgets": {key: limit}}, "model.digits")
    found = row(make_measured(policy=policy), key)
    assert (found.actual, found.has_passed) == (actual, True)


def test_a_figure_just_over_the_budget_does_not_look_kept(make_measured: Make) -> None:
    """A row would say 10.0 ms ≤ 10 ms and fail."""
    found = row(make_measured(load=load(latency_us=10_001)), "latency_p99_ms")
    assert (found.actual, found.has_passed) == ("10.001 ms", False)


def test_without_load_every_measured_row_fails(make_measured: Make) -> None:
    """What was not measured would pass."""
    rows = make_table(make_measured(load=None, load_problem="no requests", usage=Usage()))
    failed = {row.gate: row.actual for row in rows if not row.has_passed}
    assert failed == {
        "load": "no requests",
        "latency_p99_ms": "not measured",
        "memory_peak_mib": "not measured",
        "memory": "not measured",
    }


def test_more_than_one_failure_in_a_thousand_fails(make_measured: Make) -> None:
    """A version that fails users would pass."""
    assert row(make_measured(load=load(errors=1)), "load").has_passed
    found = row(make_measured(load=load(errors=2)), "load")
    assert not found.has_passed
    assert "2 of 1,000 failed (2 HTTP 500)" in found.actual


def test_a_version_that_falls_behind_fails(make_measured: Make) -> None:
    """A version that cannot take production's rate would pass."""
    samples = tuple(
        Sample(scheduled_at=i / 100, latency_us=i * 1000, status=200) for i in range(1000)
    )
    assert not row(make_measured(load=LoadResult(samples=samples, seconds=10)), "load").has_passed


def test_a_process_that_died_under_load_fails(make_measured: Make) -> None:
    """A crash between two requests would go unnoticed."""
    usage = Usage(memory_peak_bytes=1, restarts=1, detail="ended with 9")
    found = row(make_measured(usage=usage), "load")
    assert not found.has_passed
    assert "ended with 9" in found.actual


def test_more_memory_than_the_configuration_allows_fails(make_measured: Make) -> None:
    """The version would be killed in production."""
    found = row(make_measured(configuration=Configuration(memory_mib=128)), "memory")
    assert (found.actual, found.needed) == ("141 MiB", "≤ 128 MiB (memory_mib)")
    assert not found.has_passed


def test_an_interface_that_breaks_callers_fails_and_says_how(
    make_measured: Make, make_manifest: Version
) -> None:
    """Callers would break at the first step of a rollout."""
    found = row(
        make_measured(facts=VersionFacts(manifest=make_manifest(dtype="int8"))), "interface"
    )
    assert not found.has_passed
    assert found.actual == "input x: float32 → int8"
    assert found.needed == "callers of digits@1.0.0 go on unchanged"
    wider = make_measured(facts=VersionFacts(manifest=make_manifest(dtype="float64")))
    assert row(wider, "interface").has_passed


def test_labels_in_another_order_fail(make_measured: Make, make_manifest: Version) -> None:
    """Callers would read answers as other classes."""
    swapped = VersionFacts(manifest=make_manifest(labels=("1", "0")))
    assert not row(make_measured(facts=swapped), "interface").has_passed


def test_a_first_version_has_no_callers(make_measured: Make) -> None:
    """The first version of a model could never be deployed."""
    found = row(make_measured(deployed=None, deployed_label=""), "interface")
    assert (found.has_passed, found.actual) == (True, "nothing is deployed")


def test_another_lock_is_said_but_does_not_fail(
    make_measured: Make, make_manifest: Version
) -> None:
    """Two versions with other libraries are served side by side; the user should know."""
    found = row(
        make_measured(facts=VersionFacts(manifest=make_manifest(numpy="2.1"))), "environment"
    )
    assert (found.has_passed, found.actual) == (
        True,
        "0 conflicts; from digits@1.0.0: numpy 2.0 → 2.1",
    )


def test_a_version_that_does_not_start_is_a_table(make_measured: Make) -> None:
    """A version whose environment cannot be built would end in a stack trace."""
    start = Start(is_prepared=False, is_ready=False, detail="numpy 9 does not exist")
    rows = make_table(make_measured(start=start, load=None, usage=Usage()))
    by_gate = {row.gate: row for row in rows}
    assert by_gate["environment"].actual == "numpy 9 does not exist"
    assert by_gate["golden request"].actual == "the version did not start"
    assert not by_gate["environment"].has_passed
    assert not by_gate["load"].has_passed
    start = Start(is_prepared=True, is_ready=False, detail="answered 3 instead of 4")
    rows = make_table(make_measured(start=start, load=None, usage=Usage()))
    by_gate = {row.gate: row for row in rows}
    assert by_gate["environment"].has_passed
    assert by_gate["golden request"].actual == "answered 3 instead of 4"


@pytest.mark.parametrize(
    ("hardware", "changes", "has_passed"),
    [
        (Hardware(has_python=False, platform="linux-x86_64"), {}, False),
        (Hardware(has_python=True, platform="darwin-arm64"), {}, False),
        (Hardware(has_python=True, platform="linux-x86_64"), {"accelerator": "cuda 12.4"}, True),
        (
            Hardware(has_python=True, platform="linux-x86_64", accelerator="cuda"),
            {"accelerator": "cuda 12.4"},
            True,
        ),
    ],
)
def test_the_machine_is_compared_with_what_the_version_was_made_on(
    make_measured: Make,
    make_manifest: Version,
    hardware: Hardware,
    changes: dict[str, Any],
    has_passed: bool,  # noqa: FBT001
) -> None:
    """A version would be sent to a machine that cannot run it."""
    facts = VersionFacts(manifest=make_manifest(**changes))
    found = row(make_measured(facts=facts, hardware=hardware), "hardware")
    assert found.has_passed == has_passed, found


def test_a_missing_accelerator_fails_when_no_latency_budget_shows_that_it_is_not_needed(
    make_measured: Make, make_manifest: Version
) -> None:
    """A version would be served a hundred times slower than it was meant to be."""
    facts = VersionFacts(manifest=make_manifest(accelerator="cuda 12.4"))
    found = row(make_measured(facts=facts, policy=parse_policy({}, "model.digits")), "hardware")
    assert not found.has_passed
    assert "cuda 12.4" in found.needed


@pytest.mark.parametrize(
    ("last", "every", "actual"),
    [
        (None, 7, "never drilled"),
        (drill(days=8), 7, "passed 8 days ago"),
        (drill(days=1, failure="artifact damaged"), 7, "failed 24 hours ago: artifact damaged"),
        (drill(days=3, seconds=99), 0, "failed 3 days ago: a part took longer than its limit"),
    ],
)
def test_a_stale_or_failed_drill_fails(
    make_measured: Make, last: RollbackReport | None, every: int, actual: str
) -> None:
    """A version would be deployed where nobody can come back from."""
    drilled = Drilled(last=last, every_seconds=every * 86_400, now=NOW)
    found = row(make_measured(drilled=drilled), "rollback drill")
    assert (found.has_passed, found.actual) == (False, actual)
    assert "stemma rollback digits --drill" in found.needed


def test_a_fresh_drill_passes_and_without_a_schedule_none_is_asked(make_measured: Make) -> None:
    """Users without drills could never deploy."""
    fresh = Drilled(last=drill(days=1), every_seconds=7 * 86_400, now=NOW)
    assert row(make_measured(drilled=fresh), "rollback drill").has_passed
    for last in (None, drill(days=99)):
        drilled = Drilled(last=last, every_seconds=0, now=NOW)
        gates = [row.gate for row in make_table(make_measured(drilled=drilled))]
        assert "rollback drill" not in gates


def test_a_machine_too_busy_to_send_in_time_is_said(make_measured: Make) -> None:
    """A version would be called slow for what the machine was doing besides."""
    busy = LoadResult(samples=load().samples, seconds=10.0, sender_late_ms=5.2)
    assert (
        "this machine is busy: sent 5 ms late (p99)" in row(make_measured(load=busy), "load").actual
    )
