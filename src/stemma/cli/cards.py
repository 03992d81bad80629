"""What verbs say to people about releases, checks and diffs: pure functions to lines.

Invariants:
    * A card is made from stored values only; it measures and reads nothing.
    * The first character of a card says the answer: ✓ done, • noted, ✗ no.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from stemma.cli import render
from stemma.domain.explain import explain, explain_gates
from stemma.domain.gate import format_metric, summarise_gates
from stemma.domain.release import ChannelMove, GateResult
from stemma.hub.base import (
    CheckReport,
    ComponentDiff,
    LogRow,
    ReleaseOutcome,
    ReleaseStatus,
    VersionDiff,
)

COMPONENT_LABELS: Final = {
    "architecture": "architecture",
    "datasets": "training data",
    "pipeline": "pipeline",
    "hyperparameters": "hyperparameters",
    "artifact": "artifact",
    "environment": "environment",
    "metrics": "metrics",
    "metadata": "metadata",
}
_WIDTH: Final = 17
"""Column where the text of a component starts."""

FIVE_AND_ENVIRONMENT: Final = frozenset(
    {"architecture", "datasets", "pipeline", "hyperparameters", "artifact", "environment"}
)


def component_lines(pairs: Iterable[tuple[str, str]], *, indent: int = 2) -> list[str]:
    """Align lines labelled with component names, as in a run's card."""
    return render.labelled(
        [(COMPONENT_LABELS.get(name, name), text) for name, text in pairs],
        width=_WIDTH,
        indent=indent,
    )


def release_card(
    outcome: ReleaseOutcome, *, is_prerelease: bool = False, channel: str = ""
) -> list[str]:
    """Say how a release ended, why the number is what it is, and which channel moved to it."""
    moved = [("channel", f"{channel} points here now")] if channel else []
    match outcome.status:
        case ReleaseStatus.UNCHANGED:
            head = f"{render.NOTED} {outcome.model} {outcome.version} already is this"
            said = f"{head}: all five components identical. Nothing to release."
            return [said, *render.labelled(moved), *_notes(outcome)]
        case ReleaseStatus.REFUSED:
            return _refusal(outcome.gates)
        case ReleaseStatus.RELEASED | ReleaseStatus.WOULD_RELEASE:
            return [*_release(outcome, moved, is_prerelease=is_prerelease), *_notes(outcome)]


def _notes(outcome: ReleaseOutcome) -> list[str]:
    """Name what the version lacks."""
    return render.labelled([("not logged", note) for note in outcome.notes])


def release_hints(outcome: ReleaseOutcome) -> list[str]:
    """Say what to do next."""
    if outcome.status is ReleaseStatus.REFUSED:
        return [f"  keep it anyway as a pre-release: stemma release {outcome.model} --pre"]
    return []


def _refusal(gates: Sequence[GateResult]) -> list[str]:
    summary = summarise_gates(gates)
    failed = summary.total_count - summary.passed_count
    what = f"{render.count(failed, 'gate')} failed" if failed else "a significant loss"
    lines = [(line.label, line.text) for line in explain_gates(gates)]
    return [f"{render.REFUSED} not released: {what}", *render.labelled(lines)]


def _release(
    outcome: ReleaseOutcome, moved: Sequence[tuple[str, str]], *, is_prerelease: bool
) -> list[str]:
    is_done = outcome.status is ReleaseStatus.RELEASED
    mark, joint = (render.DONE, "") if is_done else (render.NOTED, "would be ")
    head = f"{mark} {outcome.model} {joint}{outcome.version}"
    if outcome.verdict is None:
        parts = [head, "first version"]
        if outcome.gates:
            summary = summarise_gates(outcome.gates)
            parts.append(f"gates: {summary.passed_count} of {summary.total_count} passed")
        return ["   ".join(parts), *render.labelled(moved)]
    applied = outcome.release.level if outcome.release is not None else outcome.verdict.level
    lines = [(line.label, line.text) for line in explain(outcome.verdict)]
    if outcome.release is not None and outcome.release.override_reason:
        reason = outcome.release.override_reason
        lines.append(("override", f"computed {outcome.verdict.level.value}: {reason}"))
    elif applied is not outcome.verdict.level and is_done:
        lines.append(("override", f"computed {outcome.verdict.level.value}"))
    if is_prerelease:
        lines += [(line.label, line.text) for line in explain_gates(outcome.gates)]
    return [f"{head}   {applied.value}", *render.labelled([*lines, *moved])]


