"""Where an artifact is, in the paths that clients are given and send back.

Invariants:
    * A place is ``EXPERIMENT/RUN/artifacts/PATH``, ``EXPERIMENT/models/MODEL/artifacts/PATH`` or
      ``EXPERIMENT/traces/TRACE/artifacts/PATH``; nothing else is read or written, and
      nothing of it becomes the name of a file of ours.

Example:
    >>> parse_place("0/r-7f3c/artifacts/model/MLmodel").path
    'model/MLmodel'
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from typing_extensions import override

from stemma.domain.artifact import check_artifact_folder, check_artifact_path
from stemma.domain.errors import InvalidInputError
from stemma.domain.logged_model import parse_logged_model_id
from stemma.domain.trace import TRACE_PREFIX, parse_trace_id
from stemma.domain.tracking import parse_run_id

SCHEME: Final = "mlflow-artifacts:/"

_MODELS: Final = "models"
_TRACES: Final = "traces"
_ARTIFACTS: Final = "artifacts"
_EXPERIMENT: Final = re.compile(r"[0-9]{1,18}")
_RUN_PARTS: Final = 3
_OTHER_PARTS: Final = 4
_SHOWN: Final = 80
_PARSERS: Final[dict[str, Callable[[str], str]]] = {
    _MODELS: parse_logged_model_id,
    _TRACES: parse_trace_id,
}


@dataclass(frozen=True, slots=True)
class Place:
    """A file or folder among the artifacts of a run, a logged model or a trace.

    Attributes:
        experiment: The experiment that the owner is said to be of.
        owner: Id of the run, logged model or trace.
        path: Path there; empty for the root.
    """

    experiment: int
    owner: str
    path: str

    @override
    def __str__(self) -> str:
        """Return it as clients write it, without the scheme."""
        root = root_of(self.experiment, self.owner)
        return f"{root}/{self.path}" if self.path else root

    def child(self, name: str) -> Place:
        """Return the place of a name inside this folder.

        Raises:
            InvalidInputError: If no artifact may have that path.
        """
        path = f"{self.path}/{name}" if self.path else name
        return Place(self.experiment, self.owner, check_artifact_path(path))


def root_of(experiment: int, owner: str) -> str:
    """Return the root of a run's or logged model's artifacts, without the scheme."""
    if owner.startswith("m-"):
        return f"{experiment}/{_MODELS}/{owner}/{_ARTIFACTS}"
    if owner.startswith(TRACE_PREFIX):
        return f"{experiment}/{_TRACES}/{owner}/{_ARTIFACTS}"
    return f"{experiment}/{owner}/{_ARTIFACTS}"


def artifact_uri(experiment: int, owner: str) -> str:
    """Return the address of a run's or logged model's artifacts that clients are given."""
    return SCHEME + root_of(experiment, owner)


def parse_place(text: str) -> Place:
    """Read a place; the path in it may be empty.

    Raises:
        InvalidInputError: If it is none (``bad-artifact-path``).
    """
    parts = text.removesuffix("/").split("/")
    parse = _PARSERS.get(parts[1], parse_run_id) if len(parts) > 1 else parse_run_id
    count = _RUN_PARTS if parse is parse_run_id else _OTHER_PARTS
    if (
        len(parts) < count
        or parts[count - 1] != _ARTIFACTS
        or not _EXPERIMENT.fullmatch(parts[0])
        or "" in parts
    ):
        raise InvalidInputError(
            f"not a place of artifacts: {text[:_SHOWN]!r}",
            code="bad-artifact-path",
            hint="use the artifact_uri of a run or logged model",
        )
    return Place(
        int(parts[0]), parse(parts[count - 2]), check_artifact_folder("/".join(parts[count:]))
    )


def parse_file(text: str) -> Place:
    """Read the place of a file.

    Raises:
        InvalidInputError: If it is none (``bad-artifact-path``).
    """
    place = parse_place(text)
    check_artifact_path(place.path)
    return place


def base_name(path: str) -> str:
    """Return the name of a file from its path on a client's machine, of any system."""
    return re.split(r"/" if "/" in path else r"\\", path)[-1]
