"""Reads one pack: its table when that is sound, else what a scan of the entries finds.

Invariants:
    * A handle is open only while something is read, so their number is bounded by the threads.
    * A damaged table, or damaged keys, hide nothing whose header is sound.
    * Nothing is written.
"""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Final

from stemma.domain.errors import IntegrityError
from stemma.store.backends.packs.layout import (
    ENTRY_BYTES,
    ENTRY_MAGIC,
    HEAD_BYTES,
    KEY_LIMIT_BYTES,
    ROW,
    TRAILER_BYTES,
    VERSION,
    Entry,
    Rows,
    Trailer,
    decode_entry,
    decode_rows,
    decode_trailer,
    digest,
    encode_entry,
    encode_head,
    make_rows,
    nonce_in_head,
)

_SEARCH_BYTES: Final = 1 << 20
_HEADER_LIMIT_BYTES: Final = ENTRY_BYTES + KEY_LIMIT_BYTES


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pack:
    """A pack whose table was read.

    Attributes:
        path: The file.
        name: The digest that names it.
        rows: Its table.
        keys_at: Where its keys start in the file.
        keys_bytes: Size of the keys together.
        keys: The keys, when they were found by a scan; else none, and the file has them.
        trailer: Its trailer; none when a scan had to find the entries.
    """

    path: Path
    name: bytes
    rows: Rows
    keys_at: int
    keys_bytes: int
    keys: bytes | None
    trailer: Trailer | None

    def key(self, handle: int, number: int) -> bytes:
        """Return the key of an entry."""
        row = self.rows[number]
        at, size_bytes = int(row["key_at"]), int(row["key_size"])
        if self.keys is not None:
            return self.keys[at : at + size_bytes]
        return os.pread(handle, size_bytes, self.keys_at + at)

    def all_keys(self, handle: int) -> bytes | None:
        """Return the keys together; none when they are damaged."""
        if self.keys is not None or self.trailer is None:
            return self.keys
        keys = read_at(handle, self.keys_bytes, self.keys_at)
        return keys if digest(keys) == self.trailer.keys_digest else None

    def body(self, handle: int, number: int, offset: int, size_bytes: int | None) -> bytes:
        """Return bytes of a blob; less where the blob or the file ends."""
        row = self.rows[number]
        start, whole = int(row["offset"]), int(row["size"])
        left = max(whole - offset, 0)
        wanted = left if size_bytes is None else min(size_bytes, left)
        return read_at(handle, wanted, start + offset)

    def body_of(self, number: int) -> bytes:
        """Return a blob."""
        with opened(self.path) as handle:
            return self.body(handle, number, 0, None)

    def entries(self, keys: bytes) -> list[Entry]:
        """Return all entries, in order of key; ``keys`` as ``all_keys`` gave them."""
        columns = ("key_at", "key_size", "offset", "size", "written")
        return [
            Entry(keys[at : at + length], offset, size_bytes, written)
            for at, length, offset, size_bytes, written in zip(
                *(self.rows[column].tolist() for column in columns), strict=True
            )
        ]

    def range_of(self, keys: bytes, prefix: bytes) -> range:
        """Return the numbers of the entries whose keys start with ``prefix``."""

        def start(number: int) -> bytes:
            row = self.rows[number]
            at = int(row["key_at"])
            return keys[at : at + min(int(row["key_size"]), len(prefix))]

        numbers = range(len(self.rows))
        first = bisect_left(numbers, prefix, key=start)
        return range(first, bisect_right(numbers, prefix, lo=first, key=start))


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Open a file for reading."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)


