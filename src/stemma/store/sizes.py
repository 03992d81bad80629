"""What of a stored tree costs room that another one does not.

Invariants:
    * Sizes are those of stored bytes, after compression; nothing is decompressed to know them.
"""

from __future__ import annotations

from stemma.domain.digest import Digest
from stemma.store.objects import ObjectStore


def added_bytes(store: ObjectStore, tree: Digest, *, beside: Digest) -> int:
    """Return how many stored bytes a tree needs beside those of another tree.

    A frame that holds chunks of others too counts by its share.

    Raises:
        NotFoundError: If a tree or one of its files is not stored.
        IntegrityError: If anything on the way is missing or damaged.
    """
    added = store.chunk_sizes(tree)
    for digest in store.chunk_sizes(beside):
        added.pop(digest, None)
    sizes: dict[bytes, int] = {}
    for digest, location in store.index.find(added).items():
        sizes[location.frame] = sizes.get(location.frame, 0) + added[digest]
    return sum(store.reader.stored_share(frame, size_bytes) for frame, size_bytes in sizes.items())
