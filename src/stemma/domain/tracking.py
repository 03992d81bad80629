"""Experiments, and what a run logs: points of metrics, params, tags, inputs and outputs.

Invariants:
    * A param is written once; a tag may be written again; equal points are one point.
    * The latest point of a metric is the greatest by (step, moment, value), where NaN counts
      as less than every number.
    * Points are tuples with integer microseconds, since a batch holds a thousand of them; all
      other moments are aware datetimes.
    * An infinity is kept as the largest finite number of its sign, as other trackers do.

Names follow MLflow, whose clients read and write these records.

Example:
    >>> latest([Point("loss", 0.5, 1, 10), Point("loss", 0.25, 2, 5)]).value
    0.25
"""

from __future__ import annotations

import math
import posixpath
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple

from stemma.domain.errors import InvalidInputError
from stemma.domain.run import RunId, RunRecord

DEFAULT_EXPERIMENT: Final = 0
"""The experiment of runs that name none and are of no model."""

DEFAULT_EXPERIMENT_NAME: Final = "Default"

METRICS_LIMIT: Final = 1_000
PARAMS_LIMIT: Final = 100
TAGS_LIMIT: Final = 100
BATCH_LIMIT: Final = 1_000
"""Most of each kind, and of all together, in one batch."""

KEY_LENGTH_LIMIT: Final = 250
PARAM_LENGTH_LIMIT: Final = 6_000
TAG_LENGTH_LIMIT: Final = 8_000
EXPERIMENT_NAME_LENGTH_LIMIT: Final = 500
EXPERIMENT_TAG_LENGTH_LIMIT: Final = 20_000
DATASET_NAME_LENGTH_LIMIT: Final = 500
DATASET_DIGEST_LENGTH_LIMIT: Final = 80
DATASET_SOURCE_LENGTH_LIMIT: Final = 65_535
DATASET_SCHEMA_LENGTH_LIMIT: Final = 1_048_575
DATASET_PROFILE_LENGTH_LIMIT: Final = 16_777_215
HISTORY_PAGE_LIMIT: Final = 25_000
"""Most points of one metric in one page."""

RUN_NAME_TAG: Final = "mlflow.runName"
"""The tag that is the run's name under another name: whoever writes one writes both."""

USER_TAG: Final = "mlflow.user"
SOURCE_NAME_TAG: Final = "mlflow.source.name"
SOURCE_TYPE_TAG: Final = "mlflow.source.type"
SOURCE_COMMIT_TAG: Final = "mlflow.source.git.commit"
NOTE_TAG: Final = "mlflow.note.content"
DATA_CONTEXT_TAG: Final = "mlflow.data.context"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_LAST_MICROSECOND: Final = (datetime(9999, 12, 31, tzinfo=UTC) - _EPOCH) // _MICROSECOND
_INTEGER_LIMIT: Final = 2**63
_KEY: Final = re.compile(r"[/\w.\- :]+")
_RUN: Final = re.compile(r"r-[0-9a-f]{1,64}")
_FOREIGN_RUN: Final = re.compile(r"[0-9a-f]{32}")
_LARGEST: Final = sys.float_info.max
_NAMED_LENGTH: Final = 80


class Point(NamedTuple):
    """One logged value of a metric."""

    name: str
    value: float
    step: int
    logged_at_us: int


