"""Makes every object of a store a file of its own, for tests that damage or remove one.

A store may hold any object loose, so what it holds stays the same.
"""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

from stemma.store.backends.local import LocalBackend


def make_loose(objects: Path) -> None:
    """Write what rests in packs as files with the same times, and remove the packs."""
    packs = objects / "packs"
    if not packs.is_dir():
        return
    with closing(LocalBackend(objects)) as backend:
        for stat in list(backend.list()):
            path = objects / stat.key
            if not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(backend.get(stat.key))
                path.chmod(0o444)
                os.utime(path, (stat.modified_at.timestamp(), stat.modified_at.timestamp()))
    for path in packs.iterdir():
        path.unlink()
    packs.rmdir()
