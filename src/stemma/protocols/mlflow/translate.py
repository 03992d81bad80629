"""Our records as MLflow's messages, and its words as ours.

Invariants:
    * Moments are milliseconds, a number that is none is the text ``NaN``, ids of experiments are
      text.
    * The address of artifacts is always ours.

Example:
    >>> number_message(math.nan)
    'NaN'
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

import msgspec

from stemma.domain.errors import InvalidInputError, NotFoundError
from stemma.domain.run import RunId, RunRecord, RunState
from stemma.domain.tracking import (
    Experiment,
    HistoryMark,
    Point,
    RunData,
    RunInput,
    parse_run_id,
    to_microseconds,
)
from stemma.protocols.mlflow.artifact_paths import SCHEME, artifact_uri
from stemma.protocols.mlflow.wire import Label, RunMessage
from stemma.tracking.search.values import View

_STATUS: Final = {
    RunState.RUNNING: "RUNNING",
    RunState.SCHEDULED: "SCHEDULED",
    RunState.FINISHED: "FINISHED",
    RunState.FAILED: "FAILED",
    RunState.INTERRUPTED: "KILLED",
}
# Protobuf's JSON lets clients send the number of a word, too.
_STATES: Final = {
    **{text: state for state, text in _STATUS.items()},
    **{str(number): state for number, state in enumerate(_STATUS, start=1)},
}
_VIEWS: Final = {
    "ACTIVE_ONLY": View.ACTIVE_ONLY,
    "1": View.ACTIVE_ONLY,
    "DELETED_ONLY": View.DELETED_ONLY,
    "2": View.DELETED_ONLY,
    "ALL": View.ALL,
    "3": View.ALL,
}
_LIKE_A_RUN: Final = re.compile(r"[a-zA-Z0-9][\w\-]{0,255}", re.ASCII)
_SHOWN: Final = 80


def experiment_message(experiment: Experiment) -> dict[str, object]:
    """Return an experiment as clients read it."""
    return {
        "experiment_id": str(experiment.id),
        "name": experiment.name,
        "artifact_location": f"{SCHEME}{experiment.id}",
        "lifecycle_stage": _stage(experiment.deleted_at),
        "last_update_time": milliseconds(experiment.updated_at),
        "creation_time": milliseconds(experiment.created_at),
        "tags": label_messages(experiment.tags),
    }


def run_message(run: RunData) -> dict[str, object]:
    """Return a run with all it logged as clients read it."""
    return {
        "info": run_info_message(run.record),
        "data": {
            "metrics": [point_message(point) for point in run.metrics],
            "params": label_messages(run.params),
            "tags": label_messages(run.tags),
        },
        "inputs": {
            "dataset_inputs": [_input_message(item) for item in run.inputs],
            "model_inputs": [{"model_id": model} for model in run.model_inputs],
        },
        "outputs": {
            "model_outputs": [
                {"model_id": item.logged_model, "step": item.step} for item in run.outputs
            ]
        },
    }


def run_info_message(run: RunRecord) -> dict[str, object]:
    """Return what is known of a run beside what it logged."""
    info: dict[str, object] = {
        "run_id": run.id,
        "run_uuid": run.id,
        "run_name": run.start.name,
        "experiment_id": str(run.start.experiment),
        "user_id": run.start.created_by,
        "status": _STATUS[run.state],
        "start_time": milliseconds(run.started_at),
        "artifact_uri": artifact_uri(run.start.experiment, run.id),
        "lifecycle_stage": _stage(run.deleted_at),
    }
    if run.ended_at is not None:
        info["end_time"] = milliseconds(run.ended_at)
    return info


def point_message(point: Point) -> dict[str, object]:
    """Return a point of a metric as clients read it."""
    return {
        "key": point.name,
        "value": number_message(point.value),
        "timestamp": point.logged_at_us // 1000,
        "step": point.step,
    }


def label_messages(labels: Mapping[str, str]) -> list[dict[str, str]]:
    """Return params or tags as clients read them, by name."""
    return [{"key": key, "value": value} for key, value in sorted(labels.items())]


def number_message(value: float) -> float | str:
    """Return a number as JSON can hold it."""
    return "NaN" if math.isnan(value) else value


def milliseconds(moment: datetime) -> int:
    """Return the milliseconds since 1970."""
    return to_microseconds(moment) // 1000


def labels_of(labels: Iterable[Label]) -> dict[str, str]:
    """Return params or tags by key; of several with one key the last."""
    return {label.key: label.value for label in labels}


def run_of(message: RunMessage) -> RunId:
    """Return the run that a message names.

    Raises:
        InvalidInputError: If it names none, or nothing a run may be called.
        NotFoundError: If runs of other servers are called so, but none of ours.
    """
    return run_named(message.run_id or message.run_uuid)


def run_named(text: str) -> RunId:
    """Return the run of that name; as ``run_of``."""
    if not text:
        raise InvalidInputError("the field run_id is missing", code="bad-run")
    try:
        return parse_run_id(text)
    except InvalidInputError as error:
        if _LIKE_A_RUN.fullmatch(text):
            raise NotFoundError(f"no run {text[:_SHOWN]!r}", code="run-not-found") from error
        raise


def state_of(status: str | int) -> RunState | None:
    """Return the state that a status means; ``None`` when none was sent.

    Raises:
        InvalidInputError: If there is no such status.
    """
    if status in {"", 0}:
        return None
    found = _STATES.get(str(status))
    if found is None:
        known = ", ".join(_STATUS.values())
        raise InvalidInputError(
            f"no status of a run: {str(status)[:_SHOWN]!r}; there are {known}", code="bad-status"
        )
    return found


def view_of(view: str | int) -> View:
    """Return which of the deleted and the others are meant.

    Raises:
        InvalidInputError: If it is no such word.
    """
    found = _VIEWS.get(str(view))
    if found is None:
        raise InvalidInputError(
            f"no view: {str(view)[:_SHOWN]!r}; there are ACTIVE_ONLY, DELETED_ONLY and ALL",
            code="bad-view",
        )
    return found


def write_mark(mark: HistoryMark | None) -> str:
    """Return the token of the page that begins after a mark; empty for none."""
    if mark is None:
        return ""
    return base64.urlsafe_b64encode(msgspec.json.encode(tuple(mark))).decode("ascii")


def read_mark(token: str) -> HistoryMark | None:
    """Return where a page begins; ``None`` for the first one.

    Raises:
        InvalidInputError: If no page has that token.
    """
    if not token:
        return None
    try:
        text = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
        return HistoryMark(*_MARK.decode(text))
    except (binascii.Error, msgspec.DecodeError, UnicodeError) as error:
        raise InvalidInputError(
            f"no page has the token {token[:_SHOWN]!r}", code="bad-page-token"
        ) from error


def _input_message(item: RunInput) -> dict[str, object]:
    dataset = {
        "name": item.name,
        "digest": item.digest,
        "source_type": item.source_type,
        "source": item.source,
    }
    if item.schema:
        dataset["schema"] = item.schema
    if item.profile:
        dataset["profile"] = item.profile
    return {"tags": label_messages(item.tags), "dataset": dataset}


def _stage(deleted_at: datetime | None) -> str:
    return "active" if deleted_at is None else "deleted"


_MARK: Final = msgspec.json.Decoder(tuple[int, int, int])
