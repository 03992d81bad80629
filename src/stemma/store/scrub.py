"""Checking one blob at a time, while others read, write and collect.

Invariants:
    * What was removed meanwhile is no problem; what looks wrong is read a second time.
    * A blob costs its own bytes, and for a file or tree the look-up of what it names.

``stemma.store.verify`` reads files whole and is the last word; this finds rot early.
"""

from __future__ import annotations

from stemma.domain.errors import NotFoundError, StemmaError
from stemma.store.checking import checked
from stemma.store.hashing import blake3_raw
from stemma.store.keys import Family, ObjectKey, frame_key, parse_key, recipe_key
from stemma.store.objects import ObjectStore
from stemma.store.recipes import decode_recipe
from stemma.store.trees import verified_tree
from stemma.store.verify import Problem


def check_blob(store: ObjectStore, key: str) -> Problem | None:
    """Say what is wrong with a blob, if anything is."""
    problem = _look(store, key)
    if problem is None:
        return None
    # What is replaced or collected while it is read looks damaged for a moment.
    return _look(store, key) if store.backend.exists(key) else None


def _look(store: ObjectStore, key: str) -> Problem | None:
    name = parse_key(key)
    if name is None:
        return Problem(kind="unknown-key", key=key, detail="not an object of this store")
    try:
        data = store.backend.get(key)
        detail = _fault(store, key, name, data)
    except NotFoundError:
        return None
    except StemmaError as error:
        return Problem(
            kind=f"{name.family.value.rstrip('s')}-damaged", key=key, detail=error.message
        )
    return None if detail is None else Problem(kind=detail[0], key=key, detail=detail[1])


def _fault(store: ObjectStore, key: str, name: ObjectKey, data: bytes) -> tuple[str, str] | None:
    if name.family is Family.FRAME:
        # Its name covers every byte; decoding it would need its parents.
        if blake3_raw(data) != bytes.fromhex(name.hex):
            return "frame-damaged", "its bytes do not match its name"
        return None
    checked(key, data, "this store", None)
    if name.family is Family.RECIPE:
        chunks = {chunk.digest for chunk in decode_recipe(data, name.digest).chunks}
        found = store.index.find(chunks)
        frames = {location.frame for location in found.values()}
        lost = sum(not store.backend.exists(frame_key(frame)) for frame in frames)
        if lost or len(found) < len(chunks):
            return "missing-chunk", f"{len(chunks) - len(found)} chunks and {lost} frames are gone"
    if name.family is Family.TREE:
        entries = verified_tree(data, name.digest).entries
        for entry in entries:
            if entry.digest is not None and not store.backend.exists(recipe_key(entry.digest)):
                return "missing-file", f"no recipe of {entry.path!r}, {entry.digest}"
    return None
