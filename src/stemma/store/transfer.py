"""Copying versions between two stores: what one needs, and that and nothing else, verified.

Invariants (normative text: ``docs/formats/store.md`` §Remotes):
    * Every blob is checked against its name before it is written to either side; a frame
      also chunk by chunk, for its chunks are trusted by later writes.
    * Written in the order of the format: frames, what finds them, recipes, trees.  Whoever
      reads the target meanwhile never sees an object before what it names.
    * What the target has is not copied, so a copy that was cut off goes on where it ended.
    * Memory holds one batch of frames, and the chunk names of the versions that are planned.

It copies contents by digest and knows nothing of models; records follow them, see
``stemma.catalog.exchange``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, NamedTuple, final

from stemma.domain.digest import Digest
from stemma.domain.errors import IntegrityError
from stemma.domain.tree import Tree
from stemma.store import frames
from stemma.store.checking import put_sound
from stemma.store.keys import Family, frame_key, recipe_key, tree_key
from stemma.store.recipes import decode_recipe
from stemma.store.sides import Side
from stemma.store.supply import Supply
from stemma.store.trees import verified_tree

_THREADS: Final = 16
_LISTED_FILES: Final = 64
_LISTED_KEYS_PER_FILE: Final = 10
_BEHIND_ALL: Final = "\x7f"
_BATCH_BYTES: Final = 16 << 20
_BATCH_BLOBS: Final = 256


class Content(NamedTuple):
    """A tree or file that a version names; one that is not required may be a mere identity."""

    digest: Digest
    is_required: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What must be copied for some contents.

    Attributes:
        levels: Frames that are missing with their sizes, those that others need before them.
        recipes: Files whose recipes are missing.
        trees: Trees that are missing.
        file_bytes: Size of all the files, whether they must be copied or not.
    """

    levels: tuple[Mapping[bytes, int], ...]
    recipes: tuple[Digest, ...]
    trees: tuple[Digest, ...]
    file_bytes: int

    @property
    def frames(self) -> dict[bytes, int]:
        """Frames that are missing with their sizes."""
        return {name: size for level in self.levels for name, size in level.items()}

    @property
    def is_empty(self) -> bool:
        """Whether the target has it all."""
        return not (self.frames or self.recipes or self.trees)


@dataclass(slots=True)
class _Walk:
    """What planning has met so far."""

    files: set[Digest] = field(default_factory=set)
    sizes: dict[Digest, int] = field(default_factory=dict)
    trees: list[Digest] = field(default_factory=list)
    recipes: list[Digest] = field(default_factory=list)
    chunks: set[bytes] = field(default_factory=set)


class _Looked(NamedTuple):
    """What a digest names: a tree, and whether the target has it; a file; or nothing."""

    tree: Tree | None
    is_there: bool
    is_file: bool


