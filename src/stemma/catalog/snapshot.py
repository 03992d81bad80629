"""The head snapshot: what the last versions hold, small enough to read in a millisecond.

``stemma status`` answers from it without opening the database.

Invariants:
    * It is a cache: nothing is lost when it is deleted, and a wrong one is never believed.
      Its checksum finds flipped bits; the stamp of the database's files finds staleness.
    * It is replaced whole or not at all.

Imports the standard library and blake3 only; nothing here opens the database.

Example:
    >>> read_head(Path(".stemma")) is None  # doctest: +SKIP
    True
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple, TypedDict

from blake3 import blake3

HEAD_NAME: Final = "cache/head.json"
HEAD_SCHEMA: Final = "stemma.head/1"
_DATABASE_FILES: Final = ("stemma.db", "stemma.db-wal")
_BLOCK_BYTES: Final = 1 << 20


class FileStamp(NamedTuple):
    """A file as a version holds it.

    Attributes:
        size_bytes: Its size.
        modified_ns: Modification time at which the working file had this content; 0: unknown.
        blake3: Hexadecimal digest of its bytes.
    """

    size_bytes: int
    modified_ns: int
    blake3: str


class ModelHead(TypedDict):
    """The last version of a model.

    Keys:
        version: SemVer text; empty when only runs exist.
        level: Level of that release.
        run: The run that made it.
        newest_run: The newest run's id, and its state.
        channels: Where each channel points.
        versions: Its newest releases, for completion.
        python: Version of the interpreter it ran in.
        summaries: One line per component, by its name.
        files: Component -> path relative to the project -> stamp.
    """

    version: str
    level: str
    run: str
    newest_run: tuple[str, str]
    channels: dict[str, str]
    versions: list[str]
    python: str
    summaries: dict[str, str]
    files: dict[str, dict[str, FileStamp]]


class Head(TypedDict):
    """What ``status`` compares the working tree with.

    Keys:
        models: Last version per model.
        tracked: Path that ``stemma add`` tracks -> its files.
    """

    models: dict[str, ModelHead]
    tracked: dict[str, dict[str, FileStamp]]


def stamp_database(state: Path) -> list[list[int]]:
    """Return size and modification time of the database's files; empty without a database."""
    stamps: list[list[int]] = []
    for name in _DATABASE_FILES:
        try:
            status = (state / name).stat()
        except OSError:
            continue
        if status.st_size or not name.endswith("-wal"):
            stamps.append([status.st_size, status.st_mtime_ns])
    return stamps


def write_head(state: Path, head: Head, database: list[list[int]]) -> None:
    """Replace the snapshot in the ``.stemma`` folder ``state``.

    Args:
        state: The folder ``.stemma``.
        head: What to remember.
        database: ``stamp_database`` of before ``head`` was read.
    """
    body = {"schema": HEAD_SCHEMA, "database": database, "head": head}
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    target = state / HEAD_NAME
    temporary = target.with_name(f"{target.name}.{os.getpid()}")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_text(f"{blake3(text.encode()).hexdigest()}\n{text}", encoding="utf-8")
    temporary.replace(target)


def read_head(state: Path) -> Head | None:
    """Return the snapshot; ``None`` when it is missing, damaged or older than the database."""
    try:
        checksum, _, text = (state / HEAD_NAME).read_text(encoding="utf-8").partition("\n")
    except (OSError, UnicodeDecodeError):
        return None
    if blake3(text.encode()).hexdigest() != checksum:
        return None
    body = json.loads(text)
    database = stamp_database(state)
    if body["schema"] != HEAD_SCHEMA or not database or body["database"] != database:
        return None
    head: Head = body["head"]
    return head


def changed_files(root: Path, files: Mapping[str, FileStamp]) -> Iterator[tuple[str, str]]:
    """Yield each file that is not as recorded with ``changed`` or ``missing``.

    A file whose size and modification time are as recorded is not read.
    """
    for name, stamp in files.items():
        size_bytes, modified_ns, digest = stamp
        path = root / name
        try:
            status = path.stat()
        except OSError:
            yield name, "missing"
            continue
        if status.st_size == size_bytes and status.st_mtime_ns == modified_ns:
            continue
        if status.st_size != size_bytes or digest_file(path) != digest:
            yield name, "changed"


def digest_file(path: Path) -> str:
    """Return the hexadecimal blake3 of a file; empty when it cannot be read."""
    hasher = blake3()
    try:
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK_BYTES):
                hasher.update(block)
    except OSError:
        return ""
    return hasher.hexdigest()


def stamp_file(path: Path, size_bytes: int, digest: str) -> FileStamp:
    """Return the stamp of a recorded file, with the working file's time when it is the same."""
    try:
        status = path.stat()
    except OSError:
        return FileStamp(size_bytes, 0, digest)
    is_same = status.st_size == size_bytes and digest_file(path) == digest
    return FileStamp(size_bytes, status.st_mtime_ns if is_same else 0, digest)
