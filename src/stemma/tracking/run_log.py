"""Verbs on runs and what they log, each a function of a connection.

So many of them, of several clients, make one transaction (``stemma.tracking.ingest``).

Invariants:
    * A deleted run takes nothing more, nor does a run of a deleted experiment, which is deleted
      with it.
    * A param is written once: the same value again changes nothing, another one is refused.
    * Points, inputs and outputs that are there already change nothing.
    * A verb that raises may have written part; the caller's transaction undoes it.
    * The state of a run that Stemma records itself is Stemma's: ``update`` changes its name only.

It holds no SQL, and knows no journals (``stemma.tracking.service`` does).

Example:
    >>> log_metrics(connection, run, [Point("loss", 0.3, 1, 1_767_225_600_000_000)])
    ... # doctest: +SKIP
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from stemma.db.engine import Connection
from stemma.domain.errors import ConflictError, InvalidInputError, NotFoundError
from stemma.domain.run import RunId, RunRecord, RunStart, RunState
from stemma.domain.run_facts import RunFacts, first_tags
from stemma.domain.run_names import name_of
from stemma.domain.tracking import (
    DEFAULT_EXPERIMENT,
    HISTORY_PAGE_LIMIT,
    KEY_LENGTH_LIMIT,
    RUN_NAME_TAG,
    HistoryMark,
    Point,
    RunData,
    RunInput,
    RunOutput,
    check_batch,
    check_inputs,
    check_params,
    check_points,
    check_tags,
    parse_run_id,
    storable,
    too_long,
)
from stemma.tracking import experiments, metric_queries, queries, run_log_queries
from stemma.tracking.queries import RunRow

_ID_SIZE_BYTES: Final = 16
_OPEN: Final = frozenset({RunState.RUNNING, RunState.SCHEDULED})


def create_run(
    connection: Connection,
    start: RunStart,
    *,
    started_at: datetime,
    now: datetime,
    tags: Mapping[str, str] | None = None,
    run: str = "",
) -> RunData:
    """Open a run of a tracking client.

    Args:
        connection: A write transaction.
        start: What is known of it; a run that is named neither here nor by a tag gets a name.
        started_at: When it started, as the client says.
        now: The moment.
        tags: Its first tags.
        run: Its id, for a run that is imported; a new one when empty.

    Raises:
        NotFoundError: If there is no such experiment.
        InvalidInputError: If the experiment is deleted, a tag may not be, or name and tag differ.
        ConflictError: If there is a run of that id (``run-exists``).
    """
    labels = dict(tags or {})
    check_tags(labels)
    if start.experiment == DEFAULT_EXPERIMENT:
        experiments.ensure_default(connection, now)
    experiments.check_living(connection, start.experiment)
    number = parse_run_id(run) if run else RunId(f"r-{secrets.token_hex(_ID_SIZE_BYTES)}")
    if run and queries.find_row(connection, number) is not None:
        raise ConflictError(f"there is a run {number} already", code="run-exists")
    said = labels.get(RUN_NAME_TAG, "")
    if start.name and said and start.name != said:
        raise InvalidInputError(
            f"the run is named {start.name!r}, its tag {RUN_NAME_TAG} says {said!r}",
            code="run-name-differs",
            hint="give one of them",
        )
    name = _checked_name(start.name or said or name_of(number))
    labels = {key: storable(value) for key, value in labels.items()} | {RUN_NAME_TAG: name}
    record = RunRecord(
        id=number,
        start=replace(start, name=name),
        state=RunState.RUNNING,
        started_at=started_at,
    )
    queries.insert_run(connection, record)
    run_log_queries.set_tags(connection, number, labels)
    return RunData(record=record, tags=labels)


def get(connection: Connection, run: str) -> RunRecord:
    """Return a run, also a deleted one.

    Raises:
        NotFoundError: If there is none.
    """
    found = queries.find_run(connection, run)
    if found is None:
        raise _missing(run)
    return found


def run_data(connection: Connection, run: str) -> RunData:
    """Return a run with all it logged, also a deleted one.

    Raises:
        NotFoundError: If there is none.
    """
    found = runs_data(connection, [run])
    if not found:
        raise _missing(run)
    return found[0]


def runs_data(connection: Connection, runs: Sequence[str]) -> list[RunData]:
    """Return runs with all they logged, in the order of ``runs``; unknown ones are left out."""
    records = queries.find_runs(connection, runs)
    metrics = metric_queries.latest_points(connection, runs)
    params = run_log_queries.find_params(connection, runs)
    tags = run_log_queries.find_tags(connection, runs)
    inputs = run_log_queries.find_inputs(connection, runs)
    model_inputs = run_log_queries.find_model_inputs(connection, runs)
    outputs = run_log_queries.find_outputs(connection, runs)
    return [
        RunData(
            record=records[run],
            metrics=tuple(metrics.get(run, ())),
            params=params.get(run, {}),
            tags=tags.get(run, {}),
            inputs=tuple(inputs.get(run, ())),
            model_inputs=tuple(model_inputs.get(run, ())),
            outputs=tuple(outputs.get(run, ())),
        )
        for run in runs
        if run in records
    ]


def update(
    connection: Connection,
    run: str,
    *,
    state: RunState | None = None,
    ended_at: datetime | None = None,
    name: str = "",
) -> RunRecord:
    """Change a run's state, end and name, as far as they are given.

    Raises:
        NotFoundError: If there is none.
        InvalidInputError: If it is deleted, or the name is too long.
    """
    record = check_living(connection, run)
    if name:
        checked = _checked_name(name)
        record = replace(record, start=replace(record.start, name=checked))
        run_log_queries.set_tags(connection, run, {RUN_NAME_TAG: checked})
    if not _is_native(record):
        if state is not None:
            end = None if state in _OPEN else record.ended_at
            record = replace(record, state=state, ended_at=end)
        if ended_at is not None and record.state not in _OPEN:
            record = replace(record, ended_at=ended_at)
    queries.update_run(connection, record)
    return record


def delete(connection: Connection, run: str, now: datetime) -> None:
    """Delete a run; ``restore`` takes that back. Deleting it again changes nothing.

    Raises:
        NotFoundError: If there is none.
    """
    record = get(connection, run)
    if record.deleted_at is None:
        queries.update_run(connection, replace(record, deleted_at=now))


def restore(connection: Connection, run: str) -> None:
    """Take a deletion back.

    Raises:
        NotFoundError: If there is none.
        InvalidInputError: If its experiment is deleted.
    """
    record = get(connection, run)
    experiments.check_living(connection, record.start.experiment)
    if record.deleted_at is not None:
        queries.update_run(connection, replace(record, deleted_at=None))


def set_tags(connection: Connection, run: str, tags: Mapping[str, str]) -> None:
    """Write tags over what was there.

    Raises:
        NotFoundError: If there is no such run.
        InvalidInputError: If it is deleted, or a tag may not be.
    """
    log_batch(connection, run, tags=tags)


def delete_tag(connection: Connection, run: str, key: str) -> None:
    """Remove a tag.

    Raises:
        NotFoundError: If there is no such run or tag.
        InvalidInputError: If the run is deleted.
    """
    _check_writable(run, queries.find_row(connection, run))
    if not run_log_queries.delete_tag(connection, run, key):
        raise NotFoundError(f"run {run} has no tag {key!r}", code="tag-not-found")


def log_params(connection: Connection, run: str, params: Mapping[str, str]) -> None:
    """Write params; each only once.

    Raises:
        NotFoundError: If there is no such run.
        InvalidInputError: If it is deleted, or a param has another value already
            (``param-differs``) or may not be.
    """
    log_batch(connection, run, params=params)


def log_metrics(connection: Connection, run: str, points: Sequence[Point]) -> None:
    """Add points to a run's metrics.

    Raises:
        NotFoundError: If there is no such run.
        InvalidInputError: If it is deleted, or a point may not be.
    """
    log_batch(connection, run, points=points)


def log_batch(
    connection: Connection,
    run: str,
    *,
    points: Sequence[Point] = (),
    params: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Write points, params and tags of a run, all of them or none.

    Raises:
        NotFoundError: If there is no such run.
        InvalidInputError: If the run is deleted, there are too many, a param has another value
            already, or one may not be.
    """
    check_batch(metrics=len(points), params=len(params or ()), tags=len(tags or ()))
    check_points(points)
    check_params(params or {})
    check_tags(tags or {})
    if points:
        state = metric_queries.find_state(connection, run, {point.name for point in points})
        _check_writable(run, state.run)
        metric_queries.add_points(connection, run, points, state.series)
    else:
        _check_writable(run, queries.find_row(connection, run))
    if params:
        _add_params(connection, run, params)
    if tags:
        _set_tags(connection, run, tags)


