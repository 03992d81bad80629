"""Collection keeps what the project's files stand for, whatever became of the rows."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from stemma.cli.restoring import Wanted, params_bytes, plan, restore
from stemma.domain.artifact import Artifact
from stemma.domain.errors import IntegrityError
from stemma.domain.run import RunStart
from stemma.hub.local import LocalHub
from stemma.server.wiring import open_hub
from stemma.store.gc import GcReport
from stemma.tracking import artifacts, run_log

Stemma = Callable[..., CompletedProcess[str]]


@pytest.mark.slow
def test_collection_after_a_lost_database_keeps_tracked_data(stemma: Stemma, project: Path) -> None:
    """Rows of tracked files have no record: rebuilt without them, gc would delete the data."""
    assert stemma("add", "data.csv").returncode == 0
    for file in project.glob(".stemma/stemma.db*"):
        file.unlink()
    assert stemma("doctor", "--rebuild").returncode == 0
    collected = stemma("gc", "--grace", "0", "--yes", "--json")
    assert json.loads(collected.stdout)["removed"] == []
    assert stemma("doctor").returncode == 0


@pytest.mark.slow
def test_a_damaged_pointer_stops_collection(stemma: Stemma, project: Path) -> None:
    """The data that it stands for would be taken for litter."""
    assert stemma("add", "data.csv").returncode == 0
    pointer = project / "data.csv.stemma"
    pointer.write_bytes(pointer.read_bytes().replace(b"file", b"fjle"))
    refused = stemma("gc", "--grace", "0", "--yes")
    assert refused.returncode == 1
    assert "data.csv.stemma" in refused.stderr


@pytest.fixture
def run(stemma: Stemma, project: Path) -> str:
    """Make a run that is not released; returns its id."""
    train = ["run", "--model", "model.json", "--", sys.executable, "train.py"]
    assert stemma(*train).returncode == 0
    (run,) = json.loads(stemma("log", "toy", "--runs", "--json").stdout)
    return str(run["id"])


def _collect(project: Path, *, days: int, is_final: bool = False) -> GcReport:
    """Collect so many days from now."""
    with closing(open_hub(project)) as hub:
        later = hub.parts.clock() + timedelta(days=days)
        future = LocalHub(replace(hub.parts, clock=lambda: later))
        return future.collect_garbage(is_dry_run=False, grace_seconds=3600, is_final=is_final)


@pytest.mark.slow
def test_what_was_collected_by_mistake_comes_back(stemma: Stemma, project: Path, run: str) -> None:
    """A run that somebody still needed would be gone with the first collection."""
    collected = _collect(project, days=40)
    assert collected.trash.count == len(collected.removed) > 0
    assert json.loads(stemma("log", "toy", "--runs", "--json").stdout) == []
    assert "the trash holds" in stemma("doctor", "--format", "human").stdout
    assert "the trash holds" in stemma("status", "--format", "human").stdout
    planned = json.loads(stemma("gc", "--restore", "--dry-run", "--json").stdout)
    assert len(planned["restored"]) == len(collected.removed)
    assert stemma("gc", "--restore", "--since", "2020-01-01").returncode == 0
    (found,) = json.loads(stemma("log", "toy", "--runs", "--json").stdout)
    assert found["id"] == run
    assert stemma("doctor").returncode == 0
    checkout = stemma("checkout", f"toy@{run}", "--to", "back")
    assert checkout.returncode == 0, checkout.stderr
    assert stemma("release", "toy").returncode == 0


@pytest.mark.slow
def test_a_collection_beside_a_checkout_of_an_expired_run_spares_it(
    project: Path, run: str, tmp_path: Path
) -> None:
    """A long checkout would end in the middle, its version gone."""
    with closing(open_hub(project)) as hub:
        view = hub.resolve(f"toy@{run}")
        with hub.reading(view.digest):
            spared = _collect(project, days=40)
            files = plan(hub, hub.resolve(f"toy@{run}"), Wanted(parts=("artifact",)))
            assert restore(hub, tmp_path / "back", files, {}, lambda _: None) == len(files)
            assert params_bytes(hub, view.manifest)
        assert (spared.removed, hub.doctor().is_healthy) == ((), True)
        assert _collect(project, days=40).removed


@pytest.mark.slow
@pytest.mark.usefixtures("run")
def test_a_full_disk_is_freed_at_once(stemma: Stemma, project: Path) -> None:
    """A trash would keep the disk full for a week."""
    moved = _collect(project, days=40)
    assert stemma("gc", "--empty-trash").returncode == 2
    freed = json.loads(stemma("gc", "--empty-trash", "--yes", "--json").stdout)
    assert freed["expired"]["count"] == moved.trash.count
    assert freed["trash"]["count"] == 0
    with closing(open_hub(project)) as hub:
        assert list(hub.objects.backend.list()) == []


@pytest.mark.slow
@pytest.mark.usefixtures("run")
def test_what_was_a_week_in_the_trash_goes_by_itself(project: Path) -> None:
    """The trash would grow for ever."""
    moved = _collect(project, days=40)
    assert _collect(project, days=46).trash == moved.trash
    swept = _collect(project, days=48)
    assert swept.expired == moved.trash
    assert swept.trash.count == 0


@pytest.mark.slow
def test_a_collection_that_is_refused_empties_no_trash(project: Path) -> None:
    """The trash could hold the only sound copy of what is damaged, and that would be gone."""
    with closing(open_hub(project)) as hub:
        tree = hub.objects.put_tree(project, ["data.csv"])
    held = _collect(project, days=40)
    assert held.removed
    with closing(open_hub(project)) as hub:
        hub.track("data.csv", tree.digest)
    with pytest.raises(IntegrityError, match="must be kept"):
        _collect(project, days=41, is_final=True)
    with closing(open_hub(project)) as hub:
        assert hub.trash() == held.trash
        hub.restore_garbage(since=None, is_dry_run=False)
        assert hub.objects.read_tree(tree.digest).entries


@pytest.mark.slow
def test_what_deleted_runs_held_is_freed_at_once(stemma: Stemma, project: Path) -> None:
    """Deleting runs would free no disk for a month, or without a word."""
    with closing(open_hub(project)) as hub:
        now = hub.parts.clock()
        stored = hub.parts.objects.put_bytes(b"checkpoint" * 1000)
        with hub.parts.database.write() as connection:
            start = RunStart(model="")
            run = run_log.create_run(connection, start, started_at=now, now=now).record.id
            artifact = Artifact(owner=run, path="a", file=stored.digest, size_bytes=10_000)
            artifacts.put(connection, artifact, now)
            run_log.delete(connection, run, now)
    assert json.loads(stemma("gc", "--grace", "0", "--yes", "--json").stdout)["forgotten"] == []
    planned = stemma("gc", "--deleted-runs", "now", "--dry-run", "--format", "human").stdout
    assert f"would forget run {run} (10 KB of artifacts): deleted" in planned
    done = stemma("gc", "--deleted-runs", "now", "--grace", "0", "--empty-trash", "--yes", "--json")
    assert [item["key"] for item in json.loads(done.stdout)["forgotten"]] == [f"run {run}"]
    with closing(open_hub(project)) as hub:
        assert not hub.parts.objects.has(stored.digest)
    assert stemma("gc", "--deleted-runs", "soon").returncode == 2
