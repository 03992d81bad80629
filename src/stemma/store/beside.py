"""What a file of a folder says of the files beside it: an ONNX model of its external weights.

Invariants (normative text: ``docs/formats/store.md`` §Weights beside a model):
    * Only files that the caller names are opened: a location that a model gives is compared
      with their names, never followed.
    * What a model says decides only where chunks end; what cannot be is a warning.
    * All models of a folder together take bounded memory.

This module reads no weights and stores nothing.

Example:
    >>> beside = look_beside({"model.onnx": model, "weights.bin": weights})
    >>> beside["weights.bin"].claims[0].model
    'model.onnx'
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final, NamedTuple, final

from stemma.domain.errors import StemmaError
from stemma.store.formats.bounded import HEADER_LIMIT_BYTES, BoundedSource
from stemma.store.formats.layouts.onnx import ExternalTensor, find_external
from stemma.store.formats.ranges import (
    TENSOR_LIMIT,
    FileRange,
    MalformedError,
    Partition,
    cover,
    opaque,
    shown,
)
from stemma.store.sources import open_regular

_MODEL_SUFFIX: Final = ".onnx"
_DIMENSION_BYTES: Final = 40


class Claim(NamedTuple):
    """What one model says of a file: the tensors it holds, not checked."""

    model: str
    tensors: tuple[FileRange, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What is known of a file from the folder it is in.

    Attributes:
        claims: What models say of it, by their paths.
        warning: For a model why weights that it names are not looked for; else empty.
    """

    claims: tuple[Claim, ...] = ()
    warning: str = ""


NOTHING: Final = Beside()


def look_beside(files: Mapping[str, Path]) -> dict[str, Beside]:
    """Read the models among the files of a folder; returns what is to be said, by name.

    A model that cannot be opened is passed over: who stores it will say so.

    Args:
        files: Where each file is, by its path in the folder; no links.
    """
    folder = _Folder(files)
    for name in sorted(files):
        if is_model(name):
            folder.read(name)
    named = folder.claims.keys() | folder.warnings.keys()
    return {
        name: Beside(
            claims=tuple(folder.claims.get(name, ())), warning=folder.warnings.get(name, "")
        )
        for name in named
    }


def cut_as_said(found: Partition, claims: Sequence[Claim], size_bytes: int) -> Partition:
    """Return the ranges of a file by what models say of it.

    Args:
        found: What the file says of itself; this comes first.
        claims: What models say, at least one.
        size_bytes: How many bytes the file has.
    """
    if any(item.is_tensor for item in found.ranges):
        return found
    first = claims[0]
    try:
        return Partition(ranges=cover(_united(claims), size_bytes))
    except MalformedError as error:
        reason = str(error)
    if len(claims) > 1:
        try:
            ranges = cover(_united([first]), size_bytes)
        except MalformedError as error:
            reason = str(error)
        else:
            warning = f"cut as {shown(first.model)} says, for other models say otherwise: {reason}"
            return Partition(ranges=ranges, warning=warning)
    warning = f"taken as opaque bytes, for {shown(first.model)} says of it what cannot be: {reason}"
    return Partition(ranges=opaque(size_bytes), warning=warning)


def outside_tensors(
    stream: BinaryIO, size_bytes: int, model: str, files: Collection[str]
) -> dict[str, list[FileRange]]:
    """Return what a model says of the files beside it, not checked; nothing if it is malformed.

    Args:
        stream: The model, seekable.
        size_bytes: How many bytes it has.
        model: Its path in its folder.
        files: Paths of the folder's files.
    """
    found: dict[str, list[FileRange]] = {}
    if not is_model(model):
        return found
    try:
        for item in islice(find_external(BoundedSource(stream, size_bytes)), TENSOR_LIMIT):
            name, _ = _named(model, item.location, files)
            if name:
                found.setdefault(name, []).append(item.tensor)
    except MalformedError:
        return {}
    return found


def is_model(name: str) -> bool:
    """Whether a file may say something of those beside it."""
    return PurePosixPath(name).suffix.lower() == _MODEL_SUFFIX


def _named(model: str, location: str, files: Collection[str]) -> tuple[str, str]:
    """Return the file of the folder that a location names, or why there is none."""
    path = PurePosixPath(location)
    if not path.parts:
        return "", "the location is empty"
    if path.is_absolute():
        return "", "the location is absolute"
    if ".." in path.parts:
        return "", "the location has a part '..'"
    name = str(PurePosixPath(model).parent / path)
    return (name, "") if name in files else ("", "no such file, or a link")


def _united(claims: Iterable[Claim]) -> Iterable[FileRange]:
    """Return the tensors, of those that are the same bytes the first."""
    found: dict[tuple[int, int], FileRange] = {}
    for claim in claims:
        for tensor in claim.tensors:
            found.setdefault((tensor.offset, tensor.size_bytes), tensor)
    return found.values()


@final
class _Folder:
    """The models of a folder while they are read."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self.claims: dict[str, list[Claim]] = {}
        self.warnings: dict[str, str] = {}
        self._files = files
        self._tensors_left = TENSOR_LIMIT
        self._bytes_left = HEADER_LIMIT_BYTES

    def read(self, model: str) -> None:
        """Read one model; what is wrong with it is a warning, and then it says nothing."""
        tensors: dict[str, list[FileRange]] = {}
        refused: dict[str, str] = {}
        try:
            with os.fdopen(open_regular(self._files[model]), "rb") as stream:
                source = BoundedSource(stream, os.fstat(stream.fileno()).st_size)
                for item in find_external(source):
                    self._charge(item)
                    name, fault = _named(model, item.location, self._files)
                    if fault:
                        refused.setdefault(shown(item.location), fault)
                        continue
                    tensors.setdefault(name, []).append(item.tensor)
        except MalformedError as error:
            self.warnings[model] = f"weights in other files are stored as plain bytes: {error}"
            return
        except (OSError, StemmaError):
            return
        for name, found in tensors.items():
            self.claims.setdefault(name, []).append(Claim(model, tuple(found)))
        if refused:
            location, fault = next(iter(refused.items()))
            more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
            self.warnings[model] = f"weights in {location}{more} are not followed: {fault}"

    def _charge(self, item: ExternalTensor) -> None:
        """Refuse more than a folder's models may take of memory."""
        self._tensors_left -= 1
        tensor = item.tensor
        self._bytes_left -= len(tensor.name) + _DIMENSION_BYTES * len(tensor.shape)
        if min(self._tensors_left, self._bytes_left) < 0:
            raise MalformedError(
                f"with other models it names more than {TENSOR_LIMIT} tensors,"
                f" or {HEADER_LIMIT_BYTES >> 20} MiB of their names and shapes"
            )
