"""The database is an index: doctor compares it with the records, rebuild makes it again."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from stemma.catalog.doctor import examine
from stemma.catalog.rebuild import rebuild
from stemma.catalog.resolve import resolve
from stemma.db.engine import Database
from stemma.db.schema import SEALED_TABLES
from stemma.db.tables import meta
from stemma.delivery.values import MetricPost, RollbackReport
from stemma.domain import canonical
from stemma.domain.configuration import Configuration
from stemma.domain.errors import IntegrityError, NotFoundError, StemmaError
from stemma.domain.rollout import Decision, RolloutState, Step
from stemma.domain.run import MetricPoint, RunStart, RunState
from stemma.domain.run_facts import RunFacts

Project = Any


def fill(project: Project) -> None:
    """Record runs, releases, channels, a failure and a tracked path."""
    for number in range(4):
        run = project.runs.start(RunStart(model="digits", command=("python", "train.py")))
        point = MetricPoint(
            name="loss", value=0.5, step=number, logged_at=datetime(2026, 5, 1, tzinfo=UTC)
        )
        project.runs.log_points(run, [point])
        project.runs.fail(run, "ValueError")
        project.release(f"1.{number}.0", project.record(number)[1])
        project.catalog.move_channel("digits", "stable", f"1.{number}.0", moved_by="ada")
    project.record(9, model="faces")
    project.catalog.track("data", project.objects.put_bytes(b"data").digest)


def deliver(project: Project) -> None:
    """Serve, roll one version out to the end, begin another rollout, and drill."""
    delivery = project.delivery
    stable, canary = project.serve("2.0.0"), project.released("2.1.0", Configuration(replicas=2))
    for number, (before, after) in enumerate(((stable, canary), (canary, stable)), 1):
        rollout = project.rollout(before, after, number)
        line = Decision(kind="note", text="begun", weight_bp=0, state=rollout.state)
        delivery.begin_rollout(rollout, (line, line))
        delivery.post_metric(
            MetricPost(
                model="digits", metric="returns", version="canary", events=1, trials=2, key="a"
            )
        )
        if number == 1:
            delivery.step_rollout(
                rollout.id, lambda newest: Step(rollout=replace(newest, state=RolloutState.LIVE))
            )
    for is_drill in (False, True):
        delivery.record_rollback(
            RollbackReport(
                model="digits",
                before="2.1.0",
                after="2.0.0",
                phases=(),
                is_drill=is_drill,
                at=project.clock(),
                by="ada",
            )
        )


def test_rebuilding_keeps_what_production_is_to_be_and_its_history(project: Project) -> None:
    """After a rebuild another version would serve, or a rollout would be forgotten."""
    deliver(project)
    before = dump(project.database)
    assert kinds(project) == []
    project.close()
    counts = rebuild(project.url, project.backend)
    project.open()
    assert dump(project.database) == before
    assert (counts["deployments"], counts["rollouts"], counts["lost_rollouts"]) == (2, 2, 0)
    assert kinds(project) == []


def test_production_comes_back_from_records_alone(project: Project) -> None:
    """With the database the knowledge of what serves would be gone."""
    deliver(project)
    deployments = project.delivery.deployment_history("digits")
    configurations = project.delivery.configurations("digits")
    with project.database.write() as connection:
        for table in SEALED_TABLES:
            if table is not meta:
                connection.execute(table.delete())
    project.close()
    rebuild(project.url, project.backend)
    project.open()
    assert project.delivery.deployment_history("digits") == deployments
    assert project.delivery.configurations("digits") == configurations
    assert project.delivery.newest_rollout("digits") is None
    assert project.catalog.channels("digits")["stable"] == "2.1.0"


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM rollout_events WHERE rollout = 'ro-00000001' AND sequence = 1",
        "UPDATE rollout_events SET text = 'x' WHERE rollout = 'ro-00000001' AND sequence = 2",
    ],
)
def test_a_rollout_with_a_torn_log_is_left_out_and_the_rest_goes_on(
    project: Project, statement: str
) -> None:
    """A damaged line would keep every later rollout from being shown or begun."""
    deliver(project)
    newest = project.delivery.newest_rollout("digits")
    with project.database.write() as connection:
        connection.execute(text(statement))
        connection.execute(text("DELETE FROM rollbacks WHERE sequence = 1"))
    assert set(kinds(project)) <= {"row-missing", "row-damaged"}
    project.close()
    assert rebuild(project.url, project.backend)["lost_rollouts"] == 1
    project.open()
    assert kinds(project) == []
    assert project.delivery.rollouts("digits") == [newest]
    assert len(project.delivery.events(newest.id)) == 2
    assert [report.is_drill for report in project.delivery.rollbacks("digits")] == [True]
    project.delivery.step_rollout(
        newest.id, lambda seen: Step(rollout=replace(seen, state=RolloutState.FAILED))
    )


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("DELETE FROM deployments WHERE sequence = 1", "row-missing"),
        ("DELETE FROM configurations", "row-missing"),
        ("UPDATE deployments SET reason = 'x'", "row-damaged"),
        ("UPDATE rollbacks SET is_drill = 0", "row-damaged"),
        ("UPDATE rollout_metrics SET events = 0", "row-damaged"),
        ("DELETE FROM rollouts", "row-missing"),
    ],
)
def test_doctor_finds_what_is_wrong_with_delivery(
    project: Project, statement: str, kind: str
) -> None:
    """Production would follow rows that nobody wrote."""
    deliver(project)
    with project.database.write() as connection:
        connection.execute(text(statement))
    assert kind in kinds(project)


def test_a_database_of_0_1_is_rebuilt(
    project: Project, make_old: Callable[[Database], None]
) -> None:
    """A damaged database of an older program could not be made again."""
    fill(project)
    before = dump(project.database)
    make_old(project.database)
    project.close()
    rebuild(project.url, project.backend)
    project.open()
    untold = project.runs.untold()
    assert len(untold) == len(before["runs"])
    project.runs.tell([(record, RunFacts()) for record in untold])
    assert dump(project.database) == before


def dump(database: Database) -> dict[str, list[tuple[object, ...]]]:
    """Return every row that states a fact."""
    with database.read() as connection:
        return {
            table.name: sorted(map(tuple, connection.execute(table.select())), key=repr)
            for table in SEALED_TABLES
            if table is not meta
        }


def kinds(project: Project) -> list[str]:
    """Return what doctor finds."""
    return [problem.kind for problem in examine(project.database, project.objects).problems]


def test_a_healthy_project_has_no_findings(project: Project) -> None:
    """Doctor would cry wolf."""
    fill(project)
    report = examine(project.database, project.objects)
    assert report.problems == ()
    assert report.rows_checked > 30


def test_rebuilding_gives_the_very_same_rows(project: Project) -> None:
    """A rebuilt catalog would tell another history."""
    fill(project)
    before = dump(project.database)
    project.close()
    counts = rebuild(project.url, project.backend)
    project.open()
    assert dump(project.database) == before
    assert counts["releases"] == 4
    assert counts["damaged_records"] == 0
    assert kinds(project) == []
    assert project.objects.read_bytes(project.catalog.tracked()["data"]) == b"data"


def test_a_lost_database_comes_back_from_records(project: Project, tmp_path: Path) -> None:
    """A deleted file would cost every version."""
    fill(project)
    before = dump(project.database)
    with project.database.write() as connection:
        for table in SEALED_TABLES:
            if table is not meta:
                connection.execute(table.delete())
    project.close()
    rebuild(project.url, project.backend)
    project.open()
    after = dump(project.database)
    for name in ("models", "manifests", "manifest_metrics", "releases", "channel_moves"):
        assert after[name] == before[name], name
    finished = project.runs.list("digits")
    assert len(finished) == 4
    assert {record.state for record in finished} == {RunState.FINISHED}
    assert finished[0].start.command == ("python", "train.py")
    assert project.catalog.channels("digits") == {"stable": "1.3.0", "previous": "1.2.0"}


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("UPDATE releases SET message = 'x' WHERE sequence = 2", "row-damaged"),
        ("UPDATE runs SET reason = 'x'", "row-damaged"),
        ("UPDATE metric_series SET step = 7", "row-damaged"),
        ("UPDATE tracked SET path = 'x'", "row-damaged"),
        ("DELETE FROM releases WHERE sequence = 2", "row-missing"),
        ("DELETE FROM releases WHERE sequence = 4", "row-missing"),
        ("DELETE FROM releases WHERE sequence > 2", "row-missing"),
        ("DELETE FROM manifests WHERE model = 'digits'", "row-missing"),
        ("DELETE FROM manifest_metrics WHERE key = 'accuracy'", "row-missing"),
        ("DELETE FROM runs WHERE state = 'finished'", "row-missing"),
        ("DELETE FROM channel_moves WHERE sequence = 1", "row-missing"),
        ("DELETE FROM models", "row-missing"),
    ],
)
def test_doctor_finds_rows_that_were_changed_or_lost(
    project: Project, statement: str, kind: str
) -> None:
    """A wrong or missing row would be called healthy."""
    fill(project)
    before = dump(project.database)
    with project.database.write() as connection:
        connection.execute(text(statement))
    problems = examine(project.database, project.objects).problems
    assert kind in {problem.kind for problem in problems if not problem.is_harmless}
    if "runs" in statement or "metric_series" in statement or "tracked" in statement:
        return
    project.close()
    rebuild(project.url, project.backend)
    project.open()
    assert dump(project.database) == before


def test_a_row_that_no_record_knows_is_found(project: Project) -> None:
    """A version that was never released would look released."""
    fill(project)
    (lost,) = [
        digest
        for digest in project.objects.list_records("release")
        if digest == project.catalog.release_digest("digits", "1.3.0")
    ]
    project.backend.delete_many([f"records/release/{lost.hex[:2]}/{lost.hex[2:]}"])
    assert kinds(project) == ["row-without-record"]
    with pytest.raises(NotFoundError):
        project.catalog.release("digits", "1.3.0")


def test_what_a_killed_release_leaves_is_harmless(
    project: Project, make_manifest: Callable[..., Any]
) -> None:
    """Doctor would ask for a rebuild after every power cut."""
    fill(project)
    newest = project.catalog.last_release("digits")
    orphan = replace(
        newest,
        version="1.4.0",
        sequence=5,
        previous=project.catalog.release_digest("digits", "1.3.0"),
        released_at=project.clock(),
    )
    project.objects.put_record("release", canonical.encode(orphan))
    made = make_manifest("digits", 77)
    project.objects.put_record("manifest", canonical.encode(made))
    problems = examine(project.database, project.objects).problems
    assert {problem.kind for problem in problems} == {"record-without-row"}
    assert all(problem.is_harmless for problem in problems)
    assert project.catalog.find_version("digits", "1.4.0") is None

    # The next release takes the number; from now on the other record has lost its place.
    project.release("1.4.0", project.record(5)[1])
    winner = project.catalog.release_digest("digits", "1.4.0")
    assert "record-superseded" in kinds(project)
    project.close()
    rebuild(project.url, project.backend)
    project.open()
    assert project.catalog.release_digest("digits", "1.4.0") == winner


def test_the_chain_decides_even_when_a_clock_was_wrong(project: Project) -> None:
    """A rebuild would hand a number to a version that never had it."""
    fill(project)
    winner = project.catalog.release("digits", "1.1.0")
    loser = replace(
        winner,
        message="never acknowledged",
        released_at=datetime(2030, 1, 1, tzinfo=UTC),
    )
    project.objects.put_record("release", canonical.encode(loser))
    project.close()
    rebuild(project.url, project.backend)
    project.open()
    assert project.catalog.release("digits", "1.1.0") == winner


def test_a_damaged_record_is_named_and_the_rest_is_rebuilt(
    sqlite_project: Project, tmp_path: Path
) -> None:
    """One lost file would keep everything else from coming back."""
    fill(sqlite_project)
    record = sqlite_project.catalog.release_digest("digits", "1.3.0")
    path = next((tmp_path / "objects").rglob(record.hex[2:]))
    data = bytearray(path.read_bytes())
    data[10] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    with pytest.raises(IntegrityError):
        sqlite_project.catalog.release("digits", "1.3.0")
    assert "record-damaged" in kinds(sqlite_project)
    sqlite_project.close()
    counts = rebuild(sqlite_project.url, sqlite_project.backend)
    assert (counts["damaged_records"], counts["releases"]) == (1, 3)


def test_a_file_that_is_no_database_is_refused_and_rebuilt(
    sqlite_project: Project, tmp_path: Path
) -> None:
    """A destroyed file would be taken for an empty project."""
    fill(sqlite_project)
    sqlite_project.close()
    path = tmp_path / "stemma.db"
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(IntegrityError) as caught:
        Database.open(sqlite_project.url, may_create=True)
    assert caught.value.hint == "stemma doctor --rebuild"
    rebuild(sqlite_project.url, sqlite_project.backend)
    sqlite_project.open()
    assert len(sqlite_project.catalog.versions("digits")) == 4
    assert sorted(entry.name for entry in tmp_path.iterdir() if entry.is_file()) == [
        "stemma.db",
        "stemma.db-shm",
        "stemma.db-wal",
        "stemma.db.mark",
        "stemma.db.seal",
    ]


def test_a_database_file_that_is_gone_is_not_taken_for_a_new_project(
    sqlite_project: Project, tmp_path: Path
) -> None:
    """A deleted file would quietly give an empty catalog."""
    fill(sqlite_project)
    sqlite_project.close()
    (tmp_path / "stemma.db").unlink()
    with pytest.raises(IntegrityError):
        Database.open(sqlite_project.url, may_create=True)
    with pytest.raises(NotFoundError):
        Database.open(f"sqlite:///{tmp_path}/other.db", may_create=False)
    rebuild(sqlite_project.url, sqlite_project.backend)
    sqlite_project.open()
    assert sqlite_project.catalog.channels("digits")["stable"] == "1.3.0"


@pytest.mark.slow
def test_doctor_finds_every_flipped_bit_of_file_and_seal(
    sqlite_project: Project, tmp_path: Path
) -> None:
    """A disk that loses bits would be called healthy."""
    fill(sqlite_project)
    sqlite_project.close()
    chance = random.Random(9)
    for name, count in (("stemma.db", 100), ("stemma.db.seal", 100)):
        whole = (tmp_path / name).read_bytes()
        for _ in range(count):
            data = bytearray(whole)
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            (tmp_path / name).write_bytes(data)
            try:
                sqlite_project.open()
            except IntegrityError:
                continue
            assert kinds(sqlite_project) == ["seal-damaged"]
            sqlite_project.close()
        (tmp_path / name).write_bytes(whole)
    sqlite_project.open()
    assert kinds(sqlite_project) == []


def answers(project: Project) -> dict[str, object]:
    """Return what the catalog says about its versions."""
    catalog = project.catalog
    return {
        "models": catalog.list_models(),
        "versions": catalog.versions("digits"),
        "log": catalog.log_rows("digits", metric="accuracy"),
        "releases": catalog.releases("digits"),
        "channels": catalog.channels("digits"),
        "history": catalog.channel_history("digits", "stable"),
        "newest": resolve(catalog, "digits"),
        "range": resolve(catalog, "digits@~1.1"),
        "exact": resolve(catalog, "digits@1.2.0"),
        "manifest": catalog.manifest(catalog.release("digits", "1.3.0").manifest),
    }


@pytest.mark.slow
@pytest.mark.parametrize("seed", [5, 6])
def test_even_without_its_seal_a_flipped_bit_changes_no_answer(
    seed: int, sqlite_project: Project, tmp_path: Path
) -> None:
    """After a crash, with a stale seal, a flipped bit would come back as another version."""
    project = sqlite_project
    fill(project)
    project.clock.step = timedelta(0)
    expected = answers(project)
    project.close()
    path = tmp_path / "stemma.db"
    whole = path.read_bytes()
    used = [at for at in range(len(whole)) if whole[at]]
    chance = random.Random(seed)
    refused = 0
    for _ in range(120):
        for leftover in tmp_path.glob("stemma.db?*"):
            leftover.unlink()
        data = bytearray(whole)
        at, bit = chance.choice(used), chance.randrange(8)
        data[at] ^= 1 << bit
        path.write_bytes(data)
        try:
            project.open()
        except StemmaError:
            refused += 1
            continue
        for name in expected:
            try:
                assert answers(project)[name] == expected[name], (at, bit, name)
            except StemmaError:
                refused += 1
                break
        project.close()
    assert refused > 20
