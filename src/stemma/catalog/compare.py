"""Measures a pair of versions, so that ``stemma.domain.evidence`` can decide.

Behaviour is paired by golden row: both versions' stored predictions are joined on the
digest of the row's inputs, so a golden set may grow without losing comparability, and
neither model has to be loaded.  Golden rows that either version trained on are left out,
and so are the rows of a declared fix set.

For regression, a row "differs" when the answers are further apart than the policy's
tolerance, and is "right" when it is within it of the label; without a declared tolerance it
is a tenth of the labels' standard deviation.

Invariants:
    * What cannot be measured is ``None``; nothing is guessed.
    * No model code runs here and nothing is unpickled.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemma.domain.component import DatasetRole
from stemma.domain.digest import Digest
from stemma.domain.errors import IntegrityError
from stemma.domain.facts import (
    EnvironmentFit,
    Measurements,
    PairedBehaviour,
    SliceCounts,
    VersionFacts,
)
from stemma.domain.manifest import GoldenSet, Manifest
from stemma.domain.policy import ModelPolicy
from stemma.store.objects import ObjectStore

_DIGEST_SIZE_BYTES = 16
_TOLERANCE_SHARE = 0.1

FitEnvironment = Callable[[tuple[str, ...], str], EnvironmentFit]
"""``(requirements of B, lock text of A) -> fit``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """The golden table of one version, in memory.

    Attributes:
        rows: (n,) fixed-width bytes, the digest of each row's inputs.
        answers: (n,) predictions.
        labels: (n,) right answers, or ``None``.
        slices: (n,) slice names, or ``None``.
    """

    rows: NDArray[np.bytes_]
    answers: NDArray[np.generic]
    labels: NDArray[np.generic] | None
    slices: NDArray[np.generic] | None


def measure(
    objects: ObjectStore,
    pair: tuple[VersionFacts, VersionFacts],
    policy: ModelPolicy,
    *,
    fix_rows: frozenset[bytes] = frozenset(),
    fit_environment: FitEnvironment,
    is_source_equal: bool = False,
) -> Measurements:
    """Measure the pair (before, after).

    Args:
        objects: Where both versions' blobs are.
        pair: Before and after.
        policy: The model's policy (tolerance).
        fix_rows: Digests of golden rows this change means to change.
        fit_environment: Answers whether B's requirements resolve within A's lock.
        is_source_equal: The pipeline's source differs only in changed hyperparameters.

    Raises:
        IntegrityError: If stored predictions are missing, flipped or malformed.
    """
    before, after = pair[0].manifest, pair[1].manifest
    return Measurements(
        behaviour=_behaviour(objects, before, after, policy, fix_rows),
        environment=_environment(objects, before, after, fit_environment),
        is_source_equal_but_for_hyperparameters=is_source_equal,
    )


def _environment(
    objects: ObjectStore, before: Manifest, after: Manifest, fit_environment: FitEnvironment
) -> EnvironmentFit | None:
    if before.environment.identity == after.environment.identity:
        return None
    lock = objects.read_bytes(before.environment.lock).decode("utf-8")
    return fit_environment(after.environment.requirements, lock)


def _behaviour(
    objects: ObjectStore,
    before: Manifest,
    after: Manifest,
    policy: ModelPolicy,
    fix_rows: frozenset[bytes],
) -> PairedBehaviour | None:
    golden_before, golden_after = before.evidence.golden, after.evidence.golden
    if golden_before is None or golden_after is None or golden_before.task != golden_after.task:
        return None
    first, second = _pair(
        load_predictions(objects, golden_before), load_predictions(objects, golden_after)
    )
    trained = np.concatenate([_training_rows(objects, before), _training_rows(objects, after)])
    is_trained = np.isin(second.rows, trained)
    fixes = np.array(sorted(fix_rows), dtype=f"S{_DIGEST_SIZE_BYTES}")
    is_fix = np.isin(second.rows, fixes) & ~is_trained
    keep = ~is_trained & ~is_fix
    counts = _Counter(golden_after, policy, first, second, keep)
    return counts.behaviour(
        training_overlap_count=int(is_trained.sum()), fix_set_count=int(is_fix.sum())
    )


