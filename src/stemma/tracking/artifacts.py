"""Artifacts: the files of runs, logged models and traces, by path.

A row says which file of the content store a path stands for; whoever writes one has stored the
file, and holds the store until the row is durable.

Invariants:
    * A path is a file or a folder, never both.
    * A file of a run may be replaced; those of a logged model that is ready stay as they are,
      and so does the model that a finished run recorded itself.
    * What garbage collection must keep is ``kept_files``.

It reads and writes no files; ``stemma.protocols`` brings the bytes to the store and back.

Example:
    >>> put(connection, artifact, now)  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from stemma.db.engine import Connection
from stemma.domain.artifact import (
    Artifact,
    ArtifactEntry,
    check_artifact_folder,
    check_artifact_path,
)
from stemma.domain.digest import Digest
from stemma.domain.errors import ConflictError, InvalidInputError, NotFoundError
from stemma.domain.logged_model import LoggedModelState
from stemma.domain.trace import TRACE_PREFIX
from stemma.tracking import artifact_queries as queries
from stemma.tracking.registered_sources import version_with

NATIVE_FOLDER: Final = "model"
"""Where the files stand that a finished run recorded itself."""

_RUN: Final = "run"
_MODEL: Final = "logged model"
_TRACE: Final = "trace"
_WORDS: Final = (("m-", _MODEL), (TRACE_PREFIX, _TRACE))
_FINDERS: Final = {
    _RUN: queries.find_run,
    _MODEL: queries.find_model,
    _TRACE: queries.find_trace,
}


def put(
    connection: Connection, artifact: Artifact, now: datetime, *, experiment: int | None = None
) -> None:
    """Write the row of a stored file; the same file at the same path changes nothing.

    Args:
        connection: A write transaction.
        artifact: The file.
        now: The moment.
        experiment: The experiment that the owner is said to be of; not looked at if ``None``.

    Raises:
        NotFoundError: If there is no such run, logged model or trace.
        InvalidInputError: If the path may not be, or stands for a folder or below a file; or if
            the owner is deleted.
        ConflictError: If what is there may not change (``artifact-immutable``).
    """
    path = check_artifact_path(artifact.path)
    found = queries.find(connection, artifact.owner, path)
    if found is not None and found.file == artifact.file:
        return
    check_writable(connection, artifact.owner, path, experiment=experiment)
    if found is None:
        blocking = queries.in_the_way(connection, artifact.owner, path)
        if blocking is not None:
            raise InvalidInputError(
                f"{artifact.owner} has an artifact {blocking}, so {path} cannot be one",
                code="artifact-in-the-way",
                hint="choose another path",
            )
    queries.upsert(connection, artifact, now)


def get(connection: Connection, owner: str, path: str) -> Artifact:
    """Return a file.

    Raises:
        NotFoundError: If there is none (``artifact-not-found``).
        InvalidInputError: If no file can have that path.
    """
    found = queries.find(connection, owner, check_artifact_path(path))
    if found is None:
        raise no_artifact(owner, path)
    return found


def list_folder(connection: Connection, owner: str, folder: str) -> list[ArtifactEntry]:
    """Return what a folder holds, by path; nothing when there is no such folder.

    Raises:
        InvalidInputError: If no folder can have that path.
    """
    return list(_entries(connection, owner, check_artifact_folder(folder)))


def list_below(connection: Connection, owner: str, folder: str = "") -> Iterator[Artifact]:
    """Yield every file below a folder, by path.

    Raises:
        InvalidInputError: If no folder can have that path.
    """
    prefix = check_artifact_folder(folder)
    start, last = "", ""
    while True:
        rows = queries.page(connection, owner, prefix, start)
        yield from (file for file in rows if file.path != last)
        if not queries.is_full(rows):
            return
        start = last = rows[-1].path


def delete(connection: Connection, owner: str, path: str, *, experiment: int | None = None) -> int:
    """Remove a file, or all that is below a folder; returns how many files.

    Raises:
        NotFoundError: If there is no such run, logged model or path.
        ConflictError: If what is there may not change (``artifact-immutable``).
        InvalidInputError: If no file can have that path, or the owner is deleted.
    """
    check_artifact_path(path)
    check_writable(connection, owner, path, experiment=experiment)
    count = queries.remove(connection, owner, path)
    if not count:
        raise no_artifact(owner, path)
    return count


def check_writable(
    connection: Connection, owner: str, path: str, *, experiment: int | None = None
) -> None:
    """Check that this path of a run or logged model may be written.

    Raises:
        NotFoundError: If there is no such run, logged model or trace.
        InvalidInputError: If it is deleted.
        ConflictError: If what is there may not change (``artifact-immutable``).
    """
    word = _word(owner)
    is_model, is_run = word == _MODEL, word == _RUN
    row = _FINDERS[word](connection, owner)
    if row is None or experiment not in {None, row.experiment}:
        raise _no_owner(owner, experiment)
    if row.deleted_at is not None:
        raise InvalidInputError(
            f"{word} {owner} is deleted", code=f"{word.replace(' ', '-')}-deleted"
        )
    if is_model and row.state == LoggedModelState.READY.value:
        raise _immutable(f"logged model {owner} is ready")
    is_native = path.partition("/")[0] == NATIVE_FOLDER
    if is_run and is_native and row.manifest is not None:
        raise _immutable(f"run {owner} has recorded its model")
    version = version_with(connection, owner, path) if is_run else ""
    if version:
        raise _immutable(f"{path} of {owner} is {version}")


def experiment_of(connection: Connection, owner: str) -> int:
    """Return the experiment of a run or logged model.

    Raises:
        NotFoundError: If there is none.
    """
    row = _FINDERS[_word(owner)](connection, owner)
    if row is None:
        raise _no_owner(owner)
    return int(row.experiment)


def manifest_of(connection: Connection, owner: str) -> Digest | None:
    """Return the manifest that a finished run recorded; nothing of other owners."""
    row = queries.find_run(connection, owner) if _word(owner) == _RUN else None
    return None if row is None or row.manifest is None else Digest.parse(row.manifest)


def relatives(connection: Connection, owner: str, path: str) -> list[Digest]:
    """Return stored files that a new one at this path may be another version of, newest first."""
    return queries.related(connection, owner, path)


def kept_files(connection: Connection, without: Iterable[str] = ()) -> Iterator[tuple[Digest, str]]:
    """Yield each file that rows name with a reason to keep it, except those of some owners."""
    seen: set[str] = set()
    for row in queries.every_file(connection, without):
        if row.file not in seen:
            seen.add(row.file)
            yield Digest.parse(row.file), f"artifact {row.path} of {row.owner}"


def every_artifact(connection: Connection) -> Iterator[tuple[str, str, Digest]]:
    """Yield owner, path and file of every row."""
    for row in queries.every_file(connection, ()):
        yield row.owner, row.path, Digest.parse(row.file)


def no_artifact(owner: str, path: str) -> NotFoundError:
    """Return the error for a path that stands for no file."""
    return NotFoundError(f"{owner} has no artifact {path[:200]}", code="artifact-not-found")


def _entries(connection: Connection, owner: str, folder: str) -> Iterator[ArtifactEntry]:
    """Step from file to file and over each folder, whatever it holds."""
    prefix = f"{folder}/" if folder else ""
    start, last = "", ""
    while True:
        rows = queries.page(connection, owner, folder, start)
        for row in rows:
            if row.path == last or row.path < start:
                continue
            name, slash, _ = row.path[len(prefix) :].partition("/")
            if slash:
                start = queries.past(prefix + name)
                yield ArtifactEntry(path=prefix + name, is_folder=True)
            else:
                start = last = row.path
                yield ArtifactEntry(path=row.path, is_folder=False, size_bytes=row.size_bytes)
        if not queries.is_full(rows):
            return


def _word(owner: str) -> str:
    return next((word for prefix, word in _WORDS if owner.startswith(prefix)), _RUN)


def _no_owner(owner: str, experiment: int | None = None) -> NotFoundError:
    where = "" if experiment is None else f" in experiment {experiment}"
    word = _word(owner)
    return NotFoundError(f"no {word} {owner}{where}", code=f"{word.replace(' ', '-')}-not-found")


def _immutable(what: str) -> ConflictError:
    return ConflictError(
        f"{what}; its files do not change any more",
        code="artifact-immutable",
        hint="log a new model",
    )
