"""Artifacts on their way from a tracking server into the content store.

Invariants:
    * Memory holds small files of one group; a large one waits in a file without a name, so
      nothing of it is left by any end of the process.
    * The store is held while a group is stored and its rows are written, not while a slow
      server sends.
    * A row is written after its file is durable; a file that is here with the same size is
      fetched again only if it may have changed.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, final

from stemma.db.engine import Connection
from stemma.domain.artifact import Artifact
from stemma.domain.digest import Digest
from stemma.hub.foreign.mlflow_client import MlflowClient
from stemma.hub.foreign.mlflow_reading import ForeignFile
from stemma.hub.foreign.outcome import ForeignProgress, Tally
from stemma.hub.local_parts import LocalParts
from stemma.store.backends.files import translated_os_errors
from stemma.store.ingest import Batch, StoredFile
from stemma.tracking import artifacts

IN_MEMORY_BYTES: Final = 1 << 20

_GROUP_FILES: Final = 200
_GROUP_BYTES: Final = 32 << 20
_TEMPORARY: Final = ".stemma/tmp"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fetched:
    path: str
    stream: BinaryIO
    size_bytes: int


@final
class ArtifactImport:
    """Brings files of runs and logged models here."""

    def __init__(
        self, parts: LocalParts, client: MlflowClient, tally: Tally, progress: ForeignProgress
    ) -> None:
        """Count in ``tally`` and tell ``progress``."""
        self._parts = parts
        self._client = client
        self._tally = tally
        self._progress = progress

    def bring(
        self, owner: str, root: str, files: Iterable[ForeignFile], *, may_have_changed: bool
    ) -> None:
        """Fetch the files that are not here and write their rows.

        Args:
            owner: Run or logged model, here.
            root: Root of its artifacts, there.
            files: What is there.
            may_have_changed: Whether a file of the same size may be another one.

        Raises:
            StemmaError: If one does not arrive or may not be written; those before it are here.
        """
        with self._parts.database.read() as connection:
            there = {file.path: file.size_bytes for file in artifacts.list_below(connection, owner)}
        wanted = [
            file for file in files if may_have_changed or there.get(file.path) != file.size_bytes
        ]
        for group in self._groups(root, wanted):
            try:
                self._keep(owner, group)
            finally:
                for item in group:
                    item.stream.close()

    def _groups(self, root: str, wanted: Iterable[ForeignFile]) -> Iterator[list[_Fetched]]:
        group: list[_Fetched] = []
        size_bytes = 0
        for file in wanted:
            fetched = self._fetch(root, file)
            group.append(fetched)
            size_bytes += fetched.size_bytes
            if len(group) >= _GROUP_FILES or size_bytes >= _GROUP_BYTES:
                yield group
                group, size_bytes = [], 0
        if group:
            yield group

    def _fetch(self, root: str, file: ForeignFile) -> _Fetched:
        def target(size_bytes: int | None) -> BinaryIO:
            is_small = size_bytes is not None and size_bytes <= IN_MEMORY_BYTES
            return io.BytesIO() if is_small else self._new_spool()

        stream, size_bytes = self._client.download(f"{root}/{file.path}", target)
        self._progress.advance(size_bytes)
        return _Fetched(path=file.path, stream=stream, size_bytes=size_bytes)

    def _new_spool(self) -> BinaryIO:
        folder = self._parts.root / _TEMPORARY
        with translated_os_errors(f"write to {folder}"):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder, buffering=0) as made:
                # A plain ``FileIO`` of the same nameless file: the store reads it unbuffered.
                return io.FileIO(os.dup(made.fileno()), "r+b")

    def _keep(self, owner: str, group: list[_Fetched]) -> None:
        parts = self._parts
        now = parts.clock()
        with parts.writing():
            batch = Batch(parts.objects.backend, parts.objects.index)
            rows = [
                Artifact(
                    owner=owner, path=item.path, file=stored.digest, size_bytes=stored.size_bytes
                )
                for item in group
                for stored in [self._store(batch, owner, item)]
            ]
            batch.flush()
            with parts.database.write() as connection:
                for row in rows:
                    artifacts.put(connection, row, now)
        self._tally.file_count += len(rows)
        self._tally.file_bytes += sum(row.size_bytes for row in rows)

    def _store(self, batch: Batch, owner: str, item: _Fetched) -> StoredFile:
        if isinstance(item.stream, io.BytesIO):
            return batch.add_stream(item.stream)
        with self._parts.database.read() as connection:
            parents = _relatives(connection, owner, item.path)
        stream: io.RawIOBase = item.stream  # type: ignore[assignment]
        return batch.add_open(stream, item.size_bytes, name=Path(item.path).name, parents=parents)


def _relatives(connection: Connection, owner: str, path: str) -> list[Digest]:
    return artifacts.relatives(connection, owner, path)
