"""The catalog on SQLite and on PostgreSQL: versions, releases, channels, refs, what stays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from stemma.catalog.doctor import examine
from stemma.catalog.exchange import read_local, up_to
from stemma.catalog.resolve import resolve
from stemma.domain.digest import Digest
from stemma.domain.errors import (
    ConflictError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
)
from stemma.domain.manifest import Manifest
from stemma.domain.release import Release
from stemma.domain.run import RunStart
from stemma.domain.verdict import Axis, Finding, Level, Verdict

Project = Any


def test_a_registered_manifest_comes_back_and_twice_is_once(
    project: Project, make_manifest: Callable[..., Manifest]
) -> None:
    """A candidate would be lost, or be there twice after a retry."""
    made = make_manifest("digits", 1)
    digest = project.catalog.register(made)
    assert project.catalog.register(made) == digest
    assert project.catalog.manifest(digest) == made


def test_an_unknown_manifest_is_not_found(project: Project) -> None:
    """A wrong digest would answer with something else."""
    with pytest.raises(NotFoundError):
        project.catalog.manifest(Digest.sha256("0" * 64))


def test_a_manifest_with_a_bad_model_name_is_refused(
    project: Project, make_manifest: Callable[..., Manifest]
) -> None:
    """A model could be called like a path."""
    with pytest.raises(InvalidInputError):
        project.catalog.register(make_manifest("../up", 1))


def test_releases_come_back_newest_first(project: Project) -> None:
    """``log`` would show another order than history had."""
    made = [project.release(f"1.0.{i}", project.record(i)[1]) for i in range(4)]
    assert project.catalog.releases("digits") == made[::-1]
    assert project.catalog.releases("digits", limit=2, before=3) == [made[1], made[0]]
    assert project.catalog.versions("digits") == ["1.0.3", "1.0.2", "1.0.1", "1.0.0"]
    assert project.catalog.last_release("digits") == made[3]
    assert project.catalog.release("digits", "1.0.2") == made[2]


@pytest.mark.slow
def test_a_prerelease_is_last_only_when_asked_for(project: Project) -> None:
    """A stable number would be compared with a pre-release."""
    final = project.release("1.0.0", project.record(1)[1])
    for number in range(1, 25):
        pre = project.release(f"1.1.0-pre.{number}", project.record(number + 1)[1])
    assert project.catalog.last_release("digits") == final
    assert project.catalog.last_release("digits", include_prereleases=True) == pre


def test_a_number_is_given_once(project: Project) -> None:
    """Two versions would have one number."""
    release = project.release("1.0.0", project.record(1)[1])
    _, other = project.record(2)
    again = replace(
        release,
        manifest=other,
        sequence=2,
        previous=project.catalog.release_digest("digits", "1.0.0"),
    )
    with pytest.raises(ConflictError) as caught:
        project.catalog.append_release(again)
    assert caught.value.code == "version-exists"
    assert "digits@1.0.0" in caught.value.message
    assert project.catalog.releases("digits") == [release]


def test_a_release_decided_against_an_old_state_is_refused(project: Project) -> None:
    """A number would rest on a comparison with a version that is not the newest."""
    first = project.release("1.0.0", project.record(1)[1])
    _, other = project.record(2)
    stale = replace(first, version="1.0.1", manifest=other)
    with pytest.raises(ConflictError) as caught:
        project.catalog.append_release(stale)
    assert caught.value.code == "release-raced"
    with pytest.raises(ConflictError):
        project.catalog.append_release(replace(stale, sequence=2, previous=other))
    assert project.objects.list_records("release") == [
        project.catalog.release_digest("digits", "1.0.0")
    ]


def test_a_manifest_of_another_model_cannot_be_released(project: Project) -> None:
    """A model could hand out another model's weights under its name."""
    _, other = project.record(1, model="faces")
    with pytest.raises(NotFoundError):
        project.release("1.0.0", other)


