"""Which stored blocks a new block may be the difference to: of earlier versions and files.

A tensor is looked for by its name, and in a file that does not know the name by its size and
its place among the tensors of that size, if both files have as many of them.  Shapes may
differ: some containers write a tensor flat, and a table of embeddings may have grown.

Invariants:
    * A candidate's bytes were read and verified, over its whole chain, by the reader given.
    * A chain never grows past two steps; where it can, it ends at the root at once, so that
      the tenth fine-tune is as far from the base as the first.
    * What is wrong with an earlier version costs compression, never an error.

This module does not choose among candidates; the codec does.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import accumulate
from math import prod
from types import MappingProxyType
from typing import Final, NamedTuple, final

from stemma.domain.digest import Digest
from stemma.domain.errors import StemmaError
from stemma.store.codecs.base import Parent
from stemma.store.codecs.cast import is_castable
from stemma.store.cutting import SMALLEST_BLOCK_BYTES, BlockPlace, block_bytes
from stemma.store.formats.partition import FileRange, partition
from stemma.store.frames import DEPTH_LIMIT, Chunk, Link, known_dtype
from stemma.store.ranges import open_stored
from stemma.store.reading import Reader
from stemma.store.recipes import Recipe

_MOST_TABLES: Final = 32
"""Earlier files looked at for one batch; more would cost reading without finding."""

_MOST_COMPANIONS: Final = 4
"""Files of a batch that later ones of it are compared with."""

_SMALLEST_COMPANION_BYTES: Final = 4 << 20
"""Each may make a batch write what is pending; many small files must not."""


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


class _Rank(NamedTuple):
    """Which of a file's tensors with so many elements a tensor is, and how many there are."""

    elements: int
    number: int
    total: int


class _Table(NamedTuple):
    """The tensors of an earlier file."""

    by_name: Mapping[str, _Tensor]
    by_rank: Mapping[_Rank, _Tensor]


_NO_TABLE: Final = _Table({}, {})


class Relatives(NamedTuple):
    """Files that a new file's tensors are looked for in, and where in the new file they are."""

    companions: tuple[Digest, ...] = ()
    earlier: tuple[Digest, ...] = ()
    ranks: Mapping[str, _Rank] = MappingProxyType({})


NO_RELATIVES: Final = Relatives()


def is_compared(size_bytes: int) -> bool:
    """Whether a file of this size is worth comparing others with."""
    return size_bytes >= _SMALLEST_COMPANION_BYTES


def in_reading_order(sizes: Mapping[str, int]) -> list[str]:
    """Return names of files in the order in which a batch should take them.

    Those that others may be compared with come first, the largest of them first: from weights
    in a wide type the narrow ones follow, not the other way round.  The rest is by name.
    """

    def place(name: str) -> tuple[int, str]:
        return -sizes[name] if is_compared(sizes[name]) else 0, name

    return sorted(sizes, key=place)


