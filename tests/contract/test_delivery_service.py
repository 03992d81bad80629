"""The records of delivery on both engines: deployments, configurations, rollouts, rollbacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from stemma.catalog.doctor import examine
from stemma.delivery.values import MetricPost, Phase, RollbackReport
from stemma.domain.configuration import Configuration
from stemma.domain.errors import (
    ConflictError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    StemmaError,
)
from stemma.domain.rollout import (
    Decision,
    LogPosition,
    Rollout,
    RolloutCommand,
    RolloutState,
    Step,
)
from stemma.domain.rollout_commands import command
from stemma.domain.traffic import MetricCounts

Project = Any


def say(rollout: Rollout, state: RolloutState, kind: str = "state") -> Step:
    """Return a step to a state with one line of the log."""
    after = replace(rollout, state=state)
    line = Decision(kind=kind, text=f"to {state.value}", weight_bp=after.weight_bp, state=state)
    return Step(rollout=after, decisions=(line,))


def to(state: RolloutState) -> Callable[[Rollout], Step]:
    """Return what moves a rollout to a state."""
    return lambda rollout: say(rollout, state)


def begin(project: Project, number: int = 1) -> Rollout:
    """Begin a rollout of 1.1.0 while 1.0.0 serves."""
    rollout = project.rollout(project.serve("1.0.0"), project.released("1.1.0"), number)
    step = say(rollout, RolloutState.VALIDATING)
    return project.delivery.begin_rollout(step.rollout, step.decisions)


def refused(error: type[StemmaError], code: str, act: Callable[[], object]) -> StemmaError:
    """Return the error, which has that code."""
    with pytest.raises(error) as caught:
        act()
    assert caught.value.code == code
    return caught.value


def report(project: Project, *, is_drill: bool, failure: str = "") -> RollbackReport:
    """Return a report."""
    phase = Phase(name="traffic", seconds=0.25, limit_seconds=60.0, detail="golden answered")
    return RollbackReport(
        model="digits",
        before="1.1.0",
        after="1.0.0",
        phases=(phase,),
        is_drill=is_drill,
        at=project.clock(),
        by="ada",
        failure=failure,
    )


# deployments ---------------------------------------------------------------------------------


def test_the_newest_deployment_is_what_production_is_to_be(project: Project) -> None:
    """A restarted server would serve another version than the one that was decided."""
    first = project.serve("1.0.0")
    second = project.released("1.1.0")
    made = project.delivery.deploy(
        "digits", second, kind="serve", by="bob", reason="better", moves_stable=False
    )
    assert made.sequence == 2
    project.close()
    project.open()
    assert project.delivery.deployment("digits") == made
    assert project.delivery.deployments() == [made]
    history = project.delivery.deployment_history("digits")
    assert [entry.deployed for entry in history] == [second, first]
    assert (made.by, made.reason, made.kind) == ("bob", "better", "serve")
    assert project.catalog.channels("digits") == {"stable": "1.0.0"}


def test_a_withdrawn_model_is_served_no_more_and_may_come_back(project: Project) -> None:
    """A model that was taken off would come back with the next restart."""
    deployed = project.serve("1.0.0")
    project.serve("3.0.0", model="faces")
    project.delivery.withdraw("digits", by="ada", reason="broken")
    assert project.delivery.deployment("digits") is None
    assert [found.model for found in project.delivery.deployments()] == ["faces"]
    assert [found.model for found in project.delivery.production().deployments] == ["faces"]
    refused(
        NotFoundError,
        "not-deployed",
        lambda: project.delivery.withdraw("digits", by="ada", reason=""),
    )
    project.delivery.deploy(
        "digits", deployed, kind="serve", by="ada", reason="", moves_stable=True
    )
    found = project.delivery.deployment("digits")
    assert (found.sequence, found.deployed) == (3, deployed)


def test_only_a_release_with_a_known_configuration_is_deployed(project: Project) -> None:
    """Production would be told to serve something that does not exist."""
    good = project.released("1.0.0")
    other = project.released("1.1.0")

    def deploy(deployed: object) -> Callable[[], object]:
        return lambda: project.delivery.deploy(
            "digits", deployed, kind="serve", by="ada", reason="", moves_stable=True
        )

    refused(NotFoundError, "version-not-found", deploy(replace(good, version="9.0.0")))
    refused(ConflictError, "deployed-mismatch", deploy(replace(good, manifest=other.manifest)))
    refused(
        NotFoundError,
        "configuration-not-found",
        deploy(replace(good, configuration=good.manifest)),
    )
    assert project.delivery.deployment("digits") is None
    assert project.catalog.channels("digits") == {}
    assert examine(project.database, project.objects).problems == ()


def test_a_prerelease_serves_but_does_not_become_stable(project: Project) -> None:
    """A version that failed its gates would become what users get by default."""
    deployed = project.released("2.0.0-pre.1")
    refused(
        ConflictError,
        "prerelease-on-stable",
        lambda: project.delivery.deploy(
            "digits", deployed, kind="serve", by="ada", reason="", moves_stable=True
        ),
    )
    assert project.delivery.deployment("digits") is None
    project.delivery.deploy(
        "digits", deployed, kind="serve", by="ada", reason="", moves_stable=False
    )
    assert project.delivery.deployment("digits").deployed == deployed


def test_a_clock_set_back_puts_no_deployment_before_the_one_it_follows(project: Project) -> None:
    """The history would say that the old version came after the new one."""
    project.serve("1.0.0")
    second = project.released("1.1.0")
    project.clock.now -= timedelta(days=2)
    project.delivery.deploy("digits", second, kind="serve", by="ada", reason="", moves_stable=True)
    newest, oldest = project.delivery.deployment_history("digits")
    assert newest.since >= oldest.since


# configurations ------------------------------------------------------------------------------


def test_equal_configurations_are_one_with_one_number(project: Project) -> None:
    """The history would fill with configurations that do not differ."""
    delivery = project.delivery
    first = delivery.put_configuration("digits", Configuration(replicas=2), by="ada")
    second = delivery.put_configuration("digits", Configuration(replicas=3), by="ada")
    again = delivery.put_configuration("digits", Configuration(replicas=2), by="bob")
    other = delivery.put_configuration("faces", Configuration(replicas=2), by="ada")
    assert (first.number, second.number, again, other.number) == (1, 2, first, 1)
    assert [found.number for found in delivery.configurations("digits")] == [2, 1]
    project.close()
    project.open()
    assert project.delivery.configuration("digits", first.digest) == first
    refused(
        NotFoundError,
        "configuration-not-found",
        lambda: project.delivery.configuration("faces", second.digest),
    )


def test_a_configuration_names_the_versions_it_was_live_with(project: Project) -> None:
    """Nobody could say which configuration a version was proven with."""
    project.serve("1.0.0")
    project.serve("1.1.0")
    project.serve("1.0.1")
    project.delivery.withdraw("digits", by="ada", reason="")
    project.released("1.2.0", Configuration(replicas=2))
    newest, oldest = project.delivery.configurations("digits")
    assert oldest.proven_with == ("1.0.0", "1.1.0", "1.0.1")
    assert newest.proven_with == ()
    assert newest.configuration == Configuration(replicas=2)


def test_a_damaged_configuration_record_is_refused(project: Project) -> None:
    """A model would be served with values that nobody set."""
    project.serve("1.0.0")
    (record,) = project.objects.list_records("configuration")
    path = next((project.folder / "objects").rglob(record.hex[2:]))
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b'"replicas":1', b'"replicas":9'))
    project.close()
    project.open()
    with pytest.raises(IntegrityError):
        project.delivery.configurations("digits")


# rollouts ------------------------------------------------------------------------------------


def test_a_model_has_one_rollout_under_way(project: Project) -> None:
    """Two canaries would fight for the same traffic."""
    rollout = begin(project)
    second = project.rollout(rollout.stable, rollout.canary, 2)
    error = refused(
        ConflictError, "rollout-running", lambda: project.delivery.begin_rollout(second, ())
    )
    assert rollout.id in error.message
    assert error.hint == "stemma rollout status digits"
    for act in (
        lambda: project.delivery.withdraw("digits", by="ada", reason=""),
        lambda: project.delivery.deploy(
            "digits", rollout.canary, kind="serve", by="ada", reason="", moves_stable=False
        ),
    ):
        refused(ConflictError, "rollout-running", act)
    assert project.delivery.rollouts("digits") == [rollout]
    project.delivery.step_rollout(rollout.id, to(RolloutState.FAILED))
    project.delivery.begin_rollout(second, ())
    assert project.delivery.active_rollout("digits") == second
    assert [found.id for found in project.delivery.rollouts("digits")] == [second.id, rollout.id]


def test_the_database_itself_lets_one_rollout_be_active(project: Project) -> None:
    """A bug above would be enough for two canaries."""
    begin(project)
    insert = (
        "INSERT INTO rollouts SELECT 'ro-2', model, 2, active, event_count, body, row_digest"
        " FROM rollouts"
    )
    with pytest.raises(StemmaError), project.database.write() as connection:
        connection.execute(text(insert))


def test_a_rollout_starts_from_what_serves(project: Project) -> None:
    """An abort would bring back a version that did not serve before."""
    stable, canary = project.released("1.0.0"), project.released("1.1.0")
    rollout = project.rollout(stable, canary)
    begin_it = lambda: project.delivery.begin_rollout(rollout, ())  # noqa: E731
    assert "nothing" in refused(ConflictError, "deployment-changed", begin_it).message
    project.serve("2.0.0")
    assert "2.0.0" in refused(ConflictError, "deployment-changed", begin_it).message
    pre = project.rollout(stable, project.released("3.0.0-pre.1"))
    refused(ConflictError, "prerelease-on-stable", lambda: project.delivery.begin_rollout(pre, ()))
    assert project.delivery.newest_rollout("digits") is None


def test_a_step_keeps_position_counts_and_log_together(project: Project) -> None:
    """A restarted controller would count requests twice or not at all."""
    rollout = begin(project)

    def make(newest: Rollout) -> Step:
        counted = replace(newest, position=LogPosition(file="a", offset_bytes=100))
        return replace(say(counted, RolloutState.CANARY), rollout=replace(counted, step=1))

    step = project.delivery.step_rollout(rollout.id, make)
    project.close()
    project.open()
    assert project.delivery.rollout(rollout.id) == step.rollout
    first, second = project.delivery.events(rollout.id)
    assert (first.sequence, first.by, second.sequence, second.by) == (1, "ada", 2, "")
    assert second.decision == step.decisions[0]
    assert project.delivery.events(rollout.id, after=1) == [second]
    assert project.delivery.events(rollout.id, after=2) == []


def test_a_look_that_changes_nothing_writes_nothing(project: Project) -> None:
    """An idle server would wear out the disk and fill the log."""
    rollout = begin(project)
    generation = "SELECT value FROM meta WHERE key = 'generation'"
    with project.database.read() as connection:
        before = connection.execute(text(generation)).scalar_one()
    step = project.delivery.step_rollout(rollout.id, lambda newest: Step(rollout=newest))
    assert step == Step(rollout=rollout)
    with project.database.read() as connection:
        assert connection.execute(text(generation)).scalar_one() == before


def test_going_live_moves_deployment_and_stable_with_it(project: Project) -> None:
    """Users would get one version, and the registry name another as stable."""
    rollout = begin(project)
    project.delivery.step_rollout(rollout.id, to(RolloutState.PROMOTING))
    project.delivery.step_rollout(rollout.id, to(RolloutState.LIVE))
    deployment = project.delivery.deployment("digits")
    assert (deployment.deployed, deployment.kind) == (rollout.canary, "promote")
    assert deployment.by == "ada"
    assert project.catalog.channels("digits") == {"stable": "1.1.0", "previous": "1.0.0"}
    assert project.delivery.active_rollout("digits") is None
    assert project.delivery.newest_rollout("digits").state is RolloutState.LIVE
    production = project.delivery.production()
    assert production.rollouts == {}
    assert [move.version for move in production.stable_moves["digits"]] == ["1.1.0", "1.0.0"]
    assert examine(project.database, project.objects).problems == ()


def test_a_refused_step_changes_nothing(project: Project) -> None:
    """A command that answered with an error would have happened all the same."""
    rollout = begin(project)

    def live_and_fail(newest: Rollout) -> Step:
        raise ConflictError("no", code="no")

    refused(ConflictError, "no", lambda: project.delivery.step_rollout(rollout.id, live_and_fail))
    project.delivery.step_rollout(rollout.id, to(RolloutState.ROLLED_BACK))
    refused(
        ConflictError,
        "rollout-ended",
        lambda: project.delivery.step_rollout(rollout.id, to(RolloutState.LIVE)),
    )
    assert project.delivery.deployment("digits").deployed == rollout.stable
    assert len(project.delivery.events(rollout.id)) == 2
    refused(
        NotFoundError,
        "rollout-not-found",
        lambda: project.delivery.step_rollout("ro-none", to(RolloutState.LIVE)),
    )


def test_production_shows_the_rollouts_under_way(project: Project) -> None:
    """The controller would render routes without the canary."""
    rollout = begin(project)
    project.serve("5.0.0", model="faces")
    production = project.delivery.production()
    assert [found.model for found in production.deployments] == ["digits", "faces"]
    assert production.rollouts == {"digits": rollout}
    assert project.delivery.active_rollouts() == [rollout]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM rollout_events WHERE sequence = 1",
        "DELETE FROM rollout_events WHERE sequence = 2",
        "UPDATE rollout_events SET text = 'nothing happened' WHERE sequence = 2",
        "UPDATE rollouts SET event_count = 1",
        "UPDATE rollouts SET body = replace(body, 'canary', 'live')",
    ],
)
def test_a_changed_or_lost_line_is_never_shown_as_the_whole_log(
    project: Project, statement: str
) -> None:
    """A rollout would be explained by half of what happened."""
    rollout = begin(project)
    project.delivery.step_rollout(rollout.id, to(RolloutState.CANARY))
    with project.database.write() as connection:
        connection.execute(text(statement))
    with pytest.raises(IntegrityError):
        project.delivery.events(rollout.id)
    assert examine(project.database, project.objects).problems


@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM rollouts WHERE sequence = 1", "DELETE FROM deployments WHERE sequence = 1"],
)
def test_a_lost_row_is_noticed(project: Project, statement: str) -> None:
    """The version before the last one would serve."""
    rollout = begin(project)
    project.delivery.step_rollout(rollout.id, to(RolloutState.LIVE))
    second = project.rollout(rollout.canary, rollout.stable, 2)
    project.delivery.begin_rollout(second, ())
    with project.database.write() as connection:
        connection.execute(text(statement))
    with pytest.raises(IntegrityError):
        project.delivery.production()


# posted metrics ------------------------------------------------------------------------------


def post(key: str, **fields: Any) -> MetricPost:
    """Return a post."""
    given = {"metric": "returns", "version": "canary", "events": 3, "trials": 100, **fields}
    return MetricPost(model="digits", key=key, **given)


def test_each_posted_metric_is_counted_in_one_step(project: Project) -> None:
    """A retried post, or a killed controller, would count a return twice."""
    rollout = begin(project)
    assert project.delivery.post_metric(post("a"))
    assert not project.delivery.post_metric(post("a"))
    assert project.delivery.post_metric(post("b", version="1.0.0", rollout=rollout.id))
    assert project.delivery.post_metric(post("c", version="1.1.0", events=1))
    seen: list[Mapping[str, MetricCounts]] = []

    def look(newest: Rollout, metrics: Mapping[str, MetricCounts]) -> Step:
        seen.append(metrics)
        return Step(rollout=replace(newest, held_seconds=newest.held_seconds + 1))

    idle = project.delivery.look_at_rollout(rollout.id, lambda newest, _: Step(rollout=newest))
    assert idle.rollout == rollout
    project.delivery.step_rollout(rollout.id, to(RolloutState.CANARY))
    for _ in range(2):
        project.delivery.look_at_rollout(rollout.id, look)
    expected = MetricCounts(canary_events=4, canary_trials=200, stable_events=3, stable_trials=100)
    assert seen == [{"returns": expected}, {}]
    assert not project.delivery.post_metric(post("a"))


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"metric": "errors"}, "bad-metric-post"),
        ({"metric": "no name"}, "bad-metric-post"),
        ({"events": 101}, "bad-metric-post"),
        ({"events": -1}, "bad-metric-post"),
        ({"trials": 0, "events": 0}, "bad-metric-post"),
        ({"trials": 10**13}, "bad-metric-post"),
        ({"version": "9.9.9"}, "version-not-in-rollout"),
        ({"rollout": "ro-none"}, "rollout-not-found"),
    ],
)
def test_a_post_that_makes_no_sense_is_refused(
    project: Project, fields: dict[str, object], code: str
) -> None:
    """The judge would be given nonsense."""
    begin(project)
    with pytest.raises((InvalidInputError, NotFoundError)) as caught:
        project.delivery.post_metric(post("a", **fields))
    assert caught.value.code == code


def test_a_key_stands_for_one_observation_of_a_rollout_under_way(project: Project) -> None:
    """A mistaken key would silently drop an observation."""
    rollout = begin(project)
    project.delivery.post_metric(post("a"))
    refused(
        ConflictError,
        "metric-key-taken",
        lambda: project.delivery.post_metric(post("a", events=4)),
    )
    project.delivery.step_rollout(rollout.id, to(RolloutState.FAILED))
    refused(NotFoundError, "rollout-not-found", lambda: project.delivery.post_metric(post("b")))
    refused(
        ConflictError,
        "rollout-ended",
        lambda: project.delivery.post_metric(post("b", rollout=rollout.id)),
    )


# rollbacks -----------------------------------------------------------------------------------


def abort(project: Project) -> Callable[[Rollout], Step]:
    """Return what aborts a rollout."""
    now = datetime(2026, 5, 2, tzinfo=UTC)
    return lambda rollout: command(rollout, RolloutCommand.ABORT, "bob", "bad", now)


def test_a_rollback_ends_the_rollout_and_moves_stable_at_once(project: Project) -> None:
    """The rollout would go on and bring the bad version back."""
    rollout = begin(project)
    project.delivery.step_rollout(rollout.id, to(RolloutState.LIVE))
    second = project.rollout(rollout.canary, rollout.stable, 2)
    project.delivery.begin_rollout(second, ())
    project.delivery.step_rollout(second.id, to(RolloutState.CANARY))
    refused(
        ConflictError,
        "rollout-running",
        lambda: project.delivery.roll_back_to(
            "digits", rollout.stable, by="bob", reason="bad", abort=None, make=abort(project)
        ),
    )
    made = project.delivery.roll_back_to(
        "digits", rollout.stable, by="bob", reason="bad", abort=second.id, make=abort(project)
    )
    assert (made.kind, made.deployed, made.by) == ("rollback", rollout.stable, "bob")
    assert project.delivery.deployment("digits") == made
    assert project.delivery.rollout(second.id).state is RolloutState.ROLLING_BACK
    (line,) = project.delivery.events(second.id, after=1)
    assert (line.by, line.decision.kind) == ("bob", "command")
    assert project.catalog.channels("digits") == {"stable": "1.0.0", "previous": "1.1.0"}


def test_a_rollback_needs_no_rollout_and_leaves_an_ended_one_alone(project: Project) -> None:
    """One could not roll back once the rollout is over."""
    rollout = begin(project)
    project.delivery.step_rollout(rollout.id, to(RolloutState.LIVE))
    live = project.delivery.rollout(rollout.id)
    project.delivery.roll_back_to(
        "digits", rollout.stable, by="bob", reason="", abort=rollout.id, make=abort(project)
    )
    assert project.delivery.rollout(rollout.id) == live
    assert project.delivery.deployment("digits").deployed == rollout.stable


def test_reports_come_back_newest_first_and_whole(project: Project) -> None:
    """A failed drill would be forgotten."""
    assert project.delivery.last_drill("digits") is None
    reports = [
        report(project, is_drill=True),
        report(project, is_drill=True, failure="artifact damaged"),
        report(project, is_drill=False),
    ]
    for made in reports:
        project.delivery.record_rollback(made)
    assert project.delivery.rollbacks("digits") == reports[::-1]
    assert project.delivery.last_drill("digits") == reports[1]
    assert project.delivery.rollbacks("faces") == []


# what stays ----------------------------------------------------------------------------------


def test_garbage_collection_keeps_what_production_is_made_of(project: Project) -> None:
    """Nobody could tell any more what served, and with which values."""
    begin(project)
    roots = {
        root.digest
        for root in project.catalog.gc_roots(
            project.clock() + timedelta(days=900), lambda _: timedelta(days=1)
        )
    }
    for kind in ("configuration", "deployment"):
        assert set(project.objects.list_records(kind)) <= roots