def test_log_shows_the_metric_and_the_sentence(project: Project) -> None:
    """``log`` would leave out why, or show another version's accuracy."""
    project.release("1.0.0", project.record(1)[1])
    _, digest = project.record(2)
    verdict = Verdict(
        level=Level.MINOR,
        findings=(Finding(axis=Axis.INTERFACE, level=Level.MINOR, code="x", reason="y"),),
        sentence="MINOR: an optional input was added",
    )
    project.catalog.append_release(
        Release(
            model="digits",
            version="1.1.0",
            manifest=digest,
            sequence=2,
            previous=project.catalog.release_digest("digits", "1.0.0"),
            level=Level.MINOR,
            verdict=verdict,
            released_at=project.clock(),
            released_by="bob",
        )
    )
    newest, first = project.catalog.log_rows("digits", metric="accuracy")
    assert (newest.version, newest.why, newest.released_by) == ("1.1.0", verdict.sentence, "bob")
    assert newest.metric.number == pytest.approx(0.50002)
    assert newest.metric.sample_size == 360
    assert first.why == "first version"
    assert project.catalog.log_rows("digits", metric="recall[class=8]")[0].metric.slice == "class=8"
    assert project.catalog.log_rows("digits", metric="no-such")[0].metric is None
    assert [row.version for row in project.catalog.log_rows("digits", before=2)] == ["1.0.0"]
    assert project.catalog.log_rows("faces") == []


def test_which_version_was_stable_on_3_may(project: Project) -> None:
    """Nobody could say what was in production when something went wrong."""
    for number in range(3):
        project.release(f"1.{number}.0", project.record(number)[1])
    for day, version in ((2, "1.0.0"), (3, "1.1.0"), (5, "1.2.0")):
        project.clock.now = datetime(2026, 5, day, 9, tzinfo=UTC)
        project.catalog.move_channel("digits", "stable", version, moved_by="ada")

    def stable(day: int, hour: int) -> str:
        move = project.catalog.channel_at(
            "digits", "stable", datetime(2026, 5, day, hour, tzinfo=UTC)
        )
        return move.version if move else "nothing"

    assert stable(1, 0) == "nothing"
    assert stable(3, 8) == "1.0.0"
    assert stable(3, 12) == "1.1.0"
    assert stable(30, 0) == "1.2.0"


def test_moving_stable_keeps_where_it_was_as_previous(project: Project) -> None:
    """A rollback would have no name to go to."""
    for number in range(2):
        project.release(f"1.{number}.0", project.record(number)[1])
    project.catalog.move_channel("digits", "stable", "1.0.0", moved_by="ada")
    assert project.catalog.channels("digits") == {"stable": "1.0.0"}
    project.catalog.move_channel("digits", "stable", "1.1.0", reason="better", moved_by="ada")
    assert project.catalog.channels("digits") == {"stable": "1.1.0", "previous": "1.0.0"}
    newest, first = project.catalog.channel_history("digits", "stable")
    assert (newest.sequence, newest.reason) == (2, "better")
    assert first.previous is None


def test_moving_a_channel_to_where_it_is_adds_nothing(project: Project) -> None:
    """History would fill with moves that moved nothing."""
    project.release("1.0.0", project.record(1)[1])
    first = project.catalog.move_channel("digits", "canary", "1.0.0", moved_by="ada")
    assert project.catalog.move_channel("digits", "canary", "1.0.0", moved_by="bob") == first


def test_a_channel_is_removed_and_its_history_stays(project: Project) -> None:
    """A removed channel would answer on, or take its history with it."""
    project.release("1.0.0", project.record(1)[1])
    project.catalog.move_channel("digits", "canary", "1.0.0", moved_by="ada")
    project.catalog.move_channel("digits", "canary", "", moved_by="ada")
    assert project.catalog.channels("digits") == {}
    assert len(project.catalog.channel_history("digits", "canary")) == 2
    with pytest.raises(NotFoundError):
        project.catalog.move_channel("digits", "canary", "", moved_by="ada")


def test_a_channel_cannot_point_at_nothing_or_be_called_like_a_version(project: Project) -> None:
    """``digits@stable`` would name a version that does not exist."""
    project.release("1.0.0", project.record(1)[1])
    with pytest.raises(NotFoundError, match=r"1\.0\.1"):
        project.catalog.move_channel("digits", "stable", "1.0.1", moved_by="ada")
    with pytest.raises(InvalidInputError):
        project.catalog.move_channel("digits", "latest", "1.0.0", moved_by="ada")
    assert project.objects.list_records("channel-move") == []


def test_a_clock_set_back_does_not_reorder_a_channel(project: Project) -> None:
    """``channel_at`` would name a version that was replaced already."""
    for number in range(2):
        project.release(f"1.{number}.0", project.record(number)[1])
    first = project.catalog.move_channel("digits", "canary", "1.0.0", moved_by="ada")
    project.clock.now -= timedelta(days=30)
    second = project.catalog.move_channel("digits", "canary", "1.1.0", moved_by="ada")
    assert second.moved_at == first.moved_at
    assert project.catalog.channel_at("digits", "canary", first.moved_at) == second