@final
class Lineage:
    """Finds candidates in stored files; keeps their tables for as long as it lives."""

    def __init__(self, reader: Reader) -> None:
        """Start with no table read."""
        self._reader = reader
        self._tables: dict[Digest, _Table] = {}
        self._companions: list[Digest] = []

    def relatives(self, ranges: Sequence[FileRange], earlier: Iterable[Digest]) -> Relatives:
        """Return what blocks of a new file are looked for in.

        Args:
            ranges: The new file's.
            earlier: Earlier versions of it, the likeliest first.
        """
        ranks = _ranks(ranges)
        if not ranks:
            return NO_RELATIVES
        return Relatives(tuple(self._companions), tuple(earlier), ranks)

    def assume(self, earlier: Iterable[Digest], ranges: Sequence[FileRange]) -> None:
        """Take earlier files that do not say what tensors they hold to hold a new one's.

        Only those of the same size, and only where their chunks end as its blocks do.
        """
        size_bytes = ranges[-1].end if ranges else 0
        for file in earlier:
            if self._table(file).by_name or file not in self._tables:
                continue
            with suppress(StemmaError):
                recipe = self._reader.recipe_of(file)
                if recipe.size_bytes == size_bytes:
                    self._tables[file] = _table(recipe, ranges)

    def add_companion(self, recipe: Recipe, ranges: Sequence[FileRange]) -> None:
        """Let later files of the batch be compared with this one; the latest few are kept."""
        is_known = recipe.digest in self._companions
        if is_known or not is_compared(recipe.size_bytes) or not _ranks(ranges):
            return
        self._tables[recipe.digest] = _table(recipe, ranges)
        self._companions.insert(0, recipe.digest)
        for forgotten in self._companions[_MOST_COMPANIONS:]:
            del self._tables[forgotten]
        del self._companions[_MOST_COMPANIONS:]

    def sought(
        self, place: BlockPlace, size_bytes: int, relatives: Relatives
    ) -> tuple[Sought, ...]:
        """Return where candidates may be had, the likeliest first; reads tables, no blocks.

        A companion may be the same weights in another type, an earlier version never is: of
        another type the companions come first, of the same type the earlier versions.

        Args:
            place: Where the new block is.
            size_bytes: Its size.
            relatives: What ``relatives`` returned for its file.
        """
        companions = self._sought_in(place, size_bytes, relatives, relatives.companions)
        earlier = self._sought_in(place, size_bytes, relatives, relatives.earlier)
        casts = [item for item in (*companions, *earlier) if not item.is_same]
        same = [item for item in (*earlier, *companions) if item.is_same]
        return tuple(dict.fromkeys((*same, *casts[:1])))

    def _sought_in(
        self,
        place: BlockPlace,
        size_bytes: int,
        relatives: Relatives,
        files: Iterable[Digest],
    ) -> list[Sought]:
        found: dict[bool, Sought] = {}
        for tensor in self._tensors(place.tensor, relatives.ranks.get(place.tensor.name), files):
            is_same = tensor.facts.dtype == place.tensor.dtype
            step, own_step = block_bytes(tensor.facts.dtype), block_bytes(place.tensor.dtype)
            chunk = tensor.blocks.get(place.offset // own_step * step)
            if chunk is None or (is_same and chunk.size_bytes != size_bytes):
                continue
            found.setdefault(is_same, Sought(chunk, known_dtype(tensor.facts.dtype), is_same))
            if len(found) == 2:  # noqa: PLR2004  one of each kind
                break
        return list(found.values())

    def candidates(self, sought: Iterable[Sought]) -> list[Candidate]:
        """Read the blocks that can be had, each once.

        Safe to call from several threads.
        """
        found: dict[bytes, Candidate] = {}
        for item in sought:
            candidate = self._candidate(item)
            if candidate is not None:
                found.setdefault(candidate.link.chunk.digest, candidate)
        return list(found.values())

    def _tensors(
        self, wanted: FileRange, rank: _Rank | None, files: Iterable[Digest]
    ) -> Iterator[_Tensor]:
        for file in files:
            table = self._table(file)
            tensor = table.by_name.get(wanted.name)
            if tensor is None and rank is not None:
                tensor = table.by_rank.get(rank)
            if tensor is None:
                continue
            dtype, own_dtype = known_dtype(tensor.facts.dtype), known_dtype(wanted.dtype)
            if tensor.facts.dtype == wanted.dtype or is_castable(dtype, own_dtype):
                yield tensor

    def _candidate(self, sought: Sought) -> Candidate | None:
        """Return a block, or of its own type the root of its chain when that has this type."""
        chunk, dtype, is_same = sought
        try:
            # Headers lead to the root: what stands between is not decoded.
            for _ in range(DEPTH_LIMIT if is_same else 0):
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

    def _table(self, file: Digest) -> _Table:
        if file not in self._tables:
            if len(self._tables) == _MOST_TABLES:
                return _NO_TABLE
            try:
                self._tables[file] = self._read_table(file)
            except (StemmaError, OSError):
                self._tables[file] = _NO_TABLE
        return self._tables[file]

    def _read_table(self, file: Digest) -> _Table:
        recipe = self._reader.recipe_of(file)
        if recipe.size_bytes < SMALLEST_BLOCK_BYTES:
            return _NO_TABLE
        with open_stored(self._reader, file) as stream:
            return _table(recipe, partition(stream, recipe.size_bytes).ranges)


def _ranks(ranges: Sequence[FileRange]) -> dict[str, _Rank]:
    """Return the rank of every tensor that is stored in blocks, by its name."""
    tensors = [
        item for item in ranges if item.is_tensor and item.size_bytes >= SMALLEST_BLOCK_BYTES
    ]
    counts = Counter(prod(item.shape) for item in tensors)
    seen: Counter[int] = Counter()
    ranks: dict[str, _Rank] = {}
    for item in tensors:
        elements = prod(item.shape)
        ranks[item.name] = _Rank(elements, seen[elements], counts[elements])
        seen[elements] += 1
    return ranks


def _table(recipe: Recipe, ranges: Sequence[FileRange]) -> _Table:
    chunks = recipe.chunks
    starts = list(accumulate((chunk.size_bytes for chunk in chunks), initial=0))
    ranks = _ranks(ranges)
    by_name: dict[str, _Tensor] = {}
    for item in ranges:
        if item.name in ranks:
            blocks = dict(_blocks(item, chunks, starts))
            if blocks:
                by_name[item.name] = _Tensor(item, blocks)
    return _Table(by_name, {ranks[name]: tensor for name, tensor in by_name.items()})


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
