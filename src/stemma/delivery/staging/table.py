"""The table of validation before deployment: from what was measured to one row per question.

Invariants:
    * What was not measured does not pass.
    * A budget that staging measures (latency, memory, CPU) is judged by that, never by what the
      training machine recorded; any other by what was recorded.
    * A version that never became ready is a table with failed rows, not an exception.

This module is pure; ``staging_run`` starts the version, sends the requests and measures.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from stemma.delivery.load.result import LoadResult
from stemma.delivery.values import RollbackReport, StagingReport
from stemma.domain.axis_interface import judge_interface
from stemma.domain.axis_structure import judge_labels
from stemma.domain.component import Environment
from stemma.domain.configuration import Configuration
from stemma.domain.facts import VersionFacts
from stemma.domain.gate import check_gates, summarise_gates
from stemma.domain.policy import Budget, ModelPolicy
from stemma.domain.release import GateResult
from stemma.domain.verdict import Level

INTERFACE: Final = "interface"
HARDWARE: Final = "hardware"
ENVIRONMENT: Final = "environment"
GOLDEN: Final = "golden request"
LOAD: Final = "load"
MEMORY: Final = "memory"
DRILL: Final = "rollback drill"
_OWN_ROWS: Final = frozenset({INTERFACE, HARDWARE, ENVIRONMENT, GOLDEN, LOAD, MEMORY, DRILL})

MOST_ERRORS: Final = 0.001
"""Share of requests that may fail."""

LEAST_ACHIEVED: Final = 0.98
"""Share of the offered rate that must be answered."""

_NOT_MEASURED: Final = "not measured"
_NOT_STARTED: Final = "the version did not start"
_QUANTILE: Final = re.compile(r"latency_p(\d+)")
_SHOWN: Final = 4
_SENDER_LATE_MS: Final = 2.0
_PLAIN_MS: Final = 100
_DAY_SECONDS: Final = 86_400
_HOUR_SECONDS: Final = 3600
_PER_MS: Final = {"ms": 1.0, "s": 1e-3}
_PER_BYTE: Final = {"MiB": 2.0**-20, "GiB": 2.0**-30, "MB": 1e-6}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """What this machine has, as far as a version can need it.

    Attributes:
        has_python: Whether the version's minor version of Python can be had.
        platform: e.g. ``linux-x86_64``.
        accelerator: e.g. ``cuda``; empty when there is none.
    """

    has_python: bool
    platform: str
    accelerator: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """How starting the version went.

    Attributes:
        is_prepared: Its files and its environment were made.
        is_ready: Every replica gave the golden answer.
        detail: Why it is not ready; empty when it is.
    """

    is_prepared: bool
    is_ready: bool
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What the version's processes used while requests were replayed.

    Attributes:
        memory_peak_bytes: Peak resident memory of the largest process; 0 when unknown.
        cpu_seconds: Processor time of all of them; 0 when unknown.
        restarts: How often one had to be started again.
        detail: What happened last to one; empty when nothing did.
    """

    memory_peak_bytes: int = 0
    cpu_seconds: float = 0.0
    restarts: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drilled:
    """What is known of rolling back from where the version is to go.

    Attributes:
        last: The newest drill or rollback; ``None`` when there was none.
        every_seconds: A drill older than this is stale; 0: no schedule.
        now: The present.
    """

    last: RollbackReport | None
    every_seconds: int
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Everything the table is made from.

    Attributes:
        label: The version, ``digits@1.1.0``.
        policy: The model's policy.
        facts: The version.
        deployed_label: What serves now; empty when nothing does.
        deployed: Its facts; ``None`` when nothing serves.
        configuration: What the version was tried with.
        hardware: This machine.
        start: How starting went.
        load: What came of the requests; ``None`` when none were sent.
        load_problem: Why none were sent; empty when they were.
        usage: What the processes used.
        drilled: Drills; ``None`` when nothing serves that could be rolled back to.
    """

    label: str
    policy: ModelPolicy
    facts: VersionFacts
    deployed_label: str = ""
    deployed: VersionFacts | None = None
    configuration: Configuration
    hardware: Hardware
    start: Start
    load: LoadResult | None = None
    load_problem: str = ""
    usage: Usage = Usage()
    drilled: Drilled | None = None


def make_table(measured: Measured) -> tuple[GateResult, ...]:
    """Return every row: gates, interface, hardware, environment, golden request, load, budgets."""
    budgets = {budget.key: budget for budget in measured.policy.budgets}
    recorded = check_gates(measured.policy, measured.facts.manifest)
    rows = [row for row in recorded if row.gate not in budgets]
    rows += [
        check_interface(measured),
        check_hardware(measured),
        check_environment(measured),
        _check_golden(measured),
        _check_load(measured),
    ]
    for row in recorded:
        if row.gate in budgets:
            rows.append(_check_budget(budgets[row.gate], measured, row))
    rows.append(_check_memory(measured))
    rows.extend(_check_drill(measured.label, measured.drilled))
    return tuple(rows)


def check_interface(measured: Measured) -> GateResult:
    """Whether those who call what serves now can call this version unchanged."""
    if measured.deployed is None:
        return _row(INTERFACE, "nothing is deployed", "callers go on unchanged", has_passed=True)
    needed = f"callers of {measured.deployed_label} go on unchanged"
    findings = [
        *judge_interface(measured.deployed, measured.facts, measured.policy),
        *judge_labels(measured.deployed, measured.facts),
    ]
    breaking = [finding.reason for finding in findings if finding.level is Level.MAJOR]
    shown = breaking or [finding.reason for finding in findings]
    return _row(INTERFACE, _listed(shown) or "unchanged", needed, has_passed=not breaking)


def check_hardware(measured: Measured) -> GateResult:
    """Whether this machine is what the version was made on, as far as it can matter.

    A missing accelerator passes when a latency budget will show whether it is needed.
    """
    wanted, here = measured.facts.manifest.environment, measured.hardware
    minor = ".".join(wanted.python.split(".")[:2])
    kind, has_kind = wanted.accelerator.split(" ")[0], here.accelerator.split(" ")[0]
    has_latency_budget = any(_is_latency(budget) for budget in measured.policy.budgets)
    is_accelerated = not kind or kind == has_kind or has_latency_budget
    needed = f"python {minor}, {wanted.platform}"
    if kind:
        needed += f", {wanted.accelerator}"
        needed += " or a latency budget that is kept without" if kind != has_kind else ""
    has = f"python {minor}" if here.has_python else f"no python {minor}"
    accelerator = here.accelerator or "no accelerator"
    return _row(
        HARDWARE,
        f"{has}, {here.platform}, {accelerator}",
        needed,
        has_passed=here.has_python and here.platform == wanted.platform and is_accelerated,
    )


def check_environment(measured: Measured) -> GateResult:
    """Whether the version's own environment could be made from its lock."""
    own = measured.facts.manifest.environment
    needed = f"its lock of {len(own.packages)} packages can be installed"
    if not measured.start.is_prepared:
        actual = measured.start.detail or _NOT_STARTED
        return _row(ENVIRONMENT, actual, needed, has_passed=False)
    note = ""
    if measured.deployed is not None:
        changes = _package_changes(measured.deployed.manifest.environment, own)
        note = f"; from {measured.deployed_label}: {_listed(changes)}" if changes else "; same lock"
    return _row(ENVIRONMENT, f"0 conflicts{note}", needed, has_passed=True)


