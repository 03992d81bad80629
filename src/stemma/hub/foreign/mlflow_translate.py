"""What a tracking server answers as records of this project, and the other way round.

Invariants:
    * A run's id is ``r-`` and theirs; where theirs stands as a parent, ours does here.
    * Moments are milliseconds there and aware datetimes here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from stemma.domain.errors import InvalidInputError
from stemma.domain.logged_model import (
    LoggedModel,
    LoggedModelState,
    ModelMetric,
    parse_logged_model_id,
)
from stemma.domain.registry import (
    LoggedModelFolder,
    NewVersion,
    RegisteredModel,
    RunFolder,
    parse_stage,
)
from stemma.domain.run import RunRecord, RunStart, RunState
from stemma.domain.tracking import (
    KEY_LENGTH_LIMIT,
    USER_TAG,
    Point,
    RunData,
    RunInput,
    RunOutput,
    parse_run_id,
    storable_value,
    to_moment,
)
from stemma.hub.foreign import mlflow_wire as wire
from stemma.store.hashing import hash_bytes
from stemma.tracking.imports import SOURCE_TAG, ImportedVersion

PARENT_TAG: Final = "mlflow.parentRunId"

MODEL_TAG: Final = "stemma.model"
VERSION_TAG: Final = "stemma.version"
DIGEST_TAG: Final = "stemma.digest"
"""What an exported release is known by: the sha256 of its manifest."""

_STATES: Final = {
    "RUNNING": RunState.RUNNING,
    "SCHEDULED": RunState.SCHEDULED,
    "FINISHED": RunState.FINISHED,
    "FAILED": RunState.FAILED,
    "KILLED": RunState.INTERRUPTED,
}
_FORBIDDEN: Final = re.compile(r"[^/\w.\- :]")
_OPEN: Final = frozenset({RunState.RUNNING, RunState.SCHEDULED})
_MODEL_STATE: Final = "LOGGED_MODEL_"
_MICROSECONDS: Final = 1000
_STATE_DIGITS: Final = 32
_MODEL_SOURCE: Final = re.compile(r"models:/(m-[0-9a-f]{1,64})|.*/models/(m-[0-9a-f]{1,64})/.*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where something stands, there and here.

    Attributes:
        server: Address of the server.
        experiment: Number of the experiment here.
    """

    server: str
    experiment: int = 0


def state_of(value: msgspec.Struct) -> str:
    """Return what tells this state of something there from others."""
    return hash_bytes(msgspec.json.encode(value)).hex[:_STATE_DIGITS]


def moment(milliseconds: int) -> datetime:
    """Return the moment of milliseconds since 1970.

    Raises:
        InvalidInputError: If it is out of range.
    """
    return to_moment(milliseconds * _MICROSECONDS)


def fit_key(name: str) -> str:
    """Return a name that MLflow takes; ``recall[class=0]`` of ours is ``recall/class:0`` there."""
    plain = name.replace("[", "/").replace("=", ":").replace("]", "")
    return _FORBIDDEN.sub("_", plain)[:KEY_LENGTH_LIMIT]


def run_data(found: wire.ForeignRun, origin: Origin) -> RunData:
    """Return a run, without its metrics.

    Raises:
        InvalidInputError: If it is none that can be kept.
    """
    info = found.info
    tags = wire.labels(found.data.tags)
    if tags.get(PARENT_TAG):
        tags[PARENT_TAG] = str(parse_run_id(tags[PARENT_TAG]))
    state = _STATES.get(info.status)
    if state is None:
        raise InvalidInputError(f"no status of a run: {info.status[:80]!r}", code="bad-run")
    has_ended = state not in _OPEN
    record = RunRecord(
        id=parse_run_id(info.run_id),
        start=RunStart(
            model="",
            created_by=info.user_id or tags.get(USER_TAG, ""),
            experiment=origin.experiment,
            name=info.run_name,
        ),
        state=state,
        started_at=moment(info.start_time),
        ended_at=moment(info.end_time or info.start_time) if has_ended else None,
    )
    return RunData(
        record=record,
        params=wire.labels(found.data.params),
        tags={**tags, SOURCE_TAG: origin.server},
        inputs=tuple(_run_input(item) for item in found.inputs.dataset_inputs),
        model_inputs=tuple(
            parse_logged_model_id(item.model_id) for item in found.inputs.model_inputs
        ),
        outputs=tuple(
            RunOutput(logged_model=parse_logged_model_id(item.model_id), step=item.step)
            for item in found.outputs.model_outputs
        ),
    )


