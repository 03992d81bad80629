"""The head snapshot: what the last versions hold, small enough to read in a millisecond.

``stemma status`` answers from it without opening the database.

Invariants:
    * It is a cache: nothing is lost when it is deleted, and a wrong one is never believed.
      Its checksum finds flipped bits, its shape one of another build, and the stamp of what
      it was read from (database, settings, pointers) staleness.
    * It is replaced whole or not at all.

Imports the standard library and blake3 only; nothing here opens the database.

Example:
    >>> read_head(root / ".stemma", stamp_sources(root)) is None  # doctest: +SKIP
    True
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple, TypedDict, cast

from blake3 import blake3

from stemma.catalog.pointer_files import find_pointers

HEAD_NAME: Final = "cache/head.json"
HEAD_SCHEMA: Final = "stemma.head/2"
"""Raise the number with every change of the fields below."""

NOT_STORED: Final = "its content is not in this project's store"
"""Why a tracked path cannot be compared that a pull may bring."""

_LOG_FILE: Final = "stemma.db-wal"
_DATABASE_FILES: Final = ("stemma.db", _LOG_FILE)
_BLOCK_BYTES: Final = 1 << 20
_STAMP_TYPES: Final = [int, int, str]


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


class CandidateHead(TypedDict):
    """The newest finished run that is not released and differs from the last release.

    Keys:
        run: Its id.
        python: Version of the interpreter it ran in.
        files: Path relative to the project -> stamp.
    """

    run: str
    python: str
    files: dict[str, FileStamp]


class ModelHead(TypedDict):
    """The last version of a model.

    Keys:
        version: SemVer text; empty when only runs exist.
        level: Level of that release.
        run: The run that made it.
        newest_run: The newest run's id; empty without one.
        newest_state: How it ended.
        failure: Why it failed, in one line; empty when it did not.
        channels: Where each channel points.
        versions: Its newest releases, for completion.
        python: Version of the interpreter it ran in.
        command: What made it, one argument per element.
        summaries: One line per component, by its name.
        files: Component -> path relative to the project -> stamp.
        candidate: What could be released now; ``None``: nothing.
    """

    version: str
    level: str
    run: str
    newest_run: str
    newest_state: str
    failure: str
    channels: dict[str, str]
    versions: list[str]
    python: str
    command: list[str]
    summaries: dict[str, str]
    files: dict[str, dict[str, FileStamp]]
    candidate: CandidateHead | None


class Head(TypedDict):
    """What ``status`` compares the working tree with.

    Keys:
        models: Last version per model.
        tracked: Path that ``stemma add`` tracks -> its files.
        unreadable: Path that has a pointer -> why nothing can be compared with it.
    """

    models: dict[str, ModelHead]
    tracked: dict[str, dict[str, FileStamp]]
    unreadable: dict[str, str]


class Sources(TypedDict):
    """Size and modification time of everything a head was read from.

    Keys:
        database: Of the database's files; empty without a database here.
        settings: Of the settings files, by path.
        pointers: Of the pointer files, by path.
    """

    database: list[list[int]]
    settings: dict[str, list[int]]
    pointers: dict[str, list[int]]


def stamp_sources(root: Path, settings: Iterable[Path] = ()) -> Sources:
    """Look at what the head of the project at ``root`` is read from; reads no file.

    Args:
        root: The project's folder.
        settings: Its settings files, which may not exist.
    """
    state = root / ".stemma"
    files = {name: _stamp(state / name) for name in _DATABASE_FILES}
    return Sources(
        database=[
            stamp for name, stamp in files.items() if stamp and (stamp[0] or name != _LOG_FILE)
        ],
        settings={str(path): _stamp(path) for path in settings},
        pointers={str(path): _stamp(path) for path in find_pointers(root)},
    )


def _stamp(path: Path) -> list[int]:
    try:
        status = path.stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def write_head(state: Path, head: Head, sources: Sources) -> None:
    """Replace the snapshot in the ``.stemma`` folder ``state``.

    Args:
        state: The folder ``.stemma``.
        head: What to remember.
        sources: ``stamp_sources`` of before ``head`` was read.
    """
    body = {"schema": HEAD_SCHEMA, "sources": sources, "head": head}
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    target = state / HEAD_NAME
    temporary = target.with_name(f"{target.name}.{os.getpid()}")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_text(f"{blake3(text.encode()).hexdigest()}\n{text}", encoding="utf-8")
    temporary.replace(target)


def read_head(state: Path, sources: Sources) -> Head | None:
    """Return the snapshot; ``None`` when it is missing, damaged, stale or of another build.

    Args:
        state: The folder ``.stemma``.
        sources: ``stamp_sources`` of now.
    """
    try:
        checksum, _, text = (state / HEAD_NAME).read_text(encoding="utf-8").partition("\n")
    except (OSError, UnicodeDecodeError):
        return None
    if blake3(text.encode()).hexdigest() != checksum:
        return None
    try:
        body = json.loads(text)
    except ValueError:
        return None
    match body:
        case {"schema": schema, "sources": then, "head": head} if schema == HEAD_SCHEMA:
            is_fresh = bool(sources["database"]) and then == sources
            return cast("Head", head) if is_fresh and _is_head(head) else None
        case _:
            return None


def _is_head(value: object) -> bool:
    """Whether a value read from JSON has every field of a head, of its type, and no other."""
    match value:
        case {
            "models": dict(models),
            "tracked": dict(tracked),
            "unreadable": dict(unreadable),
            **rest,
        } if not rest:
            return (
                all(map(_is_model, models.values()))
                and all(map(_are_files, tracked.values()))
                and all(type(why) is str for why in unreadable.values())
            )
        case _:
            return False


def _is_model(value: object) -> bool:
    match value:
        case {
            "version": str(),
            "level": str(),
            "run": str(),
            "newest_run": str(),
            "newest_state": str(),
            "failure": str(),
            "channels": dict(channels),
            "versions": list(versions),
            "python": str(),
            "command": list(command),
            "summaries": dict(summaries),
            "files": dict(files),
            "candidate": candidate,
            **rest,
        } if not rest:
            texts = (*channels.values(), *versions, *command, *summaries.values())
            return (
                all(type(text) is str for text in texts)
                and all(map(_are_files, files.values()))
                and (candidate is None or _is_candidate(candidate))
            )
        case _:
            return False


def _is_candidate(value: object) -> bool:
    match value:
        case {"run": str(), "python": str(), "files": files, **rest} if not rest:
            return _are_files(files)
        case _:
            return False


def _are_files(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(stamp, list) and [type(part) for part in stamp] == _STAMP_TYPES
        for stamp in value.values()
    )


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
