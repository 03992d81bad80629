"""The server is killed at random points of rollouts, under traffic, and goes on rightly.

By hand: ``python -m benchmarks.scenarios.controller_crashes 10``.

Before each kill a state is drawn; when the rollout is in it, the server is killed with
``kill -9`` some random moment later and started again.  Rollouts of a good version and of one
that fails half of its requests take turns.  Nothing may be lost, doubled or left over: users
see no failure, each request is counted once, and what is deployed, what ``stable`` points to,
what is routed and what runs agree whenever a rollout has ended.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks.production import (
    MODEL,
    STABLE,
    Production,
    ScenarioError,
    processes_of,
    production,
    quantiles,
)
from stemma.delivery.access_log import count, read_lines
from stemma.delivery.server_file import is_server_running
from stemma.domain.errors import StemmaError
from stemma.domain.judge import JudgePolicy
from stemma.domain.rollout import LogPosition, Rollout, RolloutPlan, RolloutState
from stemma.hub.delivery import RolloutRequest
from stemma.hub.local import LocalHub

_RATE: Final = 100.0
_PLAN: Final = RolloutPlan(
    steps_bp=(1000, 5000, 10_000),
    hold_seconds=2,
    hold_limit_seconds=600,
    judge=JudgePolicy(minimum_requests=20),
)
_TARGETS: Final = (
    RolloutState.VALIDATING,
    RolloutState.WARMING,
    RolloutState.CANARY,
    RolloutState.CANARY,
    RolloutState.CANARY,
    RolloutState.PROMOTING,
    RolloutState.ROLLING_BACK,
    None,
)
"""States to be killed in; ``None``: whatever it is in."""

_COURSE: Final = (
    RolloutState.VALIDATING,
    RolloutState.WARMING,
    RolloutState.CANARY,
    RolloutState.PROMOTING,
    RolloutState.ROLLING_BACK,
)
_FEW_KILLS: Final = 10
"""With fewer, all of them while the canary has traffic: nothing waits for a rare state."""

_JUDGED: Final = {RolloutState.CANARY, RolloutState.PROMOTING, RolloutState.LIVE}
_ROUND_SECONDS: Final = 0.01
_PATIENCE_SECONDS: Final = 25.0
_SETTLE_SECONDS: Final = 20.0


@dataclass
class Witness:
    """What was seen of one rollout while it went on.

    Attributes:
        samples: Position in the access log and requests counted until there.
    """

    first: LogPosition
    samples: list[tuple[LogPosition, int, int]] = field(default_factory=list)

    def see(self, rollout: Rollout) -> None:
        """Note the totals when they belong to the position."""
        total = rollout.judge.total
        sample = (rollout.position, total.canary.requests, total.stable.requests)
        if rollout.state in _JUDGED and sample not in self.samples[-1:]:
            self.samples.append(sample)


@dataclass
class Trial:
    """The whole run.

    Attributes:
        served: What serves.
        hub: Its hub.
        chance: Draws states and moments.
        killed_in: How often it was killed in which state.
        ended: How often rollouts ended how.
        back_seconds: How long each new server took to be there.
        problems: Everything that was wrong, in words.
        is_short: Kill while the canary has traffic only.
        counted: Requests that were compared with the log.
        looks: How often they were.
    """

    served: Production
    hub: LocalHub
    chance: random.Random
    killed_in: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    back_seconds: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    is_short: bool = False
    counted: int = 0
    looks: int = 0
    _is_trap_next: bool = False

    def one_rollout(self, kills_left: int) -> int:
        """Roll out to the end, killing meanwhile; return how often it was killed."""
        version = self.served.trap if self._is_trap_next else self.served.good
        self._is_trap_next = not self._is_trap_next
        self.hub.start_rollout(RolloutRequest(ref=f"{MODEL}@{version}", plan=_PLAN))
        witness = Witness(self._rollout().position)
        kills = 0
        while not self._rollout().state.is_final:
            if kills < kills_left:
                kills += self._killed_once(witness)
            else:
                self._watch(witness, None, 60.0)
                if not self._rollout().state.is_final:
                    raise ScenarioError(f"the rollout does not end: {self._rollout()}")
        witness.see(self._rollout())
        self._check(witness)
        self._back_to_stable()
        return kills

    def _killed_once(self, witness: Witness) -> int:
        target = self.chance.choice(self._ahead())
        self._watch(witness, target, _PATIENCE_SECONDS if target else self.chance.uniform(0, 3))
        if self._rollout().state.is_final:
            return 0
        # Often at once, sometimes later: right after a commit is where it hurts.
        later = self.chance.choice((0.0, self.chance.uniform(0, 0.2), self.chance.uniform(0, 1.5)))
        self._watch(witness, None, later)
        state = self._rollout().state
        self.served.kill_server()
        self.killed_in[state.value] += 1
        time.sleep(self.chance.choice((0.0, 0.5)))
        began = time.monotonic()
        self.served.serve()
        self.served.until(
            lambda: is_server_running(self.served.layout), "the server is back", _PATIENCE_SECONDS
        )
        self.back_seconds.append(time.monotonic() - began)
        return 1

    def _ahead(self) -> list[RolloutState | None]:
        """Return the states that this rollout may still come to."""
        if self.is_short:
            return [RolloutState.CANARY]
        at = _COURSE.index(self._rollout().state) if self._rollout().state in _COURSE else 0
        # The flag is turned already: when the trap is next, this one is good.
        never = RolloutState.ROLLING_BACK if self._is_trap_next else RolloutState.PROMOTING
        ahead = set(_COURSE[at:]) - {never}
        return [state for state in _TARGETS if state is None or state in ahead]

    def _watch(self, witness: Witness, target: RolloutState | None, seconds: float) -> None:
        """Look on until the rollout is in a state, has ended, or the time is over."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            rollout = self._rollout()
            witness.see(rollout)
            if rollout.state is target or rollout.state.is_final:
                return
            time.sleep(_ROUND_SECONDS)

    def _rollout(self) -> Rollout:
        return self.hub.rollout(MODEL).rollout

    def _check(self, witness: Witness) -> None:
        rollout = self._rollout()
        self.ended[rollout.state.value] += 1
        self._check_counts(rollout, witness)
        self._check_weights()
        end = time.monotonic() + _SETTLE_SECONDS
        while (wrong := self._disagreements(rollout)) and time.monotonic() < end:
            time.sleep(0.2)
        self.problems += wrong

    def _check_counts(self, rollout: Rollout, witness: Witness) -> None:
        """Between any two looks, what was counted is what the access log holds."""
        log = self.served.access_log
        for before, after in zip(witness.samples, witness.samples[1:], strict=False):
            held = _held(log, before[0], after[0])
            seen = (after[1] - before[1], after[2] - before[2])
            self.looks += 1
            self.counted += sum(seen)
            if held != seen:
                self.problems.append(f"{rollout.id}: {seen} counted, the log holds {held}")
        if witness.samples:
            last = witness.samples[-1]
            canary = _held(log, witness.first, last[0])[0]
            if canary != last[1]:
                text = f"{rollout.id}: {last[1]} canary requests counted of {canary}"
                self.problems.append(text)

    def _check_weights(self) -> None:
        """Weights rise step by step, and after a fall they never rise again."""
        view = self.hub.rollout(MODEL)
        weights = [event.decision.weight_bp for event in view.events]
        falls = [n for n in range(1, len(weights)) if weights[n] < weights[n - 1]]
        if len(falls) > 1 or (falls and any(weights[falls[0] :])):
            self.problems.append(f"{view.rollout.id}: weights {weights}")
        sequences = [event.sequence for event in view.events]
        if sequences != list(range(1, len(sequences) + 1)):
            self.problems.append(f"{view.rollout.id}: lines {sequences}")

    def _disagreements(self, rollout: Rollout) -> list[str]:
        """Return where deployment, channel, routes in force and processes disagree."""
        is_live = rollout.state is RolloutState.LIVE
        wanted = rollout.canary.version if is_live else rollout.stable.version
        (model,) = self.hub.serving().models
        routes = msgspec.json.decode((self.served.layout.root / "routes.json").read_bytes())
        (route,) = routes["table"]["models"]
        deployment = self.hub._parts.delivery  # noqa: SLF001 - looks behind the verbs
        status = deployment.plane().status()
        found = {
            "deployed": model.deployment.deployed.version,
            "stable": model.stable_channel,
            "routed": route["stable"]["version"],
        }
        wrong = [f"{rollout.id}: {k} is {v}, not {wanted}" for k, v in found.items() if v != wanted]
        if route.get("canary") is not None or model.rollout is not None:
            wrong.append(f"{rollout.id}: a canary is routed after the end")
        if status.revision != routes["table"]["revision"]:
            wrong.append(f"{rollout.id}: {status.revision} in force, not the newest routes")
        return wrong + self._wrong_processes(rollout)

    def _wrong_processes(self, rollout: Rollout) -> list[str]:
        running = processes_of(self.served.layout.root / "slots")
        recorded = sum(bool(r.pid) for s in self.served.statuses().values() for r in s.replicas)
        names = [status.spec.name for status in self.served.statuses().values()]
        if len(running) != recorded or len(running) != len(names):
            return [f"{rollout.id}: {len(running)} processes run for {names}: {running}"]
        return []

    def _back_to_stable(self) -> None:
        (model,) = self.hub.serving().models
        if model.deployment.deployed.version != STABLE:
            self.hub.rollback(MODEL, lambda _: None, to=STABLE)


