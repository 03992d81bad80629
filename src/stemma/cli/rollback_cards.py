"""What ``stemma rollback`` says: reports, drills and how ready versions are, as lines.

Invariants:
    * Pure: lines and rows are made from values only.
    * A time stands beside what the mission allows whenever one of them is too long.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from stemma.cli import render
from stemma.cli.plain import plain
from stemma.delivery.values import Phase, Readiness, RollbackReport

_AT_ONCE_SECONDS: Final = 0.05


def rollback_card(report: RollbackReport) -> list[str]:
    """Say how a rollback or a drill went: one line, then each part against its limit."""
    lines = [_headline(report), *render.table(_phase_lines(report.phases), indent=2)]
    said = [("passed over", reason) for reason in report.skipped]
    if report.failure:
        said.append(("because", report.failure))
    return [*lines, *render.labelled(said, width=14)]


def _headline(report: RollbackReport) -> str:
    parts = " · ".join(_phase_text(phase, has_limit=report.is_drill) for phase in report.phases)
    mark = render.DONE if report.has_passed else render.REFUSED
    if report.is_drill:
        verdict = "passed" if report.has_passed else "failed"
        ready = f"{report.model} {report.before} could go back to {report.after}"
        if report.before == report.after:
            ready = f"{report.model} {report.after} could start anew"
        target = ready if report.after else f"{report.model} has nowhere to go back to"
        return f"{mark} drill {verdict}: {parts}   {target}" if parts else f"{mark} {target}"
    if report.failure:
        return f"{mark} {report.model} was not rolled back   stable = {report.before}"
    late = "" if report.has_passed else "   not every part kept its limit"
    return f"{mark} stable = {report.after}   {parts}{late}"


def _phase_text(phase: Phase, *, has_limit: bool) -> str:
    if has_limit:
        sign = "≤" if phase.seconds <= phase.limit_seconds else ">"
        return f"{phase.name} {render.duration(phase.seconds)} {sign} {_limit(phase)}"
    is_moved = phase.name == "traffic"  # always shown with its time: that is what users waited
    if phase.seconds < _AT_ONCE_SECONDS and phase.detail and not is_moved:
        return f"{phase.name} {phase.detail}"
    return f"{phase.name} {render.duration(phase.seconds)}"


def _limit(phase: Phase) -> str:
    return f"{phase.limit_seconds:g} s"


def _phase_lines(phases: Iterable[Phase]) -> list[list[str]]:
    return [
        [
            render.DONE if phase.has_passed else render.REFUSED,
            phase.name,
            render.duration(phase.seconds),
            f"{'≤' if phase.seconds <= phase.limit_seconds else '>'} {_limit(phase)}",
            phase.detail if phase.is_verified else f"not verified: {phase.detail}",
        ]
        for phase in phases
    ]


def phase_rows(report: RollbackReport) -> list[list[str]]:
    """Return one row per part: answer, name, seconds, limit, detail."""
    return [
        [
            "pass" if phase.has_passed else "fail",
            phase.name,
            f"{phase.seconds:.3f}",
            f"{phase.limit_seconds:g}",
            phase.detail,
        ]
        for phase in report.phases
    ]


def rollback_payload(report: RollbackReport) -> dict[str, Any]:
    """Return a report as JSON values, with its answers."""
    payload: dict[str, Any] = plain(report)
    for phase, values in zip(report.phases, payload["phases"], strict=True):
        values["passed"] = phase.has_passed
    return {**payload, "passed": report.has_passed}


HISTORY_HEADER: Final = ("when", "what", "from", "to", "answer", "times", "who", "why not")


def history_rows(reports: Iterable[RollbackReport], *, is_precise: bool) -> list[list[str]]:
    """Return one row per rollback or drill, newest first."""
    return [
        [
            report.at.isoformat() if is_precise else f"{report.at:%Y-%m-%d %H:%M}",
            "drill" if report.is_drill else "rollback",
            report.before,
            report.after,
            "passed" if report.has_passed else "failed",
            " · ".join(f"{phase.name} {render.duration(phase.seconds)}" for phase in report.phases),
            report.by,
            report.failure,
        ]
        for report in reports
    ]


READINESS_HEADER: Final = ("version", "now", "processes", "environment", "artifact", "detail")


def readiness_rows(found: Iterable[Readiness]) -> list[list[str]]:
    """Return one row per stable version: what of it is ready to be rolled back to."""
    return [
        [
            item.deployed.version,
            "serves" if item.is_current else "",
            "warm" if item.is_warm else "not running",
            "built" if item.has_environment else "not built",
            "ready" if item.has_artifact else "not materialised",
            item.detail,
        ]
        for item in found
    ]
