"""Models from files and folders, without any ML library."""

from __future__ import annotations

from pathlib import Path

from stemma.catalog.capture.base import CapturedModel


def capture_model_path(path: Path) -> CapturedModel:
    """Read a model file or folder as it is."""
    raise NotImplementedError
