"""Brings a version's files onto the disk, checked against their digests every time.

Invariants:
    * What a path points to has been verified in this very call: a file that was changed in
      the cache is written anew from the store.
    * What is not here is fetched from the remote first, whole.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from stemma.domain.digest import Digest
from stemma.domain.errors import ConflictError
from stemma.domain.tree import Tree
from stemma.hub.local import LocalHub
from stemma.hub.parts import Owner, Parts
from stemma.server.state_folder import STATE_FOLDER
from stemma.store.hashing import hash_file

_CACHE: Final = Path("cache", "trees")


def materialise(hub: LocalHub, content: Digest, owner: Owner) -> Path:
    """Return a folder that holds exactly the files of a tree; not to be written to.

    Raises:
        NotFoundError: If it is neither here nor on a remote (``contents-not-here``).
        IntegrityError: If the store's own copy is damaged.
    """
    folder = hub.project_root / STATE_FOLDER / _CACHE / content.hex
    Parts(hub).bring(content, owner)
    tree = hub.objects.read_tree(content)
    if folder.exists() and not _is_intact(folder, tree):
        shutil.rmtree(folder)
    if not folder.exists():
        try:
            hub.objects.export_tree(content, folder)
        except ConflictError:
            # Another process was faster; its copy counts if it is whole.
            if not _is_intact(folder, tree):
                raise
    return folder


def _is_intact(folder: Path, tree: Tree) -> bool:
    """Compare file by file; what is there beside them matters too, for imports look there."""
    entries = {entry.path: entry for entry in tree.entries}
    found = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }
    if found != set(entries):
        return False
    return all(
        (folder / name).is_symlink()
        if entry.digest is None
        else not (folder / name).is_symlink() and hash_file(folder / name) == entry.digest
        for name, entry in entries.items()
    )
