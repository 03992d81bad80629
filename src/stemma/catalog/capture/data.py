"""Datasets from files, folders and arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stemma.catalog.capture.base import CapturedDataset
from stemma.domain.component import DatasetRole


def capture_dataset_path(
    name: str,
    path: Path,
    role: DatasetRole = DatasetRole.TRAINING,
    preprocessing: Sequence[str] = (),
    *,
    label_columns: Sequence[str] = (),
) -> CapturedDataset:
    """Read a dataset from a file or a folder."""
    raise NotImplementedError


def capture_dataset_arrays(
    name: str,
    features: NDArray[np.generic],
    labels: NDArray[np.generic] | None = None,
    *,
    work_folder: Path,
    role: DatasetRole = DatasetRole.TRAINING,
    column_names: Sequence[str] = (),
    preprocessing: Sequence[str] = (),
) -> CapturedDataset:
    """Read a dataset from arrays; writes a deterministic ``npz`` into ``work_folder``."""
    raise NotImplementedError


def digest_rows(features: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Return (n, 16) uint8: the first 16 bytes of blake3 of each row's inputs."""
    raise NotImplementedError
