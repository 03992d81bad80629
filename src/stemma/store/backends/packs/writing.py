"""Writes packs and sidecars to temporary files, fsynced; others give them their names."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from stemma.store.backends.packs.layout import (
    ENTRY_BYTES,
    HEAD_BYTES,
    NONCE_BYTES,
    PACK_LIMIT_BYTES,
    ROW,
    TRAILER_BYTES,
    Entry,
    encode_entry,
    encode_footer,
    encode_head,
    encode_sidecar,
)

_BUFFER_BYTES: Final = 8 << 20
_COPIED_BYTES: Final = 64 << 10
"""Larger blobs are written as they are; smaller ones are gathered first."""


class Blob(NamedTuple):
    """A blob to be packed: its key, when it was written (microseconds), its bytes."""

    key: bytes
    written: int
    data: bytes


def cost_bytes(key: bytes | str, size_bytes: int) -> int:
    """Return what a blob adds to the size of a pack."""
    return ENTRY_BYTES + 2 * len(key) + size_bytes + ROW.itemsize


def fits(key: str, size_bytes: int) -> bool:
    """Whether a blob fits into a pack."""
    return HEAD_BYTES + cost_bytes(key, size_bytes) + TRAILER_BYTES <= PACK_LIMIT_BYTES


def grouped(blobs: Mapping[str, bytes]) -> Iterator[dict[str, bytes]]:
    """Yield blobs in groups, each of which fits into a pack; each blob must fit."""
    group: dict[str, bytes] = {}
    size_bytes = empty = HEAD_BYTES + TRAILER_BYTES
    for key, data in blobs.items():
        cost = cost_bytes(key, len(data))
        if group and size_bytes + cost > PACK_LIMIT_BYTES:
            yield group
            group, size_bytes = {}, empty
        group[key] = data
        size_bytes += cost
    if group:
        yield group


def write_pack(path: Path, blobs: Iterable[Blob]) -> tuple[bytes, list[Entry]]:
    """Write a pack durably; return its name and its entries in the order given."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    entries: list[Entry] = []
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
    try:
        buffer = bytearray(encode_head(nonce))
        at = len(buffer)
        for key, written, data in blobs:
            header = encode_entry(nonce, key, len(data), written)
            at += len(header)
            entries.append(Entry(key, at, len(data), written))
            at += len(data)
            buffer += header
            if len(data) > _COPIED_BYTES:
                _write(handle, buffer)
                _write(handle, data)
                buffer = bytearray()
            else:
                buffer += data
            if len(buffer) >= _BUFFER_BYTES:
                _write(handle, buffer)
                buffer = bytearray()
        footer, name = encode_footer(nonce, entries)
        _write(handle, buffer + footer)
        os.fsync(handle)
    finally:
        os.close(handle)
    return name, entries


def write_sidecar(path: Path, name: bytes, died: Mapping[int, int]) -> None:
    """Write the sidecar of a pack durably."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
    try:
        _write(handle, encode_sidecar(name, died))
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(handle: int, data: bytes | bytearray) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
