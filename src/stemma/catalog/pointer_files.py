"""Where pointer files lie: a walk that imports the standard library only.

Apart from ``stemma.catalog.pointers``, because ``stemma status`` walks on every call and
reads a pointer only when one is new.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

SUFFIX: Final = ".stemma"
_FOREIGN_FOLDERS: Final = frozenset({".stemma", ".git", ".venv", "node_modules", "__pycache__"})


def find_pointers(root: Path) -> list[Path]:
    """Return every pointer file under ``root``, sorted; links are not followed."""
    found: list[Path] = []
    for folder, names, files in os.walk(root):
        names[:] = [name for name in names if name not in _FOREIGN_FOLDERS]
        found += [Path(folder, name) for name in files if name.endswith(SUFFIX) and name != SUFFIX]
    return sorted(path for path in found if path.is_file() and not path.is_symlink())
