"""The tensors of a version's artifact, found and read one by one.

Invariants:
    * Listing reads headers; reading a tensor reads its blocks: both verified, nothing unpickled.
    * A name that two files have is no name: ``FILE:NAME`` tells them apart.

Example:
    >>> tensors = VersionTensors(Parts(hub), hub.resolve("digits-net@1.0.0"))
    >>> tensors.read("0.weight").array().shape
    (64, 64)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from threading import Lock
from typing import BinaryIO, Final, NamedTuple, cast, final

import numpy as np
from numpy.typing import NDArray

from stemma.domain.component import ArtifactFile
from stemma.domain.errors import IntegrityError, InvalidInputError, NotFoundError
from stemma.domain.ref import did_you_mean, suggest
from stemma.hub.base import VersionView
from stemma.hub.parts import Owner, Parts
from stemma.store.beside import outside_tensors
from stemma.store.formats.locate import (
    TensorPlace,
    as_array,
    locate_said,
    locate_tensors,
    read_bytes,
)
from stemma.store.formats.ranges import ITEM_BYTES
from stemma.store.formats.safetensors import ALIAS_PREFIX, read_metadata

_WITHOUT_TENSORS: Final = frozenset({"json", "yaml", "csv", "parquet"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorInfo:
    """One tensor, as its file names it.

    Attributes:
        name: Its name.
        dtype: ``float32``, ``bfloat16``, …
        shape: Sizes per dimension.
        size_bytes: Size of its numbers.
        file: File of the artifact that holds it.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    size_bytes: int
    file: str


class TensorBytes(NamedTuple):
    """A tensor's verified bytes, and what array they make."""

    data: bytes
    place: TensorPlace

    def array(self) -> NDArray[np.generic]:
        """Return it as numpy has it; ``bfloat16`` and 8-bit floats as ``float32``."""
        return as_array(self.data, self.place)


class _Found(NamedTuple):
    file: ArtifactFile
    stream: BinaryIO
    place: TensorPlace


@final
class VersionTensors:
    """Tensors of one version; safe to use from several threads."""

    def __init__(self, parts: Parts, view: VersionView) -> None:
        """Read nothing yet."""
        self._parts = parts
        self._view = view
        self._looked: dict[str, list[_Found]] = {}
        self._guard = Lock()

    def infos(self) -> tuple[TensorInfo, ...]:
        """Return every tensor, in the order of the files.

        Raises:
            NotFoundError: If the files are neither here nor on a remote (``contents-not-here``).
            IntegrityError: If what is stored is damaged.
        """
        with self._guard:
            return tuple(
                TensorInfo(
                    name=name,
                    dtype=found.place.dtype,
                    shape=found.place.shape,
                    size_bytes=_size_bytes(found.place),
                    file=path,
                )
                for (path, name), found in self._files().items()
            )

    def read(self, name: str) -> TensorBytes:
        """Read one tensor.

        Args:
            name: Its name, or ``FILE:NAME``.

        Raises:
            NotFoundError: If there is none of that name (``tensor-not-found``), or its file
                cannot be had (``contents-not-here``).
            InvalidInputError: If several files have one (``ambiguous-tensor``).
            IntegrityError: If what is stored is damaged.
        """
        with self._guard:
            found = self._named(name)
            try:
                data = read_bytes(found.stream, found.place)
            except ValueError as error:
                raise IntegrityError(
                    f"{found.file.path} of {self._view.label}: {error}",
                    code="tensor-unreadable",
                    hint=f"stemma checkout {self._view.label} artifact/{found.file.path}",
                ) from error
            return TensorBytes(data, found.place)

    def _named(self, name: str) -> _Found:
        path, _, short = name.rpartition(":")
        # The other files of a version that is here in part may not be to be had.
        files = self._files(path) if path else {}
        if (path, short) not in files:
            files = self._files()
        exact = [files[key] for key in files if key[1] == name or key == (path, short)]
        if len(exact) == 1:
            return exact[0]
        label = self._view.label
        if exact:
            where = ", ".join(item.file.path for item in exact[:3])
            raise InvalidInputError(
                f"{label} has {len(exact)} tensors named {name}, in {where}",
                code="ambiguous-tensor",
                hint=f"name the file too: {exact[0].file.path}:{name}",
            )
        near = suggest(name, [known for _, known in files])
        raise NotFoundError(
            f"{label} has no tensor {name}{did_you_mean(near)}",
            code="tensor-not-found",
            hint=f"stemma show {label} --tensors",
        )

    def _files(self, path: str = "") -> dict[tuple[str, str], _Found]:
        """Return the tensors that all files speak of, or the one of that path."""
        return {
            (found.file.path, found.place.name): found
            for file in self._view.manifest.artifact.files
            if file.format not in _WITHOUT_TENSORS and path in {"", file.path}
            for found in self._look(file)
        }

    def _look(self, file: ArtifactFile) -> list[_Found]:
        if file.path not in self._looked:
            self._looked[file.path] = self._look_into(file)
        return self._looked[file.path]

    def _look_into(self, file: ArtifactFile) -> list[_Found]:
        stream, size_bytes = self._open(file)
        places = locate_tensors(stream, size_bytes, name=file.path)
        for alias, target in _aliases(file, stream).items():
            if target in places:
                places.setdefault(alias, replace(places[target], name=alias))
        found = [_Found(file, stream, place) for place in places.values()]
        files = {other.path: other for other in self._view.manifest.artifact.files}
        for path, said in outside_tensors(stream, size_bytes, file.path, files).items():
            beside, beside_bytes = self._open(files[path])
            places = locate_said(said, beside_bytes)
            found += [_Found(files[path], beside, place) for place in places.values()]
        return found

    def _open(self, file: ArtifactFile) -> tuple[BinaryIO, int]:
        label = self._view.label
        owner = Owner(what=f"{file.path} of {label}", ref=label, component=f"artifact/{file.path}")
        opened = self._parts.open(file.digest, owner)
        return cast("BinaryIO", opened), opened.size_bytes


def _size_bytes(place: TensorPlace) -> int:
    item_bytes = ITEM_BYTES.get(place.dtype) or np.dtype(place.dtype).itemsize
    return prod(place.shape) * item_bytes


def _aliases(file: ArtifactFile, stream: BinaryIO) -> dict[str, str]:
    """Return further names of tensors that a module shares, which are stored once."""
    if file.format != "safetensors":
        return {}
    return {
        key.removeprefix(ALIAS_PREFIX): target
        for key, target in read_metadata(stream).items()
        if key.startswith(ALIAS_PREFIX)
    }
