"""Where a project keeps its state."""

from __future__ import annotations

from typing import Final

STATE_FOLDER: Final = ".stemma"
"""Name of the folder, in the project's own."""
