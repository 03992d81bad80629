"""Which frame of a remote holds a chunk, when nobody but files answers there.

A remote has no database.  Whoever copies frames to it leaves a record of kind
``frame-index`` beside them: the names and headers of those frames, one after another.

Invariants (normative text: ``docs/formats/store.md`` §Remotes):
    * The records are only an index: a frame that none of them names is found by its own
      header, and a damaged record is passed over.
    * A record is written after its frames are durable.
    * Memory holds what was asked for, not the index: records are read through one by one.

Costs: one listing and one request for each record that is not in ``cache``; frames that no
record names cost a listing of all frames and one request each, once in a command.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple, final

from stemma.domain.digest import Algorithm, Digest
from stemma.domain.errors import IntegrityError, NotFoundError
from stemma.store import frames
from stemma.store.backends.base import BlobBackend
from stemma.store.backends.local import translated_os_errors
from stemma.store.hashing import hash_bytes
from stemma.store.keys import Family, frame_key, parse_key, record_key, records_prefix

KIND: Final = "frame-index"
_RECORD_BYTES: Final = 8 << 20
_THREADS: Final = 16


class FrameFacts(NamedTuple):
    """What copying a frame must know beforehand.

    Attributes:
        size_bytes: Its stored size.
        depth: How many steps it is from the end of its chain of parents.
        needs: The chunks it cannot be read without, each with the most steps it may be away.
    """

    size_bytes: int
    depth: int
    needs: dict[bytes, int]


def facts_of(header: frames.Header) -> FrameFacts:
    """Return what copying must know of a frame; the one place that says what a frame needs."""
    parent = header.parent
    return FrameFacts(
        size_bytes=header.body_offset + header.stored_bytes,
        depth=header.depth,
        needs={} if parent is None else {parent.chunk.digest: parent.depth},
    )


@final
class RemoteIndex:
    """Finds frames on a remote; one instance serves one command."""

    def __init__(self, backend: BlobBackend, cache: Path | None = None) -> None:
        """Stand on a remote; nothing is read yet.

        Args:
            backend: The remote.
            cache: Folder that keeps records which were read; it may be removed at any time.
        """
        self._backend = backend
        self._cache = cache
        self._records: list[Digest] | None = None
        self._facts: dict[bytes, FrameFacts] = {}
        self._pending: dict[bytes, bytes] = {}
        self._stray: dict[bytes, bytes] | None = None

    def find(self, chunks: Collection[bytes]) -> dict[bytes, bytes]:
        """Return the frame of every given chunk that the remote holds."""
        wanted = set(chunks)
        found: dict[bytes, bytes] = {}
        indexed: set[bytes] = set()
        if not wanted:
            return found
        for digest in self._record_names():
            for name, header in _entries(self._read_record(digest)):
                indexed.add(name)
                self._take(name, header, wanted, found)
        if wanted - found.keys():
            for name, head in self._strays(indexed).items():
                header = frames.decode_header(head, frame_key(name))
                self._take(name, header, wanted, found)
        return found

    def _take(
        self,
        name: bytes,
        header: frames.Header,
        wanted: Collection[bytes],
        found: dict[bytes, bytes],
    ) -> None:
        for chunk in header.chunks:
            if chunk.digest not in wanted:
                continue
            self._facts[name] = facts_of(header)
            known = found.get(chunk.digest)
            # Two projects may have stored it: the shorter chain can be read by everybody.
            if known is None or header.depth < self._facts[known].depth:
                found[chunk.digest] = name

    def facts(self, names: Collection[bytes]) -> dict[bytes, FrameFacts]:
        """Return what is known of frames that ``find`` named."""
        return {name: self._facts[name] for name in names}

    def forget(self, names: Collection[bytes]) -> None:
        """Do nothing: a frame that is gone is copied again under the same name."""

    def note(self, headers: Mapping[bytes, bytes]) -> None:
        """Take in the headers of frames that are durable on the remote now."""
        self._pending.update(headers)

    def note_files(self, files: Mapping[Digest, Digest]) -> None:
        """Do nothing: a remote is asked for files by blake3 only."""

    def flush(self) -> None:
        """Write what was noted as records, with what a killed push left without one."""
        if self._pending and self._stray:
            self._pending = {**self._stray, **self._pending}
            self._stray = {}
        body = bytearray()
        for name, header in sorted(self._pending.items()):
            body += name + header
            if len(body) >= _RECORD_BYTES:
                self._write(bytes(body))
                body.clear()
        if body:
            self._write(bytes(body))
        self._pending = {}

    def _write(self, data: bytes) -> None:
        digest = hash_bytes(data, Algorithm.SHA256)
        self._backend.put(record_key(KIND, digest), data)
        self._keep(digest, data)
        if self._records is not None:
            self._records.append(digest)

    def _record_names(self) -> list[Digest]:
        if self._records is None:
            keys = (parse_key(stat.key) for stat in self._backend.list(records_prefix(KIND)))
            self._records = [key.digest for key in keys if key is not None]
        return self._records

    def _read_record(self, digest: Digest) -> bytes:
        """Return a record's bytes; none when it is damaged, for it is only an index."""
        if self._cache is not None:
            try:
                data = (self._cache / digest.hex).read_bytes()
            except OSError:
                data = b""
            if hash_bytes(data, Algorithm.SHA256) == digest:
                return data
        try:
            data = self._backend.get(record_key(KIND, digest))
        except NotFoundError:
            return b""
        if hash_bytes(data, Algorithm.SHA256) != digest:
            return b""
        self._keep(digest, data)
        return data

    def _keep(self, digest: Digest, data: bytes) -> None:
        if self._cache is None:
            return
        with translated_os_errors(f"write to {self._cache}"):
            self._cache.mkdir(parents=True, exist_ok=True)
            temporary = self._cache / f"{digest.hex}.{os.getpid()}.part"
            temporary.write_bytes(data)
            temporary.replace(self._cache / digest.hex)

    def _strays(self, indexed: Collection[bytes]) -> dict[bytes, bytes]:
        """Return the headers of frames that no record names, as a killed push leaves them.

        They are looked for once; what others write meanwhile is found when it is written again.
        """
        if self._stray is None:
            keys = (parse_key(stat.key) for stat in self._backend.list(Family.FRAME.prefix))
            names = [bytes.fromhex(key.hex) for key in keys if key is not None]
            strays = [name for name in names if name not in indexed]
            with ThreadPoolExecutor(max_workers=_THREADS) as pool:
                heads = pool.map(self._head, strays)
                self._stray = {name: head for name, head in zip(strays, heads, strict=True) if head}
        return self._stray

    def _head(self, name: bytes) -> bytes:
        key = frame_key(name)
        try:
            head = self._backend.get_range(key, 0, frames.HEADER_LIMIT_BYTES)
            return head[: frames.decode_header(head, key).body_offset]
        except (IntegrityError, NotFoundError):
            return b""


def read_header(backend: BlobBackend, name: bytes) -> frames.Header:
    """Read the header of a frame.

    Raises:
        NotFoundError: If there is no such frame.
        IntegrityError: If it is not sound.
    """
    key = frame_key(name)
    return frames.decode_header(backend.get_range(key, 0, frames.HEADER_LIMIT_BYTES), key)


def _entries(data: bytes) -> Iterator[tuple[bytes, frames.Header]]:
    """Yield names and headers of a record; what cannot be read ends it."""
    offset = 0
    while offset < len(data):
        name = data[offset : offset + frames.DIGEST_BYTES]
        offset += frames.DIGEST_BYTES
        head = data[offset : offset + frames.HEADER_LIMIT_BYTES]
        try:
            header = frames.decode_header(head, frame_key(name))
        except IntegrityError:
            return
        offset += header.body_offset
        yield name, header
