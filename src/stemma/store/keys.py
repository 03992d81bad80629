"""Keys: where each kind of object rests in a backend.

Invariants (normative text: ``docs/formats/store.md`` §Keys):
    * ``parse_key`` knows exactly the keys that the other functions make; any other key is foreign.
    * Families sort in the order in which ``verify`` needs them: frames, recipes, records, trees.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final, NamedTuple

from stemma.domain.digest import Algorithm, Digest
from stemma.domain.errors import InvalidInputError

_RECORD_KIND: Final = re.compile(r"[a-z][a-z-]*")
_KEY: Final = re.compile(
    r"(?P<family>frames|recipes|trees|records/(?P<kind>[a-z][a-z-]*))"
    r"/(?P<head>[0-9a-f]{2})/(?P<rest>[0-9a-f]{62})"
)


class Family(Enum):
    """The kinds of objects, by the first part of their keys."""

    FRAME = "frames"
    RECIPE = "recipes"
    RECORD = "records"
    TREE = "trees"

    @property
    def prefix(self) -> str:
        """What every key of the family starts with."""
        return f"{self.value}/"


class ObjectKey(NamedTuple):
    """What a key says: family, kind (of a record, else empty), hexadecimal name."""

    family: Family
    kind: str
    hex: str

    @property
    def digest(self) -> Digest:
        """The digest that names the object."""
        if self.family is Family.RECORD:
            return Digest.sha256(self.hex)
        return Digest.blake3(self.hex)


def parse_key(key: str) -> ObjectKey | None:
    """Read a key; none when it is foreign."""
    match = _KEY.fullmatch(key)
    if match is None:
        return None
    kind = match["kind"] or ""
    family = Family.RECORD if kind else Family(match["family"])
    return ObjectKey(family, kind, match["head"] + match["rest"])


def _key(folder: str, name: str) -> str:
    return f"{folder}/{name[:2]}/{name[2:]}"


def blob_key(key: ObjectKey) -> str:
    """Return the key as the backend knows it."""
    folder = f"{key.family.value}/{key.kind}" if key.kind else key.family.value
    return _key(folder, key.hex)


def frame_key(digest: bytes) -> str:
    """Return the key of the frame with that raw digest."""
    return _key(Family.FRAME.value, digest.hex())


def recipe_key(digest: Digest) -> str:
    """Return the key of the recipe of the file with that blake3."""
    return _key(Family.RECIPE.value, digest.hex)


def tree_key(digest: Digest) -> str:
    """Return the key of the tree with that blake3."""
    return _key(Family.TREE.value, digest.hex)


def records_prefix(kind: str) -> str:
    """Return what every key of that kind of record starts with.

    Raises:
        InvalidInputError: If ``kind`` is not lower-case letters and hyphens.
    """
    if not _RECORD_KIND.fullmatch(kind):
        raise InvalidInputError(f"not a kind of record: {kind!r}", code="bad-record")
    return f"{Family.RECORD.value}/{kind}/"


def record_key(kind: str, digest: Digest) -> str:
    """Return the key of a record.

    Raises:
        InvalidInputError: If ``kind`` is malformed, or the digest is not a sha256.
    """
    if digest.algorithm is not Algorithm.SHA256:
        raise InvalidInputError(f"a record is named by sha256, not {digest}", code="bad-record")
    return _key(records_prefix(kind).removesuffix("/"), digest.hex)
