"""Moving real traffic: weight changes, rollbacks, a bad canary and a killed one, under load.

By hand: ``python -m benchmarks.scenarios.rollout builtin 20`` (plane, share of the repetitions
in percent).

Users come open loop from a process of its own; half of their requests miss a pixel, which the
trap version cannot digest.  Times are read from the access log, whose clock is this machine's.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

from benchmarks.digits import STEMMA
from benchmarks.production import MODEL, STABLE, Production, ScenarioError, production, quantiles
from stemma.delivery.access_log import RequestLine
from stemma.domain.judge import JudgePolicy
from stemma.domain.rollout import Rollout, RolloutPlan, RolloutState
from stemma.hub.local import LocalHub

_RATE: Final = 200.0
_CANARY_RATE: Final = 100.0
_CHANGES: Final = 100
_ROLLBACKS: Final = 20
_BY_COMMAND: Final = 4
_BAD_CANARIES: Final = 10
_KILLS: Final = 5
_FLUSH_SECONDS: Final = 0.5
"""After so long every line of the access log is written."""

Figures = dict[str, Any]


def run(plane: str = "envoy", percent: int = 100) -> Figures:
    """Measure everything on one data plane."""
    with production(plane) as served:
        figures = {
            "plane": plane,
            "rate_per_second": _RATE,
            "weight_changes": _changes(served, percent),
            "rollbacks": _rollbacks(served, percent),
            "bad_canary": _bad_canaries(served, percent),
            "killed_canary": _killed(served, percent),
        }
    figures["refused_validations"] = len(served.refused_validations)
    figures["load_average_at_end"] = [round(value, 2) for value in os.getloadavg()]
    return figures


def _plan(*steps_bp: int, hold_seconds: int = 0, minimum_requests: int = 1) -> RolloutPlan:
    return RolloutPlan(
        steps_bp=steps_bp,
        hold_seconds=hold_seconds,
        hold_limit_seconds=3600,
        judge=JudgePolicy(minimum_requests=minimum_requests),
    )


def _changes(served: Production, percent: int) -> Figures:
    """Roll out in steps as small as can be; every step is a change of weight."""
    count = max(2, _CHANGES * percent // 100)
    steps = [round(10_000 * (number + 1) / count) for number in range(count)]
    users = served.send_users(_RATE)
    began = time.monotonic()
    with served.hub() as hub:
        served.roll_out(hub, served.good, _plan(*steps))
        served.until_rollout(hub, {RolloutState.LIVE}, 600)
        seconds = time.monotonic() - began
        time.sleep(1.0)
        seen = users.end()
        hub.rollback(MODEL, lambda _: None)
    return {"changes": count, "seconds": round(seconds, 1), **_seen(seen)}


def _rollbacks(served: Production, percent: int) -> Figures:
    """Roll back from half of the traffic and from all of it, in process and by the command."""
    count = max(2, _ROLLBACKS * percent // 100)
    last_ms: dict[str, list[float]] = {"in_process": [], "command": []}
    verb_ms: list[float] = []
    phases: list[float] = []
    after_call = 0
    users = served.send_users(_RATE)
    with served.hub() as hub:
        for number in range(count):
            is_live = number % 2 == 1
            served.roll_out(
                hub, served.good, _plan(10_000) if is_live else _plan(5000, 10_000, **_LONG)
            )
            wanted = RolloutState.LIVE if is_live else RolloutState.CANARY
            served.until_rollout(hub, {wanted}, 120)
            _until_answered_by(served, served.good)
            how = "command" if number >= count - min(_BY_COMMAND, count // 2) else "in_process"
            called_at = time.time()
            began = time.monotonic()
            if how == "command":
                served.command(STEMMA, "rollback", MODEL)
            else:
                report = hub.rollback(MODEL, lambda _: None)
                verb_ms.append((time.monotonic() - began) * 1000)
                phases.append(next(p.seconds for p in report.phases if p.name == "traffic") * 1000)
            time.sleep(_FLUSH_SECONDS)
            arrivals = _arrivals_ms(served.lines(), served.good)
            late = [at - called_at * 1000 for at in arrivals if at > called_at * 1000]
            after_call += len(late)
            last_ms[how].append(max(late, default=0.0))
            _until_ended(served, hub)
    seen = users.end()
    return {
        "rollbacks": count,
        "call_to_last_request_at_bad_version_ms": {
            how: quantiles(values, 1) for how, values in last_ms.items()
        },
        "requests_at_bad_version_after_call": after_call,
        "traffic_phase_ms": quantiles(phases, 1),
        "whole_verb_ms": quantiles(verb_ms, 1),
        **_seen(seen),
    }


_LONG: Final = {"hold_seconds": 3600}


def _bad_canaries(served: Production, percent: int) -> Figures:
    """Roll the trap out at 5 %: half of its requests fail; nobody does anything."""
    count = max(1, _BAD_CANARIES * percent // 100)
    decided: list[float] = []
    last: list[float] = []
    requests: list[int] = []
    trap = served.trap
    users = served.send_users(_CANARY_RATE)
    with served.hub() as hub:
        for _ in range(count):
            began_ms = time.time() * 1000
            plan = _plan(500, 10_000, hold_seconds=4, minimum_requests=299)
            served.roll_out(hub, trap, plan)
            served.until_rollout(hub, {RolloutState.ROLLED_BACK}, 120)
            time.sleep(_FLUSH_SECONDS)
            meant = [
                line.at_ms
                for line in served.lines()
                if line.side == "canary" and line.at_ms >= began_ms
            ]
            event = next(
                event
                for event in hub.rollout(MODEL).events
                if event.decision.state is RolloutState.ROLLING_BACK
            )
            decided.append(event.at.timestamp() - meant[0] / 1000)
            last.append((meant[-1] - meant[0]) / 1000)
            requests.append(len(meant))
    seen = users.end()
    return {
        "repetitions": count,
        "rate_per_second": _CANARY_RATE,
        "weight_percent": 5,
        "first_canary_request_to_decision_s": quantiles(decided),
        "first_to_last_canary_request_s": quantiles(last),
        "requests_meant_for_canary": quantiles(requests, 0),
        **_seen(seen),
    }


def _killed(served: Production, percent: int) -> Figures:
    """Kill the canary's process at half of the traffic."""
    count = max(1, _KILLS * percent // 100)
    users_failed, sent_after = 0, 0
    outcomes: list[str] = []
    with served.hub() as hub:
        for _ in range(count):
            served.roll_out(hub, served.good, _plan(5000, 10_000, **_LONG))
            served.until_rollout(hub, {RolloutState.CANARY}, 120)
            users = served.send_users(_RATE)
            time.sleep(1.0)
            killed_at_ms = time.time() * 1000
            for pid in served.pids(served.good):
                os.kill(pid, signal.SIGKILL)
            time.sleep(5.0)
            seen = users.end()
            users_failed += seen["failed"]
            time.sleep(_FLUSH_SECONDS)
            sent_after += sum(line.at_ms >= killed_at_ms for line in served.lines())
            rollout = hub.rollout(MODEL).rollout
            outcomes.append(rollout.state.value)
            if not rollout.state.is_final:
                hub.rollback(MODEL, lambda _: None)
            _until_ended(served, hub)
    return {
        "repetitions": count,
        "weight_percent": 50,
        "requests_in_5_s_after": sent_after,
        "failed": users_failed,
        "failed_share": round(users_failed / max(1, sent_after), 5),
        "rollout_afterwards": sorted(set(outcomes)),
    }


def _until_answered_by(served: Production, version: str) -> None:
    mark = time.time() * 1000
    served.until(
        lambda: any(
            line.version == version and line.at_ms > mark for line in served.lines()[-200:]
        ),
        f"{version} answers",
        20,
    )


def _until_ended(served: Production, hub: LocalHub) -> None:
    served.until(lambda: hub.rollout(MODEL).rollout.state.is_final, "the rollout has ended", 30)
    now: Rollout = hub.rollout(MODEL).rollout
    (model,) = hub.serving().models
    if model.deployment.deployed.version != STABLE or model.stable_channel != STABLE:
        raise ScenarioError(f"{now.state.value}, but {model.deployment} and {model.stable_channel}")


def _arrivals_ms(lines: Sequence[RequestLine], version: str) -> list[int]:
    return [line.at_ms for line in lines if line.version == version]


def _seen(seen: Figures) -> Figures:
    return {
        "requests": seen["sent"],
        "failed": seen["failed"],
        "errors": seen["errors"],
        "p50_ms": seen["p50_ms"],
        "p99_ms": seen["p99_ms"],
    }


if __name__ == "__main__":
    named = dict(enumerate(sys.argv))
    print(run(named.get(1, "envoy"), int(named.get(2, "100"))))