def log_inputs(
    connection: Connection,
    run: str,
    inputs: Iterable[RunInput] = (),
    model_inputs: Iterable[str] = (),
) -> None:
    """Add datasets and logged models that a run read; the first of a name and digest counts.

    Raises:
        NotFoundError: If there is no such run.
        InvalidInputError: If it is deleted, or an input may not be.
    """
    unique = {(item.name, item.digest): item for item in reversed(list(inputs))}
    check_inputs(unique.values())
    _check_writable(run, queries.find_row(connection, run))
    run_log_queries.add_inputs(connection, run, list(unique.values()))
    run_log_queries.add_model_inputs(connection, run, sorted(set(model_inputs)))


def log_outputs(connection: Connection, run: str, outputs: Iterable[RunOutput]) -> None:
    """Add logged models that a run made.

    Raises:
        NotFoundError: If there is no such run.
        InvalidInputError: If it is deleted.
    """
    unique = {item.logged_model: item for item in outputs}
    _check_writable(run, queries.find_row(connection, run))
    run_log_queries.add_outputs(connection, run, list(unique.values()))


def metric_history(
    connection: Connection,
    run: str,
    name: str,
    *,
    limit: int = HISTORY_PAGE_LIMIT,
    after: HistoryMark | None = None,
) -> tuple[list[Point], HistoryMark | None]:
    """Return a page of a metric's points by step, then moment, and where the next one begins.

    Args:
        connection: Any transaction.
        run: The run.
        name: The metric; one that was never logged has no points.
        limit: Most points to return.
        after: What the page before returned.

    Raises:
        NotFoundError: If there is no such run.
    """
    if queries.find_row(connection, run) is None:
        raise _missing(run)
    asked = max(1, min(limit, HISTORY_PAGE_LIMIT))
    found = metric_queries.history(connection, run, name, asked + 1, after)
    page = found[:asked]
    return [point for point, _ in page], page[-1][1] if len(found) > asked else None


