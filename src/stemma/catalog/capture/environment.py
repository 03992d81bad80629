"""What a run ran in: interpreter, platform, and locked packages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stemma.catalog.capture.base import CapturedEnvironment
from stemma.domain.facts import EnvironmentFit


def capture_environment(
    imported_distributions: Sequence[str] | None,
    cache_folder: Path,
    *,
    project_root: Path | None = None,
    allow_network: bool = True,
) -> CapturedEnvironment:
    """Lock what the running interpreter has imported; ``None`` looks at ``sys.modules``."""
    raise NotImplementedError


def restore_environment(
    lock_text: str, target: Path, python: str, *, is_offline: bool = False
) -> Path:
    """Make (or reuse) an environment in ``target`` that holds exactly the lock; its interpreter."""
    raise NotImplementedError


def fit_environment(requirements: Sequence[str], lock_text: str) -> EnvironmentFit:
    """Say whether ``requirements`` (of B) resolve within ``lock_text`` (of A)."""
    raise NotImplementedError


def conflict_between(first: Sequence[str], second: Sequence[str]) -> str:
    """Name the conflict between two models' requirements in one line; empty when they fit."""
    raise NotImplementedError