def channel_line(move: ChannelMove, *, is_new: bool = True) -> str:
    """Say where a channel points."""
    if not move.version:
        return f"{render.DONE} {move.model} {move.channel} removed"
    mark = render.DONE if is_new else render.NOTED
    already = "" if is_new else "   (it already was)"
    return f"{mark} {move.model} {move.channel} = {move.version}{already}"


def check_card(report: CheckReport) -> list[str]:
    """Answer whether a version may ship: one line, then one row per result."""
    summary = summarise_gates(report.results)
    if report.has_passed:
        if not report.results:
            return [f"{render.DONE} {report.label} may ship: stemma.toml names no gates"]
        head = f"{render.DONE} {report.label} may ship"
        head += f"   {summary.passed_count} of {summary.total_count} passed"
    else:
        failed = len(summary.failures)
        head = (
            f"{render.REFUSED} {report.label} may not ship: {render.count(failed, 'check')} failed"
        )
    return [head, *render.table(check_rows(report.results, has_marks=True), indent=2)]


def check_rows(results: Iterable[GateResult], *, has_marks: bool = False) -> list[list[str]]:
    """Return one row per result: answer, gate, found, needed."""
    return [
        [
            (render.DONE if result.has_passed else render.REFUSED)
            if has_marks
            else ("pass" if result.has_passed else "fail"),
            result.gate,
            result.actual,
            f"needs {result.needed}" if has_marks and result.needed else result.needed,
        ]
        for result in results
    ]


def select_components(diff: VersionDiff, only: Sequence[str]) -> list[ComponentDiff]:
    """Return the components asked for, else all."""
    return [component for component in diff.components if not only or component.component in only]


def diff_card(components: Sequence[ComponentDiff], *, has_patch: bool = False) -> list[str]:
    """Compare two versions, one line per component with details below it.

    Args:
        components: What to show, in order.
        has_patch: Source lines changed and are not shown here.
    """
    lines: list[str] = []
    for component in components:
        text = component.summary
        if component.component == "pipeline" and has_patch and not component.is_same:
            text += "  (--patch to see)"
        lines += component_lines([(component.component, text)], indent=0)
        lines += [f"{' ' * _WIDTH}{detail}" for detail in component.details]
    return lines


def diff_rows(components: Sequence[ComponentDiff]) -> list[list[str]]:
    """Return one row per component: name, same or changed, summary, details."""
    return [
        [
            component.component,
            "same" if component.is_same else "changed",
            component.summary,
            "; ".join(component.details),
        ]
        for component in components
    ]


def diff_markdown(diff: VersionDiff, components: Sequence[ComponentDiff]) -> list[str]:
    """Write a diff as a Markdown table, for a review's comment."""
    lines = [
        f"### {diff.before} → {diff.after}",
        "",
        "| component | | change |",
        "|---|---|---|",
    ]
    for component in components:
        text = "<br>".join(_escaped(line) for line in (component.summary, *component.details))
        mark = "same" if component.is_same else "**changed**"
        lines.append(f"| {COMPONENT_LABELS[component.component]} | {mark} | {text} |")
    if diff.patch:
        fence = "`" * 4
        lines += ["", f"{fence}diff", *diff.patch.splitlines(), fence]
    return lines


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def log_rows(rows: Iterable[LogRow], *, is_precise: bool) -> list[list[str]]:
    """Return one row per release: version, level, metric, channels, when, who, why."""
    return [
        [
            row.version,
            row.level.value,
            f"{row.metric.key} {format_metric(row.metric)}" if row.metric else "",
            ",".join(row.channels),
            row.released_at.isoformat() if is_precise else f"{row.released_at:%Y-%m-%d %H:%M}",
            row.released_by,
            row.message or row.why,
        ]
        for row in rows
    ]


LOG_HEADER: Final = ("version", "level", "metric", "channels", "when", "who", "why")


def move_rows(moves: Iterable[ChannelMove], *, is_precise: bool) -> list[list[str]]:
    """Return one row per move of a channel: when, where to, who, why."""
    return [
        [
            _moment(move.moved_at, is_precise=is_precise),
            move.version or "(removed)",
            move.moved_by,
            move.reason,
        ]
        for move in moves
    ]


MOVE_HEADER: Final = ("when", "version", "who", "why")


def _moment(moment: datetime, *, is_precise: bool) -> str:
    return moment.isoformat() if is_precise else f"{moment:%Y-%m-%d %H:%M}"
