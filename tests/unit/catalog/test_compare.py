"""Pairing two versions' golden predictions, and what is left out of the counts."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from numpy.typing import NDArray

from stemma.catalog.compare import measure
from stemma.domain.component import (
    ArchitectureComponent,
    ArtifactComponent,
    Dataset,
    DatasetRole,
    DatasetsComponent,
    Environment,
    HyperparametersComponent,
    PipelineComponent,
)
from stemma.domain.digest import Digest
from stemma.domain.errors import IntegrityError
from stemma.domain.facts import EnvironmentFit, PairedBehaviour, VersionFacts
from stemma.domain.manifest import Evidence, GoldenSet, Manifest, Provenance
from stemma.domain.policy import ModelPolicy
from stemma.store.backends.memory import MemoryBackend
from stemma.store.index import MemoryChunkIndex
from stemma.store.objects import ObjectStore

NOTHING = Digest.blake3("0" * 64)
NOON = datetime(2026, 5, 3, 12, tzinfo=UTC)


def rows(*numbers: int) -> NDArray[np.uint8]:
    """Digests of rows that are told apart by a number."""
    return np.array([[number] * 16 for number in numbers], dtype=np.uint8).reshape(-1, 16)


class Versions:
    """Makes versions with given golden predictions in a store of their own."""

    def __init__(self) -> None:
        self.objects = ObjectStore(MemoryBackend(), MemoryChunkIndex())

    def put_table(self, **arrays: NDArray[np.generic]) -> Digest:
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        return self.objects.put_bytes(buffer.getvalue()).digest

    def version(
        self,
        predictions: Digest | None,
        *,
        task: str = "classification",
        trained_on: NDArray[np.uint8] | None = None,
        lock: bytes = b"numpy==2.0\n",
    ) -> VersionFacts:
        golden = None
        if predictions is not None:
            golden = GoldenSet(
                dataset="digits-test",
                identity=NOTHING,
                predictions=predictions,
                row_count=0,
                task=task,
                metric="accuracy",
            )
        training = ()
        if trained_on is not None:
            training = (
                Dataset(
                    name="train",
                    role=DatasetRole.TRAINING,
                    identity=NOTHING,
                    content=NOTHING,
                    format="npz",
                    row_digests=self.objects.put_bytes(trained_on.tobytes()).digest,
                ),
            )
        stored = self.objects.put_bytes(lock)
        return VersionFacts(
            manifest=Manifest(
                model="digits",
                architecture=ArchitectureComponent(
                    identity=NOTHING, content=NOTHING, family="f", summary="s"
                ),
                datasets=DatasetsComponent(identity=NOTHING, datasets=training),
                pipeline=PipelineComponent(identity=NOTHING, content=NOTHING),
                hyperparameters=HyperparametersComponent(identity=NOTHING, content=NOTHING),
                artifact=ArtifactComponent(identity=NOTHING, content=NOTHING),
                environment=Environment(
                    identity=stored.digest,
                    lock=stored.digest,
                    requirements=("numpy>=2.0",),
                    python="3.11.7",
                    platform="linux",
                ),
                evidence=Evidence(golden=golden),
                provenance=Provenance(run="r-1", started_at=NOON, ended_at=NOON, created_by="ada"),
                metadata={},
            )
        )


def no_fit(requirements: tuple[str, ...], lock: str) -> EnvironmentFit:
    """Answer that the environment could not be resolved."""
    return EnvironmentFit(does_resolve=None, conflict=f"{requirements} in {lock!r}")


def behaviour(
    versions: Versions,
    pair: tuple[VersionFacts, VersionFacts],
    policy: ModelPolicy | None = None,
    fix_rows: frozenset[bytes] = frozenset(),
) -> PairedBehaviour | None:
    """Measure the pair's behaviour only."""
    return measure(
        versions.objects,
        pair,
        policy or ModelPolicy(),
        fix_rows=fix_rows,
        fit_environment=no_fit,
    ).behaviour


def test_fixed_and_broken_rows_are_counted_by_class() -> None:
    """A release would be numbered by wrong counts."""
    versions = Versions()
    labels = np.array([0, 0, 1, 1])
    before = versions.put_table(
        row_digest=rows(1, 2, 3, 4), prediction=np.array([0, 1, 1, 1]), label=labels
    )
    after = versions.put_table(
        row_digest=rows(1, 2, 3, 4), prediction=np.array([0, 0, 0, 1]), label=labels
    )
    counted = behaviour(versions, (versions.version(before), versions.version(after)))
    assert counted is not None
    assert (counted.row_count, counted.differ_count) == (4, 2)
    assert (counted.fixed_count, counted.broken_count, counted.right_before_count) == (1, 1, 3)
    slices = {
        part.name: (part.row_count, part.right_before_count, part.right_after_count)
        for part in counted.slices
    }
    assert slices == {"class=0": (2, 1, 2), "class=1": (2, 2, 1)}


