"""A trace: what one call of an application did, told by its client once it is over.

Invariants:
    * A trace belongs to one experiment for good; what it did is a file of the client's beside
      it, which nobody here reads.
    * What is told of the call stays, tags may be written again.

Names follow MLflow, whose clients read and write these records.

Example:
    >>> parse_trace_id("tr-0123456789abcdef0123456789abcdef")
    'tr-0123456789abcdef0123456789abcdef'
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Final

from stemma.domain.errors import InvalidInputError
from stemma.domain.tracking import check_tags, too_long

TRACE_PREFIX: Final = "tr-"
PREVIEW_LENGTH_LIMIT: Final = 10_000
REQUEST_LENGTH_LIMIT: Final = 500
LABELS_LIMIT: Final = 1_000
"""Most tags, and most metadata, of one trace in one message."""

NAME_TAG: Final = "mlflow.traceName"
"""The tag that is the trace's name under another name."""

SOURCE_RUN: Final = "mlflow.sourceRun"
"""The metadata that says which run a call belongs to."""

PLACE_TAGS: Final = frozenset({"mlflow.artifactLocation", "mlflow.trace.spansLocation"})
"""Tags that say where the spans are; the server alone knows, so none is taken from clients."""

_ID: Final = re.compile(r"tr-[0-9a-f]{1,64}")
_NAMED_LENGTH: Final = 80
_DURATION_LIMIT_MS: Final = 2**53


class TraceState(Enum):
    """How a call ended, if it has."""

    UNSPECIFIED = "STATE_UNSPECIFIED"
    OK = "OK"
    ERROR = "ERROR"
    IN_PROGRESS = "IN_PROGRESS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What is known of a trace beside its spans.

    Attributes:
        id: ``tr-`` and hexadecimal digits.
        experiment: The experiment it belongs to.
        run: The run it belongs to; empty when it is none's.
        name: What was called; the tag ``mlflow.traceName``.
        state: How the call ended.
        requested_at: When it began.
        duration_ms: How long it took; ``None`` while it goes on.
        client_request: What the caller calls the request; empty when it said nothing.
        request_preview: The beginning of what was asked.
        response_preview: The beginning of what was answered.
        metadata: What was told of the call; it stays.
        tags: What is told of it now.
    """

    id: str
    experiment: int
    run: str = ""
    name: str = ""
    state: TraceState = TraceState.UNSPECIFIED
    requested_at: datetime
    duration_ms: int | None = None
    client_request: str = ""
    request_preview: str = ""
    response_preview: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


def parse_trace_id(text: str) -> str:
    """Return the id of a trace.

    Raises:
        InvalidInputError: If no trace has such an id.
    """
    if _ID.fullmatch(text):
        return text
    raise InvalidInputError(
        f"not a trace: {text[:_NAMED_LENGTH]!r}",
        code="bad-trace",
        hint="the id of a trace reads like tr-0123456789abcdef0123456789abcdef",
    )


def check_trace(trace: Trace) -> None:
    """Check lengths, counts and numbers of a trace.

    Raises:
        InvalidInputError: If something may not be.
    """
    for kind, labels in (("tags", trace.tags), ("metadata", trace.metadata)):
        if len(labels) > LABELS_LIMIT:
            raise InvalidInputError(
                f"a trace with {len(labels)} {kind}; at most {LABELS_LIMIT} are taken",
                code="batch-too-large",
            )
        check_tags(labels)
    for what, text, limit in (
        ("request preview", trace.request_preview, PREVIEW_LENGTH_LIMIT),
        ("response preview", trace.response_preview, PREVIEW_LENGTH_LIMIT),
        ("client request id", trace.client_request, REQUEST_LENGTH_LIMIT),
    ):
        if len(text) > limit:
            raise too_long(what, text, limit)
    if trace.duration_ms is not None and not 0 <= trace.duration_ms < _DURATION_LIMIT_MS:
        raise InvalidInputError(f"a trace of {trace.duration_ms} milliseconds", code="bad-duration")
