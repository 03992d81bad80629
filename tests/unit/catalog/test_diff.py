"""Two versions in words: what a person reads before deciding to ship."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from stemma.catalog.diff import ComponentDiff, Sources, diff_components, size_text, unified_patch
from stemma.domain.component import Dataset, DatasetRole, Package
from stemma.domain.digest import Digest
from stemma.domain.facts import Layer, Structure, VersionFacts
from stemma.domain.manifest import Manifest, Metric, decode_manifest

VECTOR = min((Path(__file__).parents[2] / "vectors" / "manifest").glob("*.json"))
OTHER = Digest.blake3("b" * 64)
NOTHING = Digest.blake3("0" * 64)


def base() -> Manifest:
    """The first golden manifest, without the parts that tests set."""
    manifest = decode_manifest(VECTOR.read_bytes())
    return replace(
        manifest,
        datasets=replace(manifest.datasets, datasets=()),
        evidence=replace(manifest.evidence, metrics=()),
        metadata={},
    )


def compare(
    before: VersionFacts,
    after: VersionFacts,
    texts: tuple[dict[str, str], dict[str, str]] = ({}, {}),
) -> dict[str, ComponentDiff]:
    """Diff by component."""
    sources = Sources(texts=texts[0]), Sources(texts=texts[1])
    return {
        part.component: part for part in diff_components(before, after, sources, stored_bytes=4000)
    }


def dataset(name: str, identity: Digest, row_count: int) -> Dataset:
    """A training dataset."""
    return Dataset(
        name=name,
        role=DatasetRole.TRAINING,
        identity=identity,
        content=NOTHING,
        format="csv",
        row_count=row_count,
        size_bytes=2_000,
    )


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1_000, "1.0 KB"), (30_400, "30 KB"), (2_500_000, "2.5 MB")],
)
def test_sizes_read_as_people_write_them(size_bytes: int, text: str) -> None:
    """A size that needs counting digits is not read."""
    assert size_text(size_bytes) == text


def test_equal_versions_say_same_everywhere() -> None:
    """Noise would hide the one line that changed."""
    facts = VersionFacts(manifest=base())
    assert all(part.is_same for part in compare(facts, facts).values())


def test_another_structure_is_named_with_its_parameters_and_layers() -> None:
    """A redesign would read like a retraining."""
    old, new = base(), base()
    left = VersionFacts(
        manifest=replace(
            old,
            architecture=replace(
                old.architecture, summary="LogisticRegression", parameter_count=650
            ),
        ),
        structure=Structure(layers=(Layer(name="clf", kind="LogisticRegression"),)),
    )
    right = VersionFacts(
        manifest=replace(
            new,
            architecture=replace(
                new.architecture, identity=OTHER, summary="MLP", parameter_count=4810
            ),
        ),
        structure=Structure(layers=(Layer(name="mlp", kind="MLPClassifier"),)),
    )
    found = compare(left, right)["architecture"]
    assert found.summary == "LogisticRegression 650 params → MLP 4,810 params"
    assert found.details == ("+ mlp  MLPClassifier", "- clf  LogisticRegression")


def test_datasets_that_came_went_and_changed_are_told_apart() -> None:
    """A dataset that was swapped would pass for one that grew."""
    old = replace(
        base(),
        datasets=replace(
            base().datasets, datasets=(dataset("a", NOTHING, 10), dataset("gone", NOTHING, -1))
        ),
    )
    new = replace(
        base(),
        datasets=replace(
            base().datasets, datasets=(dataset("a", OTHER, 12), dataset("new", OTHER, 3))
        ),
    )
    found = compare(VersionFacts(manifest=old), VersionFacts(manifest=new))["datasets"]
    assert found.summary == "3 datasets differ"
    assert found.details == (
        "a (training) 00000000 → bbbbbbbb  10 rows → 12 rows",
        "- gone (training) 00000000  2.0 KB",
        "+ new (training) bbbbbbbb  3 rows",
    )


def test_a_changed_script_says_how_much_and_shows_a_patch() -> None:
    """A reviewer could not see what was edited."""
    old = base()
    new = replace(old, pipeline=replace(old.pipeline, identity=OTHER, command=("python", "b.py")))
    texts = {"train.py": "a\nb\nc\n", "gone.py": "x"}, {"train.py": "a\nB\nc\n", "new.py": "y\n"}
    found = compare(VersionFacts(manifest=old), VersionFacts(manifest=new), texts)["pipeline"]
    assert (found.summary, *found.details[:2]) == (
        "gone.py  removed",
        "new.py  added",
        "train.py  1 line changed",
    )
    patch = unified_patch((Sources(texts=texts[0]), Sources(texts=texts[1])))
    assert "--- a/train.py\n+++ b/train.py\n" in patch
    assert "-b\n+B\n" in patch
    assert "--- /dev/null\n+++ b/new.py\n" in patch


def test_many_hyperparameters_are_counted_and_listed() -> None:
    """Twenty values on one line are not read."""
    before: dict[str, object] = {"C": 1.0, "gone": 1, "same": 2}
    after: dict[str, object] = {"C": 0.5, "same": 2, "tol": 1e-3, "solver": "lbfgs"}
    manifest = base()
    found = compare(
        VersionFacts(manifest=manifest, hyperparameters=before),
        VersionFacts(manifest=manifest, hyperparameters=after),
    )["hyperparameters"]
    assert found.summary == "4 differ"
    assert found.details == ("C 1.0 → 0.5", "- gone 1", "+ solver 'lbfgs'", "+ tol 0.001")


def test_the_artifact_counts_changed_tensors_and_what_they_cost() -> None:
    """Nobody would know what keeping a version costs."""
    old = base()
    new = replace(old, artifact=replace(old.artifact, identity=OTHER))
    found = compare(
        VersionFacts(manifest=old, tensor_digests={"w": "1", "b": "2"}),
        VersionFacts(manifest=new, tensor_digests={"w": "1", "b": "3", "c": "4"}),
    )["artifact"]
    assert "2 of 3 tensors changed" in found.summary
    assert found.summary.endswith("4.0 KB stored")


def test_packages_metrics_and_metadata_show_old_and_new_values() -> None:
    """An upgrade or a fallen metric would go unseen."""
    old, new = base(), base()
    old = replace(
        old,
        environment=replace(old.environment, packages=(Package(name="numpy", version="2.0"),)),
        evidence=replace(old.evidence, metrics=(Metric(name="accuracy", value="0.9"),)),
        metadata={"owner": "ada"},
    )
    new = replace(
        new,
        environment=replace(
            new.environment,
            identity=OTHER,
            packages=(Package(name="numpy", version="2.1"), Package(name="scipy", version="1.0")),
        ),
        evidence=replace(new.evidence, metrics=(Metric(name="accuracy", value="0.95"),)),
        metadata={"owner": "bob"},
    )
    found = compare(VersionFacts(manifest=old), VersionFacts(manifest=new))
    assert found["environment"].details == ("numpy 2.0 → 2.1", "+ scipy 1.0")
    assert found["metrics"].summary == "accuracy 0.9 → 0.95"
    assert found["metadata"].summary == "owner 'ada' → 'bob'"