def tell(connection: Connection, record: RunRecord, facts: RunFacts) -> None:
    """Write what a run that Stemma recorded tells; what is there already stays as it is.

    Of any size, and not asked whether the run is deleted: it is part of its record.
    """
    run = record.id
    metrics = metric_queries.metric_names(connection, run)
    unknown = [point for point in facts.points if point.name not in metrics]
    metric_queries.log_points(connection, run, unknown)
    params = {storable(key): storable(value) for key, value in facts.params.items()}
    run_log_queries.add_params(connection, run, params)
    there = run_log_queries.find_tags(connection, [run]).get(run, {})
    own = {**facts.tags, **first_tags(record.start), RUN_NAME_TAG: record.start.name}
    tags = {storable(key): storable(value) for key, value in own.items()}
    run_log_queries.set_tags(
        connection, run, {key: value for key, value in tags.items() if key not in there}
    )
    run_log_queries.add_inputs(connection, run, facts.inputs)


def check_living(connection: Connection, run: str) -> RunRecord:
    """Return a run that may be written to.

    Raises:
        NotFoundError: If there is none.
        InvalidInputError: If it is deleted (``run-deleted``).
    """
    record = get(connection, run)
    if record.deleted_at is not None:
        raise _deleted(run)
    return record


def _check_writable(run: str, found: RunRow | None) -> None:
    if found is None:
        raise _missing(run)
    if found.deleted_at is not None:
        raise _deleted(run)


def _add_params(connection: Connection, run: str, params: Mapping[str, str]) -> None:
    wanted = {key: storable(value) for key, value in params.items()}
    if run_log_queries.add_params(connection, run, wanted):
        return
    there = run_log_queries.params_of(connection, run, list(wanted))
    for key, value in wanted.items():
        if there[key] != value:
            raise InvalidInputError(
                f"param {key} of run {run} is {there[key][:80]!r} and cannot become {value[:80]!r}",
                code="param-differs",
                hint="log it under another name, or in another run",
            )


def _set_tags(connection: Connection, run: str, tags: Mapping[str, str]) -> None:
    labels = {key: storable(value) for key, value in tags.items()}
    if RUN_NAME_TAG in labels:
        record = get(connection, run)
        labels[RUN_NAME_TAG] = _checked_name(labels[RUN_NAME_TAG])
        named = replace(record.start, name=labels[RUN_NAME_TAG])
        queries.update_run(connection, replace(record, start=named))
    run_log_queries.set_tags(connection, run, labels)


def _is_native(record: RunRecord) -> bool:
    """Whether Stemma's own process records the run, or has."""
    return bool(record.start.process) or record.manifest is not None


def _checked_name(name: str) -> str:
    if len(name) > KEY_LENGTH_LIMIT:
        raise too_long("run name", name, KEY_LENGTH_LIMIT)
    return storable(name)


def _missing(run: str) -> NotFoundError:
    return NotFoundError(f"no run {run[:80]!r}", code="run-not-found", hint="stemma log --runs")


def _deleted(run: str) -> InvalidInputError:
    return InvalidInputError(f"run {run} is deleted", code="run-deleted", hint="restore it")
