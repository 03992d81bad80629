"""Versions to decide about, built from the few words that a test cares for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from stemma.domain.component import (
    ArchitectureComponent,
    ArtifactComponent,
    ArtifactFile,
    Dataset,
    DatasetRole,
    DatasetsComponent,
    Environment,
    HyperparametersComponent,
    Package,
    PipelineComponent,
    Signature,
    Stage,
    ValueSpec,
)
from stemma.domain.digest import Digest
from stemma.domain.facts import (
    EnvironmentFit,
    Layer,
    PairedBehaviour,
    SliceCounts,
    Structure,
    Tensor,
    VersionFacts,
)
from stemma.domain.manifest import Evidence, GoldenSet, Manifest, Metric, Provenance

MOMENT = datetime(2026, 5, 3, 12, 0, tzinfo=UTC)

BASE: dict[str, Any] = {
    "inputs": ["x float32 any,64"],
    "outputs": ["label int64 any", "probability float32 any,10"],
    "methods": ["predict", "predict_proba"],
    "positional": False,
    "open": False,
    "family": "sklearn.linear_model.LogisticRegression",
    "summary": "StandardScaler → LogisticRegression",
    "parameters": 650,
    "layers": ["scaler StandardScaler", "logistic LogisticRegression"],
    "tensors": ["mean float64 64", "scale float64 64", "coef float64 10,64", "bias float64 10"],
    "labels": [str(digit) for digit in range(10)],
    "tokens": [],
    "are_tokens_read": True,
    "special_tokens": [],
    "adapter_base": False,
    "source": "a",
    "weights": "a",
    "formats": ["skops"],
    "pickle": False,
    "data": "a",
    "data_name": "digits-train",
    "data_rows": 1257,
    "data_role": "training",
    "preprocessing": [],
    "pipeline": "a",
    "command": ["python", "train.py"],
    "stages": 0,
    "hyperparameters": {"C": 1.0, "max_iter": 500},
    "passed": "a",
    "lock": "a",
    "golden": "a",
    "task": "classification",
    "metrics": ["accuracy=0.9722"],
    "service": [],
    "licence": "",
    "personal_data": "",
    "metadata": {},
}


def digest(*parts: object) -> Digest:
    return Digest.blake3(hashlib.sha256(repr(parts).encode()).hexdigest())


def spec(text: str) -> ValueSpec:
    """Read ``name[?] dtype size,size [nullable] [unit=mm] [meaning=…] [alias=a,b]``."""
    name, dtype, shape, *words = text.split()
    values = dict(word.split("=", maxsplit=1) for word in words if "=" in word)
    return ValueSpec(
        name=name.rstrip("?"),
        dtype=dtype,
        shape=tuple(-1 if size == "any" else int(size) for size in shape.split(",") if size != "-"),
        is_optional=name.endswith("?"),
        is_nullable="nullable" in words,
        unit=values.get("unit", ""),
        meaning=values.get("meaning", ""),
        aliases=tuple(values["alias"].split(",")) if "alias" in values else (),
    )


def metric(text: str) -> Metric:
    """Read ``name=value [unit]`` or ``name[slice]=value``."""
    figure, _, unit = text.partition(" ")
    key, _, value = figure.rpartition("=")
    name, _, part = key.partition("[")
    return Metric(name=name, value=value, slice=part.rstrip("]"), sample_size=540, unit=unit)


def tensor(text: str) -> Tensor:
    name, dtype, shape = text.split()
    sizes = tuple(-1 if size == "any" else int(size) for size in shape.split(","))
    return Tensor(name=name, dtype=dtype, shape=sizes)


def _architecture(words: Mapping[str, Any]) -> ArchitectureComponent:
    meaning = ("family", "layers", "tensors", "labels", "tokens", "special_tokens", "source")
    signature = ("inputs", "outputs", "methods", "positional", "open", "adapter_base")
    return ArchitectureComponent(
        identity=digest(*(words[word] for word in (*meaning, *signature))),
        content=digest("source", words["source"]),
        family=words["family"],
        summary=words["summary"],
        parameter_count=words["parameters"],
        signature=Signature(
            inputs=tuple(spec(text) for text in words["inputs"]),
            outputs=tuple(spec(text) for text in words["outputs"]),
            methods=tuple(words["methods"]),
            is_positional=words["positional"],
            is_open=words["open"],
        ),
        labels=tuple(words["labels"]),
        tokens=digest(words["tokens"]) if words["tokens"] else None,
        special_tokens=tuple(words["special_tokens"]),
        is_adapter_base=words["adapter_base"],
    )


def _artifact(words: Mapping[str, Any]) -> ArtifactComponent:
    identity = digest(words["weights"], words["tensors"], words["formats"], words["family"])
    return ArtifactComponent(
        identity=identity,
        content=identity,
        files=tuple(
            ArtifactFile(
                path=f"model.{name}",
                format=name,
                size_bytes=30_000,
                digest=identity,
                sha256=Digest.sha256(identity.hex),
            )
            for name in words["formats"]
        ),
        size_bytes=30_000 * len(words["formats"]),
        loader="sklearn",
        is_pickle=words["pickle"] or "pickle" in words["formats"],
    )


def _datasets(words: Mapping[str, Any]) -> DatasetsComponent:
    names = words["data_name"].split(",")
    rows = tuple(
        Dataset(
            name=name,
            role=DatasetRole(words["data_role"]),
            identity=digest("data", words["data"]),
            content=digest("data", words["data"]),
            format="npz",
            row_count=words["data_rows"],
            preprocessing=tuple(words["preprocessing"]),
        )
        for name in names
    )
    return DatasetsComponent(identity=digest(rows), datasets=rows)


def _manifest(words: Mapping[str, Any]) -> Manifest:
    hyperparameters = digest(words["hyperparameters"], words["passed"])
    golden = digest("golden", words["golden"])
    stages = tuple(Stage(name=str(index)) for index in range(words["stages"]))
    return Manifest(
        model="digits",
        architecture=_architecture(words),
        datasets=_datasets(words),
        pipeline=PipelineComponent(
            identity=digest("pipeline", words["pipeline"], words["command"], stages),
            content=digest("pipeline", words["pipeline"]),
            script="train.py",
            command=tuple(words["command"]),
            stages=stages,
        ),
        hyperparameters=HyperparametersComponent(
            identity=hyperparameters, content=hyperparameters, passed_count=2, defaulted_count=0
        ),
        artifact=_artifact(words),
        environment=Environment(
            identity=digest("lock", words["lock"]),
            lock=digest("lock", words["lock"]),
            requirements=("scikit-learn",),
            packages=(Package(name="scikit-learn", version="1.9.1"),),
            python="3.11.7",
            platform="linux-x86_64",
        ),
        evidence=Evidence(
            metrics=tuple(metric(text) for text in words["metrics"]),
            golden=GoldenSet(
                dataset="digits-test",
                identity=golden,
                predictions=golden,
                row_count=540,
                task=words["task"],
                metric="accuracy",
            )
            if words["golden"]
            else None,
            service=tuple(metric(text) for text in words["service"]),
            licence=words["licence"],
            personal_data=words["personal_data"],
        ),
        provenance=Provenance(run="r-081cc8", started_at=MOMENT, ended_at=MOMENT, created_by="ada"),
        metadata=dict(words["metadata"]),
    )


def facts(words: Mapping[str, Any]) -> VersionFacts:
    unknown = words.keys() - BASE.keys()
    assert not unknown, f"the table uses words that the builder does not know: {unknown}"
    every = BASE | dict(words)
    layers = tuple(Layer(name=text.split()[0], kind=text.split()[1]) for text in every["layers"])
    tensors = tuple(tensor(text) for text in every["tensors"])
    return VersionFacts(
        manifest=_manifest(every),
        structure=Structure(layers=layers, tensors=tensors),
        tokens=tuple(every["tokens"]) if every["are_tokens_read"] else (),
        tensor_digests={row.name: f"{row.name} {every['weights']}" for row in tensors},
        hyperparameters=every["hyperparameters"],
    )


def behaviour(counts: Mapping[str, Any]) -> PairedBehaviour:
    """Read ``{rows, differ, fixed, broken, right, slices = ["class=8 200 180 170"], …}``."""
    rows, fixed, broken = (counts.get(word, 0) for word in ("rows", "fixed", "broken"))
    slices = [text.split() for text in counts.get("slices", [])]
    return PairedBehaviour(
        row_count=rows,
        differ_count=counts.get("differ", fixed + broken),
        fixed_count=fixed,
        broken_count=broken,
        right_before_count=counts.get("right", round(0.9722 * rows)),
        slices=tuple(
            SliceCounts(
                name=name,
                row_count=int(count),
                right_before_count=int(right_before),
                right_after_count=int(right_after),
            )
            for name, count, right_before, right_after in slices
        ),
        training_overlap_count=counts.get("training_rows", 0),
        fix_set_count=counts.get("fix_set", 0),
        has_labels=counts.get("labelled", True),
    )


def environment_fit(words: Mapping[str, Any]) -> EnvironmentFit:
    return EnvironmentFit(
        does_resolve=words.get("resolves"),
        changed=tuple(words.get("changed", ())),
        conflict=words.get("conflict", ""),
    )


@pytest.fixture(scope="session")
def build_facts() -> Callable[[Mapping[str, Any]], VersionFacts]:
    """A version from words such as ``{"labels": ["a", "b"]}``; the rest as in ``BASE``."""
    return facts


@pytest.fixture(scope="session")
def build_behaviour() -> Callable[[Mapping[str, Any]], PairedBehaviour]:
    """Paired counts from words such as ``{"rows": 540, "broken": 2}``."""
    return behaviour


@pytest.fixture(scope="session")
def build_environment_fit() -> Callable[[Mapping[str, Any]], EnvironmentFit]:
    """An environment's fit from words such as ``{"resolves": True}``."""
    return environment_fit
