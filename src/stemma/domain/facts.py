"""What two versions are compared by, in memory: a manifest with its tables loaded.

The decision which number a release gets (``stemma.domain.evidence``) reads these
values only.  ``stemma.catalog.compare`` loads and measures them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from stemma.domain.manifest import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """Name, dtype and shape of one parameter tensor.

    Attributes:
        name: Its name in the state.
        dtype: numpy's or safetensors' dtype name, lower case.
        shape: Sizes; ``-1`` where the size depends on the data (tree nodes).
    """

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer or step.

    Attributes:
        name: Its path in the model.
        kind: Class name.
        parameter_count: Learned values in it.
    """

    name: str
    kind: str
    parameter_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """Layers and parameter tensors of a model, stored as a blob of canonical JSON.

    Attributes:
        layers: In order.
        tensors: In order.
    """

    layers: tuple[Layer, ...] = ()
    tensors: tuple[Tensor, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionFacts:
    """A version with its tables.

    Attributes:
        manifest: The manifest.
        structure: Layers and tensors.
        tokens: Token list in index order; empty without tokenizer.
        tensor_digests: blake3 hex per tensor name; empty when not parsed.
        hyperparameters: Every hyperparameter by name, passed or defaulted, as JSON values.
        missing: Parts, as ``--only`` takes them, that stayed on a remote; their tables are empty.
    """

    manifest: Manifest
    structure: Structure = Structure()
    tokens: tuple[str, ...] = ()
    tensor_digests: dict[str, str] = field(default_factory=dict)
    hyperparameters: dict[str, object] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceCounts:
    """Paired counts on one slice of the golden set.

    Attributes:
        name: e.g. ``class=8``.
        row_count: Rows in the slice.
        right_before_count: Rows A answers rightly.
        right_after_count: Rows B answers rightly.
    """

    name: str
    row_count: int
    right_before_count: int
    right_after_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedBehaviour:
    """A and B on the same golden rows, counted.

    For regression a row "differs" when the answers differ by more than the policy's
    tolerance, and is "right" when it is within the tolerance of the label.

    Attributes:
        row_count: Golden rows both were asked (training rows and the fix set left out).
        differ_count: Rows whose answers differ (churn).
        broken_count: Rows A answered rightly and B does not (negative flips).
        fixed_count: Rows B answers rightly and A did not.
        right_before_count: Rows A answered rightly.
        slices: The same on each slice.
        training_overlap_count: Golden rows dropped because they are training rows.
        fix_set_count: Rows dropped as declared fix set.
        has_labels: Whether rows carry labels; without, only churn is known.
        tolerance: For regression, how far apart answers may be and count as the same; else 0.
    """

    row_count: int
    differ_count: int
    broken_count: int = 0
    fixed_count: int = 0
    right_before_count: int = 0
    slices: tuple[SliceCounts, ...] = ()
    training_overlap_count: int = 0
    fix_set_count: int = 0
    has_labels: bool = True
    tolerance: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentFit:
    """Whether B's requirements resolve within A's locked environment.

    Attributes:
        does_resolve: ``None`` when it could not be found out.
        changed: Packages that would change, as ``name 1.0 → 1.1``.
        conflict: The resolver's reason, in one line; empty when it resolves.
    """

    does_resolve: bool | None
    changed: tuple[str, ...] = ()
    conflict: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements:
    """Everything measured about the pair (A, B); what is ``None`` is missing evidence.

    Attributes:
        behaviour: Paired behaviour on the golden set.
        environment: Fit of B's requirements in A's lock; ``None`` when the locks are equal.
        is_source_equal_but_for_hyperparameters: The pipeline's source differs only in
            hyperparameter values that are themselves listed as changed.
    """

    behaviour: PairedBehaviour | None = None
    environment: EnvironmentFit | None = None
    is_source_equal_but_for_hyperparameters: bool = False
