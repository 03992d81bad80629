"""Artifacts: files of runs and logged models, and which text may name one.

A name comes from a client and is only ever a key of a row; no file is opened by it.  What could
be one all the same, on any machine that downloads it, is refused.

Invariants:
    * A checked path is relative, with ``/`` between its names, none of them empty, ``.`` or
      ``..``; without a backslash, a control character, a drive or the scheme of a URL.
    * That holds however often its percent signs are decoded.
    * The same text is stored that was given: nothing is normalised.

Example:
    >>> check_artifact_path("model/MLmodel")
    'model/MLmodel'
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from stemma.domain.digest import Digest
from stemma.domain.errors import InvalidInputError

PATH_LIMIT_BYTES: Final = 1024
"""Of one path in UTF-8: what object stores take, and below what an index of PostgreSQL holds."""

_NAME_LIMIT_BYTES: Final = 255
_DECODINGS: Final = 8
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(/|$)|[A-Za-z]:")
_SHOWN: Final = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A file of a run or a logged model.

    Attributes:
        owner: Id of the run or logged model.
        path: Its path there.
        file: blake3 of its bytes, in the content store.
        size_bytes: Its size.
    """

    owner: str
    path: str
    file: Digest
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactEntry:
    """What a folder of artifacts holds.

    Attributes:
        path: Path from the root of the artifacts.
        is_folder: Whether it is a folder.
        size_bytes: Size of a file; 0 for folders.
    """

    path: str
    is_folder: bool
    size_bytes: int = 0


def check_artifact_path(text: str) -> str:
    """Return the path of a file when it may be one.

    Raises:
        InvalidInputError: If it may not (``bad-artifact-path``).
    """
    if not text:
        raise _refused(text, "it is empty")
    if len(text.encode("utf-8", "surrogatepass")) > PATH_LIMIT_BYTES:
        raise _refused(text, f"it has more than {PATH_LIMIT_BYTES} bytes")
    decoded = text
    for _ in range(_DECODINGS):
        _check(text, decoded)
        before, decoded = decoded, unquote(decoded)
        if decoded == before:
            return text
    raise _refused(text, "it is encoded many times over")


def check_artifact_folder(text: str) -> str:
    """Return the path of a folder, without slashes at its ends; empty is the root.

    Raises:
        InvalidInputError: If it may not be one (``bad-artifact-path``).
    """
    folder = text.removesuffix("/")
    return check_artifact_path(folder) if folder else ""


def _check(given: str, path: str) -> None:
    if "\\" in path:
        raise _refused(given, "it holds a backslash")
    if _CONTROL.search(path):
        raise _refused(given, "it holds a control character")
    if _SCHEME.match(path):
        raise _refused(given, "it begins like a URL or a drive")
    for name in path.split("/"):
        if name in {"", ".", ".."}:
            raise _refused(given, "a name in it is empty, `.` or `..`")
        if len(name.encode("utf-8")) > _NAME_LIMIT_BYTES:
            raise _refused(given, f"a name in it has more than {_NAME_LIMIT_BYTES} bytes")


def _refused(text: str, why: str) -> InvalidInputError:
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    return InvalidInputError(
        f"not a path of an artifact: {shown!r}: {why}",
        code="bad-artifact-path",
        hint="use a relative path such as model/MLmodel",
    )