def test_every_form_of_ref_names_its_version(project: Project) -> None:
    """A ref would load another version than it says."""
    run, first = project.record(1)
    project.release("1.0.0", first)
    _, second = project.record(2)
    project.release("1.1.0", second)
    project.release("2.0.0-pre.1", project.record(3)[1])
    candidate, unreleased = project.record(4)
    for ref, expected in (
        ("digits", second),
        ("digits@1.0.0", first),
        ("digits@^1", second),
        ("digits@~1.0", first),
        (f"digits@{run}", first),
        (f"digits@{candidate[:6]}", unreleased),
        (f"digits@sha256:{second.hex[:12]}", second),
    ):
        assert resolve(project.catalog, ref).digest == expected, ref
    assert resolve(project.catalog, f"digits@{run}").release.version == "1.0.0"
    assert resolve(project.catalog, f"digits@{candidate}").release is None
    project.catalog.move_channel("digits", "stable", "1.0.0", moved_by="ada")
    assert resolve(project.catalog, "digits").digest == first
    assert resolve(project.catalog, "digits@stable").digest == first


def test_an_unknown_ref_is_answered_with_near_names(project: Project) -> None:
    """A typing error would cost a search."""
    project.release("1.0.0", project.record(1)[1])
    project.catalog.move_channel("digits", "stable", "1.0.0", moved_by="ada")
    for ref, near in (
        ("digit", "digits"),
        ("digits@1.0.1", "1.0.0"),
        ("digits@stabel", "stable"),
        ("digits@^2", "stemma log digits"),
        ("digits@r-ffffffffff", "stemma log --runs"),
        ("digits@sha256:ffff", "stemma log --runs"),
    ):
        with pytest.raises(NotFoundError) as caught:
            resolve(project.catalog, ref)
        assert near in f"{caught.value.message} {caught.value.hint}", ref


def test_a_run_without_version_says_so(project: Project) -> None:
    """A failed run's ref would look like a typing error."""
    run = project.runs.start(RunStart(model="digits"))
    project.record(1)
    with pytest.raises(NotFoundError, match="running"):
        resolve(project.catalog, f"digits@{run}")


def test_models_are_listed_with_what_matters(project: Project) -> None:
    """``status`` would miss a model or its newest run."""
    project.release("1.0.0", project.record(1)[1])
    project.catalog.move_channel("digits", "stable", "1.0.0", moved_by="ada")
    run, _ = project.record(2, model="faces")
    digits, faces = project.catalog.list_models()
    assert (digits.name, digits.release_count, digits.newest) == ("digits", 1, "1.0.0")
    assert digits.channels == {"stable": "1.0.0"}
    assert (faces.newest, faces.newest_run) == ("", run)


def test_completion_offers_models_then_versions_and_channels(project: Project) -> None:
    """The shell would complete nothing."""
    project.release("1.0.0", project.record(1)[1])
    project.catalog.move_channel("digits", "stable", "1.0.0", moved_by="ada")
    assert project.catalog.completions("di") == ["digits"]
    assert project.catalog.completions("digits@") == ["digits@stable", "digits@1.0.0"]
    assert project.catalog.completions("digits@1") == ["digits@1.0.0"]


def test_tracked_paths_keep_their_newest_tree(project: Project) -> None:
    """Garbage collection would take what ``stemma add`` stored."""
    one, two = Digest.blake3("1" * 64), Digest.blake3("2" * 64)
    project.catalog.track("data", one)
    project.catalog.track("data", two)
    assert project.catalog.tracked() == {"data": two}
    roots = project.catalog.gc_roots(project.clock(), lambda _: timedelta(days=14))
    assert (two, "tracked data") in [(root.digest, root.reason) for root in roots]


def test_what_is_released_named_or_young_stays_and_the_rest_expires(project: Project) -> None:
    """Garbage collection would take a version that somebody needs, or keep everything."""
    _, ancestor = project.record(1)
    _, released = project.record(2, parents=(ancestor,))
    _, old = project.record(3)
    project.release("1.0.0", released)
    project.clock.now += timedelta(days=20)
    _, young = project.record(4)

    def expiry(_: str) -> timedelta:
        return timedelta(days=14)

    kept = {root.digest for root in project.catalog.gc_roots(project.clock(), expiry)}
    assert {ancestor, released, young} <= kept
    assert project.catalog.release_digest("digits", "1.0.0") in kept
    assert old not in kept
    assert project.catalog.forget_expired(project.clock(), expiry) == [old]
    with pytest.raises(NotFoundError):
        project.catalog.manifest(old)
    assert len(project.runs.list()) == 3


