"""What runs may log, and what Stemma's own runs tell tracking clients."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest

from stemma.domain.component import (
    ArchitectureComponent,
    ArtifactComponent,
    Dataset,
    DatasetRole,
    DatasetsComponent,
    Environment,
    GitState,
    HyperparametersComponent,
    PipelineComponent,
)
from stemma.domain.digest import Digest
from stemma.domain.errors import InvalidInputError
from stemma.domain.manifest import Evidence, Manifest, Metric, Provenance
from stemma.domain.run import RunId, RunStart
from stemma.domain.run_facts import facts_of, first_tags
from stemma.domain.run_names import name_of
from stemma.domain.tracking import (
    Point,
    RunInput,
    check_inputs,
    check_key,
    latest,
    parse_run_id,
    storable,
    storable_value,
    to_microseconds,
    to_moment,
)

MOMENT = datetime(2026, 5, 3, 12, 0, 0, 250_000, tzinfo=UTC)
PART = Digest.blake3("ab" * 32)


@pytest.mark.parametrize("key", ["loss", "val/loss", "a b", "f1:macro", "été_1", "x.y-z", "..."])
def test_names_that_clients_use_are_taken(key: str) -> None:
    """A training would stop at its first metric."""
    if key == "...":
        with pytest.raises(InvalidInputError):
            check_key(key)
    else:
        check_key(key)


@pytest.mark.parametrize("key", ["", ".", "..", "/a", "a/", "a//b", "./a", "a/../b", "a\n", "a;b"])
def test_names_that_are_no_plain_paths_are_refused(key: str) -> None:
    """A client that keeps metrics as files would write outside of its folder."""
    with pytest.raises(InvalidInputError):
        check_key(key)


def test_the_latest_point_is_a_number_before_it_is_none() -> None:
    """A diverged value would hide a number of the same moment."""
    points = [Point("m", math.nan, 1, 1), Point("m", -1.0, 1, 1)]
    assert latest(points) == latest(points[::-1]) == points[1]


def test_values_are_kept_as_both_engines_can() -> None:
    """A value would read back as damage."""
    assert storable_value(math.inf) == -storable_value(-math.inf) == 1.7976931348623157e308
    assert math.isnan(storable_value(math.nan))
    assert storable_value(0.1) == 0.1
    assert storable("plain") == "plain"
    assert storable("é\0\udcff") == "é\\0\\udcff"


def test_moments_are_microseconds_and_stay_in_the_calendar() -> None:
    """A client's clock in milliseconds could stop the server."""
    assert to_moment(to_microseconds(MOMENT)) == MOMENT
    for wrong in (-1, 2**63, 10**18):
        with pytest.raises(InvalidInputError):
            to_moment(wrong)


def test_a_run_is_meant_with_and_without_its_prefix() -> None:
    """A run imported from elsewhere could not be read by its old id."""
    assert parse_run_id("r-7f3c2a90") == "r-7f3c2a90"
    assert parse_run_id("0123456789abcdef" * 2) == "r-" + "0123456789abcdef" * 2
    for wrong in ("", "7f3c2a90", "r-", "r-XYZ", "../r-00", "r-00\n"):
        with pytest.raises(InvalidInputError):
            parse_run_id(wrong)


def test_a_run_without_a_name_gets_the_same_one_each_time() -> None:
    """Two people would call one run by two names."""
    names = [name_of(RunId(f"r-{number:032x}")) for number in (0, 1, 2**127, 2**128 - 1)]
    assert names == [name_of(RunId(f"r-{number:032x}")) for number in (0, 1, 2**127, 2**128 - 1)]
    assert all(name.count("-") == 2 for name in names)


@pytest.mark.parametrize(
    "dataset",
    [
        RunInput(name="", digest="d"),
        RunInput(name="n", digest=""),
        RunInput(name="n" * 501, digest="d"),
        RunInput(name="n", digest="d" * 81),
        RunInput(name="n\0", digest="d"),
        RunInput(name="n", digest="d", source="s" * 65_536),
    ],
)
def test_a_dataset_without_a_name_or_too_large_is_refused(dataset: RunInput) -> None:
    """A row could be made that nobody can ask for."""
    with pytest.raises(InvalidInputError):
        check_inputs([dataset])


def test_a_run_tells_who_made_what_from_which_commit_and_data() -> None:
    """A run that Stemma recorded would be empty in a tracking client."""
    start = RunStart(
        model="digits", command=("python", "train.py", "--lr=1"), created_by="ada", reason="why"
    )
    assert first_tags(start) == {
        "mlflow.user": "ada",
        "mlflow.source.name": "train.py",
        "mlflow.source.type": "LOCAL",
        "mlflow.note.content": "why",
    }
    assert first_tags(RunStart(model="digits")) == {}
    dataset = Dataset(
        name="train",
        role=DatasetRole.TRAINING,
        identity=PART,
        content=PART,
        format="npz",
        row_count=9,
    )
    facts = facts_of(
        Manifest(
            model="digits",
            architecture=ArchitectureComponent(
                identity=PART, content=PART, family="f", summary="s", git=GitState(commit="c0ffee")
            ),
            datasets=DatasetsComponent(identity=PART, datasets=(dataset,)),
            pipeline=PipelineComponent(identity=PART, content=PART),
            hyperparameters=HyperparametersComponent(identity=PART, content=PART),
            artifact=ArtifactComponent(identity=PART, content=PART, size_bytes=1),
            environment=Environment(identity=PART, lock=PART, python="3.11.7", platform="linux"),
            evidence=Evidence(metrics=(Metric(name="recall", value="0.9", slice="class=8"),)),
            provenance=Provenance(run="r-00", started_at=MOMENT, ended_at=MOMENT, created_by="ada"),
            metadata={"owner": "ada"},
        ),
        {"C": 0.5, "name": "x", "none": None, "flag": True, "list": [1, "é"], "long": "x" * 7000},
    )
    assert facts.points == (Point("recall[class=8]", 0.9, 0, to_microseconds(MOMENT)),)
    assert {key: facts.params[key] for key in ("C", "name", "none", "flag", "list")} == {
        "C": "0.5",
        "name": "x",
        "none": "None",
        "flag": "True",
        "list": '[1, "é"]',
    }
    assert len(facts.params["long"]) == 6000
    assert facts.tags == {"owner": "ada", "mlflow.source.git.commit": "c0ffee"}
    [told] = facts.inputs
    assert (told.name, told.digest, told.context) == (
        "train",
        "ab" * 16,
        DatasetRole.TRAINING.value,
    )
