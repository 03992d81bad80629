"""A verdict in words: the lines that ``release`` shows, made from the stored verdict alone.

Invariants:
    * Nothing is said that the findings do not say.
    * The same record gives the same lines years later; nothing is measured again.

Whoever prints the lines aligns their labels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from stemma.domain.gate import REGRESSION, summarise_gates
from stemma.domain.release import GateResult
from stemma.domain.verdict import Axis, Finding, Level, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One labelled line.

    Attributes:
        label: e.g. ``behaviour``.
        text: e.g. ``0 of 540 predictions differ (≤ 0.6 % at 95 %)``.
    """

    label: str
    text: str


def explain(verdict: Verdict) -> tuple[Line, ...]:
    """Return the lines under ``✓ digits 1.0.1   patch``."""
    if verdict.level is Level.NONE:
        return ()
    if verdict.level is Level.PATCH:
        return (*_axis_lines(verdict, Level.PATCH, (Axis.BEHAVIOUR,)), _because(verdict))
    if verdict.level is Level.MINOR:
        interface = [Line(label=Axis.INTERFACE.value, text="unchanged")]
        if _of(verdict, Axis.INTERFACE):
            interface = []
        return (*interface, *_axis_lines(verdict, Level.MINOR, tuple(Axis)), *_metric(verdict))
    shown = tuple(axis for axis in Axis if axis is not Axis.BEHAVIOUR or not _is_redesign(verdict))
    return (*_axis_lines(verdict, Level.MAJOR, shown), *_metric(verdict))


def explain_gates(gates: Iterable[GateResult]) -> tuple[Line, ...]:
    """Return one line per gate that failed, e.g. ``accuracy`` · ``0.8296   needs ≥ 0.965``."""
    failures = summarise_gates(gates).failures
    width = max((len(result.actual) for result in failures if result.gate != REGRESSION), default=0)
    return tuple(
        Line(
            label=result.gate,
            text=result.actual
            if result.gate == REGRESSION
            else f"{result.actual:<{width}}   needs {result.needed}",
        )
        for result in failures
    )


def _axis_lines(verdict: Verdict, level: Level, axes: tuple[Axis, ...]) -> list[Line]:
    """Return one line per axis: its findings of ``level``, and behaviour at any level."""
    lines: list[Line] = []
    for axis in axes:
        reasons = [
            finding.reason
            for finding in verdict.findings
            if finding.axis is axis
            and (finding.level is level or (axis is Axis.BEHAVIOUR and level is Level.MINOR))
        ]
        if reasons:
            lines.append(Line(label=axis.value, text="; ".join(reasons)))
    return lines


def _is_redesign(verdict: Verdict) -> bool:
    """Whether another behaviour goes without saying."""
    return any(finding.code.removeprefix("drift-") == "redesigned" for finding in verdict.findings)


def _because(verdict: Verdict) -> Line:
    """Say what changed, and that nothing else did where that is so."""
    content = _of(verdict, Axis.CONTENT)
    silent = {Axis.BEHAVIOUR, Axis.CONTENT}
    others = [
        finding
        for finding in verdict.findings
        if finding.axis not in silent and not (content and finding.code == "values-changed")
    ]
    text = "; ".join(finding.reason for finding in (*content, *others))
    return Line(label="because", text=f"{text}; everything else same" if text else "")


def _of(verdict: Verdict, axis: Axis) -> list[Finding]:
    return [finding for finding in verdict.findings if finding.axis is axis]


def _metric(verdict: Verdict) -> list[Line]:
    """Return the line on the metric, e.g. ``0.9722 → 0.9759   not a significant change …``."""
    name, _, text = verdict.significance.partition(" ")
    if not text:
        return []
    if " → " in text:
        text = text.replace(": ", "   ", 1)
    return [Line(label=name, text=text)]
