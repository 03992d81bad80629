"""A logged model: a model with files of its own, which a run made or which stands alone.

Invariants:
    * It is written while it is pending; once it is ready, its files and its state stay.
    * A param is written once; a tag may be written again.
    * Of a metric the latest point is kept, for each run and dataset that it was measured by.

Names follow MLflow, whose clients read and write these records.

Example:
    >>> parse_logged_model_id("m-0123456789abcdef0123456789abcdef")
    'm-0123456789abcdef0123456789abcdef'
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Final, NamedTuple

from stemma.domain.errors import InvalidInputError

NAME_LENGTH_LIMIT: Final = 500
TYPE_LENGTH_LIMIT: Final = 500

_ID: Final = re.compile(r"m-[0-9a-f]{1,64}")
_NAMED_LENGTH: Final = 80
_FORBIDDEN: Final = frozenset("/:.%\"'\0")


class LoggedModelState(Enum):
    """Where a logged model stands."""

    UNSPECIFIED = "UNSPECIFIED"
    PENDING = "PENDING"
    READY = "READY"
    FAILED = "FAILED"


class ModelMetric(NamedTuple):
    """A metric of a logged model: its latest point by one run on one dataset."""

    name: str
    value: float
    step: int
    logged_at_us: int
    run: str
    dataset_name: str
    dataset_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedModel:
    """A logged model.

    Attributes:
        id: ``m-`` and 32 hexadecimal digits.
        experiment: The experiment it belongs to.
        run: The run that made it; empty when none did.
        name: A name for people; need not be unique.
        type: What kind it is, in the client's words.
        state: Where it stands.
        state_message: Why it stands there, in words.
        created_at: When it was made.
        updated_at: When it last changed.
        deleted_at: When it was deleted; ``None`` while it is not.
        params: Its params.
        tags: Its tags.
        metrics: Latest points of its metrics.
    """

    id: str
    experiment: int
    run: str = ""
    name: str
    type: str = ""
    state: LoggedModelState = LoggedModelState.PENDING
    state_message: str = ""
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: tuple[ModelMetric, ...] = ()

    @property
    def is_frozen(self) -> bool:
        """Whether nothing of its files may change any more."""
        return self.state is LoggedModelState.READY


def parse_logged_model_id(text: str) -> str:
    """Return the id of a logged model.

    Raises:
        InvalidInputError: If no logged model has such an id.
    """
    if _ID.fullmatch(text):
        return text
    raise InvalidInputError(
        f"not a logged model: {text[:_NAMED_LENGTH]!r}",
        code="bad-logged-model",
        hint="the id of a logged model reads like m-0123456789abcdef0123456789abcdef",
    )


def check_logged_model_name(name: str) -> str:
    """Return the name when a logged model may be called so.

    Raises:
        InvalidInputError: If it may not.
    """
    if not name.strip() or _FORBIDDEN & set(name):
        raise InvalidInputError(
            f"not a name of a logged model: {name[:_NAMED_LENGTH]!r}; a name holds none of"
            " / : . % \" '",
            code="bad-name",
        )
    if len(name) > NAME_LENGTH_LIMIT:
        raise InvalidInputError(
            f"logged model name {name[:_NAMED_LENGTH]!r}… has {len(name)} characters;"
            f" at most {NAME_LENGTH_LIMIT} are kept",
            code="too-long",
        )
    return name
