"""Verbs that write what was recorded elsewhere, with its own ids, numbers and moments.

Invariants:
    * Writing the same again changes nothing; what was deleted here stays deleted.
    * What this project recorded itself is never written over: another version of a number, or a
      run that Stemma records, is refused.
    * What an import has brought whole carries ``STATE_TAG``; nothing else does.

It asks no server; see ``stemma.hub.foreign``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Final, TypeVar

from stemma.db.engine import Connection
from stemma.domain.errors import ConflictError, InvalidInputError
from stemma.domain.logged_model import LoggedModel, LoggedModelState
from stemma.domain.registry import (
    ModelStage,
    ModelVersion,
    NewVersion,
    RegisteredModel,
    check_description,
    parse_source,
)
from stemma.domain.tracking import (
    METRICS_LIMIT,
    PARAMS_LIMIT,
    Experiment,
    Point,
    RunData,
    check_params,
    check_tags,
    storable,
)
from stemma.tracking import (
    experiment_queries,
    experiments,
    logged_model_queries,
    logged_models,
    queries,
    registry,
    registry_queries,
    run_log,
    run_log_queries,
)
from stemma.tracking.registered_sources import settle
from stemma.tracking.release_numbers import number_releases

SOURCE_TAG: Final = "stemma.import.source"
"""The address that it was imported from."""

STATE_TAG: Final = "stemma.import.state"
"""What it looked like there when all of it was here."""

FILES_TAG: Final = "stemma.import.files"
"""The end of the run whose files are here."""

LEFT_TAG: Final = "stemma.import.left"
"""Where artifacts lie that could not be imported."""

_ValueT = TypeVar("_ValueT")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedVersion:
    """A version of a registered model, as it stands elsewhere.

    Attributes:
        new: What a client registered.
        number: Its number.
        stage: Where it stands.
        created_at: When it was registered.
        updated_at: When it last changed.
    """

    new: NewVersion
    number: int
    stage: ModelStage
    created_at: datetime
    updated_at: datetime


def put_experiment(
    connection: Connection, name: str, tags: Mapping[str, str], now: datetime
) -> Experiment:
    """Return the experiment of a name, made if need be, with these tags written.

    Raises:
        InvalidInputError: If it is deleted here (``experiment-deleted``), or may not be.
    """
    found = experiment_queries.find_by_name(connection, name)
    if found is None:
        return experiments.create(connection, name, now, tags)
    experiments.check_living(connection, found.id)
    changed = {key: value for key, value in tags.items() if found.tags.get(key) != value}
    if changed:
        experiments.set_tags(connection, found.id, changed)
    return found


def run_tags(connection: Connection, runs: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return the tags of those runs that are here; of deleted ones too."""
    there = queries.find_runs(connection, runs)
    tags = run_log_queries.find_tags(connection, runs)
    return {run: tags.get(run, {}) for run in there}


def is_deleted(connection: Connection, run: str) -> bool:
    """Return whether a run was deleted here."""
    found = queries.find_row(connection, run)
    return found is not None and found.deleted_at is not None


def put_run(connection: Connection, data: RunData, points: Sequence[Point], now: datetime) -> None:
    """Write a run with all it logged.

    Args:
        connection: A write transaction.
        data: The run; its metrics are not looked at.
        points: Every point of its metrics.
        now: The moment.

    Raises:
        InvalidInputError: If it is deleted here, or something of it may not be.
        ConflictError: If this project recorded the run itself (``run-exists``).
    """
    record = data.record
    there = queries.find_run(connection, record.id)
    if there is None:
        started_at = record.started_at
        run_log.create_run(connection, record.start, started_at=started_at, now=now, run=record.id)
        there = run_log.get(connection, record.id)
    elif there.start.process:
        raise ConflictError(f"run {record.id} was recorded here", code="run-exists")
    # A run that was adopted keeps what its manifest says of it.
    if there.deleted_at is None and there.manifest is None:
        start = replace(record.start, model=there.start.model, name=there.start.name)
        queries.update_run(
            connection,
            replace(
                there,
                start=start,
                state=record.state,
                started_at=record.started_at,
                ended_at=record.ended_at,
            ),
        )
    for batch in _batches(list(data.params.items()), PARAMS_LIMIT):
        run_log.log_params(connection, record.id, dict(batch))
    for batch in _batches(list(data.tags.items()), PARAMS_LIMIT):
        run_log.set_tags(connection, record.id, dict(batch))
    for some in _batches(points, METRICS_LIMIT):
        run_log.log_metrics(connection, record.id, some)
    run_log.log_inputs(connection, record.id, data.inputs, data.model_inputs)
    run_log.log_outputs(connection, record.id, data.outputs)


def mark_run(connection: Connection, run: str, marks: Mapping[str, str]) -> None:
    """Note on a run how far its import is."""
    run_log.set_tags(connection, run, marks)