def test_a_golden_set_that_grew_is_compared_on_the_rows_both_know() -> None:
    """Adding test rows would make every next release MAJOR for missing evidence."""
    versions = Versions()
    before = versions.put_table(row_digest=rows(1, 2), prediction=np.array([5, 6]))
    after = versions.put_table(row_digest=rows(3, 2, 1), prediction=np.array([7, 6, 9]))
    counted = behaviour(versions, (versions.version(before), versions.version(after)))
    assert counted is not None
    assert (counted.row_count, counted.differ_count, counted.has_labels) == (2, 1, False)


@pytest.mark.parametrize("trainer", ["before", "after"])
def test_rows_that_either_version_trained_on_prove_nothing(trainer: str) -> None:
    """A leaked golden row would count as evidence."""
    versions = Versions()
    table = {"row_digest": rows(1, 2, 3), "label": np.array([0, 1, 0])}
    before = versions.put_table(prediction=np.array([0, 1, 0]), **table)
    after = versions.put_table(prediction=np.array([1, 1, 0]), **table)
    trained = {"before": None, "after": None, trainer: rows(1)}
    pair = (
        versions.version(before, trained_on=trained["before"]),
        versions.version(after, trained_on=trained["after"]),
    )
    counted = behaviour(versions, pair)
    assert counted is not None
    assert (counted.row_count, counted.broken_count, counted.training_overlap_count) == (2, 0, 1)


def test_a_declared_fix_set_is_left_out_and_counted() -> None:
    """A deliberate fix would look like churn."""
    versions = Versions()
    before = versions.put_table(row_digest=rows(1, 2), prediction=np.array(["cat", "dog"]))
    after = versions.put_table(row_digest=rows(1, 2), prediction=np.array(["bird", "dog"]))
    pair = (versions.version(before), versions.version(after))
    counted = behaviour(versions, pair, fix_rows=frozenset({bytes([1] * 16)}))
    assert counted is not None
    assert (counted.row_count, counted.differ_count, counted.fix_set_count) == (1, 0, 1)


def test_regression_answers_differ_beyond_the_tolerance_only() -> None:
    """Rounding noise of a refit would look like a changed behaviour."""
    versions = Versions()
    labels = np.array([1.0, 2.0, 3.0])
    before = versions.put_table(row_digest=rows(1, 2, 3), prediction=labels.copy(), label=labels)
    after = versions.put_table(
        row_digest=rows(1, 2, 3), prediction=np.array([1.05, 2.5, 3.0]), label=labels
    )
    pair = (
        versions.version(before, task="regression"),
        versions.version(after, task="regression"),
    )
    counted = behaviour(versions, pair, replace(ModelPolicy(), tolerance=0.1))
    assert counted is not None
    assert (counted.differ_count, counted.broken_count, counted.slices) == (1, 1, ())
    assert counted.tolerance == 0.1


def test_other_tasks_without_a_golden_set_are_missing_evidence() -> None:
    """Nothing measured would pass for nothing changed."""
    versions = Versions()
    table = versions.put_table(row_digest=rows(1), prediction=np.array([1]))
    with_golden, without = versions.version(table), versions.version(None)
    assert behaviour(versions, (without, with_golden)) is None
    assert behaviour(versions, (with_golden, without)) is None
    regression = versions.version(table, task="regression")
    assert behaviour(versions, (with_golden, regression)) is None


def test_a_table_of_another_form_is_refused() -> None:
    """Damaged evidence would be counted."""
    versions = Versions()
    good = versions.put_table(row_digest=rows(1), prediction=np.array([1]))
    objects = {"row_digest": rows(1), "prediction": np.array([{}], dtype=object)}
    for bad in (
        versions.objects.put_bytes(b"not a table").digest,
        versions.put_table(prediction=np.array([1])),
        versions.put_table(**objects),
        versions.put_table(row_digest=np.zeros((1, 4), np.uint8), prediction=np.array([1])),
    ):
        with pytest.raises(IntegrityError, match="is not the predictions"):
            behaviour(versions, (versions.version(good), versions.version(bad)))


def test_equal_locks_need_no_resolver_and_others_ask_it() -> None:
    """Every release would wait for a resolver, or none would ask one."""
    versions = Versions()
    same, other = versions.version(None), versions.version(None, lock=b"numpy==2.1\n")
    policy = ModelPolicy()
    assert (
        measure(versions.objects, (same, same), policy, fit_environment=no_fit).environment is None
    )
    fit = measure(versions.objects, (same, other), policy, fit_environment=no_fit).environment
    assert fit is not None
    assert fit.conflict == "('numpy>=2.0',) in 'numpy==2.0\\n'"