class HistoryMark(NamedTuple):
    """Where a page of a metric's history ended."""

    step: int
    logged_at_us: int
    value_bits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """A named set of runs.

    Attributes:
        id: Its number; 0 is the default one.
        name: Its name; no two have the same, deleted ones included.
        created_at: When it was made.
        updated_at: When it was last renamed, deleted or restored.
        deleted_at: When it was deleted; ``None`` while it is not.
        tags: Its tags.
    """

    id: int
    name: str
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInput:
    """A dataset that a run read.

    Attributes:
        name: The dataset's name.
        digest: What tells this state of it from others.
        source_type: What kind of place it came from.
        source: The place, as the client describes it; never opened.
        schema: Its columns, as JSON of the client.
        profile: Its size and statistics, as JSON of the client.
        tags: What is said of it in this run.
    """

    name: str
    digest: str
    source_type: str = ""
    source: str = ""
    schema: str = ""
    profile: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def context(self) -> str:
        """What it was read for, such as ``training``; empty when it was not said."""
        return self.tags.get(DATA_CONTEXT_TAG, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutput:
    """A logged model that a run made.

    Attributes:
        logged_model: Its id.
        step: The training step it stands for.
    """

    logged_model: str
    step: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunData:
    """A run with everything it logged, of metrics the latest points.

    Attributes:
        record: The run.
        metrics: Latest point of each metric, by name.
        params: Its params.
        tags: Its tags.
        inputs: Datasets it read, by name and digest.
        model_inputs: Ids of logged models it read.
        outputs: Logged models it made.
    """

    record: RunRecord
    metrics: tuple[Point, ...] = ()
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[RunInput, ...] = ()
    model_inputs: tuple[str, ...] = ()
    outputs: tuple[RunOutput, ...] = ()


def latest(points: Iterable[Point]) -> Point:
    """Return the greatest point by (step, moment, value).

    Raises:
        ValueError: If there is none.
    """
    return max(points, key=rank)


def rank(point: Point) -> tuple[int, int, float]:
    """Return what points of one metric are ordered by."""
    value = point.value
    return point.step, point.logged_at_us, -math.inf if math.isnan(value) else value


def storable_value(value: float) -> float:
    """Return the value as it is kept: infinities become the largest finite number."""
    if math.isnan(value):
        return math.nan  # which has many bit patterns
    return value if math.isfinite(value) else math.copysign(_LARGEST, value)


def storable(text: str) -> str:
    """Return text that both engines can hold: no NUL, no half characters."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode("utf-8")


def to_microseconds(moment: datetime) -> int:
    """Return the microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


def to_moment(microseconds: int) -> datetime:
    """Return the moment of microseconds since 1970.

    Raises:
        InvalidInputError: If it is not from 1970 to 9999.
    """
    if not 0 <= microseconds < _LAST_MICROSECOND:
        raise InvalidInputError(
            f"a moment out of range: {microseconds} microseconds since 1970", code="bad-moment"
        )
    return _EPOCH + timedelta(microseconds=microseconds)


def parse_run_id(text: str) -> RunId:
    """Return the run that a client means; 32 hexadecimal digits are an imported run's.

    Raises:
        InvalidInputError: If no run has such an id.
    """
    if _RUN.fullmatch(text):
        return RunId(text)
    if _FOREIGN_RUN.fullmatch(text):
        return RunId(f"r-{text}")
    raise InvalidInputError(
        f"not a run: {text[:_NAMED_LENGTH]!r}", code="bad-run", hint="a run reads like r-7f3c2a90"
    )


@lru_cache(maxsize=4096)
def check_key(key: str, kind: str = "metric") -> None:
    """Check that a metric, a param or a tag may be named so.

    A name is a relative path in its plainest form: clients keep metrics as files.

    Raises:
        InvalidInputError: If it may not.
    """
    if not key:
        raise InvalidInputError(f"a {kind} without a name", code="bad-key")
    if len(key) > KEY_LENGTH_LIMIT:
        raise too_long(f"{kind} name", key, KEY_LENGTH_LIMIT)
    normal = posixpath.normpath(key)
    is_plain = normal == key and key != "." and not key.startswith(("..", "/"))
    if not is_plain or not _KEY.fullmatch(key):
        raise InvalidInputError(
            f"{kind} name {key[:_NAMED_LENGTH]!r}: use letters, digits, '_', '-', '.', ' ', ':' "
            "and '/', as in a relative path",
            code="bad-key",
        )


def check_params(params: Mapping[str, str]) -> None:
    """Check names and lengths of params.

    Raises:
        InvalidInputError: If one may not be.
    """
    _check_labels("param", params, PARAM_LENGTH_LIMIT)


def check_tags(tags: Mapping[str, str], *, length_limit: int = TAG_LENGTH_LIMIT) -> None:
    """Check names and lengths of tags.

    Raises:
        InvalidInputError: If one may not be.
    """
    _check_labels("tag", tags, length_limit)


def check_batch(*, metrics: int = 0, params: int = 0, tags: int = 0) -> None:
    """Check how many of each kind come in one batch.

    Raises:
        InvalidInputError: If there are too many.
    """
    for kind, count, limit in (
        ("metrics", metrics, METRICS_LIMIT),
        ("params", params, PARAMS_LIMIT),
        ("tags", tags, TAGS_LIMIT),
        ("metrics, params and tags", metrics + params + tags, BATCH_LIMIT),
    ):
        if count > limit:
            raise InvalidInputError(
                f"a batch of {count} {kind}; at most {limit} are taken at once",
                code="batch-too-large",
                hint="send them in several batches",
            )


def check_inputs(inputs: Iterable[RunInput]) -> None:
    """Check names and lengths of datasets.

    Raises:
        InvalidInputError: If one may not be.
    """
    for item in inputs:
        if not item.name or not item.digest or "\0" in item.name + item.digest:
            raise InvalidInputError("a dataset without a name or digest", code="bad-dataset")
        for what, text, limit in (
            ("dataset name", item.name, DATASET_NAME_LENGTH_LIMIT),
            ("dataset digest", item.digest, DATASET_DIGEST_LENGTH_LIMIT),
            ("dataset source", item.source, DATASET_SOURCE_LENGTH_LIMIT),
            ("dataset schema", item.schema, DATASET_SCHEMA_LENGTH_LIMIT),
            ("dataset profile", item.profile, DATASET_PROFILE_LENGTH_LIMIT),
        ):
            if len(text) > limit:
                raise too_long(what, text, limit)


def check_points(points: Iterable[Point]) -> None:
    """Check names and integers of points.

    Raises:
        InvalidInputError: If one may not be.
    """
    for name, _, step, moment in points:
        check_key(name)
        if not -_INTEGER_LIMIT <= step < _INTEGER_LIMIT:
            raise InvalidInputError(f"metric {name}: step {step} out of range", code="bad-step")
        if not -_INTEGER_LIMIT <= moment < _INTEGER_LIMIT:
            raise InvalidInputError(
                f"metric {name}: a moment out of range: {moment} microseconds since 1970",
                code="bad-moment",
            )


def check_experiment_name(name: str) -> None:
    """Check that an experiment may be named so.

    Raises:
        InvalidInputError: If it may not.
    """
    if not name.strip() or "\0" in name:
        raise InvalidInputError(f"not a name of an experiment: {name[:80]!r}", code="bad-name")
    if len(name) > EXPERIMENT_NAME_LENGTH_LIMIT:
        raise too_long("experiment name", name, EXPERIMENT_NAME_LENGTH_LIMIT)


def too_long(what: str, text: str, limit: int) -> InvalidInputError:
    """Return the error for a text over its limit."""
    return InvalidInputError(
        f"{what} {text[:_NAMED_LENGTH]!r}… has {len(text)} characters; at most {limit} are kept",
        code="too-long",
    )


def _check_labels(kind: str, labels: Mapping[str, str], length_limit: int) -> None:
    for key, value in labels.items():
        check_key(key, kind)
        if len(value) > length_limit:
            raise too_long(f"{kind} {key}: value", value, length_limit)
