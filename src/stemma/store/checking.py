"""What it means that a blob is sound, and writing sound blobs where others may write too.

Invariants (normative text: ``docs/formats/store.md`` §Remotes):
    * A frame is checked whole and chunk by chunk, for its chunks are trusted by later writes.
    * What exists gives way to the right bytes only after it was read and found wrong.
"""

from __future__ import annotations

from collections.abc import Mapping

from stemma.domain.digest import Algorithm, Digest
from stemma.domain.errors import IntegrityError
from stemma.store import frames
from stemma.store.backends.base import BlobBackend
from stemma.store.hashing import blake3_raw, hash_bytes
from stemma.store.keys import Family, parse_key
from stemma.store.reading import Reader
from stemma.store.recipes import decode_recipe
from stemma.store.trees import verified_tree


def put_sound(backend: BlobBackend, blobs: Mapping[str, bytes], name: str) -> int:
    """Write blobs that are known to be sound; returns how many bytes were new.

    What exists is read, and gives way when it is not what its name says.

    Raises:
        IntegrityError: If a damaged blob cannot be replaced.
    """
    created = backend.put_many(blobs)
    written = sum(len(blobs[key]) for key in created)
    for key in blobs.keys() - created:
        if backend.get(key) == blobs[key]:
            continue
        backend.delete(key)
        if not backend.put(key, blobs[key]) and backend.get(key) != blobs[key]:
            raise damaged(key, name)
        written += len(blobs[key])
    return written


def checked_record(backend: BlobBackend, key: str, name: str) -> bytes:
    """Read a record and check it.

    Raises:
        IntegrityError: If it is damaged (``copy-damaged``).
        NotFoundError: If there is none.
    """
    return checked(key, backend.get(key), name, None)


def checked(key: str, data: bytes, name: str, reader: Reader | None) -> bytes:
    """Return ``data`` if it is what ``key`` promises; the one place that says what sound means."""
    object_key = parse_key(key)
    if object_key is None:
        raise damaged(key, name)
    digest = object_key.digest
    try:
        match object_key.family:
            case Family.FRAME:
                _check_frame(key, data, digest, reader)
            case Family.RECIPE:
                decode_recipe(data, digest)
            case Family.TREE:
                verified_tree(data, digest)
            case Family.RECORD:
                if hash_bytes(data, Algorithm.SHA256) != digest:
                    raise damaged(key, name)
    except IntegrityError as error:
        raise damaged(key, name) from error
    return data


def _check_frame(key: str, data: bytes, digest: Digest, reader: Reader | None) -> None:
    if hash_bytes(data) != digest:
        raise IntegrityError(f"{key} has other bytes", code="frame-damaged")
    if reader is None:
        header, body = frames.decode_frame(data, key)
    else:
        header, body = reader.decode(bytes.fromhex(digest.hex), data)
    offset = 0
    for chunk, size_bytes in header.chunks:
        if blake3_raw(body[offset : offset + size_bytes]) != chunk:
            raise IntegrityError(f"{key} holds another chunk than it says", code="frame-damaged")
        offset += size_bytes


def damaged(key: str, name: str) -> IntegrityError:
    """Return the error for a blob on ``name`` that is not what its key promises."""
    return IntegrityError(
        f"{key} on {name} is not what its name says; it was not copied",
        code="copy-damaged",
        hint="stemma push --repair, where it is whole",
    )
