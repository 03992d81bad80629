"""Traces on the wire.

Invariants:
    * The address of a trace's files is ours; none is taken from a client.
    * What a call did is a file that the client keeps among the trace's artifacts.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Final, TypeAlias

import msgspec

from stemma.db.engine import Connection
from stemma.domain.canonical import timestamp
from stemma.domain.errors import InvalidInputError
from stemma.domain.trace import NAME_TAG, SOURCE_RUN, Trace, TraceState, parse_trace_id
from stemma.domain.tracking import parse_run_id, to_microseconds, to_moment
from stemma.protocols.mlflow.artifact_paths import artifact_uri
from stemma.protocols.mlflow.artifacts import find_file
from stemma.protocols.mlflow.routes import MlflowRequest, MlflowRoute, Needs
from stemma.protocols.mlflow.sending import send_file
from stemma.protocols.mlflow.wire import ExperimentNumber, Integer
from stemma.tracking import traces
from stemma.tracking.search.records import search_traces
from stemma.tracking.search.values import Search

SPANS_FILE: Final = "traces.json"

_V2: Final = "/api/2.0/mlflow/traces"
_V3: Final = "/api/3.0/mlflow/traces"
_IDS_LIMIT: Final = 1_000
_DURATION: Final = re.compile(r"(\d{1,12})(?:\.(\d{1,9}))?s", re.ASCII)
# Protobuf's JSON lets clients send the number of a word, too.
_STATES: Final = {
    **{state.value: state for state in TraceState},
    **{str(number): state for number, state in enumerate(TraceState)},
}
Moment: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)]


class ExperimentPlace(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment, as the place of a trace."""

    experiment_id: ExperimentNumber = 0


class PlaceMessage(msgspec.Struct, frozen=True, kw_only=True):
    """Where a trace is."""

    mlflow_experiment: ExperimentPlace | None = None


class InfoMessage(msgspec.Struct, frozen=True, kw_only=True):
    """What a client tells of a trace."""

    trace_id: str
    trace_location: PlaceMessage = PlaceMessage()
    request_time: Moment
    execution_duration: str = ""
    state: str | int = "STATE_UNSPECIFIED"
    client_request_id: str = ""
    request_preview: str = ""
    response_preview: str = ""
    trace_metadata: dict[str, str] = {}
    tags: dict[str, str] = {}
    assessments: list[object] = []


class TraceMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A trace."""

    trace_info: InfoMessage


class StartTrace(msgspec.Struct, frozen=True, kw_only=True):
    """A trace to be kept."""

    trace: TraceMessage


class SearchMessage(msgspec.Struct, frozen=True, kw_only=True):
    """Which traces are looked for."""

    locations: list[PlaceMessage] = []
    filter: str = ""
    max_results: Integer = 100
    order_by: list[str] = []
    page_token: str = ""


class TraceIds(msgspec.Struct, frozen=True, kw_only=True):
    """Which traces are asked for."""

    trace_ids: list[str] = []
    experiment_ids: list[ExperimentNumber] | None = None


class TraceTag(msgspec.Struct, frozen=True, kw_only=True):
    """A tag of a trace."""

    key: str
    value: str = ""


class DeleteTraces(msgspec.Struct, frozen=True, kw_only=True):
    """Which traces go."""

    experiment_id: ExperimentNumber
    max_timestamp_millis: Integer | None = None
    max_traces: Integer | None = None
    request_ids: list[str] = []


class LinkTraces(msgspec.Struct, frozen=True, kw_only=True):
    """Which traces belong to a run."""

    trace_ids: list[str] = []
    run_id: str


class AskedSpans(msgspec.Struct, frozen=True, kw_only=True):
    """Whose spans are asked for."""

    request_id: str = ""
    path: str = SPANS_FILE


async def start(request: MlflowRequest) -> object:
    """Keep what a client tells of a trace."""
    trace = _trace((await request.body(StartTrace)).trace.trace_info)
    verb = partial(traces.put, trace=trace, now=request.services.clock())
    return _answer(await request.services.write(verb))


async def get(request: MlflowRequest) -> object:
    """Return what is known of a trace."""
    return _answer(await request.services.read(partial(traces.get, identity=_of(request))))


async def get_many(request: MlflowRequest) -> object:
    """Return what is known of several traces; those not there are left out."""
    asked = await request.body(TraceIds)
    ids = _checked_ids(asked.trace_ids)
    found = await request.services.read(partial(traces.get_many, identities=ids))
    wanted = asked.experiment_ids
    kept = [trace for trace in found if wanted is None or trace.experiment in wanted]
    return {"trace_infos": [info_message(trace) for trace in kept]}


async def search(request: MlflowRequest) -> object:
    """Return a page of traces."""
    asked = await request.body(SearchMessage)
    places = [_experiment_of(place) for place in asked.locations]
    what = Search(
        filter=asked.filter,
        order=tuple(asked.order_by),
        page_size=asked.max_results,
        token=asked.page_token,
    )

    def verb(connection: Connection) -> tuple[list[Trace], str]:
        page = search_traces(connection, places, what)
        return traces.get_many(connection, page.items), page.next_token

    found, token = await request.services.read(verb)
    answer: dict[str, object] = {"traces": [info_message(trace) for trace in found]}
    if token:
        answer["next_page_token"] = token
    return answer


async def set_tag(request: MlflowRequest) -> object:
    """Write a tag."""
    asked = await request.body(TraceTag)
    verb = partial(traces.set_tag, identity=_of(request), key=asked.key, value=asked.value)
    await request.services.write(verb)
    return {}


async def delete_tag(request: MlflowRequest) -> object:
    """Remove a tag."""
    asked = await request.body(TraceTag)
    await request.services.write(partial(traces.delete_tag, identity=_of(request), key=asked.key))
    return {}


async def delete(request: MlflowRequest) -> object:
    """Delete traces, by their ids or the oldest up to a moment."""
    asked = await request.body(DeleteTraces)
    is_by_moment = asked.max_timestamp_millis is not None
    is_limited = asked.max_traces is not None
    if is_by_moment == bool(asked.request_ids) or (is_limited and not is_by_moment):
        raise InvalidInputError(
            "name either traces, or a moment up to which they go and how many at most",
            code="bad-deletion",
        )
    if asked.max_traces is not None and asked.max_traces < 1:
        raise InvalidInputError(f"{asked.max_traces} traces to be deleted", code="bad-deletion")
    if asked.max_timestamp_millis is None:
        ids = _checked_ids(asked.request_ids)
        verb = partial(traces.delete, experiment=asked.experiment_id, identities=ids)
    else:
        # Moments are kept by the microsecond; clients see whole milliseconds.
        last = to_moment(asked.max_timestamp_millis * 1000 + 999)
        verb = partial(
            traces.delete_before,
            experiment=asked.experiment_id,
            moment=last,
            limit=asked.max_traces,
        )
    return {"traces_deleted": await request.services.write(verb)}


async def link(request: MlflowRequest) -> object:
    """Say which run traces belong to."""
    asked = await request.body(LinkTraces)
    ids, run = _checked_ids(asked.trace_ids), parse_run_id(asked.run_id)
    await request.services.write(partial(traces.link, identities=ids, run=run))
    return {}


async def spans(request: MlflowRequest) -> object:
    """Send the file with a trace's spans, as MLflow's pages ask for it."""
    asked = await request.body(AskedSpans)
    identity = parse_trace_id(asked.request_id)
    return await send_file(request, partial(find_file, request.services, identity, asked.path))


def info_message(trace: Trace) -> dict[str, object]:
    """Return a trace as clients read it."""
    place = {"experiment_id": str(trace.experiment)}
    info: dict[str, object] = {
        "trace_id": trace.id,
        "trace_location": {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": place},
        "request_time": timestamp(trace.requested_at),
        "state": trace.state.value,
        "trace_metadata": dict(trace.metadata),
        "tags": {
            **trace.tags,
            "mlflow.artifactLocation": artifact_uri(trace.experiment, trace.id),
        },
    }
    if trace.duration_ms is not None:
        seconds, milliseconds = divmod(trace.duration_ms, 1000)
        info["execution_duration"] = f"{seconds}.{milliseconds:03}s"
    said = {
        "client_request_id": trace.client_request,
        "request_preview": trace.request_preview,
        "response_preview": trace.response_preview,
    }
    return info | {name: text for name, text in said.items() if text}


def _trace(info: InfoMessage) -> Trace:
    if info.assessments:
        raise InvalidInputError(
            "this server keeps no assessments of traces", code="assessments-not-kept"
        )
    state = _STATES.get(str(info.state))
    if state is None:
        raise InvalidInputError(
            f"no state of a trace: {str(info.state)[:80]!r}; there are"
            f" {', '.join(known.value for known in TraceState)}",
            code="bad-status",
        )
    run = info.trace_metadata.get(SOURCE_RUN, "")
    return Trace(
        id=parse_trace_id(info.trace_id),
        experiment=_experiment_of(info.trace_location),
        run=parse_run_id(run) if run else "",
        name=info.tags.get(NAME_TAG, ""),
        state=state,
        requested_at=to_moment(to_microseconds(info.request_time)).astimezone(UTC),
        duration_ms=_milliseconds(info.execution_duration),
        client_request=info.client_request_id,
        request_preview=info.request_preview,
        response_preview=info.response_preview,
        metadata=info.trace_metadata,
        tags=info.tags,
    )


def _experiment_of(place: PlaceMessage) -> int:
    if place.mlflow_experiment is None:
        raise InvalidInputError("a trace is kept in an experiment only", code="bad-trace-location")
    return place.mlflow_experiment.experiment_id


def _milliseconds(text: str) -> int | None:
    """Return a duration as protobuf's JSON writes it, ``1.5s``."""
    if not text:
        return None
    match = _DURATION.fullmatch(text)
    if match is None:
        raise InvalidInputError(f"not a duration: {text[:80]!r}", code="bad-duration")
    return int(match[1]) * 1000 + int((match[2] or "0").ljust(9, "0")) // 1_000_000