def read_pack(path: Path) -> Pack:
    """Read the table of a pack, scanning for entries when it is damaged.

    Raises:
        IntegrityError: If it is of a version that this program does not know
            (``pack-of-later-version``).
    """
    name = bytes.fromhex(path.name)
    with opened(path) as handle:
        size_bytes = os.fstat(handle).st_size
        trailer = _trailer(handle, size_bytes)
        if trailer is not None and trailer.version != VERSION:
            raise IntegrityError(
                f"{path} is of version {trailer.version}, which this program does not know",
                code="pack-of-later-version",
                hint="pip install --upgrade stemma-ml",
            )
        if trailer is not None and trailer.name == name:
            keys_at = size_bytes - TRAILER_BYTES - trailer.keys_bytes
            rows_at = keys_at - trailer.entry_count * ROW.itemsize
            if rows_at >= HEAD_BYTES:
                data = read_at(handle, keys_at - rows_at, rows_at)
                rows = decode_rows(data, trailer, rows_at)
                if rows is not None:
                    return Pack(
                        path=path,
                        name=name,
                        rows=rows,
                        keys_at=keys_at,
                        keys_bytes=trailer.keys_bytes,
                        keys=None,
                        trailer=trailer,
                    )
    return scan_pack(path)


def _trailer(handle: int, size_bytes: int) -> Trailer | None:
    return decode_trailer(read_at(handle, TRAILER_BYTES, max(size_bytes - TRAILER_BYTES, 0)))


def scan_pack(path: Path) -> Pack:
    """Find the entries of a pack by their headers alone."""
    with opened(path) as handle:
        size_bytes = os.fstat(handle).st_size
        trailer = _trailer(handle, size_bytes)
        nonces = [nonce_in_head(os.pread(handle, HEAD_BYTES, 0))]
        if trailer is not None:
            nonces.append(trailer.nonce)
        entries = list(_scan(handle, size_bytes, nonces))
    rows, keys = make_rows(entries)
    return Pack(
        path=path,
        name=bytes.fromhex(path.name),
        rows=rows,
        keys_at=0,
        keys_bytes=len(keys),
        keys=keys,
        trailer=None,
    )


def _scan(handle: int, size_bytes: int, nonces: Sequence[bytes]) -> Iterator[Entry]:
    at = HEAD_BYTES
    while at < size_bytes:
        entry = decode_entry(os.pread(handle, _HEADER_LIMIT_BYTES, at), at, nonces)
        if entry is not None and entry.offset + entry.size_bytes <= size_bytes:
            yield entry
            at = entry.offset + entry.size_bytes
        else:
            at = _next_magic(handle, at + 1, size_bytes)


def _next_magic(handle: int, at: int, size_bytes: int) -> int:
    while at < size_bytes:
        window = os.pread(handle, _SEARCH_BYTES, at)
        found = window.find(ENTRY_MAGIC)
        if found >= 0:
            return at + found
        at += max(len(window) - len(ENTRY_MAGIC) + 1, 1)
    return size_bytes


def complaint_about(path: Path) -> str:
    """Say which byte that belongs to no blob is not as it was written; empty when all are."""
    pack = read_pack(path)
    if pack.trailer is None:
        return "its trailer or its table is damaged, or it is cut off"
    with opened(path) as handle:
        keys = pack.all_keys(handle)
        if keys is None:
            return "its keys are damaged"
        if os.pread(handle, HEAD_BYTES, 0) != encode_head(pack.trailer.nonce):
            return "its head is damaged"
        return _complaint_about_entries(pack, handle, pack.entries(keys), pack.trailer.nonce)


def _complaint_about_entries(
    pack: Pack, handle: int, entries: Sequence[Entry], nonce: bytes
) -> str:
    if make_rows(entries)[0].tobytes() != pack.rows.tobytes():
        return "its table contradicts itself"
    at = HEAD_BYTES
    for entry in sorted(entries, key=attrgetter("offset")):
        header = encode_entry(nonce, entry.key, entry.size_bytes, entry.written)
        if entry.offset != at + len(header) or os.pread(handle, len(header), at) != header:
            return f"the header of {entry.key.decode(errors='replace')} is damaged"
        at = entry.offset + entry.size_bytes
    if at != pack.keys_at - len(pack.rows) * ROW.itemsize:
        return "it holds bytes that belong to nothing"
    return ""


def read_at(handle: int, size_bytes: int, at: int) -> bytes:
    """Read as many bytes as there are; one call of the system may give less than asked for."""
    data = os.pread(handle, size_bytes, at)
    if len(data) == size_bytes or not data:
        return data
    parts = [data]
    left = size_bytes - len(data)
    while left and (more := os.pread(handle, left, at + size_bytes - left)):
        parts.append(more)
        left -= len(more)
    return b"".join(parts)
