"""What tracking clients see of a run that Stemma recorded: its manifest in their words.

Invariants:
    * A function of the run's start and manifest alone, so that it can be told again whenever
      the rows are lost.
    * The version itself is the authority; a param cut to its limit is whole there.

Example:
    >>> first_tags(RunStart(model="digits", command=("python", "train.py"), created_by="ada"))
    {'mlflow.user': 'ada', 'mlflow.source.name': 'train.py', 'mlflow.source.type': 'LOCAL'}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from stemma.domain.component import Dataset
from stemma.domain.manifest import Manifest
from stemma.domain.run import RunStart
from stemma.domain.tracking import (
    DATA_CONTEXT_TAG,
    NOTE_TAG,
    PARAM_LENGTH_LIMIT,
    SOURCE_COMMIT_TAG,
    SOURCE_NAME_TAG,
    SOURCE_TYPE_TAG,
    TAG_LENGTH_LIMIT,
    USER_TAG,
    Point,
    RunInput,
    to_microseconds,
)

_DIGEST_LENGTH: Final = 32
_SOURCE_TYPE: Final = "LOCAL"
_DATASET_SOURCE_TYPE: Final = "stemma"
_SCRIPT: Final = ".py"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What a finished run tells tracking clients.

    Attributes:
        points: Evaluated metrics, one point each.
        params: Hyperparameters, passed and defaulted.
        tags: Who, what and from which commit; the model's metadata.
        inputs: Datasets.
    """

    points: tuple[Point, ...] = ()
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[RunInput, ...] = ()


def first_tags(start: RunStart) -> dict[str, str]:
    """Return the tags of a run that has just started."""
    script = next((word for word in start.command if word.endswith(_SCRIPT)), "")
    source = script or next(iter(start.command), "")
    tags = {USER_TAG: start.created_by, SOURCE_NAME_TAG: source, NOTE_TAG: start.reason}
    if source:
        tags[SOURCE_TYPE_TAG] = _SOURCE_TYPE
    return {key: value[:TAG_LENGTH_LIMIT] for key, value in tags.items() if value}


def facts_of(manifest: Manifest, hyperparameters: Mapping[str, object]) -> RunFacts:
    """Return what a run with that manifest tells.

    Args:
        manifest: The version it made.
        hyperparameters: All of them, as JSON values.
    """
    ended_at = to_microseconds(manifest.provenance.ended_at)
    tags = {key: str(value) for key, value in manifest.metadata.items()}
    git = manifest.architecture.git
    if git is not None and git.commit:
        tags[SOURCE_COMMIT_TAG] = git.commit
    return RunFacts(
        points=tuple(
            Point(metric.key, float(metric.value), 0, ended_at)
            for metric in manifest.evidence.metrics
        ),
        params={
            str(key): _text(value)[:PARAM_LENGTH_LIMIT] for key, value in hyperparameters.items()
        },
        tags={key: value[:TAG_LENGTH_LIMIT] for key, value in tags.items()},
        inputs=tuple(_input(dataset) for dataset in manifest.datasets.datasets),
    )


def _text(value: object) -> str:
    """Return a JSON value as clients write it: texts bare, the rest as Python shows it."""
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _input(dataset: Dataset) -> RunInput:
    profile = {"num_rows": dataset.row_count} if dataset.row_count >= 0 else {}
    source = {"source": dataset.source, "content": str(dataset.content)}
    return RunInput(
        name=dataset.name,
        digest=dataset.identity.hex[:_DIGEST_LENGTH],
        source_type=_DATASET_SOURCE_TYPE,
        source=json.dumps(source, ensure_ascii=False),
        profile=json.dumps(profile | {"size_bytes": dataset.size_bytes}),
        tags={DATA_CONTEXT_TAG: dataset.role.value},
    )
