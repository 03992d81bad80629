"""The registry as tracking clients see it: registered models and their numbered versions.

A registered model is a model under the name its users gave it; its versions count from 1 in
order of registration.  The catalog's SemVer number is given when a version is released.

Invariants:
    * A number is given once; what a version's number names never changes.
    * A version's files are a run's or a logged model's of this project; no other place is
      accepted from a client, so none is ever opened.
    * A deleted version stays as a row of stage ``Deleted``, so that its number is not given
      again; a released one cannot be deleted.

This module reads no rows; see ``stemma.tracking.registry``.

Example:
    >>> parse_source("mlflow-artifacts:/0/r-7f3c/artifacts/model")
    RunFolder(experiment='0', run='r-7f3c', path='model')
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Final
from urllib.parse import unquote

from typing_extensions import override

from stemma.domain.digest import Digest
from stemma.domain.errors import InvalidInputError
from stemma.domain.tracking import parse_run_id

REGISTERED_NAME_LENGTH_LIMIT: Final = 255
DESCRIPTION_LENGTH_LIMIT: Final = 100_000
REGISTRY_TAG_LENGTH_LIMIT: Final = 100_000
SOURCE_LENGTH_LIMIT: Final = 2_000

_ROOT: Final = "mlflow-artifacts:/"
_MODEL_ID: Final = re.compile(r"m-[0-9a-f]{1,64}")
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,17}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\\]")
_NAMED_LENGTH: Final = 80
_FOLDER: Final = "artifacts"
_UNQUOTE_LIMIT: Final = 8


class ModelStage(Enum):
    """Where a version stands, in the words of clients that know no aliases."""

    NONE = "None"
    STAGING = "Staging"
    PRODUCTION = "Production"
    ARCHIVED = "Archived"
    DELETED = "Deleted"


STAGES: Final = (
    ModelStage.NONE,
    ModelStage.STAGING,
    ModelStage.PRODUCTION,
    ModelStage.ARCHIVED,
)
"""Stages that a client may name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredModel:
    """A model under the name that its users registered it by.

    Attributes:
        name: That name.
        model: The catalog's name for it, which is made to fit the rule for names.
        description: What it is, in words.
        created_at: When it was registered.
        updated_at: When it, or one of its versions, last changed.
        tags: Its tags.
    """

    name: str
    model: str
    description: str = ""
    created_at: datetime
    updated_at: datetime
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """One version of a registered model.

    Attributes:
        name: The registered model's name.
        number: Counts the model's versions from 1.
        run: The run that made it; empty when none did.
        logged_model: The logged model it is; empty for files of a run.
        source: Where its files are, as ``parse_source`` reads it.
        description: What it is, in words.
        stage: Where it stands.
        created_at: When it was registered.
        updated_at: When it last changed.
        created_by: Who registered it.
        manifest: sha256 of its manifest, once the catalog knows it.
        version: Number of its release (SemVer text); empty until it is released.
        tags: Its tags.
    """

    name: str
    number: int
    run: str
    logged_model: str = ""
    source: str
    description: str = ""
    stage: ModelStage = ModelStage.NONE
    created_at: datetime
    updated_at: datetime
    created_by: str = ""
    manifest: Digest | None = None
    version: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVersion:
    """What a client registers.

    Attributes:
        name: The registered model's name.
        source: Where its files are.
        run: The run that made it, as the client names it; may be empty.
        logged_model: The logged model it is; may be empty.
        description: What it is, in words.
        tags: Its tags.
        created_by: Who registers it.
    """

    name: str
    source: str
    run: str = ""
    logged_model: str = ""
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    created_by: str = ""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A folder among the artifacts of a run.

    Attributes:
        experiment: The experiment in the path, as text; empty when it was left out.
        run: The run.
        path: The folder; empty for all artifacts of the run.
    """

    experiment: str
    run: str
    path: str

    @override
    def __str__(self) -> str:
        """Return it as clients write it."""
        return f"{_ROOT}{self.experiment}/{self.run}/{_FOLDER}" + (
            f"/{self.path}" if self.path else ""
        )


@dataclass(frozen=True, slots=True)
class LoggedModelFolder:
    """A logged model.

    Attributes:
        logged_model: Its id.
    """

    logged_model: str


@dataclass(frozen=True, slots=True)
class VersionFiles:
    """The files of a registered version, to register them again elsewhere.

    Attributes:
        name: The registered model's name.
        number: The version's number.
    """

    name: str
    number: int


Source = RunFolder | LoggedModelFolder | VersionFiles


def parse_source(text: str) -> Source:
    """Read where the files of a version are.

    Raises:
        InvalidInputError: If it is no place in this project.
    """
    scheme, separator, rest = text.partition(":/")
    if not separator or len(text) > SOURCE_LENGTH_LIMIT or not text.isprintable():
        raise bad_source(text)
    parts = rest.split("/")
    if not all(_is_plain(part) for part in parts):
        raise bad_source(text)
    if scheme == "mlflow-artifacts":
        return _parse_artifacts(text, parts)
    if scheme == "runs" and parts[0]:
        return RunFolder("", parse_run_id(parts[0]), "/".join(parts[1:]))
    if scheme == "models" and len(parts) == 1 and _MODEL_ID.fullmatch(parts[0]):
        return LoggedModelFolder(parts[0])
    if scheme == "models" and len(parts) == 2 and _NUMBER.fullmatch(parts[1]):  # noqa: PLR2004 - name and number
        return VersionFiles(parts[0], int(parts[1]))
    raise bad_source(text)


def _parse_artifacts(text: str, parts: list[str]) -> Source:
    match parts:
        case [experiment, "models", model, folder] if folder == _FOLDER:
            if experiment.isdecimal() and _MODEL_ID.fullmatch(model):
                return LoggedModelFolder(model)
        case [experiment, run, folder, *path] if folder == _FOLDER and experiment.isdecimal():
            return RunFolder(experiment, parse_run_id(run), "/".join(path))
        case _:
            pass
    raise bad_source(text)


def bad_source(text: str, why: str = "") -> InvalidInputError:
    """Return the error for a source that is not taken."""
    because = f": {why}" if why else ""
    return InvalidInputError(
        f"invalid model version source {text[:_NAMED_LENGTH]!r}{because}; files come from a run "
        "or a logged model of this server, mlflow-artifacts:/… or models:/m-…",
        code="bad-source",
        hint="log the model with log_model, then register what it returns",
    )


def _is_plain(part: str) -> bool:
    """Whether a part of a path means itself, however often somebody unquotes it."""
    for _ in range(_UNQUOTE_LIMIT):
        if part in {"", ".", ".."} or _CONTROL.search(part) or "/" in part:
            return False
        if any(mark in part for mark in "?#"):
            return False
        unquoted = unquote(part)
        if unquoted == part:
            return True
        part = unquoted
    return False


def check_registered_name(name: str) -> str:
    """Return the name when a model may be registered by it.

    Raises:
        InvalidInputError: If it may not.
    """
    if name.strip() in {"", ".", ".."} or not name.isprintable():
        raise InvalidInputError(
            f"not a name of a registered model: {name[:_NAMED_LENGTH]!r}", code="bad-name"
        )
    if "/" in name or ":" in name:
        raise InvalidInputError(
            f"registered model {name[:_NAMED_LENGTH]!r}: a name holds no '/' and no ':'",
            code="bad-name",
        )
    if len(name) > REGISTERED_NAME_LENGTH_LIMIT:
        raise _too_long("registered model name", name, REGISTERED_NAME_LENGTH_LIMIT)
    return name


def check_description(text: str) -> str:
    """Return the description when it can be kept.

    Raises:
        InvalidInputError: If it is too long.
    """
    if len(text) > DESCRIPTION_LENGTH_LIMIT:
        raise _too_long("description", text, DESCRIPTION_LENGTH_LIMIT)
    return text


def parse_stage(text: str) -> ModelStage:
    """Read a stage as a client writes it; upper and lower case are the same.

    Raises:
        InvalidInputError: If there is no such stage.
    """
    for stage in STAGES:
        if stage.value.lower() == text.lower():
            return stage
    raise InvalidInputError(
        f"invalid model version stage {text[:_NAMED_LENGTH]!r}; "
        f"stages are {', '.join(stage.value for stage in STAGES)}",
        code="bad-stage",
    )


def parse_number(text: str) -> int:
    """Read a version's number.

    Raises:
        InvalidInputError: If it is none.
    """
    if _NUMBER.fullmatch(text) is None:
        raise InvalidInputError(
            f"not a number of a model version: {text[:_NAMED_LENGTH]!r}", code="bad-number"
        )
    return int(text)


def _too_long(what: str, text: str, limit: int) -> InvalidInputError:
    return InvalidInputError(
        f"{what} {text[:20]!r}… has {len(text)} characters, {limit} are allowed", code="too-long"
    )
