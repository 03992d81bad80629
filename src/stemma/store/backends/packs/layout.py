"""The bytes of packs and of their sidecars; no file is touched here.

Invariants (normative text: ``docs/formats/store.md`` §Packs):
    * Every byte that belongs to no blob is determined by the keys, the sizes, the times and the
      nonce, so a reader can tell a flipped bit anywhere.
    * What is decoded is bounded by the size of the file before anything relies on it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

PACK_LIMIT_BYTES: Final = 1 << 30
VERSION: Final = 1
NONCE_BYTES: Final = 16
KEY_LIMIT_BYTES: Final = 512
ENTRY_MAGIC: Final = b"STME"

_HEAD: Final = struct.Struct("<4sB3s16s")
_ENTRY: Final = struct.Struct("<4sHHIQ")
_TRAILER: Final = struct.Struct("<4sB3s16sII32s32s")
_SIDECAR: Final = struct.Struct("<4sB3s32sI")
_DIGEST_BYTES: Final = 32
_CHECK_BYTES: Final = 12

HEAD_BYTES: Final = _HEAD.size
ENTRY_BYTES: Final = _ENTRY.size + _CHECK_BYTES
TRAILER_BYTES: Final = _TRAILER.size + _DIGEST_BYTES

ROW: Final = np.dtype(
    [
        ("hash", "<u8"),
        ("written", "<u8"),
        ("offset", "<u4"),
        ("size", "<u4"),
        ("key_at", "<u4"),
        ("key_size", "<u2"),
        ("zero", "<u2"),
    ]
)
MARK: Final = np.dtype([("offset", "<u4"), ("died", "<u8")])

Rows = NDArray[np.void]
"""The table of a pack: one ``ROW`` for each entry, sorted by key."""


class Entry(NamedTuple):
    """One blob in a pack: its key, where its bytes are, when it was written (microseconds)."""

    key: bytes
    offset: int
    size_bytes: int
    written: int


class Trailer(NamedTuple):
    """What the last bytes of a pack say."""

    version: int
    nonce: bytes
    entry_count: int
    keys_bytes: int
    rows_digest: bytes
    keys_digest: bytes
    name: bytes


def digest(data: bytes) -> bytes:
    """Return the blake3 of bytes."""
    return blake3(data).digest()


def key_hash(key: bytes) -> int:
    """Return the number by which a key is looked for."""
    return int.from_bytes(blake3(key).digest(length=8), "little")


def encode_head(nonce: bytes) -> bytes:
    """Return the first bytes of a pack."""
    return _HEAD.pack(b"STMP", VERSION, bytes(3), nonce)


def nonce_in_head(head: bytes) -> bytes:
    """Return the nonce in the first bytes of a pack, which may be damaged."""
    return head[HEAD_BYTES - NONCE_BYTES : HEAD_BYTES].ljust(NONCE_BYTES, b"\0")


def encode_entry(nonce: bytes, key: bytes, size_bytes: int, written: int) -> bytes:
    """Return the header of an entry, key included."""
    fields = _ENTRY.pack(ENTRY_MAGIC, len(key), 0, size_bytes, written)
    return fields + blake3(nonce + fields + key).digest(length=_CHECK_BYTES) + key


def decode_entry(head: bytes, offset: int, nonces: Sequence[bytes]) -> Entry | None:
    """Read the header of an entry that starts at ``offset``; none when it is not one.

    Args:
        head: Bytes of the pack from there on, as many as a header may have.
        offset: Where in the pack that is.
        nonces: What the nonce may be.
    """
    if len(head) < ENTRY_BYTES or not head.startswith(ENTRY_MAGIC):
        return None
    _, key_bytes, _, size_bytes, written = _ENTRY.unpack_from(head)
    key = head[ENTRY_BYTES : ENTRY_BYTES + key_bytes]
    stated = head[: ENTRY_BYTES + key_bytes]
    if any(encode_entry(nonce, key, size_bytes, written) == stated for nonce in nonces):
        return Entry(key, offset + ENTRY_BYTES + key_bytes, size_bytes, written)
    return None


def encode_footer(nonce: bytes, entries: Sequence[Entry]) -> tuple[bytes, bytes]:
    """Return what follows the entries of a pack, and the pack's name."""
    rows, keys = make_rows(entries)
    table = rows.tobytes()
    trailer = _TRAILER.pack(
        b"STMX", VERSION, bytes(3), nonce, len(rows), len(keys), digest(table), digest(keys)
    )
    name = digest(trailer)
    return table + keys + trailer + name, name


def make_rows(entries: Sequence[Entry]) -> tuple[Rows, bytes]:
    """Return the table of some entries, and their keys."""
    ordered = sorted(entries)
    rows = np.zeros(len(ordered), ROW)
    sizes = np.fromiter((len(entry.key) for entry in ordered), np.uint32, len(ordered))
    rows["hash"] = np.fromiter((key_hash(e.key) for e in ordered), np.uint64, len(ordered))
    rows["written"] = np.fromiter((e.written for e in ordered), np.uint64, len(ordered))
    rows["offset"] = np.fromiter((e.offset for e in ordered), np.uint32, len(ordered))
    rows["size"] = np.fromiter((e.size_bytes for e in ordered), np.uint32, len(ordered))
    rows["key_at"] = np.cumsum(sizes) - sizes
    rows["key_size"] = sizes
    return rows, b"".join(entry.key for entry in ordered)


def decode_trailer(data: bytes) -> Trailer | None:
    """Read the last bytes of a pack; none when they are not what was written."""
    if len(data) != TRAILER_BYTES:
        return None
    name = data[_TRAILER.size :]
    magic, version, _, nonce, count, keys_bytes, rows_digest, keys_digest = _TRAILER.unpack_from(
        data
    )
    if magic != b"STMX" or digest(data[: _TRAILER.size]) != name:
        return None
    return Trailer(version, nonce, count, keys_bytes, rows_digest, keys_digest, name)


def decode_rows(data: bytes, trailer: Trailer, bodies_end: int) -> Rows | None:
    """Read the table of a pack; none when it is not what the trailer says."""
    if digest(data) != trailer.rows_digest or len(data) != trailer.entry_count * ROW.itemsize:
        return None
    rows: Rows = np.frombuffer(data, ROW)
    ends = rows["offset"].astype(np.int64) + rows["size"]
    key_ends = rows["key_at"].astype(np.int64) + rows["key_size"]
    if not len(rows) or ends.max() > bodies_end or key_ends.max() > trailer.keys_bytes:
        return None
    return rows


def encode_sidecar(name: bytes, died: Mapping[int, int]) -> bytes:
    """Return the sidecar of a pack: when each dead entry died, by where its blob starts."""
    marks = np.array(sorted(died.items()), MARK)
    data = _SIDECAR.pack(b"STMD", VERSION, bytes(3), name, len(marks)) + marks.tobytes()
    return data + digest(data)


def decode_sidecar(data: bytes, name: bytes) -> dict[int, int] | None:
    """Read the sidecar of a pack; none when it is not what was written."""
    rest, stated = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if len(rest) < _SIDECAR.size or digest(rest) != stated:
        return None
    magic, version, _, of_pack, count = _SIDECAR.unpack_from(rest)
    if (magic, version, of_pack) != (b"STMD", VERSION, name):
        return None
    if len(rest) != _SIDECAR.size + count * MARK.itemsize:
        return None
    marks = np.frombuffer(rest, MARK, offset=_SIDECAR.size)
    return dict(zip(marks["offset"].tolist(), marks["died"].tolist(), strict=True))
