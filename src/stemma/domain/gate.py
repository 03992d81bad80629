"""Gates: whether a version may ship, as one table of answers.

Invariants:
    * What was not measured does not pass.
    * Answers come in the order of the policy: metrics, budgets, metadata, files.

This module decides; it does not measure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Final

from stemma.domain.manifest import Manifest, Metric
from stemma.domain.policy import Budget, MetadataField, ModelPolicy
from stemma.domain.release import GateResult
from stemma.domain.threshold import Gate

__all__ = ["Gate", "GateSummary", "check_gates", "format_metric", "summarise_gates"]

REGRESSION: Final = "regression"
"""Name of the gate that a significant loss fails."""

MetadataValue = str | bool | int | list[str]

_NOT_MEASURED: Final = "not measured"
_FEWEST_DECIMALS: Final = 3
_MOST_DECIMALS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSummary:
    """Answers counted per gate of the policy, a wildcard being one gate.

    Attributes:
        passed_count: Gates that passed.
        total_count: Gates asked.
        failures: The worst failing answer of each gate that failed, in order.
    """

    passed_count: int
    total_count: int
    failures: tuple[GateResult, ...]


def check_gates(policy: ModelPolicy, manifest: Manifest) -> tuple[GateResult, ...]:
    """Return every gate's answer: metrics, budgets, metadata, pickles."""
    results: list[GateResult] = []
    for gate in policy.gates:
        results.extend(_check_metrics(gate, manifest))
    results.extend(_check_budget(budget, manifest) for budget in policy.budgets)
    for field in policy.metadata:
        results.extend(_check_metadata(field, manifest))
    if manifest.artifact.is_pickle and not policy.is_pickle_allowed:
        results.append(
            GateResult(
                gate="files",
                has_passed=False,
                actual="a pickle, which runs code when loaded",
                needed="no pickle (save as skops or safetensors), or allow_pickle = true",
            )
        )
    return tuple(results)


def format_metric(metric: Metric) -> str:
    """Write a metric with as many decimals as its sample can carry (540 rows: 0.9722)."""
    number = metric.number
    if abs(number) > 1:
        return f"{number:,.6g}" if metric.value == str(int(number)) else f"{number:.4g}"
    digits = len(str(metric.sample_size)) + 1 if metric.sample_size else _MOST_DECIMALS
    return f"{number:.{min(max(digits, _FEWEST_DECIMALS), _MOST_DECIMALS)}f}"


def summarise_gates(results: Iterable[GateResult]) -> GateSummary:
    """Count answers per gate; the ``regression`` answer is listed but is no gate of the policy."""
    groups: dict[tuple[str, str], list[GateResult]] = {}
    for result in results:
        groups.setdefault((result.gate.partition("=")[0], result.needed), []).append(result)
    failures = [
        min(failed, key=_distance)
        for group in groups.values()
        if (failed := [result for result in group if not result.has_passed])
    ]
    counted = [group for group in groups.values() if group[0].gate != REGRESSION]
    return GateSummary(
        passed_count=sum(all(result.has_passed for result in group) for group in counted),
        total_count=len(counted),
        failures=tuple(failures),
    )


def _distance(result: GateResult) -> float:
    """Order answers of one gate from worst: furthest on the wrong side first."""
    try:
        value = float(result.actual.split(" ", maxsplit=1)[0].replace(",", ""))
    except ValueError:
        return float("-inf")
    return -value if result.needed.startswith(("≤", "<")) else value


def _check_metrics(gate: Gate, manifest: Manifest) -> list[GateResult]:
    measured = (*manifest.evidence.metrics, *manifest.evidence.service)
    metrics = [metric for metric in measured if gate.concerns(metric)]
    if not metrics:
        return [
            GateResult(gate=gate.key, has_passed=False, actual=_NOT_MEASURED, needed=gate.needed)
        ]
    return [_check_metric(gate, metric) for metric in metrics]


def _check_metric(gate: Gate, metric: Metric) -> GateResult:
    has_passed = gate.accepts(metric.number)
    written = format_metric(metric)
    if gate.accepts(float(written.replace(",", ""))) != has_passed:
        written = metric.value
    actual = f"{written} {metric.unit}".rstrip()
    return GateResult(gate=metric.key, has_passed=has_passed, actual=actual, needed=gate.needed)


def find_service(manifest: Manifest, budget: Budget) -> Metric | None:
    """Return what was measured for ``budget``; its name may or may not carry the unit."""
    names = {budget.metric, budget.key}
    return next((metric for metric in manifest.evidence.service if metric.name in names), None)


def _check_budget(budget: Budget, manifest: Manifest) -> GateResult:
    metric = find_service(manifest, budget)
    needed = f"≤ {budget.maximum:g} {budget.unit}"
    if metric is None:
        actual, has_passed = _NOT_MEASURED, False
    else:
        unit = metric.unit or budget.unit
        actual = f"{metric.number:.4g} {unit}"
        has_passed = unit == budget.unit and metric.number <= budget.maximum
    return GateResult(gate=budget.key, has_passed=has_passed, actual=actual, needed=needed)


def _check_metadata(field: MetadataField, manifest: Manifest) -> list[GateResult]:
    value = manifest.metadata.get(field.name)
    needed = _describe(field)
    if value is None:
        if not field.is_required:
            return []
        needed += f"; add it with run.metadata({field.name}=…)"
        return [
            GateResult(
                gate=f"metadata {field.name}", has_passed=False, actual="missing", needed=needed
            )
        ]
    return [
        GateResult(
            gate=f"metadata {field.name}",
            has_passed=_is_valid(field, value),
            actual=", ".join(value) if isinstance(value, list) else str(value),
            needed=needed,
        )
    ]


def _describe(field: MetadataField) -> str:
    words = [field.type]
    if field.unit:
        words.append(f"in {field.unit}")
    if field.allowed:
        words.append(f"one of {', '.join(str(value) for value in field.allowed)}")
    if field.pattern:
        words.append(f"matching {field.pattern}")
    return " ".join(words)


def _is_valid(field: MetadataField, value: MetadataValue) -> bool:
    if not _has_type(field.type, value):
        return False
    items = value if isinstance(value, list) else [value]
    return all(
        (not field.allowed or item in field.allowed)
        and (not field.pattern or re.fullmatch(field.pattern, str(item)) is not None)
        for item in items
    )


def _has_type(kind: str, value: MetadataValue) -> bool:
    match kind:
        case "str":
            return isinstance(value, str) and bool(value.strip())
        case "bool":
            return isinstance(value, bool)
        case "int":
            return isinstance(value, int) and not isinstance(value, bool)
        case "list":
            return isinstance(value, list) and bool(value)
        case _:
            return isinstance(value, str) and _is_date(value)


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
