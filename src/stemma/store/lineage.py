"""Which stored blocks a new block may be the difference to: those of earlier versions.

Invariants:
    * A candidate's bytes were read and verified, over its whole chain, by the reader given.
    * A chain never grows past two steps; where it can, it ends at the root at once, so that
      the tenth fine-tune is as far from the base as the first.
    * What is wrong with an earlier version costs compression, never an error.

This module does not choose among candidates; the codec does.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Final, NamedTuple, final

from stemma.domain.digest import Digest
from stemma.domain.errors import StemmaError
from stemma.store.codecs.base import Parent
from stemma.store.cutting import SMALLEST_BLOCK_BYTES, BlockPlace, block_bytes
from stemma.store.formats.partition import FileRange, partition
from stemma.store.frames import DEPTH_LIMIT, Chunk, Link, known_dtype
from stemma.store.ranges import open_stored
from stemma.store.reading import Reader

_FLOATS: Final = frozenset({"float16", "bfloat16", "float32"})
_MOST_TABLES: Final = 32
"""Earlier files looked at for one batch; more would cost reading without finding."""


class Candidate(NamedTuple):
    """A parent as the codec takes it, and as a frame names it."""

    parent: Parent
    link: Link


class Sought(NamedTuple):
    """A block that may be a candidate; ``is_same`` says whether it is of the new one's type."""

    chunk: Chunk
    dtype: str
    is_same: bool


class _Tensor(NamedTuple):
    """A tensor of an earlier file: what it is, and its blocks that rest in one chunk each."""

    facts: FileRange
    blocks: Mapping[int, Chunk]


@final
class Lineage:
    """Finds candidates in stored files; keeps their tables for as long as it lives."""

    def __init__(self, reader: Reader) -> None:
        """Start with no table read."""
        self._reader = reader
        self._tables: dict[Digest, Mapping[str, _Tensor]] = {}

    def sought(
        self, place: BlockPlace, size_bytes: int, files: Iterable[Digest]
    ) -> tuple[Sought, ...]:
        """Return where candidates may be had, the likeliest first; reads tables, no blocks.

        Args:
            place: Where the new block is.
            size_bytes: Its size.
            files: Earlier versions of its file, the likeliest first.
        """
        found: list[Sought] = []
        for tensor in self._tensors(place.tensor, files):
            is_same = tensor.facts.dtype == place.tensor.dtype
            step, own_step = block_bytes(tensor.facts.dtype), block_bytes(place.tensor.dtype)
            chunk = tensor.blocks.get(place.offset // own_step * step)
            if chunk is None or (is_same and chunk.size_bytes != size_bytes):
                continue
            found.append(Sought(chunk, known_dtype(tensor.facts.dtype), is_same))
            if len({item.is_same for item in found}) == 2:  # noqa: PLR2004  one of each kind
                break
        return tuple(dict.fromkeys(found))

    def candidates(self, sought: Iterable[Sought]) -> list[Candidate]:
        """Read at most one block of the same type and one of another float type.

        Safe to call from several threads.
        """
        found: dict[bool, Candidate] = {}
        for item in sought:
            if item.is_same in found:
                continue
            candidate = self._candidate(item.chunk, item.dtype)
            if candidate is not None:
                found[item.is_same] = candidate
        return list(found.values())

    def _tensors(self, wanted: FileRange, files: Iterable[Digest]) -> Iterator[_Tensor]:
        for file in files:
            tensor = self._table(file).get(wanted.name)
            if tensor is None or tensor.facts.shape != wanted.shape:
                continue
            dtypes = {tensor.facts.dtype, wanted.dtype}
            if len(dtypes) == 1 or dtypes <= _FLOATS:
                yield tensor

    def _candidate(self, chunk: Chunk, dtype: str) -> Candidate | None:
        """Return a block, or the root of its chain when that has the same type."""
        try:
            # Headers lead to the root: what stands between is not decoded.
            for _ in range(DEPTH_LIMIT):
                link = self._reader.header(chunk.digest).parent
                if link is None or link.dtype != dtype or link.chunk.size_bytes != chunk.size_bytes:
                    break
                chunk = link.chunk
            stored = self._reader.chunk(*chunk)
        except StemmaError:
            return None
        # The header's may be more: what it was written against may have been stored anew since.
        depth = max(stored.depth, stored.header.depth)
        if depth >= DEPTH_LIMIT:
            return None
        return Candidate(Parent(data=stored.data, dtype=dtype), Link(chunk, dtype, depth))

    def _table(self, file: Digest) -> Mapping[str, _Tensor]:
        if file not in self._tables:
            if len(self._tables) == _MOST_TABLES:
                return {}
            try:
                self._tables[file] = self._read_table(file)
            except (StemmaError, OSError):
                self._tables[file] = {}
        return self._tables[file]

    def _read_table(self, file: Digest) -> Mapping[str, _Tensor]:
        recipe = self._reader.recipe_of(file)
        if recipe.size_bytes < SMALLEST_BLOCK_BYTES:
            return {}
        with open_stored(self._reader, file) as stream:
            ranges = partition(stream, recipe.size_bytes).ranges
        chunks = recipe.chunks
        starts = list(accumulate((chunk.size_bytes for chunk in chunks), initial=0))
        table: dict[str, _Tensor] = {}
        for item in ranges:
            if item.is_tensor and item.size_bytes >= SMALLEST_BLOCK_BYTES:
                blocks = dict(_blocks(item, chunks, starts))
                if blocks:
                    table[item.name] = _Tensor(item, blocks)
        return table


def _blocks(
    tensor: FileRange, chunks: tuple[Chunk, ...], starts: list[int]
) -> Iterator[tuple[int, Chunk]]:
    """Yield a tensor's blocks by offset; those that were cut otherwise are left out."""
    step = block_bytes(tensor.dtype)
    for offset in range(0, tensor.size_bytes, step):
        number = bisect_left(starts, tensor.offset + offset)
        size_bytes = min(step, tensor.size_bytes - offset)
        is_there = number < len(chunks) and starts[number] == tensor.offset + offset
        if is_there and chunks[number].size_bytes == size_bytes:
            yield offset, chunks[number]