class _Counter:
    """Counts paired rows that are kept."""

    def __init__(
        self,
        golden: GoldenSet,
        policy: ModelPolicy,
        first: Predictions,
        second: Predictions,
        keep: NDArray[np.bool_],
    ) -> None:
        self._tolerance = _tolerance(policy, second) if golden.task == "regression" else None
        self._keep = keep
        self._differ = ~self._same(first.answers, second.answers)
        self._labels = second.labels
        self._slices = second.slices
        self._is_classification = golden.task == "classification"
        if second.labels is None:
            self._right_before = self._right_after = np.zeros(len(keep), dtype=bool)
        else:
            self._right_before = self._same(first.answers, second.labels)
            self._right_after = self._same(second.answers, second.labels)

    def _same(self, left: NDArray[np.generic], right: NDArray[np.generic]) -> NDArray[np.bool_]:
        if self._tolerance is not None:
            distance = np.abs(left.astype(np.float64) - right.astype(np.float64))
            return np.asarray(distance <= self._tolerance, dtype=bool)
        if left.dtype.kind != right.dtype.kind:
            left, right = left.astype(str), right.astype(str)
        return np.asarray(left == right, dtype=bool)

    def behaviour(self, *, training_overlap_count: int, fix_set_count: int) -> PairedBehaviour:
        before, after = self._right_before[self._keep], self._right_after[self._keep]
        return PairedBehaviour(
            row_count=int(self._keep.sum()),
            differ_count=int(self._differ[self._keep].sum()),
            broken_count=int((before & ~after).sum()),
            fixed_count=int((~before & after).sum()),
            right_before_count=int(before.sum()),
            slices=self._slice_counts(before, after),
            training_overlap_count=training_overlap_count,
            fix_set_count=fix_set_count,
            has_labels=self._labels is not None,
            tolerance=self._tolerance or 0.0,
        )

    def _slice_counts(
        self, before: NDArray[np.bool_], after: NDArray[np.bool_]
    ) -> tuple[SliceCounts, ...]:
        if self._slices is not None:
            names = self._slices[self._keep].astype(str)
            prefix = ""
        elif self._is_classification and self._labels is not None:
            names = self._labels[self._keep].astype(str)
            prefix = "class="
        else:
            return ()
        return tuple(
            SliceCounts(
                name=f"{prefix}{name}",
                row_count=int((names == name).sum()),
                right_before_count=int(before[names == name].sum()),
                right_after_count=int(after[names == name].sum()),
            )
            for name in np.unique(names)
        )


def _tolerance(policy: ModelPolicy, table: Predictions) -> float:
    if policy.tolerance > 0:
        return policy.tolerance
    reference = table.answers if table.labels is None else table.labels
    return _TOLERANCE_SHARE * float(np.std(reference.astype(np.float64)))


def _pair(before: Predictions, after: Predictions) -> tuple[Predictions, Predictions]:
    """Bring both tables to the rows they share, in the same order."""
    if np.array_equal(before.rows, after.rows):
        return before, after
    _, left, right = np.intersect1d(before.rows, after.rows, return_indices=True)
    return _take(before, left), _take(after, right)


def _take(table: Predictions, index: NDArray[np.intp]) -> Predictions:
    return Predictions(
        rows=table.rows[index],
        answers=table.answers[index],
        labels=None if table.labels is None else table.labels[index],
        slices=None if table.slices is None else table.slices[index],
    )


def load_predictions(objects: ObjectStore, golden: GoldenSet) -> Predictions:
    """Load a golden table; never unpickles.

    Raises:
        IntegrityError: If the blob is missing, flipped or not such a table.
    """
    data = objects.read_bytes(golden.predictions)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            table = {name: arrays[name] for name in arrays.files}
        return Predictions(
            rows=as_keys(table["row_digest"]),
            answers=table["prediction"],
            labels=table.get("label"),
            slices=table.get("slice"),
        )
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise _bad_table(golden.predictions, "predictions") from error


def as_keys(row_digests: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    """View (n, 16) uint8 digests as n comparable fixed-width keys.

    Raises:
        ValueError: If the array is not (n, 16) uint8.
    """
    if row_digests.dtype != np.uint8 or row_digests.shape[1:] != (_DIGEST_SIZE_BYTES,):
        raise ValueError(f"row digests are {row_digests.dtype} {row_digests.shape}")
    return np.ascontiguousarray(row_digests).view(f"S{_DIGEST_SIZE_BYTES}").reshape(-1)


def _training_rows(objects: ObjectStore, manifest: Manifest) -> NDArray[np.bytes_]:
    """Digests of every row the version trained on, as far as they were captured."""
    found = [
        as_keys(load_row_digests(objects, dataset.row_digests))
        for dataset in manifest.datasets.datasets
        if dataset.role is DatasetRole.TRAINING and dataset.row_digests is not None
    ]
    empty = as_keys(np.zeros((0, _DIGEST_SIZE_BYTES), dtype=np.uint8))
    return np.concatenate([empty, *found])


def load_row_digests(objects: ObjectStore, digest: Digest) -> NDArray[np.uint8]:
    """Load (n, 16) uint8 row digests from their blob of n x 16 raw bytes.

    Raises:
        IntegrityError: If the blob is missing, flipped or of another size.
    """
    data = objects.read_bytes(digest)
    if len(data) % _DIGEST_SIZE_BYTES:
        raise _bad_table(digest, "row digests")
    return np.frombuffer(data, dtype=np.uint8).reshape(-1, _DIGEST_SIZE_BYTES)


def _bad_table(digest: Digest, what: str) -> IntegrityError:
    return IntegrityError(
        f"blob {digest} is not the {what} its manifest names",
        code="bad-blob",
        hint="stemma doctor",
    )