def _package_changes(before: Environment, after: Environment) -> list[str]:
    old = {package.name: package.version for package in before.packages}
    new = {package.name: package.version for package in after.packages}
    changes = [
        f"{name} {old[name]} → {new[name]}" if name in old else f"{name} {new[name]} added"
        for name in new
        if old.get(name) != new[name]
    ]
    return changes + [f"{name} removed" for name in old if name not in new]


def _check_golden(measured: Measured) -> GateResult:
    golden = measured.facts.manifest.evidence.golden
    needed = "the answer recorded at training" if golden else "ready"
    if measured.start.is_ready:
        actual = "answered as recorded" if golden else "ready; it has no golden set"
        return _row(GOLDEN, actual, needed, has_passed=True)
    actual = measured.start.detail if measured.start.is_prepared else ""
    return _row(GOLDEN, actual or _NOT_STARTED, needed, has_passed=False)


def _check_load(measured: Measured) -> GateResult:
    needed = f"≤ {MOST_ERRORS:.1%} failed".replace("%", " %")
    needed += f", ≥ {LEAST_ACHIEVED * 100:.0f} % of the rate answered"
    load = measured.load
    if load is None:
        return _row(LOAD, measured.load_problem or _NOT_STARTED, needed, has_passed=False)
    kinds = _listed([f"{count:,} {kind}" for kind, count in load.errors.items()])
    achieved = min(load.achieved_per_second, load.offered_per_second)
    parts = [
        f"{achieved:.4g} of {load.offered_per_second:.4g} req/s",
        f"{load.failed:,} of {load.sent:,} failed{f' ({kinds})' if kinds else ''}",
    ]
    if measured.usage.restarts:
        why = f" ({measured.usage.detail})" if measured.usage.detail else ""
        parts.append(f"restarted {measured.usage.restarts} times{why}")
    if load.sender_late_ms > _SENDER_LATE_MS:
        parts.append(f"this machine is busy: sent {load.sender_late_ms:.0f} ms late (p99)")
    has_passed = load.error_share <= MOST_ERRORS and load.keeps_up >= LEAST_ACHIEVED
    return _row(
        LOAD, ", ".join(parts), needed, has_passed=has_passed and not measured.usage.restarts
    )


