"""The user's own source files a run reached, and where they stood in git."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stemma.catalog.capture.base import CapturedCode


def capture_code(
    entry_point: Path | None,
    project_root: Path,
    imported_files: Sequence[Path] | None = None,
) -> CapturedCode:
    """Collect the local source files that a run reached.

    Args:
        entry_point: The script that was run; ``None`` when there is none (a notebook).
        project_root: Root of the project; nothing outside of it and the script's folder is taken.
        imported_files: Files of ``sys.modules`` at the end of the run, for dynamic imports.
    """
    raise NotImplementedError
