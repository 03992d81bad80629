"""A version tried on an idle slot: started, asked, measured, ended."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stemma.delivery.layout import ServeLayout
from stemma.delivery.runtime.golden import write_golden
from stemma.delivery.slots.base import ReplicaStatus, SlotSpec, SlotState, SlotStatus
from stemma.delivery.staging.run import (
    StagingOptions,
    StagingParts,
    StagingSubject,
    end_left_behind,
    run_staging,
)
from stemma.delivery.staging.table import Hardware, describe
from stemma.domain.configuration import Configuration
from stemma.domain.errors import InvalidInputError, LockedError, NotFoundError, UnavailableError
from stemma.domain.manifest import Manifest
from stemma.domain.policy import parse_policy
from stemma.store.backends.memory import MemoryBackend
from stemma.store.index import MemoryChunkIndex
from stemma.store.objects import ObjectStore

NOW = datetime(2026, 5, 10, tzinfo=UTC)
DIGEST = "sha256:" + "a" * 64


class UpstreamSlots:
    """Slots whose one process is this one, and whose socket is a server of the test."""

    def __init__(self, socket: str, failure: str = "", rounds: int = 2) -> None:
        self.socket, self.failure, self.rounds = socket, failure, rounds
        self.layout: ServeLayout | None = None
        self.wanted: list[SlotSpec] = []
        self.specs: tuple[SlotSpec, ...] = ()
        self.ticks = 0
        self.is_closed = False

    def open(self, layout: ServeLayout) -> UpstreamSlots:
        self.layout = layout
        return self

    def want(self, specs: Sequence[SlotSpec]) -> None:
        self.specs = tuple(specs)
        self.wanted += specs
        self.ticks = 0

    def tick(self) -> None:
        self.ticks += 1

    def statuses(self) -> Mapping[str, SlotStatus]:
        return {spec.name: self._status(spec) for spec in self.specs}

    def stop_all(self) -> None:
        self.specs = ()

    def close(self) -> None:
        self.is_closed = True

    def _status(self, spec: SlotSpec) -> SlotStatus:
        if self.ticks < self.rounds:
            return SlotStatus(spec=spec, state=SlotState.PREPARING, since=NOW)
        state = SlotState.FAILED if self.failure else SlotState.READY
        pid = 0 if self.failure else os.getpid()
        replica = ReplicaStatus(pid=pid, state=state, socket=self.socket, since=NOW)
        return SlotStatus(
            spec=spec, state=state, since=NOW, replicas=(replica,), detail=self.failure
        )


@pytest.fixture
def tried(tmp_path: Path, make_manifest: Callable[..., Manifest]) -> Callable[..., Any]:
    """Return what composes a validation against given slots."""
    objects = ObjectStore(MemoryBackend(), MemoryChunkIndex())
    table = objects.put_bytes(b'{"passed": {}, "defaulted": {}}').digest
    manifest = make_manifest(hyperparameters=table)

    def compose(slots: UpstreamSlots, **changes: Any) -> tuple[StagingParts, StagingSubject]:
        parts = StagingParts(
            objects=objects,
            load_manifest=lambda _digest: manifest,
            layout=ServeLayout(state=tmp_path / ".stemma"),
            open_slots=slots.open,
            clock=lambda: NOW,
            probe_hardware=lambda _python: Hardware(has_python=True, platform="linux-x86_64"),
        )
        spec = SlotSpec(
            name="digits-1.1.0-c1-staging",
            model="digits",
            version="1.1.0",
            manifest=DIGEST,
            configuration_digest=DIGEST,
            configuration=Configuration(memory_mib=4096, is_recording=True),
        )
        policy = parse_policy({"budgets": {"latency_p99_ms": 500}}, "model.digits")
        values: dict[str, Any] = {"spec": spec, "policy": policy, **changes}
        return parts, StagingSubject(**values)

    return compose


def options_of(tmp_path: Path, **changes: Any) -> StagingOptions:
    path = tmp_path / "requests.jsonl"
    path.write_text('{"instances": [[1, 2]]}\n')
    return replace(
        StagingOptions(requests_path=str(path), seconds=0.4, rate_per_second=100), **changes
    )


def quiet(_text: str) -> None:
    """Take a sentence."""


@pytest.mark.slow
def test_a_good_version_passes_and_nothing_of_it_is_left(
    tmp_path: Path, tried: Callable[..., Any], upstream: Callable[..., Any]
) -> None:
    """A user could not try a version before it is deployed, or would find its processes later."""
    server = upstream(lambda _number, _at: (200, 0.0))
    slots = UpstreamSlots(server.path)
    said: list[str] = []
    parts, subject = tried(slots, deployed_version="1.0.0", deployed_manifest=DIGEST)
    found = run_staging(parts, subject, options_of(tmp_path), said.append)
    assert found.has_passed, describe(found)
    assert (found.source, found.pattern, found.rate_per_second) == ("supplied", "Poisson", 100)
    assert found.requests == len(server.seen) - 20  # warm-up
    assert 0 < found.latency_p99_ms < 500
    assert found.memory_mib > 1
    assert slots.specs == ()
    assert slots.is_closed
    assert said[0] == "starting digits@1.1.0 on an idle slot"
    assert slots.layout is not None
    assert slots.layout.area == "staging"
    assert not slots.wanted[0].configuration.is_recording


@pytest.mark.slow
def test_production_s_pattern_and_rate_are_taken_from_the_log(
    tmp_path: Path, tried: Callable[..., Any], upstream: Callable[..., Any]
) -> None:
    """Staging would try another load than production sends."""
    server = upstream(lambda _number, _at: (200, 0.0))
    arrivals = [second * 250 + step for second in range(40) for step in range(10)]
    parts, subject = tried(UpstreamSlots(server.path), arrival_times_ms=arrivals)
    found = run_staging(parts, subject, options_of(tmp_path, rate_per_second=0), quiet)
    assert found.pattern == "production's"
    assert found.rate_per_second == pytest.approx(40, rel=0.05)
    assert found.has_passed, describe(found)


@pytest.mark.slow
def test_golden_rows_are_sent_where_nothing_was_recorded(
    tmp_path: Path, tried: Callable[..., Any], upstream: Callable[..., Any]
) -> None:
    """A model that was never served could not be tried."""
    server = upstream(lambda _number, _at: (200, 0.0))
    parts, subject = tried(UpstreamSlots(server.path))
    folder = parts.layout.version(DIGEST)
    folder.mkdir(parents=True)
    rows = np.array([[1, 2], [3, 4]], dtype=np.float32)
    write_golden(folder / "golden.npz", {"": rows}, np.array([0, 1]))
    found = run_staging(parts, subject, options_of(tmp_path, requests_path=""), quiet)
    assert found.source == "golden set"
    assert {path for path, _ in server.seen} == {"/v2/models/digits/infer"}
    assert b'"name": "x", "shape": [1, 2], "datatype": "FP32"' in server.seen[0][1]


@pytest.mark.slow
def test_a_version_that_fails_under_load_is_refused(
    tmp_path: Path, tried: Callable[..., Any], upstream: Callable[..., Any]
) -> None:
    """A version that is right at first and fails under traffic would be deployed."""
    server = upstream(lambda number, _at: (500 if number % 2 else 200, 0.0))
    parts, subject = tried(UpstreamSlots(server.path))
    found = run_staging(parts, subject, options_of(tmp_path), quiet)
    assert not found.has_passed
    assert "HTTP 500" in describe(found)


def test_a_version_that_does_not_start_is_refused_with_the_reason(
    tmp_path: Path, tried: Callable[..., Any]
) -> None:
    """The user would get a stack trace, or wait for ever."""
    slots = UpstreamSlots("", failure="no package numpy 9")
    parts, subject = tried(slots)
    found = run_staging(parts, subject, options_of(tmp_path), quiet)
    failed = {row.gate: row.actual for row in found.results if not row.has_passed}
    assert failed["environment"] == "no package numpy 9"
    assert failed["load"] == "the version did not start"
    assert found.requests == 0
    assert slots.is_closed


def test_a_version_without_any_request_is_refused(
    tmp_path: Path, tried: Callable[..., Any]
) -> None:
    """A version that nobody asked anything would pass."""
    parts, subject = tried(UpstreamSlots("unused"))
    found = run_staging(parts, subject, options_of(tmp_path, requests_path=""), quiet)
    assert "there are no requests to replay" in describe(found)


def test_bad_requests_are_refused_before_anything_is_started(
    tmp_path: Path, tried: Callable[..., Any]
) -> None:
    """The user would wait for a start to learn of a typing error."""
    slots = UpstreamSlots("unused")
    parts, subject = tried(slots)
    with pytest.raises(NotFoundError):
        run_staging(parts, subject, StagingOptions(requests_path=str(tmp_path / "no")), quiet)
    with pytest.raises(InvalidInputError):
        run_staging(parts, subject, options_of(tmp_path, seconds=-1), quiet)
    assert slots.wanted == []


def test_a_cancelled_validation_ends_its_processes(
    tmp_path: Path, tried: Callable[..., Any]
) -> None:
    """A server that is stopped would leave a version running."""
    slots = UpstreamSlots("unused", rounds=10_000)
    parts, subject = tried(slots)
    with pytest.raises(UnavailableError, match="cancelled"):
        run_staging(
            replace(parts, is_cancelled=lambda: slots.ticks > 1),
            subject,
            options_of(tmp_path),
            quiet,
        )
    assert slots.is_closed
    assert slots.specs == ()


def test_what_a_killed_validation_left_behind_is_ended(tried: Callable[..., Any]) -> None:
    """A version would run for ever after its validation was killed."""
    slots = UpstreamSlots("unused")
    parts, subject = tried(slots)
    slots.want([subject.spec])
    end_left_behind(parts)
    assert slots.specs == ()
    assert slots.is_closed


def test_a_validation_under_way_is_left_alone(tried: Callable[..., Any]) -> None:
    """A starting server would end the validation of another command."""
    slots = UpstreamSlots("unused")
    parts, subject = tried(slots)
    slots.want([subject.spec])
    lock = parts.layout.root / "staging" / "lock"
    lock.parent.mkdir(parents=True)
    with lock.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        end_left_behind(parts)
        assert slots.specs == (subject.spec,)
        said: list[str] = []
        with pytest.raises(LockedError):
            run_staging(
                replace(parts, is_cancelled=lambda: bool(said)),
                subject,
                StagingOptions(),
                said.append,
            )
    assert said == ["waiting for another validation to end"]
