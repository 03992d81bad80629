"""What run, show and log say about one version, on values."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from stemma.cli import version_cards as cards
from stemma.domain.component import (
    ArchitectureComponent,
    ArtifactComponent,
    ArtifactFile,
    Dataset,
    DatasetRole,
    DatasetsComponent,
    Environment,
    GitState,
    HyperparametersComponent,
    Package,
    PipelineComponent,
)
from stemma.domain.digest import Digest
from stemma.domain.facts import VersionFacts
from stemma.domain.manifest import Evidence, GoldenSet, Manifest, Metric, Provenance
from stemma.domain.release import GateResult, Release
from stemma.domain.run import RunId, RunRecord, RunStart, RunState
from stemma.domain.verdict import Level
from stemma.hub.base import VersionView

TREE = Digest.blake3("ab" * 32)
RECORD = Digest.sha256("cd" * 32)
WHEN = datetime(2026, 5, 3, 12, 0, tzinfo=UTC)
TRAINING = Dataset(
    name="digits-train",
    role=DatasetRole.TRAINING,
    identity=TREE,
    content=TREE,
    format="npz",
    row_count=1257,
)
TEST = replace(TRAINING, name="digits-test", role=DatasetRole.TEST, row_count=540)
MODEL_FILE = ArtifactFile(
    path="model.skops", format="skops", size_bytes=30_000, digest=TREE, sha256=RECORD
)
MANIFEST = Manifest(
    model="digits",
    architecture=ArchitectureComponent(
        identity=TREE,
        content=TREE,
        family="sklearn",
        summary="LogisticRegression",
        parameter_count=650,
        git=GitState(commit="9c1e2ab" + "0" * 33),
    ),
    datasets=DatasetsComponent(identity=TREE, datasets=(TRAINING, TEST)),
    pipeline=PipelineComponent(
        identity=TREE, content=TREE, script="train.py", command=("python", "train.py")
    ),
    hyperparameters=HyperparametersComponent(identity=TREE, content=TREE),
    artifact=ArtifactComponent(identity=TREE, content=TREE, files=(MODEL_FILE,), size_bytes=30_000),
    environment=Environment(
        identity=TREE,
        lock=TREE,
        python="3.11.7",
        platform="linux-x86_64",
        packages=(Package(name="numpy", version="2.1"),),
        has_hashes=True,
    ),
    evidence=Evidence(
        metrics=(
            Metric(name="accuracy", value="0.9722222", sample_size=540),
            Metric(name="recall", value="0.99", slice="class=1"),
            Metric(name="recall", value="0.923", slice="class=8"),
        )
    ),
    provenance=Provenance(
        run="r-b5eb309a", started_at=WHEN, ended_at=WHEN, created_by="ada", host="lab"
    ),
    metadata={},
)
FACTS = VersionFacts(manifest=MANIFEST, hyperparameters={"C": 1.0, "max_iter": 500, "tol": 0.1})
RUN = RunRecord(
    id=RunId("r-b5eb309a"),
    start=RunStart(model="digits", created_by="ada", reason="try"),
    state=RunState.FINISHED,
    started_at=WHEN,
)


def _with(manifest: Manifest) -> VersionFacts:
    return replace(FACTS, manifest=manifest)


def test_a_run_card_names_all_five_components_and_the_environment() -> None:
    """A component that was not recorded would not be missed."""
    assert cards.run_card(RUN, FACTS, ["max_iter"]) == [
        "✓ run r-b5eb30  digits",
        "  architecture     LogisticRegression, 650 parameters",
        "  training data    digits-train  abababab  1,257 rows",
        "  pipeline         train.py @ 9c1e2ab (clean)",
        "  hyperparameters  max_iter=500 C=1.0 … 1 more",
        "  artifact         model.skops 30 KB",
        "  environment      python 3.11.7, 1 package locked",
        "  accuracy 0.9722   worst class: 8 (0.923)",
    ]


def test_show_keeps_all_datasets_together() -> None:
    """The test data would read as if it belonged to the environment."""
    view = VersionView(model="digits", version="", digest=RECORD, manifest=MANIFEST)
    lines = cards.show_card(view, FACTS, [])
    assert lines[0] == "digits@r-b5eb309a   sha256:cdcdcdcd"
    at = lines.index("  training data    digits-train  abababab  1,257 rows")
    assert lines[at + 1] == "  test data        digits-test  abababab  540 rows"


def test_show_names_datasets_even_when_nothing_was_trained_on() -> None:
    """The test data of an imported model would be called its training data."""
    only_test = replace(MANIFEST, datasets=DatasetsComponent(identity=TREE, datasets=(TEST,)))
    view = VersionView(model="digits", version="", digest=RECORD, manifest=only_test)
    lines = cards.show_card(view, _with(only_test), [])
    assert sum("digits-test" in line for line in lines) == 1
    assert "  training data    digits-test  abababab  540 rows  (test)" in lines


def test_show_says_who_released_it_why_and_what_the_gates_said() -> None:
    """An auditor would have to read the manifest."""
    release = Release(
        model="digits",
        version="1.1.0",
        manifest=RECORD,
        sequence=2,
        previous=None,
        level=Level.MINOR,
        verdict=None,
        gates=(GateResult(gate="accuracy", has_passed=True, actual="0.9722", needed="≥ 0.9"),),
        override_reason="partners were told",
        message="Better eights",
        released_at=WHEN,
        released_by="grace",
    )
    described = replace(
        MANIFEST,
        metadata={"owner": "team", "uses": ["a", "b"]},
        evidence=replace(MANIFEST.evidence, licence="MIT"),
        provenance=replace(MANIFEST.provenance, reason="more data"),
    )
    view = VersionView(
        model="digits",
        version="1.1.0",
        digest=RECORD,
        manifest=described,
        release=release,
        channels=("canary", "stable"),
    )
    lines = cards.show_card(view, _with(described), [])
    assert lines[0] == "digits@1.1.0   minor   sha256:cdcdcdcd   (canary, stable)"
    assert lines[9:] == [
        "",
        "  run              r-b5eb309a  2026-05-03 12:00 UTC  ada@lab",
        "  reason           more data",
        "  command          python train.py",
        "  released         2026-05-03 12:00 UTC  grace",
        "  because          partners were told",
        "  message          Better eights",
        "  owner            team",
        "  uses             a, b",
        "  licence          MIT",
        "",
        "  gates",
        "    ✓  accuracy  0.9722  needs ≥ 0.9",
    ]


@pytest.mark.parametrize(
    ("git", "text"),
    [
        (None, "train.py (not in git, captured whole)"),
        (GitState(), "train.py (no commit yet, captured whole)"),
        (GitState(commit="9c1e2ab00", is_dirty=True), "train.py @ 9c1e2ab (uncommitted changes)"),
    ],
)
def test_the_pipeline_says_how_much_git_knows(git: GitState | None, text: str) -> None:
    """Uncommitted code would look reproducible from git alone."""
    manifest = replace(MANIFEST, architecture=replace(MANIFEST.architecture, git=git))
    assert cards.pipeline_text(manifest) == text


def test_a_pipeline_without_script_is_its_command() -> None:
    """A run of a compiled program would have no name."""
    pipeline = replace(MANIFEST.pipeline, script="")
    assert cards.pipeline_text(replace(MANIFEST, pipeline=pipeline)).startswith("python train.py @")
    nothing = replace(MANIFEST, pipeline=replace(pipeline, command=()))
    assert cards.pipeline_text(nothing).startswith("no script @")


@pytest.mark.parametrize(
    ("values", "passed", "text"),
    [
        ({}, [], "none recorded"),
        ({"a": 1}, ["gone"], "a=1"),
        ({"step__C": 1.0, "b": None, "c": "x"}, ["c"], "c=x b=null … 1 more"),
        ({"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}, list("edcba"), "e=5 d=4 c=3 b=2 … 1 more"),
        ({"a": "x" * 50}, [], f"a={'x' * 40}…"),
    ],
)
def test_passed_hyperparameters_come_first_and_stay_short(
    values: dict[str, object], passed: list[str], text: str
) -> None:
    """What the user set would drown in defaults."""
    assert cards.hyperparameters_text(values, passed) == text


def test_an_artifact_says_its_danger_and_how_many_files_it_has() -> None:
    """A pickle would be loaded without a second thought."""
    artifact = MANIFEST.artifact
    several = replace(artifact, files=(MODEL_FILE, MODEL_FILE, MODEL_FILE))
    assert cards.artifact_text(replace(MANIFEST, artifact=several)) == (
        "model.skops and 2 more 30 KB"
    )
    pickle = replace(artifact, is_pickle=True)
    assert cards.artifact_text(replace(MANIFEST, artifact=pickle)).endswith(
        "(a pickle: loading it runs code)"
    )
    none = replace(artifact, files=())
    assert cards.artifact_text(replace(MANIFEST, artifact=none)) == "none recorded"


def test_datasets_without_rows_say_their_size() -> None:
    """A folder of images would have -1 rows."""
    images = replace(TRAINING, row_count=-1, size_bytes=2_500_000)
    assert cards.dataset_text(images) == "digits-train  abababab  2.5 MB"
    none = replace(MANIFEST, datasets=DatasetsComponent(identity=TREE))
    assert ("datasets", "none recorded") in cards.components(_with(none))


def test_an_environment_without_hashes_says_so() -> None:
    """A lock that can be swapped would look safe."""
    environment = replace(MANIFEST.environment, has_hashes=False, accelerator="cuda 12.4")
    assert cards.environment_text(environment) == (
        "python 3.11.7, 1 package pinned, without hashes, cuda 12.4"
    )


def test_an_environment_without_packages_says_so() -> None:
    """Nothing recorded would read like something insecure."""
    environment = replace(MANIFEST.environment, packages=(), has_hashes=False)
    assert cards.environment_text(environment) == "python 3.11.7, no packages"


def test_no_class_is_the_worst_when_every_one_is_found() -> None:
    """A perfect score would be shown as a weakness."""
    recalls = tuple(Metric(name="recall", slice=f"class={n}", value="1.0") for n in range(2))
    manifest = replace(MANIFEST, evidence=replace(MANIFEST.evidence, metrics=recalls, golden=None))
    assert cards.metric_lines(manifest) == []


def test_an_architecture_without_summary_is_its_family() -> None:
    """The line would be empty."""
    plain = replace(MANIFEST.architecture, summary="", parameter_count=0)
    assert cards.architecture_text(plain) == "sklearn"


def test_the_golden_metric_is_shown_alone() -> None:
    """Metrics that nothing is judged by would hide the one that counts."""
    golden = GoldenSet(
        dataset="digits-test",
        identity=TREE,
        predictions=TREE,
        row_count=540,
        task="classification",
        metric="f1",
    )
    metrics = tuple(Metric(name=name, value="0.5") for name in ("accuracy", "auc", "f1", "loss"))
    judged = replace(MANIFEST, evidence=Evidence(metrics=metrics, golden=golden))
    assert [line.split()[0] for line in cards.metric_lines(judged)] == ["f1"]
    unjudged = replace(MANIFEST, evidence=Evidence(metrics=metrics))
    assert cards.metric_lines(unjudged)[0].split()[::2] == ["accuracy", "auc", "f1"]
    assert cards.metric_lines(replace(MANIFEST, evidence=Evidence())) == []


def test_runs_say_why_they_failed_else_why_they_were_made() -> None:
    """A failed run would show the hope it was started with."""
    failed = replace(RUN, state=RunState.FAILED, failure="exit code 7")
    rows = cards.run_rows([RUN, failed], is_precise=False)
    assert rows == [
        ["r-b5eb30", "digits", "finished", "2026-05-03 12:00", "ada", "try"],
        ["r-b5eb30", "digits", "failed", "2026-05-03 12:00", "ada", "exit code 7"],
    ]
    precise = cards.run_rows([RUN], is_precise=True)[0]
    assert (precise[0], precise[3]) == ("r-b5eb309a", "2026-05-03T12:00:00+00:00")
    assert cards.failed_run_line(failed) == "✗ run r-b5eb30  digits  failed: exit code 7"
    silent = replace(RUN, state=RunState.INTERRUPTED)
    assert cards.failed_run_line(silent) == "✗ run r-b5eb30  digits  interrupted"
