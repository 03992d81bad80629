"""Logged models: made, described, finished, found and deleted.

Invariants:
    * Once a logged model is ready it stays so; finishing it again as ready changes nothing.
    * Of a metric the latest point by (step, moment) is kept, for each run and dataset.
    * A deleted logged model is found when it is asked for, and its files go by garbage
      collection.

Every verb works on the connection of its caller's transaction.

Example:
    >>> create(connection, NewLoggedModel(experiment=0, name="clf"), now)  # doctest: +SKIP
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from stemma.db.engine import Connection
from stemma.domain.errors import ConflictError, InvalidInputError, NotFoundError
from stemma.domain.logged_model import (
    TYPE_LENGTH_LIMIT,
    LoggedModel,
    LoggedModelState,
    ModelMetric,
    check_logged_model_name,
)
from stemma.domain.tracking import (
    DEFAULT_EXPERIMENT,
    check_params,
    check_tags,
    storable,
    too_long,
)
from stemma.tracking import experiments, run_log
from stemma.tracking import logged_model_queries as queries

LOGGED_MODELS_LIMIT: Final = 1_000

_ID_SIZE_BYTES: Final = 16
_NAME_SIZE_BYTES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class NewLoggedModel:
    """What is known of a logged model when it is made.

    Attributes:
        experiment: The experiment it belongs to.
        run: The run that makes it; empty when none does.
        name: A name for people; one is made when it is empty.
        type: What kind it is, in the client's words.
        params: Its params.
        tags: Its tags.
    """

    experiment: int
    run: str = ""
    name: str = ""
    type: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


def create(connection: Connection, new: NewLoggedModel, now: datetime) -> LoggedModel:
    """Make a logged model that is pending.

    Raises:
        NotFoundError: If there is no such experiment or run.
        InvalidInputError: If the experiment or the run is deleted, or a name or value may not be.
    """
    identity = f"m-{secrets.token_hex(_ID_SIZE_BYTES)}"
    name = check_logged_model_name(new.name or f"model-{secrets.token_hex(_NAME_SIZE_BYTES)}")
    if len(new.type) > TYPE_LENGTH_LIMIT:
        raise too_long("logged model type", new.type, TYPE_LENGTH_LIMIT)
    _check_labels(new.params, new.tags)
    _check_place(connection, new, now)
    model = LoggedModel(
        id=identity,
        experiment=new.experiment,
        run=new.run,
        name=storable(name),
        type=storable(new.type),
        created_at=now,
        updated_at=now,
        params=_storable(new.params),
        tags=_storable(new.tags),
    )
    queries.insert_model(connection, model)
    queries.upsert_params(connection, identity, model.params)
    queries.upsert_tags(connection, identity, model.tags)
    return model


def get(connection: Connection, identity: str, *, is_deleted_too: bool = False) -> LoggedModel:
    """Return a logged model with its params, tags and metrics.

    Raises:
        NotFoundError: If there is none, or it is deleted and such are not asked for.
    """
    found = get_many(connection, [identity])
    if not found or (found[0].deleted_at is not None and not is_deleted_too):
        raise no_model(identity)
    return found[0]


def get_many(connection: Connection, identities: Sequence[str]) -> list[LoggedModel]:
    """Return logged models in the order asked for, deleted ones too; those not there left out."""
    return queries.find_models(connection, identities)


def finish(
    connection: Connection, identity: str, state: LoggedModelState, now: datetime
) -> LoggedModel:
    """Say where a logged model stands.

    Raises:
        NotFoundError: If there is none.
        ConflictError: If it is ready and shall be anything else (``logged-model-immutable``).
    """
    model = get(connection, identity)
    if model.state is state:
        return model
    if model.is_frozen:
        raise ConflictError(
            f"logged model {identity} is ready; that is not taken back",
            code="logged-model-immutable",
            hint="log a new model",
        )
    changed = replace(model, state=state, updated_at=_later(model, now))
    queries.update_model(connection, changed)
    return changed


def delete(connection: Connection, identity: str, now: datetime) -> None:
    """Mark a logged model as deleted; its files go by garbage collection.

    Raises:
        NotFoundError: If there is none.
    """
    model = get(connection, identity)
    changed = replace(model, deleted_at=_later(model, now), updated_at=_later(model, now))
    queries.update_model(connection, changed)


def set_tags(
    connection: Connection, identity: str, tags: Mapping[str, str], now: datetime
) -> LoggedModel:
    """Write tags, each in the place of one with its key.

    Raises:
        NotFoundError: If there is no such logged model.
        InvalidInputError: If a tag may not be.
    """
    check_tags(tags)
    model = _touched(connection, identity, now)
    kept = _storable(tags)
    queries.upsert_tags(connection, identity, kept)
    return replace(model, tags={**model.tags, **kept})


def delete_tag(connection: Connection, identity: str, key: str, now: datetime) -> None:
    """Remove a tag.

    Raises:
        NotFoundError: If there is no such logged model or tag.
    """
    model = _touched(connection, identity, now)
    if key not in model.tags:
        raise NotFoundError(
            f"logged model {identity} has no tag {key[:80]!r}", code="tag-not-found"
        )
    queries.remove_tag(connection, identity, key)


def log_params(
    connection: Connection, identity: str, params: Mapping[str, str], now: datetime
) -> None:
    """Write params; the same value again changes nothing.

    Raises:
        NotFoundError: If there is no such logged model.
        InvalidInputError: If a param may not be, or has another value already.
    """
    check_params(params)
    params = _storable(params)
    model = _touched(connection, identity, now)
    for key, value in params.items():
        if model.params.get(key, value) != value:
            raise InvalidInputError(
                f"param {key} of logged model {identity} is {model.params[key][:80]!r} already",
                code="param-changed",
                hint="log a new model",
            )
    queries.upsert_params(connection, identity, params)


def log_model_metrics(connection: Connection, rows: Iterable[tuple[str, ModelMetric]]) -> None:
    """Keep metrics of logged models, each in the place of an earlier point.

    Args:
        connection: A write transaction.
        rows: Id of the logged model, and the point.

    Raises:
        NotFoundError: If there is no such logged model.
    """
    points = list(rows)
    identities = list(dict.fromkeys(identity for identity, _ in points))
    known = queries.existing(connection, identities)
    for identity in identities:
        if identity not in known:
            raise no_model(identity)
    queries.upsert_metrics(connection, points)


def no_model(identity: str) -> NotFoundError:
    """Return the error for a logged model that is not there."""
    return NotFoundError(f"no logged model {identity[:80]}", code="logged-model-not-found")


def _touched(connection: Connection, identity: str, now: datetime) -> LoggedModel:
    model = get(connection, identity)
    changed = replace(model, updated_at=_later(model, now))
    queries.update_model(connection, changed)
    return changed


def _storable(labels: Mapping[str, str]) -> dict[str, str]:
    return {key: storable(value) for key, value in labels.items()}


def _later(model: LoggedModel, now: datetime) -> datetime:
    # A clock that was set back must not make a change stand before the making.
    return max(now, model.created_at)


def _check_labels(params: Mapping[str, str], tags: Mapping[str, str]) -> None:
    check_params(params)
    check_tags(tags)


def _check_place(connection: Connection, new: NewLoggedModel, now: datetime) -> None:
    if new.experiment == DEFAULT_EXPERIMENT:
        experiments.ensure_default(connection, now)
    experiments.check_living(connection, new.experiment)
    if new.run:
        run_log.check_living(connection, new.run)