def put_logged_model(connection: Connection, model: LoggedModel, now: datetime) -> LoggedModel:
    """Write a logged model with all that is known of it, pending as long as it was not here.

    Raises:
        InvalidInputError: If it is deleted here (``logged-model-deleted``), or may not be.
        NotFoundError: If there is no such experiment.
    """
    check_params(model.params)
    check_tags(model.tags)
    found = logged_models.get_many(connection, [model.id])
    there = found[0] if found else None
    if there is None:
        experiments.check_living(connection, model.experiment)
        there = replace(model, state=LoggedModelState.PENDING, updated_at=now)
        logged_model_queries.insert_model(connection, there)
    elif there.deleted_at is not None:
        raise InvalidInputError(
            f"logged model {model.id} is deleted here", code="logged-model-deleted"
        )
    logged_models.log_params(connection, model.id, model.params, now)
    logged_models.set_tags(connection, model.id, model.tags, now)
    logged_models.log_model_metrics(connection, [(model.id, point) for point in model.metrics])
    return there


def finish_logged_model(connection: Connection, model: LoggedModel, state: str) -> None:
    """Let a logged model stand where it stands elsewhere, whole now."""
    logged_models.set_tags(connection, model.id, {STATE_TAG: state}, model.updated_at)
    there = logged_models.get(connection, model.id)
    kept = there.state if there.is_frozen else model.state
    logged_model_queries.update_model(
        connection,
        replace(
            there,
            state=kept,
            state_message=storable(model.state_message),
            updated_at=max(model.updated_at, there.created_at),
        ),
    )


def leave_logged_model(connection: Connection, model: LoggedModel, state: str, uri: str) -> None:
    """Note that the files of a logged model lie elsewhere; it stays pending, for it has none."""
    marks = {STATE_TAG: state, LEFT_TAG: uri}
    logged_models.set_tags(connection, model.id, marks, model.updated_at)


def registered_state(connection: Connection, name: str) -> str:
    """Return what a registered model looked like there when it was imported; may be empty."""
    return registry_queries.model_tags(connection, [name])[name].get(STATE_TAG, "")


def mark_registered_model(connection: Connection, name: str, state: str) -> None:
    """Note that a registered model is here whole."""
    registry_queries.replace_model_tags(connection, name, {STATE_TAG: state})


def put_registered_model(
    connection: Connection, model: RegisteredModel, now: datetime
) -> RegisteredModel:
    """Write a registered model; ``model.model`` is not looked at.

    Raises:
        InvalidInputError: If the name, the description or a tag may not be.
        ConflictError: If another name fits to the same model of the catalog.
    """
    there = registry.find_model(connection, model.name, now)
    if there is None:
        there = registry.create_model(connection, model.name, now)
        there = replace(there, created_at=model.created_at)
    described = check_description(storable(model.description)) or there.description
    changed = replace(
        there, description=described, updated_at=max(model.updated_at, there.created_at)
    )
    registry_queries.update_model(connection, model.name, changed)
    for key, value in model.tags.items():
        registry.set_model_tag(connection, model.name, key, value, changed.updated_at)
    return changed


def put_version(
    connection: Connection, model: RegisteredModel, version: ImportedVersion, now: datetime
) -> bool:
    """Write a version under its own number; returns whether it is new here.

    Raises:
        InvalidInputError: If its source is nothing that is here (``bad-source``).
        ConflictError: If the number stands for another version here (``version-differs``).
    """
    new, number = version.new, version.number
    number_releases(connection, model.model, now)
    run, logged_model, source = settle(connection, new, parse_source(new.source))
    there = registry_queries.find_version(connection, new.name, number)
    is_new = there is None
    if there is None:
        there = ModelVersion(
            name=new.name,
            number=number,
            run=run,
            logged_model=logged_model,
            source=source,
            created_at=version.created_at,
            updated_at=version.updated_at,
            created_by=storable(new.created_by),
        )
        registry_queries.insert_version(connection, there)
    elif (there.run, there.logged_model, there.source) != (run, logged_model, source):
        raise ConflictError(
            f"version {number} of {new.name} is another one here, of run {there.run or 'none'}",
            code="version-differs",
            hint="rename one of the registered models",
        )
    if there.stage is ModelStage.DELETED:
        return False
    described = check_description(storable(new.description)) or there.description
    changed = replace(
        there,
        description=described,
        stage=version.stage,
        updated_at=max(version.updated_at, there.created_at),
    )
    registry_queries.update_version(connection, changed)
    if new.tags:
        registry.set_version_tags(connection, new.name, number, new.tags, changed.updated_at)
    return is_new


def _batches(items: Sequence[_ValueT], size: int) -> list[list[_ValueT]]:
    iterator = iter(items)
    return list(iter(lambda: list(islice(iterator, size)), []))