def _is_latency(budget: Budget) -> bool:
    return budget.metric == "latency_mean" or _QUANTILE.fullmatch(budget.metric) is not None


def _check_budget(budget: Budget, measured: Measured, recorded: GateResult) -> GateResult:
    is_measurable, value = _measure(budget, measured)
    if not is_measurable:
        return recorded
    needed = f"≤ {budget.maximum:g} {budget.unit}"
    if value is None:
        return _row(budget.key, _NOT_MEASURED, needed, has_passed=False)
    has_passed = value <= budget.maximum
    return _row(budget.key, _figure(value, budget, has_passed), needed, has_passed=has_passed)


def _measure(budget: Budget, measured: Measured) -> tuple[bool, float | None]:
    """Return whether staging measures it, and the value in the budget's unit."""
    load, usage = measured.load, measured.usage
    value: float | None = None
    if _is_latency(budget) and budget.unit in _PER_MS:
        if load is not None and any(sample.status for sample in load.samples):
            found = _QUANTILE.fullmatch(budget.metric)
            ms = load.mean_ms() if found is None else load.quantile_ms(_share(found[1]))
            value = ms * _PER_MS[budget.unit]
        return True, value
    if budget.metric == "memory_peak" and budget.unit in _PER_BYTE:
        if usage.memory_peak_bytes and load is not None:
            value = usage.memory_peak_bytes * _PER_BYTE[budget.unit]
        return True, value
    if budget.metric == "cpu_per_request" and budget.unit in _PER_MS:
        if usage.cpu_seconds and load is not None and load.sent:
            value = usage.cpu_seconds * 1e3 / load.sent * _PER_MS[budget.unit]
        return True, value
    return False, None


def _share(digits: str) -> float:
    """Read ``99`` as 0.99, ``5`` as 0.05 and ``999`` as 0.999."""
    return float(f"0.{digits}") if len(digits) > 1 else int(digits) / 100


def _figure(value: float, budget: Budget, has_passed: bool) -> str:  # noqa: FBT001 - the answer
    """Write a value so that it does not contradict the answer by rounding."""
    text = _short(value)
    if (float(text) <= budget.maximum) != has_passed:
        text = f"{value:.6g}"
    return f"{text} {budget.unit}"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= _PLAIN_MS else f"{value:.2g}" if value < 1 else f"{value:.1f}"


