"""What verbs say about a rollout: pure functions from stored values to lines.

Invariants:
    * A card is made from a ``RolloutView`` and the time it is given; it reads nothing.
    * The first character says the answer: ✓ live, • under way or paused, ✗ taken back.
    * Nothing is said of a guardrail that was not measured: too little traffic reads
      ``collecting``, never a value.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from stemma.cli import render
from stemma.cli.plain import plain
from stemma.delivery.values import RolloutEvent, RolloutView
from stemma.domain.judge import Assessment, Guardrail, Standing
from stemma.domain.rollout import Rollout, RolloutState
from stemma.domain.routing import ALL_TRAFFIC_BP

_BAR_WIDTH: Final = 20
_QUIET_AFTER_SECONDS: Final = 15
_NO_CHANGE: Final = 0.005
_SMALL_SHARE: Final = 0.0005
_LARGE_E_VALUE: Final = 10_000
_MILLISECOND_US: Final = 1000
_LATENCY: Final = "latency_"
_BEFORE_TRAFFIC: Final = frozenset(
    {
        RolloutState.DRAFT,
        RolloutState.VALIDATING,
        RolloutState.WARMING,
        RolloutState.SHADOW,
    }
)
_TAKEN_BACK: Final = frozenset(
    {RolloutState.ROLLING_BACK, RolloutState.ROLLED_BACK, RolloutState.FAILED}
)


def share(weight_bp: int) -> str:
    """Write a weight as people do, ``5 %`` or ``0.5 %``."""
    return f"{weight_bp / 100:g} %"


def mark_of(rollout: Rollout) -> str:
    """Return the mark of where a rollout stands."""
    if rollout.state is RolloutState.LIVE:
        return render.DONE
    return render.REFUSED if rollout.state in _TAKEN_BACK else render.NOTED


def change_text(rollout: Rollout) -> str:
    """Write from what to what: two versions, or one version with another configuration."""
    before, after = rollout.stable.version, rollout.canary.version
    same = " with another configuration" if before == after else ""
    return f"{before} → {after}{same}"


def rollout_card(
    view: RolloutView, now: datetime, *, seen: Mapping[int, Assessment] | None = None
) -> list[str]:
    """Say where a rollout stands: one line per step, the evidence, what comes next.

    Args:
        view: The rollout.
        now: The present, for ages.
        seen: Last assessment of each step that a watcher saw; for the lines of past steps.
    """
    rollout = view.rollout
    by = f" by {rollout.started_by}" if rollout.started_by else ""
    started = f"started {render.ago(rollout.started_at, now)}{by}"
    head = f"{mark_of(rollout)} {rollout.model}  {change_text(rollout)}"
    lines = [f"{head}   {_standing_text(rollout)}   {started}"]
    lines += step_lines(rollout, seen or {})
    if rollout.assessment is not None and rollout.assessment.guardrails:
        rows = [GUARDRAIL_HEADER, *guardrail_rows(rollout.assessment.guardrails)]
        lines += render.table(rows, indent=2)
    said = [("because", rollout.reason)] if rollout.reason else []
    judged = rollout.assessment.reason if rollout.assessment is not None else ""
    if judged and judged not in rollout.reason and not rollout.state.is_final:
        said.append(("judge", judged))
    coming = next_text(rollout)
    if coming:
        said.append(("next", coming))
    silent = silence_text(rollout, now)
    if silent:
        said.append(("silent", silent))
    return [*lines, *render.labelled(said)]


def _standing_text(rollout: Rollout) -> str:
    match rollout.state:
        case RolloutState.CANARY:
            return f"canary at {share(rollout.weight_bp)}"
        case RolloutState.PAUSED:
            return f"paused at {share(rollout.weight_bp)}"
        case RolloutState.LIVE:
            return f"stable = {rollout.canary.version}, previous {rollout.stable.version} kept warm"
        case RolloutState.ROLLED_BACK | RolloutState.FAILED:
            return f"{rollout.state.value}, stable = {rollout.stable.version}"
        case _:
            return str(rollout.state.value)


def step_lines(rollout: Rollout, seen: Mapping[int, Assessment]) -> list[str]:
    """Return one line per step: share, bar, errors, latency, how long it was held, mark."""
    rows = [_step_row(rollout, index, seen.get(index)) for index in range(_step_count(rollout))]
    return render.table(rows, indent=2)


def _step_count(rollout: Rollout) -> int:
    return len(rollout.plan.steps_bp)


def _step_row(rollout: Rollout, index: int, seen: Assessment | None) -> list[str]:
    weight = rollout.plan.steps_bp[index]
    is_over, is_now = _is_step_over(rollout, index), _is_step_now(rollout, index)
    assessment = rollout.assessment if is_now and rollout.assessment is not None else seen
    full = math.ceil(_BAR_WIDTH * weight / ALL_TRAFFIC_BP) if is_over or is_now else 0
    bar = "█" * full + "░" * (_BAR_WIDTH - full)
    errors, latency = _step_evidence(assessment) if is_over or is_now else ("", "")
    mark = render.DONE if is_over else ""
    if is_now and rollout.state in _TAKEN_BACK:
        mark = render.REFUSED
    held = _held_text(rollout, index)
    return [f"{share(weight):>6}", bar, errors, latency, held, mark]


def _is_step_over(rollout: Rollout, index: int) -> bool:
    if rollout.state is RolloutState.LIVE:
        return True
    is_promoting = _resumed_state(rollout) is RolloutState.PROMOTING
    is_last = index == _step_count(rollout) - 1
    return index < rollout.step or (is_promoting and not is_last)


def _is_step_now(rollout: Rollout, index: int) -> bool:
    state = _resumed_state(rollout)
    if state in _BEFORE_TRAFFIC or state is RolloutState.LIVE:
        return False
    if state in _TAKEN_BACK and rollout.assessment is None:
        return False  # it never got traffic
    if state is RolloutState.PROMOTING:
        return index == _step_count(rollout) - 1
    return index == rollout.step


def _resumed_state(rollout: Rollout) -> RolloutState:
    if rollout.state is RolloutState.PAUSED and rollout.resume_to is not None:
        return rollout.resume_to
    return rollout.state


def _held_text(rollout: Rollout, index: int) -> str:
    if _is_step_over(rollout, index):
        is_last = index == _step_count(rollout) - 1
        return "" if is_last else f"held {render.duration(rollout.plan.hold_seconds)}"
    if not _is_step_now(rollout, index):
        return ""
    if rollout.plan.steps_bp[index] >= ALL_TRAFFIC_BP:
        return "promoting" if rollout.state not in _TAKEN_BACK else ""
    held = render.duration(rollout.held_seconds)
    is_waiting = rollout.held_seconds >= rollout.plan.hold_seconds
    if is_waiting and rollout.state is RolloutState.CANARY:
        return f"held {held}, waiting for evidence"
    verb = "holding" if rollout.state is RolloutState.CANARY else "held"
    return f"{verb} {held} of {render.duration(rollout.plan.hold_seconds)}"


def _step_evidence(assessment: Assessment | None) -> tuple[str, str]:
    """Return errors and change of latency of a step, as text."""
    known = {item.metric: item for item in assessment.guardrails} if assessment else {}
    errors = known.get("errors")
    slow = known.get("latency_p99")
    error_text = ""
    if errors is not None and errors.canary_trials:
        error_text = f"errors {value_text('errors', errors.canary_value)}"
    slow_text = ""
    if slow is not None and slow.canary_trials and slow.stable_value > 0:
        slow_text = f"p99 {relative_text(slow.canary_value, slow.stable_value)}"
    return error_text, slow_text


def relative_text(canary: float, stable: float) -> str:
    """Write a change as people do, ``−14 %``; below half a percent it is ``±0 %``."""
    change = canary / stable - 1
    if not math.isfinite(change):
        return "unknown"
    if abs(change) < _NO_CHANGE:
        return "±0 %"
    return f"{'+' if change > 0 else '−'}{abs(change):.0%}".replace("%", " %")


def value_text(metric: str, value: float) -> str:
    """Write a guardrail's value: a latency in ms, a rate in percent."""
    if not math.isfinite(value):
        return "unknown"
    if metric.startswith(_LATENCY):
        return f"{value / _MILLISECOND_US:.1f} ms"
    if 0 < value < _SMALL_SHARE:
        return f"{100 * value:.2g} %"
    return f"{100 * value:.1f} %"


