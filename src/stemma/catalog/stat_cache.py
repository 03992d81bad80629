"""Stores tracked files and folders; what did not change since last time is not read.

Invariants:
    * A file is believed unchanged only when size, modification time, change time and inode
      are as they were, and both times lie so far before the moment of looking that no later
      write can hide in the same tick (git calls the others racily clean).
    * It is a cache: deleted or damaged, everything is read again; nothing is lost.
    * A tree is returned only when it is in the store with every file it names.

It does not notice damage inside the store; ``forget`` is called where damage is found, so
that the next call stores the files anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stemma.domain.digest import Digest
from stemma.domain.errors import InvalidInputError, NotFoundError
from stemma.domain.tree import EntryKind, Tree, TreeEntry, encode_tree
from stemma.store.backends.local import translated_os_errors
from stemma.store.beside import NOTHING, look_beside
from stemma.store.hashing import hash_bytes, hash_file
from stemma.store.ingest import Batch, Progress, StoredFile, StoredTree
from stemma.store.lineage import in_reading_order, is_compared
from stemma.store.objects import ObjectStore
from stemma.store.trees import Sighting, look_at

_FOLDER: Final = "cache/files"
_SCHEMA: Final = "stemma.files/1"
_TICK_NANOSECONDS: Final = 2_000_000_000
_MOST_BESIDE: Final = 8
"""The coarsest clock of a file system in use (FAT counts seconds by twos)."""

Facts = tuple[int, int, int, int]
"""Size, modification time, change time, inode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What stands in a folder, and what of it is known.

    Attributes:
        base: Folder that the names are relative to.
        sightings: Every file and link, by path.
        facts: What ``lstat`` said of each, before anything is read.
        known: blake3 of the files that did not change.
        earlier: blake3 that files had which did change.
        cache_file: Where this is remembered.
        looked_at_ns: When.
    """

    base: Path
    sightings: tuple[Sighting, ...]
    facts: Mapping[str, Facts]
    known: Mapping[str, Digest]
    earlier: Mapping[str, Digest]
    cache_file: Path
    looked_at_ns: int

    @property
    def unread(self) -> tuple[str, ...]:
        """Names of the files that must be read."""
        return tuple(
            item.path
            for item in self.sightings
            if item.kind is not EntryKind.SYMLINK and item.path not in self.known
        )

    @property
    def unread_bytes(self) -> int:
        """Size of the files that must be read."""
        return sum(self.facts[name][0] for name in self.unread)


def survey(state: Path, base: Path, names: Sequence[str], *, now_ns: int) -> Survey:
    """Look at files without reading them.

    Args:
        state: The folder ``.stemma``.
        base: Folder that ``names`` are relative to.
        names: Files and links.
        now_ns: The time of the clock that file times are of.

    Raises:
        InvalidInputError: If a name or a link may not be in a tree.
        NotFoundError: If a file does not exist.
    """
    label = f"{base}\0{names[0] if len(names) == 1 else ''}"
    cache_file = state / _FOLDER / f"{hash_bytes(os.fsencode(label)).hex[:32]}.json"
    remembered = _read(cache_file)
    sightings = tuple(look_at(base, names))
    facts = {item.path: _facts(base / item.path) for item in sightings}
    digests = {
        name: Digest.blake3(digest) for name, (*_, digest) in remembered.items() if name in facts
    }
    known = {name: digests[name] for name in digests if tuple(remembered[name][:-1]) == facts[name]}
    return Survey(
        base=base,
        sightings=sightings,
        facts=facts,
        known=known,
        earlier={name: digest for name, digest in digests.items() if name not in known},
        cache_file=cache_file,
        looked_at_ns=now_ns,
    )


def store(objects: ObjectStore, seen: Survey, progress: Progress | None = None) -> StoredTree:
    """Store what was seen, reading only what is not known.

    Raises:
        ConflictError: If a file changes while it is read.
    """
    tree = None if seen.unread else Tree.of(_entries(seen, seen.known, {}))
    if tree is not None and objects.has_tree(digest := hash_bytes(encode_tree(tree))):
        return StoredTree(
            digest=digest,
            size_bytes=tree.size_bytes,
            file_count=len(tree.entries),
            new_bytes=0,
            entries=tree.entries,
        )
    batch = Batch(objects.backend, objects.index)
    read = _read_in(batch, seen, progress)
    batch.flush()
    digests = {**seen.known, **{name: file.digest for name, file in read.items()}}
    # A file may have grown since it was looked at; its size is the one that was read.
    sizes = {name: file.size_bytes for name, file in read.items()}
    try:
        stored = objects.put_tree_from(_entries(seen, digests, sizes))
    except NotFoundError:
        # What was remembered has been collected since: read everything.
        names = [item.path for item in seen.sightings]
        stored = objects.put_tree(seen.base, names, progress=progress)
        digests = {name: file.digest for name, file in stored.files.items()}
        read = stored.files
    _remember(seen, digests)
    return StoredTree(
        digest=stored.digest,
        size_bytes=stored.size_bytes,
        file_count=stored.file_count,
        new_bytes=sum(file.new_bytes for file in read.values()),
        entries=stored.entries,
        files=read,
    )


def _read_in(batch: Batch, seen: Survey, progress: Progress | None) -> dict[str, StoredFile]:
    """Take in what must be read, each file beside its earlier content and large known files."""
    sizes = {name: facts[0] for name, facts in seen.facts.items()}
    beside = sorted(
        (name for name in seen.known if is_compared(sizes[name])), key=sizes.__getitem__
    )
    beside = beside[-_MOST_BESIDE:][::-1]
    unread = {name: sizes[name] for name in seen.unread}
    files = [item.path for item in seen.sightings if item.kind is not EntryKind.SYMLINK]
    said = look_beside({name: seen.base / name for name in files} if unread else {})
    read: dict[str, StoredFile] = {}
    for name in in_reading_order(unread):
        parents = [seen.earlier[name]] if name in seen.earlier else []
        parents += [seen.known[other] for other in beside]
        read[name] = batch.add_path(
            seen.base / name, progress, parents=parents, beside=said.get(name, NOTHING)
        )
    return dict(sorted(read.items()))


def compared(seen: Survey, wanted: Mapping[str, Digest]) -> dict[str, Digest]:
    """Return blake3 of those files of ``wanted`` that were seen, reading only what is not known.

    What was read is remembered when all of it is as wanted; else what a changed file was before
    would be forgotten, and the next call could not store it as a difference.
    """
    unread = set(seen.unread)
    read: dict[str, Digest] = {}
    for name in wanted.keys() & unread:
        path = seen.base / name
        with translated_os_errors(f"read {path}", is_write=False):
            read[name] = hash_file(path)
    if read and all(wanted[name] == digest for name, digest in read.items()):
        _remember(seen, {**seen.known, **read})
    return {**{name: seen.known[name] for name in wanted.keys() & seen.known.keys()}, **read}


def note(seen: Survey, digests: Mapping[str, Digest]) -> None:
    """Remember files that are as they were seen, and nothing else; others have been replaced."""
    _remember(seen, digests)


def forget(state: Path) -> None:
    """Forget every file, so that all are read and stored again."""
    shutil.rmtree(state / _FOLDER, ignore_errors=True)


def _entries(
    seen: Survey, digests: Mapping[str, Digest], sizes: Mapping[str, int]
) -> list[TreeEntry]:
    return [
        TreeEntry(
            path=item.path,
            kind=item.kind,
            size_bytes=sizes.get(
                item.path, seen.facts[item.path][0] if item.path in digests else 0
            ),
            digest=digests.get(item.path),
            target=item.target,
        )
        for item in seen.sightings
    ]


def _facts(path: Path) -> Facts:
    status = path.lstat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _remember(seen: Survey, digests: Mapping[str, Digest]) -> None:
    settled_before_ns = seen.looked_at_ns - _TICK_NANOSECONDS
    files = {
        name: [*seen.facts[name], digest.hex]
        for name, digest in digests.items()
        if max(seen.facts[name][1:3]) < settled_before_ns
    }
    text = json.dumps({"schema": _SCHEMA, "files": files}, separators=(",", ":"))
    temporary = seen.cache_file.with_suffix(f".{os.getpid()}")
    try:
        seen.cache_file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(f"{hash_bytes(text.encode())}\n{text}", encoding="utf-8")
        temporary.replace(seen.cache_file)
    except OSError:
        # Without a cache the next call is only slower.
        with contextlib.suppress(OSError):
            temporary.unlink()


def _read(cache_file: Path) -> dict[str, tuple[int, int, int, int, str]]:
    try:
        checksum, _, text = cache_file.read_text(encoding="utf-8").partition("\n")
        is_sound = Digest.parse(checksum) == hash_bytes(text.encode())
    except (OSError, UnicodeDecodeError, InvalidInputError):
        return {}
    match json.loads(text) if is_sound else None:
        case {"schema": schema, "files": dict(files)} if schema == _SCHEMA:
            return {name: tuple(row) for name, row in files.items()}
        case _:
            return {}