def _check_memory(measured: Measured) -> GateResult:
    limit = measured.configuration.memory_mib
    needed = f"≤ {limit:,} MiB (memory_mib)"
    peak = measured.usage.memory_peak_bytes / 2**20
    if not peak or measured.load is None:
        return _row(MEMORY, _NOT_MEASURED, needed, has_passed=False)
    return _row(MEMORY, f"{peak:,.0f} MiB", needed, has_passed=peak <= limit)


def _check_drill(label: str, drilled: Drilled | None) -> Iterator[GateResult]:
    """Yield the row on drills, when there is a schedule or the last one failed."""
    if drilled is None:
        return
    last, model = drilled.last, label.partition("@")[0]
    needed = "the last one passed"
    if drilled.every_seconds:
        needed += f", at most {_period(drilled.every_seconds)} ago"
    needed += f": stemma rollback {model} --drill"
    if last is None:
        if drilled.every_seconds:
            yield _row(DRILL, "never drilled", needed, has_passed=False)
        return
    age = max(drilled.now - last.at, timedelta(0)).total_seconds()
    when = f"{_period(age)} ago"
    if not last.has_passed:
        why = last.failure or "a part took longer than its limit"
        yield _row(DRILL, f"failed {when}: {why}", needed, has_passed=False)
    elif drilled.every_seconds:
        yield _row(DRILL, f"passed {when}", needed, has_passed=age <= drilled.every_seconds)


def _period(seconds: float) -> str:
    if seconds >= 2 * _DAY_SECONDS:
        return f"{seconds / _DAY_SECONDS:.0f} days"
    if seconds >= 2 * _HOUR_SECONDS:
        return f"{seconds / _HOUR_SECONDS:.0f} hours"
    return f"{seconds / 60:.0f} minutes"


def _row(gate: str, actual: str, needed: str, *, has_passed: bool) -> GateResult:
    return GateResult(gate=gate, has_passed=has_passed, actual=actual, needed=needed)


def _listed(items: Sequence[str]) -> str:
    shown = ", ".join(items[:_SHOWN])
    return f"{shown} and {len(items) - _SHOWN} more" if len(items) > _SHOWN else shown


def describe(report: StagingReport) -> str:
    """Say a table in one line: what passed with its figures, or only what did not."""
    failed = [row for row in report.results if not row.has_passed]
    if failed:
        return "; ".join(f"{row.gate}: {row.actual}, needed {row.needed}" for row in failed)
    by_gate = {row.gate: row for row in report.results}
    budgets = {row.gate for row in report.results if _is_measured_budget(row)}
    gates = [row for row in report.results if row.gate not in _OWN_ROWS | budgets]
    count = summarise_gates(gates).total_count
    parts = [INTERFACE, "environment (0 conflicts)"]
    parts += [f"{count} gate{'' if count == 1 else 's'}"] if count else []
    if report.requests:
        parts.append(f"load {report.rate_per_second:.4g} req/s: {_latency_part(report, by_gate)}")
        parts.append(_memory_part(by_gate))
    return ", ".join(part for part in parts if part)


def _is_measured_budget(row: GateResult) -> bool:
    return row.gate.startswith(("latency_", "memory_peak_", "cpu_per_request_"))


def _latency_part(report: StagingReport, by_gate: dict[str, GateResult]) -> str:
    row = by_gate.get("latency_p99_ms")
    if row is not None:
        return f"p99 {row.actual} {row.needed}"
    return f"p99 {_short(report.latency_p99_ms)} ms"


def _memory_part(by_gate: dict[str, GateResult]) -> str:
    row = next((row for gate, row in by_gate.items() if gate.startswith("memory_peak_")), None)
    row = row or by_gate.get(MEMORY)
    return "" if row is None else f"{row.actual} {row.needed.partition(' (')[0]}"