GUARDRAIL_HEADER: Final = ("guardrail", "canary", "stable", "evidence", "requests", "standing")


def guardrail_rows(guardrails: Iterable[Guardrail]) -> list[list[str]]:
    """Return one row per guardrail: name, both values, evidence of its limit, requests."""
    return [
        [
            item.metric,
            value_text(item.metric, item.canary_value) if item.canary_trials else "–",
            value_text(item.metric, item.stable_value) if item.canary_trials else "–",
            evidence_text(item),
            f"{item.canary_trials:,}",
            item.standing.value + (f": {item.reason}" if item.reason else ""),
        ]
        for item in guardrails
    ]


def evidence_text(guardrail: Guardrail) -> str:
    """Write the e-value beside the limit at which the rollout is aborted."""
    return f"e {_e_text(guardrail.e_value)} of {_e_text(guardrail.limit)}"


def _e_text(value: float) -> str:
    if not math.isfinite(value) or value >= _LARGE_E_VALUE:
        return f"{value:.1g}"
    return f"{value:.0f}" if value == int(value) else f"{value:.1f}"


def next_text(rollout: Rollout) -> str:
    """Say the next thing that happens, and when; empty when nothing follows."""
    model, version = rollout.model, rollout.canary.version
    text = ""
    match rollout.state:
        case RolloutState.DRAFT | RolloutState.VALIDATING:
            text = f"{version} is validated in staging; then its processes start"
        case RolloutState.WARMING | RolloutState.SHADOW:
            first = share(rollout.plan.steps_bp[0])
            text = f"{first} of the requests, as soon as {version} answers its golden request"
        case RolloutState.CANARY:
            text = _next_step(rollout)
        case RolloutState.PROMOTING:
            text = f"the channel stable moves to {version}"
        case RolloutState.PAUSED:
            text = f"nothing until: stemma rollout resume {model}, promote or abort"
        case RolloutState.ROLLING_BACK:
            text = f"every request goes to {rollout.stable.version}"
        case RolloutState.LIVE | RolloutState.ROLLED_BACK | RolloutState.FAILED:
            pass
    return text


