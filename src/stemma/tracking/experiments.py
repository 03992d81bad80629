"""Verbs on experiments, each a function of a connection so that many make one transaction.

Invariants:
    * No two experiments have one name, deleted ones included.
    * Deleting an experiment deletes its living runs at the same moment; restoring it restores
      just those.
    * A run of a model that names no experiment belongs to the one of the model's name; the
      default experiment is for runs of tracking clients.

It holds no SQL; see ``experiment_queries``.

Example:
    >>> made = create(connection, "churn", now, {"team": "growth"})  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from stemma.db.engine import Connection
from stemma.db.model_experiments import experiment_of
from stemma.domain.canonical import timestamp
from stemma.domain.errors import ConflictError, InvalidInputError, NotFoundError
from stemma.domain.tracking import (
    DEFAULT_EXPERIMENT,
    DEFAULT_EXPERIMENT_NAME,
    EXPERIMENT_TAG_LENGTH_LIMIT,
    Experiment,
    check_experiment_name,
    check_tags,
    storable,
)
from stemma.tracking import experiment_queries as queries
from stemma.tracking.queries import update_runs


def create(
    connection: Connection, name: str, now: datetime, tags: Mapping[str, str] | None = None
) -> Experiment:
    """Make an experiment.

    Raises:
        InvalidInputError: If the name or a tag may not be.
        ConflictError: If there is one of that name (``experiment-exists``).
    """
    check_experiment_name(name)
    labels = _checked(tags or {})
    _check_free(connection, name)
    is_default = name == DEFAULT_EXPERIMENT_NAME
    number = DEFAULT_EXPERIMENT if is_default else queries.next_id(connection)
    made = Experiment(id=number, name=name, created_at=now, updated_at=now, tags=labels)
    queries.put(connection, made)
    queries.set_tags(connection, number, labels)
    return made


def get(connection: Connection, experiment: int) -> Experiment:
    """Return the experiment of that number, also a deleted one.

    Raises:
        NotFoundError: If there is none.
    """
    found = queries.find(connection, experiment)
    if found is None:
        raise _missing(experiment)
    return found


def get_by_name(connection: Connection, name: str) -> Experiment:
    """Return the experiment of that name, also a deleted one.

    Raises:
        NotFoundError: If there is none.
    """
    found = queries.find_by_name(connection, name)
    if found is None:
        raise _missing(name)
    return found


def get_many(connection: Connection, ids: Sequence[int]) -> list[Experiment]:
    """Return experiments in the order of ``ids``; those that are not there are left out."""
    found = queries.find_many(connection, ids)
    return [found[number] for number in ids if number in found]


def ensure_default(connection: Connection, now: datetime) -> int:
    """Make the default experiment when there is none, and return its number."""
    if queries.find_state(connection, DEFAULT_EXPERIMENT) is None:
        create(connection, DEFAULT_EXPERIMENT_NAME, now)
    return DEFAULT_EXPERIMENT


def of_model(connection: Connection, model: str, now: datetime) -> int:
    """Return the experiment of a model; made, or taken back, when it is not there.

    A training never fails because somebody deleted the experiment; its old runs stay deleted.
    """
    return experiment_of(connection, model, timestamp(now))


def rename(connection: Connection, experiment: int, name: str, now: datetime) -> None:
    """Give an experiment another name.

    Raises:
        NotFoundError: If there is none of that number.
        InvalidInputError: If the name may not be, or the experiment is deleted.
        ConflictError: If there is one of that name.
    """
    check_experiment_name(name)
    found = check_living(connection, experiment)
    if name == found.name:
        return
    _check_free(connection, name)
    queries.put(connection, replace(found, name=name, updated_at=now))


def delete(connection: Connection, experiment: int, now: datetime) -> None:
    """Delete an experiment and its living runs; ``restore`` takes that back.

    Raises:
        NotFoundError: If there is none of that number, or it is deleted already.
    """
    found = queries.find_state(connection, experiment)
    if found is None or found.deleted_at is not None:
        raise _missing(experiment)
    living = queries.runs_deleted_at(connection, experiment, None)
    update_runs(connection, [replace(run, deleted_at=now) for run in living])
    queries.put(connection, replace(found, deleted_at=now, updated_at=now))


def restore(connection: Connection, experiment: int, now: datetime) -> None:
    """Take a deletion back, with the runs that went with it.

    Raises:
        NotFoundError: If there is no deleted experiment of that number.
    """
    found = queries.find_state(connection, experiment)
    if found is None or found.deleted_at is None:
        raise _missing(experiment, "deleted experiment")
    gone = queries.runs_deleted_at(connection, experiment, found.deleted_at)
    update_runs(connection, [replace(run, deleted_at=None) for run in gone])
    queries.put(connection, replace(found, deleted_at=None, updated_at=now))


def set_tags(connection: Connection, experiment: int, tags: Mapping[str, str]) -> None:
    """Write tags of an experiment over what was there.

    Raises:
        NotFoundError: If there is none of that number.
        InvalidInputError: If a tag may not be, or the experiment is deleted.
    """
    labels = _checked(tags)
    check_living(connection, experiment)
    queries.set_tags(connection, experiment, labels)


def delete_tag(connection: Connection, experiment: int, key: str) -> None:
    """Remove a tag of an experiment.

    Raises:
        NotFoundError: If there is no such experiment or tag.
        InvalidInputError: If the experiment is deleted.
    """
    check_living(connection, experiment)
    if not queries.delete_tag(connection, experiment, key):
        raise NotFoundError(f"experiment {experiment} has no tag {key!r}", code="tag-not-found")


def check_living(connection: Connection, experiment: int) -> Experiment:
    """Return an experiment, without its tags, that may be written to.

    Raises:
        NotFoundError: If there is none of that number.
        InvalidInputError: If it is deleted (``experiment-deleted``).
    """
    found = queries.find_state(connection, experiment)
    if found is None:
        raise _missing(experiment)
    if found.deleted_at is not None:
        raise InvalidInputError(
            f"experiment {found.name!r} is deleted", code="experiment-deleted", hint="restore it"
        )
    return found


def _checked(tags: Mapping[str, str]) -> dict[str, str]:
    check_tags(tags, length_limit=EXPERIMENT_TAG_LENGTH_LIMIT)
    return {key: storable(value) for key, value in tags.items()}


def _check_free(connection: Connection, name: str) -> None:
    found = queries.find_by_name(connection, name)
    if found is None:
        return
    state = "" if found.deleted_at is None else ", deleted"
    raise ConflictError(
        f"there is an experiment {name!r} already: number {found.id}{state}",
        code="experiment-exists",
        hint="choose another name, or restore it",
    )


def _missing(which: int | str, what: str = "experiment") -> NotFoundError:
    return NotFoundError(f"no {what} {which!r}", code="experiment-not-found")
