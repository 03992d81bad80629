"""Small files that are replaced whole.

Invariants:
    * A reader sees the old bytes or the new ones, never a part.

Nothing here is fsynced: what serving keeps on disk can be made again.
"""

from __future__ import annotations

import secrets
from pathlib import Path


def replace_bytes(path: Path, data: bytes) -> None:
    """Write a file beside ``path`` and rename it over it."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
