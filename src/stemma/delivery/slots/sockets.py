"""Where the processes of a slot listen.

Invariants:
    * The same slot has the same paths in every process of this project, before it is started.
    * A path has at most 107 bytes: longer ones cannot be bound (unix(7)).
"""

from __future__ import annotations

import os
from typing import Final

from stemma.delivery.layout import ServeLayout
from stemma.domain.errors import InvalidInputError
from stemma.store.hashing import hash_bytes

_MOST_BYTES: Final = 107


def socket_paths(layout: ServeLayout, slot: str, replicas: int) -> tuple[str, ...]:
    """Return the socket of each replica of a slot.

    Raises:
        InvalidInputError: If the folder's name leaves no room for them.
    """
    folder = layout.sockets()
    digest = hash_bytes(slot.encode()).hex
    paths = []
    for number in range(replicas):
        names = (f"{slot}-{number}.sock", f"{digest[:16]}-{number}.sock")
        found = [str(folder / name) for name in names if _fits(str(folder / name))]
        if not found:
            raise InvalidInputError(
                f"{folder} is too long a name for the sockets in it",
                code="socket-path-too-long",
                hint="export TMPDIR=/tmp",
            )
        paths.append(found[0])
    return tuple(paths)


def _fits(path: str) -> bool:
    return len(os.fsencode(path)) <= _MOST_BYTES
