"""The five components of a version, and its environment, as values.

Invariants:
    * ``identity`` is what two versions are compared by: equal identity means
      "this component is unchanged".  It covers meaning, not containers: two refits
      of one model have equal artifact identities although their files differ.
    * ``content`` is what is restored: the tree digest of the component's files.
    * Nothing here is a float; values that need one live in a blob named by digest.
    * Large tables (tensors, layers, statistics) are blobs; the manifest holds
      only their digests.  ``stemma.domain.facts`` is their in-memory form.

This module does not capture anything; see ``stemma.catalog.capture``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from stemma.domain.digest import Digest

ANY_SIZE: Final = -1
"""A dimension that may be of any size (the batch, usually)."""


class ComponentKind(Enum):
    """The five components that make a version."""

    ARCHITECTURE = "architecture"
    DATASETS = "datasets"
    PIPELINE = "pipeline"
    HYPERPARAMETERS = "hyperparameters"
    ARTIFACT = "artifact"


class DatasetRole(Enum):
    """What a dataset was used for."""

    TRAINING = "training"
    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueSpec:
    """One named input or output of a model.

    Attributes:
        name: Its name as callers use it.
        dtype: numpy's name of the element type (``float32``, ``int64``, ``str``).
        shape: Sizes per dimension; ``-1`` is any size.
        is_optional: An input that callers may leave out.
        is_nullable: An output that may be missing in an answer.
        unit: Physical or domain unit; empty when there is none.
        meaning: What it stands for, in words; empty when not declared.
        aliases: Other names that callers may use.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    is_optional: bool = False
    is_nullable: bool = False
    unit: str = ""
    meaning: str = ""
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What callers may send and may rely on getting back.

    Attributes:
        inputs: Inputs in order.
        outputs: Outputs in order.
        methods: Declared interface methods callers rely on (``predict``, …).
        is_positional: Callers pass inputs by position, so their order is part of the contract.
        is_open: Outputs are declared open: further outputs may appear without breaking callers.
    """

    inputs: tuple[ValueSpec, ...] = ()
    outputs: tuple[ValueSpec, ...] = ()
    methods: tuple[str, ...] = ()
    is_positional: bool = False
    is_open: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GitState:
    """Where the code stood in git when it was captured.

    Attributes:
        remote: URL of ``origin`` without credentials; empty when there is none.
        commit: Full commit id; empty before the first commit.
        branch: Branch name; empty when detached.
        is_dirty: Whether tracked files differed from the commit, or it lacked a file that ran.
        patch: Blob of ``git diff --binary HEAD``, when dirty.
    """

    remote: str = ""
    commit: str = ""
    branch: str = ""
    is_dirty: bool = False
    patch: Digest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchitectureComponent:
    """Architecture code: the source that defines the model, and the structure it has.

    Attributes:
        identity: Digest over family, structure, signature, labels and defining source.
        content: Tree of the source files reached from the entry point.
        entry_point: Path of the entry script inside ``content``; empty when unknown.
        git: Where the code stood in git; ``None`` when it is not in git (captured whole).
        family: Model family, e.g. ``sklearn.linear_model.LogisticRegression``.
        summary: One readable line, e.g. ``StandardScaler → LogisticRegression``.
        parameter_count: Number of learned values.
        structure: Blob with layers and tensor specifications (``facts.Structure`` as JSON).
        signature: Inputs, outputs and declared methods.
        labels: Class labels in index order; empty when the model has none.
        tokens: Blob with the token list (JSON array, index order); ``None`` without tokenizer.
        special_tokens: Names of special tokens with their text, as ``name=text``, sorted.
        is_adapter_base: Declared as the base for adapters, so any structural change is MAJOR.
    """

    identity: Digest
    content: Digest
    entry_point: str = ""
    git: GitState | None = None
    family: str
    summary: str
    parameter_count: int = 0
    structure: Digest | None = None
    signature: Signature = Signature()
    labels: tuple[str, ...] = ()
    tokens: Digest | None = None
    special_tokens: tuple[str, ...] = ()
    is_adapter_base: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """One dataset a run used.

    Attributes:
        name: Name, unique within a version.
        role: What it was used for.
        identity: Digest of its canonical content.
        content: Tree of its files.
        format: How the files are written (``npz``, ``csv``, ``parquet``, ``folder``, …).
        row_count: Number of rows; ``-1`` when rows have no meaning here.
        size_bytes: Size of its files.
        columns: Schema.
        statistics: Blob with statistics per column (JSON).
        row_digests: Blob with one 16-byte digest per row, for overlap checks.
        preprocessing: Each preprocessing or augmentation step, in order.
        source: Where it came from, as the user named it.
    """

    name: str
    role: DatasetRole
    identity: Digest
    content: Digest
    format: str
    row_count: int = -1
    size_bytes: int = 0
    columns: tuple[ValueSpec, ...] = ()
    statistics: Digest | None = None
    row_digests: Digest | None = None
    preprocessing: tuple[str, ...] = ()
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetsComponent:
    """Training datasets by role.

    Attributes:
        identity: Digest over names, roles and identities.
        datasets: Sorted by role and name.
    """

    identity: Digest
    datasets: tuple[Dataset, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of a pipeline.

    Attributes:
        name: Its name.
        command: What ran, one argument per element.
        inputs: Paths or dataset names it read.
        outputs: Paths it wrote.
    """

    name: str
    command: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineComponent:
    """The training pipeline: scripts, configuration, command and stages.

    Attributes:
        identity: Digest over script and configuration contents, command and stages.
        content: Tree of scripts and configuration files.
        script: Path of the entry script inside ``content``; empty when unknown.
        command: The command as given, one argument per element.
        stages: In order of execution.
        configuration: Paths of configuration files inside ``content``.
    """

    identity: Digest
    content: Digest
    script: str = ""
    command: tuple[str, ...] = ()
    stages: tuple[Stage, ...] = ()
    configuration: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HyperparametersComponent:
    """What was passed and what defaulted.

    Attributes:
        identity: Digest of ``content``'s bytes.
        content: Blob: canonical-key-order JSON ``{"passed": {…}, "defaulted": {…}}``.
        passed_count: How many were passed.
        defaulted_count: How many took their default.
    """

    identity: Digest
    content: Digest
    passed_count: int = 0
    defaulted_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactFile:
    """One file of the artifact.

    Attributes:
        path: Relative POSIX path.
        format: ``safetensors``, ``skops``, ``onnx``, ``pickle``, ``json``, ``opaque``, …
        size_bytes: Its size.
        digest: blake3 of the bytes.
        sha256: sha256 of the bytes, for git-lfs, OCI and signatures.
    """

    path: str
    format: str
    size_bytes: int
    digest: Digest
    sha256: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactComponent:
    """Model artifacts: weights, checkpoints, tokenizers, whatever deployment needs.

    Attributes:
        identity: Canonical content digest of tensors and configuration.
        content: Tree of the files.
        files: Every file, sorted by path.
        size_bytes: Sum of their sizes.
        loader: Adapter that can load it (``sklearn``, ``torch``, ``onnx``, ``file``).
        tensors: Blob with ``{tensor name: blake3}`` (JSON); ``None`` when not parsed.
        is_pickle: Contains a pickle: loading it runs code.
    """

    identity: Digest
    content: Digest
    files: tuple[ArtifactFile, ...] = ()
    size_bytes: int = 0
    loader: str = "file"
    tensors: Digest | None = None
    is_pickle: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One installed distribution.

    Attributes:
        name: Normalised name (PEP 503).
        version: Exact version.
    """

    name: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What the run ran in, and what the model needs to run again.

    Attributes:
        identity: Digest over Python's minor version and the locked packages.
        lock: Blob: requirements file with exact versions, and hashes when ``has_hashes``.
        requirements: Requirement strings the model declares (direct dependencies with ranges).
        packages: Locked packages, sorted by name.
        python: Full version of the interpreter.
        platform: e.g. ``linux-x86_64``.
        accelerator: e.g. ``cuda 12.4``; empty on CPU.
        has_hashes: Whether the lock carries hashes of every package.
    """

    identity: Digest
    lock: Digest
    requirements: tuple[str, ...] = ()
    packages: tuple[Package, ...] = ()
    python: str
    platform: str
    accelerator: str = ""
    has_hashes: bool = False