def _checked_ids(identities: list[str]) -> list[str]:
    if len(identities) > _IDS_LIMIT:
        raise InvalidInputError(
            f"{len(identities)} traces; at most {_IDS_LIMIT} are taken at once",
            code="batch-too-large",
        )
    return [parse_trace_id(identity) for identity in dict.fromkeys(identities)]


def _of(request: MlflowRequest) -> str:
    return parse_trace_id(request.path.get("trace_id") or request.path["request_id"])


def _answer(trace: Trace) -> dict[str, object]:
    return {"trace": {"trace_info": info_message(trace)}}


ROUTES: Final = (
    MlflowRoute(
        method="POST",
        path=_V3,
        handler=start,
        needs=Needs.WRITE,
        is_whole=False,
        remark="without assessments",
    ),
    MlflowRoute(
        method="GET",
        path=f"{_V3}/{{trace_id}}",
        handler=get,
        needs=Needs.READ,
        is_whole=False,
        remark="without assessments",
    ),
    MlflowRoute(method="POST", path=f"{_V3}/batchGetInfos", handler=get_many, needs=Needs.READ),
    MlflowRoute(
        method="POST",
        path=f"{_V3}/search",
        handler=search,
        needs=Needs.READ,
        is_whole=False,
        remark="attributes, tags and metadata; not spans, texts or assessments",
    ),
    *(
        MlflowRoute(method=method, path=path, handler=handler, needs=Needs.WRITE)
        for path in (f"{_V2}/{{request_id}}/tags", f"{_V3}/{{trace_id}}/tags")
        for method, handler in (("PATCH", set_tag), ("DELETE", delete_tag))
    ),
    *(
        MlflowRoute(method="POST", path=f"{root}/delete-traces", handler=delete, needs=Needs.WRITE)
        for root in (_V2, _V3)
    ),
    MlflowRoute(
        method="POST",
        path=f"{_V2}/link-to-run",
        handler=link,
        needs=Needs.WRITE,
        is_whole=False,
        remark="a trace belongs to one run: the last counts",
    ),
    *(
        MlflowRoute(
            method="GET",
            path=f"/ajax-api/{version}/mlflow/get-trace-artifact",
            handler=spans,
            needs=Needs.READ,
        )
        for version in ("2.0", "3.0")
    ),
)
