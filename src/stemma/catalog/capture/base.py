"""What an adapter hands over: captured models, datasets and predictions as plain values.

Adapters (``stemma.sdk.adapters`` for live objects, ``stemma.catalog.capture`` for files)
make these values; ``stemma.catalog.recording`` stores them and builds the manifest.
Nothing here imports an ML library.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stemma.domain.component import DatasetRole, Package, Signature, ValueSpec
from stemma.domain.digest import Digest
from stemma.domain.facts import Structure
from stemma.domain.manifest import Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedModel:
    """A model as an adapter read it.

    Attributes:
        files: Relative POSIX path -> file on disk, everything deployment needs.
        loader: Adapter that can load it: ``sklearn``, ``torch``, ``onnx`` or ``file``.
        family: e.g. ``sklearn.linear_model.LogisticRegression``.
        summary: One readable line.
        parameter_count: Number of learned values.
        structure: Layers and tensors.
        signature: Inputs, outputs, methods.
        labels: Class labels in index order.
        tokens: Token list in index order.
        special_tokens: ``name=text``, sorted.
        tensors: blake3 hex of canonical bytes by tensor name.
        configuration: What else decides behaviour (JSON values); part of the identity.
        passed: Hyperparameters that were passed (JSON values, floats allowed).
        defaulted: Hyperparameters that took their default.
        defining_source: Source text of the user's own classes that make the model, by
            qualified name.
        defining_modules: Files of the user's own modules that define the model.
        is_pickle: The files contain a pickle.
        covered_files: Files whose content ``tensors`` and ``configuration`` say in full; ``None``:
            every container of tensors in ``files``.  Other files count with their bytes.
        stamps: Size and modification time (ns) of files as they were read, by path.
        stored: blake3 by path where the store has all of ``files`` already; they are not read
            again then.
    """

    files: Mapping[str, Path]
    loader: str
    family: str
    summary: str
    parameter_count: int = 0
    structure: Structure = field(default_factory=Structure)
    signature: Signature = field(default_factory=Signature)
    labels: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ()
    special_tokens: tuple[str, ...] = ()
    tensors: Mapping[str, str] = field(default_factory=dict)
    configuration: Mapping[str, object] = field(default_factory=dict)
    passed: Mapping[str, object] = field(default_factory=dict)
    defaulted: Mapping[str, object] = field(default_factory=dict)
    defining_source: Mapping[str, str] = field(default_factory=dict)
    defining_modules: tuple[Path, ...] = ()
    is_pickle: bool = False
    covered_files: tuple[str, ...] | None = None
    stamps: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    stored: Mapping[str, Digest] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedDataset:
    """A dataset as an adapter read it.

    Attributes:
        name: Its name.
        role: What it was used for.
        files: Relative POSIX path -> file on disk.
        format: ``npz``, ``csv``, ``parquet``, ``folder``, …
        canonical_digest: blake3 hex of its canonical content (not of its container).
        row_count: Rows, or -1.
        columns: Schema.
        statistics: JSON values per column name (floats allowed).
        row_digests: (n, 16) uint8, first 16 bytes of blake3 of each row's *inputs* (labels left
            out); ``None`` when rows have no meaning.
        preprocessing: Steps in order.
        source: Where it came from, as the user named it.
        stamps: Size and modification time (ns) of files as they were read, by path.
    """

    name: str
    role: DatasetRole
    files: Mapping[str, Path]
    format: str
    canonical_digest: str
    row_count: int = -1
    columns: tuple[ValueSpec, ...] = ()
    statistics: Mapping[str, object] = field(default_factory=dict)
    row_digests: NDArray[np.uint8] | None = None
    preprocessing: tuple[str, ...] = ()
    source: str = ""
    stamps: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedPredictions:
    """Predictions on a golden set.

    Attributes:
        dataset: Name of the dataset of role test.
        row_digests: (n, 16) uint8, as in ``CapturedDataset``.
        predictions: (n,) answers: integers, floats or fixed-width strings; never objects.
        labels: (n,) right answers of the same kind, or ``None``.
        scores: (n, k) scores, or ``None``.
        slices: (n,) slice names, or ``None`` (then classes are the slices).
        task: ``classification``, ``regression`` or ``other``.
        metric: Name of the metric that behaviour is judged by.
        metrics: Metrics measured on it, per class too (``recall`` with slice ``class=8``).
    """

    dataset: str
    row_digests: NDArray[np.uint8]
    predictions: NDArray[np.generic]
    labels: NDArray[np.generic] | None = None
    scores: NDArray[np.floating] | None = None
    slices: NDArray[np.str_] | None = None
    task: str = "classification"
    metric: str = "accuracy"
    metrics: tuple[Metric, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GitFacts:
    """Where code stood in git.

    Attributes:
        remote: URL of ``origin`` without credentials; empty when there is none.
        commit: Full commit id; empty before the first commit.
        branch: Branch name; empty when detached.
        is_dirty: Whether tracked files differ from the commit, or it lacks a file that ran.
        patch: Bytes of ``git diff --binary HEAD``; empty when clean or left out.
    """

    remote: str = ""
    commit: str = ""
    branch: str = ""
    is_dirty: bool = False
    patch: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedCode:
    """The user's own source files that a run reached.

    Attributes:
        files: Relative POSIX path -> file on disk.
        entry_point: Path of the entry script in ``files``; empty when unknown.
        git: Where the code stood in git; ``None`` when it is not in git.
        notes: What was left out and why, one line each, for people.
        copies: Text that ran, by path in ``files``, where it was kept apart from a file that may
            be edited meanwhile; the file itself counts for others.
    """

    files: Mapping[str, Path] = field(default_factory=dict)
    entry_point: str = ""
    git: GitFacts | None = None
    notes: tuple[str, ...] = ()
    copies: Mapping[str, Path] = field(default_factory=dict)

    @property
    def texts(self) -> dict[str, Path]:
        """Where to read each file's text as it ran."""
        return {**self.files, **self.copies}


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedEnvironment:
    """What a run ran in, and what its model needs to run again.

    Attributes:
        lock_text: Requirements file with exact versions, and hashes when ``has_hashes``.
        requirements: Direct dependencies with their ranges, sorted.
        packages: Every locked package, sorted by name.
        python: Full version of the interpreter.
        platform: e.g. ``linux-x86_64``.
        accelerator: e.g. ``cuda 12.4``; empty on CPU.
        has_hashes: Whether the lock carries hashes of every package.
        notes: Why hashes are missing, which packages are local, one line each, for people.
    """

    lock_text: str
    requirements: tuple[str, ...]
    packages: tuple[Package, ...]
    python: str
    platform: str
    accelerator: str = ""
    has_hashes: bool = False
    notes: tuple[str, ...] = ()