def is_open(found: wire.ForeignRun) -> bool:
    """Return whether a run may go on logging."""
    return _STATES.get(found.info.status, RunState.RUNNING) in _OPEN


def points(history: Iterable[wire.ForeignPoint], name: str) -> list[Point]:
    """Return the points of a metric."""
    return [
        Point(fit_key(name), storable_value(it.value), it.step, it.timestamp * _MICROSECONDS)
        for it in history
    ]


def logged_model(found: wire.ForeignModel, origin: Origin) -> LoggedModel:
    """Return a logged model.

    Raises:
        InvalidInputError: If it is none that can be kept.
    """
    info = found.info
    word = info.status.removeprefix(_MODEL_STATE).removeprefix("STATUS_").removeprefix("UPLOAD_")
    if word not in LoggedModelState.__members__:
        raise InvalidInputError(
            f"no status of a logged model: {info.status[:80]!r}", code="bad-logged-model"
        )
    return LoggedModel(
        id=parse_logged_model_id(info.model_id),
        experiment=origin.experiment,
        run=str(parse_run_id(info.source_run_id)) if info.source_run_id else "",
        name=info.name,
        type=info.model_type,
        state=LoggedModelState[word],
        state_message=info.status_message,
        created_at=moment(info.creation_timestamp_ms),
        updated_at=moment(info.last_updated_timestamp_ms),
        params=wire.labels(found.data.params),
        tags={**wire.labels(info.tags), SOURCE_TAG: origin.server},
        metrics=tuple(_model_metric(item) for item in found.data.metrics),
    )


def registered_model(found: wire.ForeignRegistered, server: str) -> RegisteredModel:
    """Return a registered model; which one of the catalog it is, is decided later."""
    return RegisteredModel(
        name=found.name,
        model="",
        description=found.description,
        created_at=moment(found.creation_timestamp),
        updated_at=moment(found.last_updated_timestamp),
        tags={**wire.labels(found.tags), SOURCE_TAG: server},
    )


def version(found: wire.ForeignVersion, server: str) -> ImportedVersion:
    """Return a version of a registered model.

    Raises:
        InvalidInputError: If its files are no artifacts of a run or a logged model.
    """
    run, logged_model, source = _source(found)
    new = NewVersion(
        name=found.name,
        source=source,
        run=run,
        logged_model=logged_model,
        description=found.description,
        tags={**wire.labels(found.tags), SOURCE_TAG: server},
        created_by=found.user_id,
    )
    return ImportedVersion(
        new=new,
        number=found.version,
        stage=parse_stage(found.current_stage or "None"),
        created_at=moment(found.creation_timestamp),
        updated_at=moment(found.last_updated_timestamp),
    )


def logged_model_of(found: wire.ForeignVersion) -> str:
    """Return the logged model that a version is; empty for files of a run."""
    if found.model_id:
        return parse_logged_model_id(found.model_id)
    matched = _MODEL_SOURCE.fullmatch(found.source)
    return (matched.group(1) or matched.group(2)) if matched else ""


def _source(found: wire.ForeignVersion) -> tuple[str, str, str]:
    """Return run, logged model and source as this project writes them."""
    identity = logged_model_of(found)
    if identity:
        # Whose run it is, the logged model itself says.
        return "", identity, f"models:/{LoggedModelFolder(identity).logged_model}"
    run = str(parse_run_id(found.run_id)) if found.run_id else ""
    _, is_there, path = found.source.partition(f"/{found.run_id}/artifacts/")
    if not is_there:
        _, is_there, path = found.source.partition(f"runs:/{found.run_id}/")
    if not run or not is_there:
        raise InvalidInputError(
            f"its files lie at {found.source[:200]!r}, which is no run's", code="source-elsewhere"
        )
    return run, "", str(RunFolder("0", parse_run_id(run), path.strip("/")))


def _run_input(item: wire.DatasetInput) -> RunInput:
    found = item.dataset
    return RunInput(
        name=found.name,
        digest=found.digest,
        source_type=found.source_type,
        source=found.source,
        schema=found.schema,
        profile=found.profile,
        tags=wire.labels(item.tags),
    )


def _model_metric(item: wire.ForeignPoint) -> ModelMetric:
    return ModelMetric(
        name=item.key,
        value=storable_value(item.value),
        step=item.step,
        logged_at_us=item.timestamp * _MICROSECONDS,
        run=str(parse_run_id(item.run_id)) if item.run_id else "",
        dataset_name=item.dataset_name,
        dataset_digest=item.dataset_digest,
    )
