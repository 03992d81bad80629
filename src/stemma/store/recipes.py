"""Recipes: how a file is put together from chunks.

Invariants (normative text: ``docs/formats/store.md`` §Recipes):
    * A recipe's key is the blake3 of the file; the recipe repeats it and ends in its own
      digest, so a flipped or misnamed recipe is found without reading the file.
    * The chunk sizes add up to the file's size; an empty file has no chunks.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from stemma.domain.digest import Digest
from stemma.domain.errors import IntegrityError
from stemma.store.frames import (
    DIGEST_BYTES,
    Chunk,
    chunk_table_bytes,
    unpack_chunks,
)
from stemma.store.hashing import blake3_raw

_MAGIC: Final = b"STMR"
_VERSION: Final = 1
_FIXED: Final = struct.Struct("<4sB3sQ32s32sI")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One file.

    Attributes:
        digest: blake3 of its bytes.
        sha256: sha256 of its bytes.
        size_bytes: Its size.
        table: Its chunks in order, as stored (``frames.pack_chunks``): 36 bytes each.
    """

    digest: Digest
    sha256: Digest
    size_bytes: int
    table: bytes

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """The chunks in order."""
        return unpack_chunks(self.table)

    @property
    def chunk_count(self) -> int:
        """How many chunks there are."""
        return len(self.table) // chunk_table_bytes(1)

    def between(self, start: int, stop: int) -> tuple[Chunk, ...]:
        """Return the chunks from one number to before another."""
        return unpack_chunks(self.table[chunk_table_bytes(start) : chunk_table_bytes(stop)])


def encode_recipe(recipe: Recipe) -> bytes:
    """Return the stored bytes."""
    body = (
        _FIXED.pack(
            _MAGIC,
            _VERSION,
            bytes(3),
            recipe.size_bytes,
            bytes.fromhex(recipe.digest.hex),
            bytes.fromhex(recipe.sha256.hex),
            len(recipe.table) // chunk_table_bytes(1),
        )
        + recipe.table
    )
    return body + blake3_raw(body)


def decode_recipe(data: bytes, digest: Digest) -> Recipe:
    """Read the recipe of the file ``digest``.

    Raises:
        IntegrityError: If it is damaged, or another file's.
    """

    def damaged(detail: str) -> IntegrityError:
        return IntegrityError(
            f"damaged recipe of {digest}: {detail}", code="recipe-damaged", hint="stemma doctor"
        )

    if len(data) < _FIXED.size + DIGEST_BYTES:
        raise damaged("too short")
    body, trailer = data[:-DIGEST_BYTES], data[-DIGEST_BYTES:]
    if blake3_raw(body) != trailer:
        raise damaged("it does not match its digest")
    magic, version, zeros, size_bytes, blake3_value, sha256_value, count = _FIXED.unpack_from(body)
    if magic != _MAGIC or version != _VERSION or zeros != bytes(3):
        raise damaged(f"not a recipe of a known version ({version}); upgrade stemma")
    if blake3_value.hex() != digest.hex:
        raise damaged(f"it is the recipe of blake3:{blake3_value.hex()}")
    recipe = Recipe(
        digest=digest,
        sha256=Digest.sha256(sha256_value.hex()),
        size_bytes=size_bytes,
        table=body[_FIXED.size :],
    )
    if len(recipe.table) != chunk_table_bytes(count):
        raise damaged("its chunk table has another length than it says")
    if sum(chunk.size_bytes for chunk in recipe.chunks) != size_bytes:
        raise damaged("chunk sizes do not add up")
    return recipe