def test_a_model_goes_with_its_last_candidate(project: Project) -> None:
    """Doctor would call a project damaged after every collection that empties a model."""
    project.record(1)
    project.clock.now += timedelta(days=20)
    project.catalog.forget_expired(project.clock(), lambda _: timedelta(days=14))
    assert project.catalog.list_models() == []


@pytest.mark.parametrize(
    ("statement", "read"),
    [
        ("UPDATE releases SET version = '9.9.9' WHERE sequence = 2", "log_rows"),
        ("UPDATE releases SET message = 'innocent'", "releases"),
        ("UPDATE releases SET manifest = record", "versions"),
        ("UPDATE manifests SET size_bytes = 1", "log_rows"),
        ("UPDATE manifest_metrics SET value = '0.99'", "log_rows"),
        ("UPDATE channel_moves SET version = '0.0.1'", "channels"),
        ("UPDATE models SET name = 'digitz'", "completions"),
        ("DELETE FROM releases WHERE sequence = 1", "versions"),
        ("DELETE FROM releases WHERE sequence = 2", "log_rows"),
        ("DELETE FROM channel_moves WHERE sequence = 1", "channels"),
    ],
)
def test_a_row_changed_by_hand_is_refused_on_reading(
    project: Project, statement: str, read: str
) -> None:
    """A flipped bit or an edit would come back as a fact."""
    for number in range(3):
        project.release(f"1.{number}.0", project.record(number)[1])
        project.catalog.move_channel("digits", "canary", f"1.{number}.0", moved_by="ada")
    with project.database.write() as connection:
        connection.execute(text(statement))
    reads: dict[str, Callable[[], object]] = {
        "log_rows": lambda: project.catalog.log_rows("digits", metric="accuracy"),
        "releases": lambda: project.catalog.releases("digits"),
        "versions": lambda: project.catalog.versions("digits"),
        "channels": lambda: project.catalog.channels("digits"),
        "completions": lambda: project.catalog.completions("d"),
    }
    with pytest.raises(IntegrityError) as caught:
        reads[read]()
    assert statement.split()[1 if "UPDATE" in statement else 2] in caught.value.message
    assert caught.value.hint == "stemma doctor --rebuild"


def test_a_row_sealed_anew_by_hand_does_not_pass_its_record(project: Project) -> None:
    """Whoever can compute a row's digest could change what a release says."""
    from stemma.db import rows, tables

    project.release("1.0.0", project.record(1)[1])
    with project.database.write() as connection:
        row = connection.execute(tables.releases.select()).one()
        values = dict(row._mapping) | {"message": "innocent"}
        values.pop("row_digest")
        connection.execute(tables.releases.update().values(rows.seal(tables.releases, values)))
    with pytest.raises(IntegrityError) as caught:
        project.catalog.release("digits", "1.0.0")
    assert caught.value.code == "row-differs-from-record"


def test_a_channel_may_point_at_a_candidate_but_stable_may_not(project: Project) -> None:
    """What an MLflow user calls the challenger would have to be released to be found."""
    run, digest = project.record(1)
    move = project.catalog.move_channel_to_candidate(
        "digits", "challenger", (run, digest), moved_by="ada"
    )
    again = project.catalog.move_channel_to_candidate(
        "digits", "challenger", (run, digest), moved_by="ada"
    )
    assert (move.version, move.manifest, again) == (run, digest, move)
    found = resolve(project.catalog, "digits@challenger")
    assert (found.digest, found.release) == (digest, None)
    assert not examine(project.database, project.objects).problems
    with pytest.raises(ConflictError) as refused:
        project.catalog.move_channel_to_candidate("digits", "stable", (run, digest), moved_by="ada")
    assert refused.value.code == "unreleased-on-stable"
    with pytest.raises(NotFoundError):
        project.catalog.move_channel_to_candidate(
            "others", "challenger", (run, digest), moved_by="ada"
        )
    project.release("1.0.0", digest)
    project.catalog.move_channel("digits", "challenger", "1.0.0", moved_by="ada")
    history = project.catalog.channel_history("digits", "challenger")
    assert [move.version for move in history] == ["1.0.0", run]
    shared = up_to(read_local(project.database, project.objects, "digits"), "1.0.0")
    assert [move.version for _, move in shared.moves["challenger"]] == [run, "1.0.0"]
