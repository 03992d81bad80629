"""Experiments on SQLite and on PostgreSQL: named once, deleted softly."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from stemma.db.engine import Connection, Database
from stemma.domain.errors import ConflictError, InvalidInputError, NotFoundError
from stemma.tracking import experiments

NOW = datetime(2026, 5, 3, 12, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    """Return a write transaction on an empty database of each kind."""
    with Database.open(database_url, may_create=True) as database, database.write() as opened:
        yield opened


def test_an_experiment_comes_back_with_its_tags(connection: Connection) -> None:
    """A team could not find its experiment by name."""
    made = experiments.create(connection, "Churn / été", NOW, {"team": "growth", "old": "1"})
    experiments.set_tags(connection, made.id, {"team": "core"})
    experiments.delete_tag(connection, made.id, "old")
    other = experiments.create(connection, "other", NOW)
    found = experiments.get(connection, made.id)
    assert (found.name, found.tags, found.created_at) == ("Churn / été", {"team": "core"}, NOW)
    assert experiments.get_by_name(connection, "Churn / été") == found
    assert [one.id for one in experiments.get_many(connection, [other.id, 99, made.id])] == [2, 1]
    assert experiments.get_many(connection, [made.id]) == [found]


def test_a_name_is_taken_once_also_by_a_deleted_experiment(connection: Connection) -> None:
    """Two experiments of one name would share their readers."""
    made = experiments.create(connection, "churn", NOW)
    other = experiments.create(connection, "other", NOW)
    experiments.delete(connection, made.id, LATER)
    for attempt in (
        lambda: experiments.create(connection, "churn", NOW),
        lambda: experiments.rename(connection, other.id, "churn", NOW),
    ):
        with pytest.raises(ConflictError) as caught:
            attempt()
        assert caught.value.code == "experiment-exists"


def test_a_deleted_experiment_refuses_changes_until_restored(connection: Connection) -> None:
    """What was thrown away would change behind everybody's back."""
    made = experiments.create(connection, "churn", NOW)
    experiments.delete(connection, made.id, LATER)
    assert experiments.get(connection, made.id).deleted_at == LATER
    for attempt in (
        lambda: experiments.rename(connection, made.id, "new", NOW),
        lambda: experiments.set_tags(connection, made.id, {"a": "b"}),
        lambda: experiments.delete_tag(connection, made.id, "a"),
    ):
        with pytest.raises(InvalidInputError):
            attempt()
    with pytest.raises(NotFoundError):
        experiments.delete(connection, made.id, LATER)
    experiments.restore(connection, made.id, LATER)
    with pytest.raises(NotFoundError):
        experiments.restore(connection, made.id, LATER)
    experiments.rename(connection, made.id, "new", LATER)
    found = experiments.get_by_name(connection, "new")
    assert (found.deleted_at, found.updated_at) == (None, LATER)


@pytest.mark.parametrize("name", ["", "  ", "x" * 501, "a\0b"])
def test_a_bad_name_is_refused(connection: Connection, name: str) -> None:
    """An experiment could be made that nobody can ask for."""
    with pytest.raises(InvalidInputError):
        experiments.create(connection, name, NOW)


def test_the_default_experiment_is_number_0_and_made_once(connection: Connection) -> None:
    """A client that names no experiment would be refused."""
    assert experiments.ensure_default(connection, NOW) == 0
    assert experiments.ensure_default(connection, LATER) == 0
    assert experiments.get_by_name(connection, "Default").created_at == NOW
    assert experiments.create(connection, "first", NOW).id == 1


def test_a_model_has_an_experiment_of_its_name(connection: Connection) -> None:
    """A training would fail because somebody deleted an experiment."""
    number = experiments.of_model(connection, "digits", NOW)
    assert experiments.of_model(connection, "digits", LATER) == number
    experiments.delete(connection, number, LATER)
    assert experiments.of_model(connection, "digits", LATER) == number
    assert experiments.get(connection, number).deleted_at is None