def run(kills: int = 50, plane: str = "envoy", seed: int = 1) -> dict[str, object]:
    """Kill so often; figures, and every problem in words."""
    with production(plane) as served, served.hub() as hub:
        trial = Trial(served=served, hub=hub, chance=random.Random(seed))
        trial.is_short = kills < _FEW_KILLS
        users = served.send_users(_RATE)
        began = time.monotonic()
        done = 0
        while done < kills:
            try:
                done += trial.one_rollout(kills - done)
            except StemmaError as error:
                raise ScenarioError(f"{error.code}: {error.message}") from error
        seen: dict[str, Any] = users.end()
        served.kill_server()
        served.command("stemma", "serve", "--stop")
        left = processes_of(served.root, served.layout.sockets())
    return {
        "plane": plane,
        "kills": done,
        "killed_in": dict(trial.killed_in),
        "rollouts_ended": dict(trial.ended),
        "requests": seen["sent"],
        "failed": seen["failed"],
        "errors": seen["errors"],
        "looks_compared_with_the_log": trial.looks,
        "requests_counted_once": trial.counted,
        "problems": trial.problems,
        "left_running": left,
        "server_back_s": quantiles(trial.back_seconds, 2),
        "seconds": round(time.monotonic() - began, 1),
        "load_average_at_end": [round(value, 2) for value in os.getloadavg()],
    }


def _held(log: Path, start: LogPosition, end: LogPosition) -> tuple[int, int]:
    """Return canary and stable requests of the model between two positions of one file."""
    if start.file != end.file and start.file:
        raise ScenarioError("the access log was rotated: make the scenario shorter")
    size = end.offset_bytes - start.offset_bytes
    reading = read_lines(log, start, most_bytes=size) if size else None
    interval = count(reading.lines).get(MODEL) if reading else None
    return (interval.canary.requests, interval.stable.requests) if interval else (0, 0)


if __name__ == "__main__":
    print(json.dumps(run(int(sys.argv[1]) if sys.argv[1:] else 50)))
