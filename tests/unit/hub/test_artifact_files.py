"""Files of runs and logged models: what keeps them, what lets them go, who is harmed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from stemma.domain.artifact import Artifact
from stemma.domain.digest import Digest
from stemma.domain.errors import NotFoundError
from stemma.domain.run import RunStart
from stemma.hub.local import LocalHub
from stemma.server.wiring import init_project, open_hub, rebuild_project
from stemma.tracking import artifacts, experiments, logged_models, run_log

DAY = timedelta(days=1)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LocalHub]:
    """Return the hub of an empty project."""
    init_project(tmp_path)
    with closing(open_hub(tmp_path)) as opened:
        yield opened


def make_run(hub: LocalHub) -> str:
    """Make a run in the default experiment."""
    now = hub.parts.clock()
    with hub.parts.database.write() as connection:
        start = RunStart(model="")
        return run_log.create_run(connection, start, started_at=now, now=now).record.id


def put(hub: LocalHub, owner: str, path: str, data: bytes) -> Digest:
    """Store an artifact."""
    stored = hub.parts.objects.put_bytes(data)
    artifact = Artifact(owner=owner, path=path, file=stored.digest, size_bytes=stored.size_bytes)
    with hub.parts.database.write() as connection:
        artifacts.put(connection, artifact, hub.parts.clock())
    return stored.digest


def test_files_go_when_a_deletion_can_no_longer_be_taken_back(hub: LocalHub) -> None:
    """Deleting runs would free no disk, or take what could still be restored."""
    kept, deleted = make_run(hub), make_run(hub)
    shared = put(hub, kept, "a", b"shared")
    assert put(hub, deleted, "a", b"shared") == shared
    own = put(hub, deleted, "b", b"of the deleted run" * 100)
    now = hub.parts.clock()
    with hub.parts.database.write() as connection:
        run_log.delete(connection, deleted, now)

    def collect(days: int, *, is_dry_run: bool = False, deleted_days: int = 30) -> list[str]:
        future = LocalHub(replace(hub.parts, clock=lambda: now + days * DAY))
        report = future.collect_garbage(
            is_dry_run=is_dry_run, grace_seconds=0, deleted_seconds=deleted_days * 86_400
        )
        return [item.key for item in report.forgotten]

    assert collect(29) == []
    assert hub.parts.objects.has(own)
    assert collect(2, is_dry_run=True, deleted_days=1) == [f"run {deleted}"]
    assert hub.parts.objects.has(own)
    assert collect(31) == [f"run {deleted}"]
    assert not hub.parts.objects.has(own)
    assert hub.parts.objects.has(shared)
    assert collect(31) == []
    with hub.parts.database.read() as connection, pytest.raises(NotFoundError):
        run_log.get(connection, deleted)


def test_models_go_when_they_or_their_experiment_are_deleted(hub: LocalHub) -> None:
    """Models of deleted experiments would fill the disk for ever."""
    now = hub.parts.clock()
    with hub.parts.database.write() as connection:
        other = experiments.create(connection, "other", now).id
        new = logged_models.NewLoggedModel
        made = [
            logged_models.create(connection, new(experiment=number, name="m"), now).id
            for number in (0, 0, other)
        ]
    files = [put(hub, model, "MLmodel", model.encode()) for model in made]
    with hub.parts.database.write() as connection:
        logged_models.delete(connection, made[1], now)
        experiments.delete(connection, other, now)
    future = LocalHub(replace(hub.parts, clock=lambda: now + 31 * DAY))
    report = future.collect_garbage(is_dry_run=False, grace_seconds=0)
    assert {item.key for item in report.forgotten} == {
        f"logged model {made[1]}",
        f"logged model {made[2]}",
    }
    assert [hub.parts.objects.has(file) for file in files] == [True, False, False]
    assert hub.doctor().findings == ()


def test_a_rebuilt_database_still_names_the_files(hub: LocalHub) -> None:
    """The next collection would remove what runs and models hold."""
    run = make_run(hub)
    file = put(hub, run, "a", b"kept")
    root = hub.parts.root
    hub.close()
    rebuild_project(root)
    with closing(open_hub(root)) as again:
        again.collect_garbage(is_dry_run=False, grace_seconds=0)
        with again.parts.database.read() as connection:
            assert artifacts.get(connection, run, "a").file == file
        assert again.parts.objects.read_bytes(file) == b"kept"


def test_doctor_names_the_run_that_a_damaged_file_harms(hub: LocalHub) -> None:
    """Nobody would know which model not to trust."""
    run = make_run(hub)
    put(hub, run, "model/weights.bin", b"weights" * 100)
    assert hub.doctor().findings == ()
    (frame,) = (hub.parts.root / ".stemma" / "objects" / "frames").rglob("*/*")
    frame.chmod(0o644)
    frame.write_bytes(frame.read_bytes()[:-1] + b"?")
    (finding,) = hub.doctor().findings
    assert finding.harms == (f"{run} artifact model/weights.bin",)
    assert "log the artifact again" in finding.fix
    frame.unlink()
    harms = {harm for finding in hub.doctor().findings for harm in finding.harms}
    assert harms == {f"{run} artifact model/weights.bin"}