def _next_step(rollout: Rollout) -> str:
    plan, is_last = rollout.plan, rollout.step + 1 >= _step_count(rollout)
    coming = "promotion" if is_last else share(plan.steps_bp[rollout.step + 1])
    left = plan.hold_seconds - rollout.held_seconds
    if left > 0:
        return f"{coming} in {render.duration(left)}, if every guardrail holds"
    if rollout.assessment is not None and rollout.assessment.is_sufficient:
        return f"{coming} at the next look"
    rest = max(0.0, plan.hold_limit_seconds - rollout.held_seconds)
    return f"{coming} as soon as enough was seen; paused in {render.duration(rest)} otherwise"


def silence_text(rollout: Rollout, now: datetime) -> str:
    """Say that nobody looks after a canary; empty while somebody does.

    In other states nothing is counted, so that a time of the last look says nothing.
    """
    if rollout.state is not RolloutState.CANARY or rollout.last_look_at is None:
        return ""
    quiet = (now - rollout.last_look_at).total_seconds()
    if quiet < _QUIET_AFTER_SECONDS:
        return ""
    return f"no look for {render.duration(quiet)}; does the server run? stemma status"


def rollout_line(rollout: Rollout, *, has_reason: bool = True) -> str:
    """Say in one line where a rollout stands, for a log of its progress.

    Args:
        rollout: The rollout.
        has_reason: Say why, outside a canary; not where the log has just said it.
    """
    parts = [f"{rollout.model} {change_text(rollout)}", _standing_text(rollout)]
    if rollout.state is RolloutState.CANARY:
        parts += [text for text in _step_evidence(rollout.assessment) if text]
        parts.append(_held_text(rollout, rollout.step))
        worst = _strongest(rollout.assessment)
        if worst is not None:
            parts.append(f"{worst.metric} {evidence_text(worst)}, {worst.standing.value}")
    elif has_reason:
        parts.append(rollout.reason)
    return "  ".join(part for part in parts if part)


def _strongest(assessment: Assessment | None) -> Guardrail | None:
    """Return the guardrail nearest to its limit."""
    known = [item for item in assessment.guardrails if item.limit > 0] if assessment else []
    return max(known, key=lambda item: item.e_value / item.limit, default=None)


def rollout_rows(view: RolloutView) -> list[list[str]]:
    """Return the one row of a rollout: state, model, versions, share, step, held, evidence."""
    rollout = view.rollout
    guardrails = rollout.assessment.guardrails if rollout.assessment is not None else ()
    evidence = [
        f"{item.metric} {item.standing.value}, {evidence_text(item)}"
        + (
            f", {value_text(item.metric, item.canary_value)} against "
            f"{value_text(item.metric, item.stable_value)}"
            if item.canary_trials
            else ""
        )
        for item in guardrails
    ]
    return [
        [
            rollout.state.value,
            rollout.model,
            rollout.stable.version,
            rollout.canary.version,
            str(rollout.weight_bp),
            f"{rollout.step + 1}/{_step_count(rollout)}",
            f"{rollout.held_seconds:.0f}",
            rollout.reason,
            "; ".join(evidence),
        ]
    ]


EVENT_HEADER: Final = ("when", "kind", "share", "state", "who", "what")


def event_rows(events: Sequence[RolloutEvent], *, is_precise: bool) -> list[list[str]]:
    """Return one row per line of a rollout's log, oldest first."""
    return [
        [
            event.at.isoformat() if is_precise else f"{event.at:%Y-%m-%d %H:%M:%S}",
            event.decision.kind,
            str(event.decision.weight_bp) if is_precise else share(event.decision.weight_bp),
            event.decision.state.value,
            event.by or "server",
            event.decision.text,
        ]
        for event in events
    ]


def rollout_payload(view: RolloutView, *, has_events: bool = True) -> dict[str, Any]:
    """Return a rollout as JSON values, without what only the judge reads."""
    payload: dict[str, Any] = plain(view.rollout)
    del payload["judge"], payload["position"]
    payload |= {
        "weight_bp": view.rollout.weight_bp,
        "is_final": view.rollout.state.is_final,
        "next": next_text(view.rollout),
    }
    if has_events:
        payload["events"] = [plain(event) for event in view.events]
    found: dict[str, Any] = _finite(payload)
    return found


def _finite(value: Any) -> Any:
    """Return the value without numbers that JSON cannot write."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def standings(rollout: Rollout) -> tuple[tuple[str, Standing], ...]:
    """Return each guardrail's standing: a watcher tells when one changes."""
    found = rollout.assessment.guardrails if rollout.assessment is not None else ()
    return tuple(sorted(((item.metric, item.standing) for item in found), key=lambda x: x[0]))
