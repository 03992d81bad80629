"""Traces: told, read, tagged, linked to a run and deleted.

Invariants:
    * A trace told again is written again, in its own experiment only.
    * A deleted trace is gone at once with the rows of its files; garbage collection frees them.

Every verb works on the connection of its caller's transaction.

Example:
    >>> put(connection, trace, now)  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from stemma.db.engine import Connection
from stemma.domain.errors import ConflictError, InvalidInputError, NotFoundError
from stemma.domain.trace import NAME_TAG, PLACE_TAGS, Trace, check_trace
from stemma.domain.tracking import DEFAULT_EXPERIMENT, check_tags, storable
from stemma.tracking import experiments, run_log
from stemma.tracking import trace_queries as queries

LINKS_LIMIT: Final = 100


def put(connection: Connection, trace: Trace, now: datetime) -> Trace:
    """Keep what is told of a trace; returns it whole.

    Raises:
        NotFoundError: If there is no such experiment.
        InvalidInputError: If the experiment is deleted, or something may not be.
        ConflictError: If another experiment has a trace of this id (``trace-exists``).
    """
    check_trace(trace)
    if trace.experiment == DEFAULT_EXPERIMENT:
        experiments.ensure_default(connection, now)
    experiments.check_living(connection, trace.experiment)
    tags = {key: value for key, value in trace.tags.items() if key not in PLACE_TAGS}
    before = next(iter(queries.find(connection, [trace.id])), None)
    if before is not None and before.experiment != trace.experiment:
        raise ConflictError(
            f"trace {trace.id} is of experiment {before.experiment}", code="trace-exists"
        )
    known = {} if before is None else before.tags
    kept = replace(
        trace,
        run=trace.run or ("" if before is None else before.run),
        name=storable({**known, **tags}.get(NAME_TAG, "")),
        client_request=storable(trace.client_request),
        request_preview=storable(trace.request_preview),
        response_preview=storable(trace.response_preview),
    )
    queries.put(connection, kept)
    queries.put_tags(connection, trace.id, _all_storable(tags))
    queries.put_metadata(connection, trace.id, _all_storable(trace.metadata))
    return get(connection, trace.id)


def get(connection: Connection, identity: str) -> Trace:
    """Return a trace.

    Raises:
        NotFoundError: If there is none.
    """
    found = queries.find(connection, [identity])
    if not found:
        raise NotFoundError(f"no trace {identity[:80]}", code="trace-not-found")
    return found[0]


def get_many(connection: Connection, identities: Sequence[str]) -> list[Trace]:
    """Return traces in the order asked for; those not there are left out."""
    return queries.find(connection, identities)


def set_tag(connection: Connection, identity: str, key: str, value: str) -> None:
    """Write a tag, in the place of one with its key.

    Raises:
        NotFoundError: If there is no such trace.
        InvalidInputError: If the tag may not be, or says where the spans are.
    """
    check_tags({key: value})
    if key in PLACE_TAGS:
        raise InvalidInputError(f"the server alone writes the tag {key}", code="bad-key")
    trace = get(connection, identity)
    queries.put_tags(connection, identity, {key: storable(value)})
    if key == NAME_TAG:
        queries.put(connection, replace(trace, name=storable(value)))


def delete_tag(connection: Connection, identity: str, key: str) -> None:
    """Remove a tag.

    Raises:
        NotFoundError: If there is no such trace or tag.
    """
    trace = get(connection, identity)
    if not queries.remove_tag(connection, identity, storable(key)):
        raise NotFoundError(f"trace {identity} has no tag {key[:80]!r}", code="tag-not-found")
    if key == NAME_TAG:
        queries.put(connection, replace(trace, name=""))


def link(connection: Connection, identities: Sequence[str], run: str) -> None:
    """Say that traces belong to a run; of several runs the last counts.

    Raises:
        NotFoundError: If there is no such run or trace.
        InvalidInputError: If the run is deleted, or there are too many.
    """
    if len(identities) > LINKS_LIMIT:
        raise InvalidInputError(
            f"{len(identities)} traces to be linked; at most {LINKS_LIMIT} are taken at once",
            code="batch-too-large",
        )
    run_log.check_living(connection, run)
    for identity in identities:
        queries.put(connection, replace(get(connection, identity), run=run))


def delete(connection: Connection, experiment: int, identities: Sequence[str]) -> int:
    """Delete traces of an experiment; returns how many there were."""
    return queries.remove(connection, experiment, identities)


def delete_before(
    connection: Connection, experiment: int, moment: datetime, limit: int | None
) -> int:
    """Delete the oldest traces of an experiment up to a moment; returns how many."""
    doomed = queries.ids_before(connection, experiment, moment, limit)
    return queries.remove(connection, experiment, doomed)


def _all_storable(labels: Mapping[str, str]) -> dict[str, str]:
    return {key: storable(value) for key, value in labels.items()}
