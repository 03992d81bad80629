"""``SqlChunkIndex``: where a chunk rests and which file another digest names, in SQL.

It answers to the store's ``ChunkIndex`` Protocol without importing it, for rows and bytes
are siblings; the caller says what a location is made of.

Invariants:
    * Each call is one short transaction, so a long ingest never keeps others waiting.
    * A chunk that is indexed keeps its row; adding twice changes nothing.
    * Rows here are not sealed: what a wrong row leads to fails the store's verification.

Example:
    >>> SqlChunkIndex(database, ChunkLocation).find([])  # doctest: +SKIP
    {}
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, Generic, Protocol, TypeVar, final

from sqlalchemy import Connection, Table, bindparam, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from stemma.db.engine import Database
from stemma.db.rows import Value
from stemma.db.tables import chunks, file_aliases
from stemma.domain.digest import Digest
from stemma.domain.errors import IntegrityError, InvalidInputError

_BATCH_SIZE: Final = 500
"""Values per IN list: far below SQLite's limit, and past where larger ones gain anything."""

_FIND: Final = select(chunks).where(chunks.c.chunk.in_(bindparam("wanted", expanding=True)))
"""Made once: building it costs more than asking, and small files are asked for one by one."""

_DROP_ALIASES: Final = delete(file_aliases).where(
    file_aliases.c.alias.in_(bindparam("wanted", expanding=True))
)
_INSERTS: Final = {
    (table.name, name): made.on_conflict_do_nothing()
    for table in (chunks, file_aliases)
    for name, made in (
        ("sqlite", sqlite.insert(table)),
        ("postgresql", postgresql.insert(table)),
    )
}
"""What adds rows whose key is not there yet, by table and engine."""

LocationT = TypeVar("LocationT")
ItemT = TypeVar("ItemT")


class IndexedChunk(Protocol):
    """A chunk inside a frame that is being indexed."""

    @property
    def digest(self) -> bytes:
        """Raw 32-byte blake3 of the chunk's bytes."""
        ...

    @property
    def offset(self) -> int:
        """Where it starts in the frame's decompressed body."""
        ...

    @property
    def size_bytes(self) -> int:
        """Its size."""
        ...


@final
class SqlChunkIndex(Generic[LocationT]):
    """A chunk index in two tables; safe to call from several threads."""

    def __init__(
        self, database: Database, make_location: Callable[[bytes, int, int], LocationT]
    ) -> None:
        """Stand on a database.

        Args:
            database: Where the rows are.
            make_location: Makes a location of frame digest, offset and size.
        """
        self._database = database
        self._make_location = make_location

    def find(self, digests: Iterable[bytes]) -> dict[bytes, LocationT]:
        """Return the location of every given chunk that is indexed; others are left out."""
        wanted = list(dict.fromkeys(digests))
        found: dict[bytes, LocationT] = {}
        if not wanted:
            return found
        with self._database.read() as connection:
            for batch in _batches(wanted):
                rows = connection.execute(_FIND, {"wanted": batch})
                for chunk, frame, offset, size_bytes in rows:
                    found[bytes(chunk)] = self._make_location(bytes(frame), offset, size_bytes)
        return found

    def add(
        self, frames: Mapping[bytes, Sequence[IndexedChunk]], *, instead_of: Iterable[bytes] = ()
    ) -> None:
        """Index frames, durably and all or none; a chunk that is indexed keeps its row.

        Rows of the frames ``instead_of`` are forgotten in the same transaction, before.
        """
        rows: list[dict[str, Value]] = [
            {
                "chunk": row.digest,
                "frame": frame,
                "offset": row.offset,
                "size_bytes": row.size_bytes,
            }
            for frame, members in frames.items()
            for row in members
        ]
        dropped = list(instead_of)
        if rows or dropped:
            with self._database.write() as connection:
                _drop_frames(connection, dropped)
                _insert_new(connection, chunks, rows)

    def drop_frames(self, frames: Iterable[bytes]) -> None:
        """Forget every row of these frames, durably; unknown frames are ignored."""
        dropped = list(frames)
        if not dropped:
            return
        with self._database.write() as connection:
            _drop_frames(connection, dropped)

    def add_aliases(self, aliases: Mapping[Digest, Digest]) -> None:
        """Let each key (a sha256 or md5 of a file) name the blake3 of the file, durably."""
        if not aliases:
            return
        with self._database.write() as connection:
            for batch in _batches([str(alias) for alias in aliases]):
                connection.execute(_DROP_ALIASES, {"wanted": list(batch)})
            _insert_new(
                connection,
                file_aliases,
                [{"alias": str(alias), "file": str(file)} for alias, file in aliases.items()],
            )

    def find_alias(self, digest: Digest) -> Digest | None:
        """Return the blake3 of the file that this sha256 or md5 names, if known."""
        query = select(file_aliases.c.file).where(file_aliases.c.alias == str(digest))
        with self._database.read() as connection:
            file = connection.execute(query).scalar_one_or_none()
        if file is None:
            return None
        try:
            return Digest.parse(str(file))
        except InvalidInputError as error:
            raise IntegrityError(
                f"table file_aliases, row {digest}: {error.message}",
                code="row-damaged",
                hint="stemma doctor --rebuild",
            ) from error

    def drop_aliases(self, files: Iterable[Digest]) -> None:
        """Forget every alias of these files (given by blake3), durably."""
        dropped = [str(file) for file in files]
        if not dropped:
            return
        with self._database.write() as connection:
            for batch in _batches(dropped):
                connection.execute(delete(file_aliases).where(file_aliases.c.file.in_(batch)))

    def clear(self) -> None:
        """Forget everything: chunks and aliases."""
        with self._database.write() as connection:
            connection.execute(delete(chunks))
            connection.execute(delete(file_aliases))


def _batches(items: Sequence[ItemT]) -> Iterator[Sequence[ItemT]]:
    return (items[start : start + _BATCH_SIZE] for start in range(0, len(items), _BATCH_SIZE))


def _insert_new(connection: Connection, table: Table, rows: Sequence[dict[str, Value]]) -> None:
    """Insert rows whose key is not there yet (one executemany)."""
    if rows:
        connection.execute(_INSERTS[table.name, connection.dialect.name], rows)


def _drop_frames(connection: Connection, frames: Sequence[bytes]) -> None:
    for batch in _batches(frames):
        connection.execute(delete(chunks).where(chunks.c.frame.in_(batch)))