@final
class Transfer:
    """Copies contents from one side to the other."""

    def __init__(self, source: Side, target: Side, *, is_repair: bool = False) -> None:
        """Name both sides.

        Args:
            source: Where to copy from.
            target: Where to.
            is_repair: Read what the target has, and replace what is damaged.
        """
        self._source = source
        self._target = target
        self._is_repair = is_repair
        # What a remote has was whole when it was written, and asking again costs requests.
        self._trusts_target = not target.is_local and not is_repair
        self._looked: dict[Digest, _Looked] = {}
        self._supply = Supply(source, target)
        self._gone: set[bytes] = set()
        self._copied: set[bytes] = set()
        self._failures: dict[bytes, IntegrityError] = {}

    # planning -------------------------------------------------------------------------------

    def plan(self, contents: Sequence[Content], files: Collection[Digest] = ()) -> Plan:
        """Say what is missing on the target.

        Args:
            contents: Trees with their files, and files.
            files: Further files, whose trees are not copied.

        Raises:
            IntegrityError: If the source misses something, or what it has is damaged.
        """
        walk = _Walk(files=set(files))
        with ThreadPoolExecutor(max_workers=_THREADS) as pool:
            found = pool.map(self._look, contents)
            for content, tree in zip(contents, list(found), strict=True):
                self._visit(content, tree, walk)
        return self._plan_walk(walk)

    def plan_files(self, files: Collection[Digest]) -> Plan:
        """Say what is missing on the target of some files.

        Raises:
            IntegrityError: If the source misses something, or what it has is damaged.
        """
        return self._plan_walk(_Walk(files=set(files)))

    def plan_chunks(self, chunks: Collection[bytes]) -> Plan:
        """Say which frames the target misses to read some chunks.

        Raises:
            IntegrityError: If the source misses something, or what it has is damaged.
        """
        levels = self._missing_frames(chunks)
        return Plan(levels=levels, recipes=(), trees=(), file_bytes=0)

    def _plan_walk(self, walk: _Walk) -> Plan:
        files = sorted(walk.files)
        with ThreadPoolExecutor(max_workers=_THREADS) as pool:
            has_file = self._presence(files)
            data = pool.map(lambda file: (self.read(recipe_key(file)), has_file(file)), files)
            for file, (found, is_there) in zip(files, data, strict=True):
                recipe = decode_recipe(found, file)
                walk.sizes[recipe.digest] = recipe.size_bytes
                if not is_there:
                    walk.recipes.append(recipe.digest)
                # A recipe says that all of its chunks are there; a repair believes no recipe.
                if self._is_repair or not is_there:
                    walk.chunks.update(chunk.digest for chunk in recipe.chunks)
        return Plan(
            levels=self._missing_frames(walk.chunks),
            recipes=tuple(walk.recipes),
            trees=tuple(walk.trees),
            file_bytes=sum(walk.sizes.values()),
        )

    def tree(self, tree: Digest) -> Tree:
        """Return a tree from the nearer side that has it; errors as for ``read``."""
        return verified_tree(self.read(tree_key(tree)), tree)

    def read(self, key: str) -> bytes:
        """Return a blob from the nearer side that has it, checked; it is written nowhere.

        Raises:
            IntegrityError: If neither side has it, or what it has is damaged.
        """
        return self._supply.read(key)

    def _look(self, content: Content) -> _Looked:
        """Return the tree of that name, whether the target has it, and whether a file is so named.

        What is here is looked at first, then trees: most contents are trees.
        """
        found = self._looked.get(content.digest)
        if found is None:
            found = self._look_for(content.digest)
            self._looked[content.digest] = found
        return found

    def _look_for(self, digest: Digest) -> _Looked:
        target = self._target.backend
        is_here = self._target.is_local and not self._is_repair
        if is_here and target.exists(recipe_key(digest)):
            return _Looked(None, is_there=True, is_file=True)
        key = tree_key(digest)
        data = self._supply.find(key)
        if data is not None:
            return _Looked(verified_tree(data, digest), is_there=self._has(key), is_file=False)
        is_file = self._supply.find(recipe_key(digest)) is not None
        return _Looked(None, is_there=False, is_file=is_file)

    def _visit(self, content: Content, found: _Looked, walk: _Walk) -> None:
        tree, is_there, is_file = found
        if tree is None:
            if is_file:
                walk.files.add(content.digest)
            elif content.is_required:
                raise self._supply.lacking(str(content.digest))
            return
        if not is_there:
            walk.trees.append(content.digest)
        for entry in tree.entries:
            if entry.digest is None:
                continue
            if is_there and self._trusts_target:
                walk.sizes[entry.digest] = entry.size_bytes
            else:
                walk.files.add(entry.digest)

    def _presence(self, files: Sequence[Digest]) -> Callable[[Digest], bool]:
        """Return what says whether the target has a file's recipe.

        Of many files a remote is asked by listing, a thousand in a request.  One that holds far
        more than is asked for is listed in part, and asked for the rest one by one.
        """
        limit = 0
        if self._trusts_target and len(files) >= _LISTED_FILES:
            limit = len(files) * _LISTED_KEYS_PER_FILE
        wanted = {recipe_key(file) for file in files} if limit else set()
        found: set[str] = set()
        last = ""
        if limit:
            for number, stat in enumerate(self._target.backend.list(Family.RECIPE.prefix)):
                if number == limit:
                    break
                last = stat.key
                if last in wanted:
                    found.add(last)
            else:
                last = _BEHIND_ALL

        def is_there(file: Digest) -> bool:
            key = recipe_key(file)
            return key in found if key <= last else self._has(key)

        return is_there

    def _missing_frames(self, chunks: Collection[bytes]) -> tuple[dict[bytes, int], ...]:
        """Return the frames to copy, those that others need before them."""
        levels: list[dict[bytes, int]] = []
        wanted = dict.fromkeys(chunks, frames.DEPTH_LIMIT)
        while wanted:
            absent = wanted.keys() - self._held(wanted)
            found = self._source.frames.find(absent)
            for chunk in absent:
                if chunk not in found:
                    raise self._supply.lacking(f"chunk {chunk.hex()}")
            facts = self._source.frames.facts(set(found.values()))
            levels.append({name: fact.size_bytes for name, fact in sorted(facts.items())})
            wanted = {need: depth for fact in facts.values() for need, depth in fact.needs.items()}
            if len(levels) > frames.DEPTH_LIMIT + 1:
                raise self._supply.lacking("an end to a chain of parents")
        return tuple(reversed(levels))

    def _held(self, wanted: Mapping[bytes, int]) -> set[bytes]:
        """Return the chunks that the target has, in frames that exist and are near enough."""
        found = self._target.frames.find(wanted.keys())
        names = sorted(set(found.values()))
        gone: set[bytes] = set()
        if not self._trusts_target:
            with ThreadPoolExecutor(max_workers=_THREADS) as pool:
                there = pool.map(self._has, (frame_key(name) for name in names))
                gone = {name for name, is_there in zip(names, there, strict=True) if not is_there}
        # A parent that is itself a difference here would make the chain too long to be read.
        parents = {
            name: wanted[chunk]
            for chunk, name in found.items()
            if wanted[chunk] < frames.DEPTH_LIMIT and name not in gone
        }
        facts = self._target.frames.facts(parents.keys())
        gone |= {name for name, depth in parents.items() if facts[name].depth > depth}
        self._gone |= gone
        return {chunk for chunk, name in found.items() if name not in gone}

    def _has(self, key: str) -> bool:
        """Whether the target has a blob; when repairing, one that is sound."""
        if self._is_repair:
            return self._supply.is_sound_there(key)
        return self._target.backend.exists(key)

    # copying --------------------------------------------------------------------------------

    def copy(self, plan: Plan, advance: Callable[[int], None]) -> int:
        """Copy what a plan names; returns the bytes that were written.

        Raises:
            IntegrityError: If something on the source is missing or damaged; nothing that
                names it has been written then.
        """
        for name in plan.frames:
            if name in self._failures:
                raise self._failures[name]
        # Else a chunk would keep its row in a frame that is gone or damaged.
        self._target.frames.forget(self._gone)
        self._gone = set()
        written = 0
        with ThreadPoolExecutor(max_workers=_THREADS) as pool:
            for level in plan.levels:
                for batch in _batches(level.keys() - self._copied, level):
                    written += self._copy_frames(pool, batch, advance)
            self._target.frames.flush()
            written += self._copy_recipes(pool, plan.recipes, advance)
            written += self._copy_named(pool, [tree_key(tree) for tree in plan.trees], advance)
        return written

    def _copy_frames(
        self, pool: ThreadPoolExecutor, names: Sequence[bytes], advance: Callable[[int], None]
    ) -> int:
        blobs = dict(zip(names, pool.map(self._take_frame, names), strict=True))
        written = self._put({frame_key(name): data for name, data in blobs.items()}, advance)
        self._target.frames.note(
            {
                name: data[: frames.decode_header(data, frame_key(name)).body_offset]
                for name, data in blobs.items()
            }
        )
        self._copied.update(names)
        return written

    def _take_frame(self, name: bytes) -> bytes:
        try:
            return self._supply.take(frame_key(name))
        except IntegrityError as error:
            self._failures[name] = error
            raise

    def _copy_recipes(
        self, pool: ThreadPoolExecutor, files: Sequence[Digest], advance: Callable[[int], None]
    ) -> int:
        written = 0
        for start in range(0, len(files), _BATCH_BLOBS):
            batch = files[start : start + _BATCH_BLOBS]
            keys = [recipe_key(file) for file in batch]
            blobs = dict(zip(keys, pool.map(self._supply.take, keys), strict=True))
            recipes = [decode_recipe(blobs[recipe_key(file)], file) for file in batch]
            self._target.frames.note_files({recipe.sha256: recipe.digest for recipe in recipes})
            written += self._put(blobs, advance)
        return written

    def _copy_named(
        self, pool: ThreadPoolExecutor, keys: Sequence[str], advance: Callable[[int], None]
    ) -> int:
        written = 0
        for start in range(0, len(keys), _BATCH_BLOBS):
            batch = keys[start : start + _BATCH_BLOBS]
            written += self._put(
                dict(zip(batch, pool.map(self._supply.take, batch), strict=True)), advance
            )
        return written

    def _put(self, blobs: Mapping[str, bytes], advance: Callable[[int], None]) -> int:
        written = put_sound(self._target.backend, blobs, self._target.name)
        advance(sum(len(data) for data in blobs.values()))
        return written


def _batches(names: Collection[bytes], sizes: Mapping[bytes, int]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size_bytes = 0
    for name in sorted(names):
        if batch and (size_bytes + sizes[name] > _BATCH_BYTES or len(batch) == _BATCH_BLOBS):
            yield batch
            batch, size_bytes = [], 0
        batch.append(name)
        size_bytes += sizes[name]
    if batch:
        yield batch
