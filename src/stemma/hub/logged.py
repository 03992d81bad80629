"""What MLflow logged of a model, put together as a version's components.

Invariants:
    * Nothing is unpickled or run; the model's files are read as bytes and text.
    * A component that was not logged stays empty and is named, never made up.
    * The same training logged twice gives equal identities: what MLflow writes anew each time
      into its own files counts for none.

It reads no rows and stores nothing of its own; see ``stemma.hub.adopting``.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Final

from stemma.catalog.capture.artifact import capture_model_path
from stemma.catalog.capture.base import (
    CapturedCode,
    CapturedDataset,
    CapturedEnvironment,
    CapturedModel,
    GitFacts,
)
from stemma.catalog.capture.mlmodel import (
    DESCRIBING_FILES,
    MLMODEL,
    SIZE_LIMIT_BYTES,
    MlmodelFacts,
    read_columns,
    read_mlmodel,
    read_requirements,
    read_row_count,
)
from stemma.catalog.recording import Recorder
from stemma.domain.component import DatasetRole
from stemma.domain.digest import Digest
from stemma.domain.manifest import Metric
from stemma.domain.names import fit_channel_name
from stemma.domain.tracking import (
    SOURCE_COMMIT_TAG,
    SOURCE_NAME_TAG,
    Point,
    RunInput,
)
from stemma.store.hashing import hash_bytes
from stemma.tracking.imports import FILES_TAG, LEFT_TAG, STATE_TAG

_SKOPS: Final = "model.skops"
_CLASS_TAG: Final = "estimator_class"
_REMOTE_TAG: Final = "mlflow.source.git.repoURL"
_BRANCH_TAG: Final = "mlflow.source.git.branch"
_OWN_TAGS: Final = ("mlflow.", STATE_TAG, FILES_TAG, LEFT_TAG)
_LICENCE_TAGS: Final = ("licence", "license")
_METADATA_LIMIT: Final = 1000
_ROLES: Final = {
    "eval": DatasetRole.VALIDATION,
    "evaluation": DatasetRole.VALIDATION,
    "validation": DatasetRole.VALIDATION,
    "val": DatasetRole.VALIDATION,
    "test": DatasetRole.TEST,
    "testing": DatasetRole.TEST,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedParts:
    """Everything that MLflow logged of one model.

    Attributes:
        folder: Folder that holds the model's files, for reading.
        files: blake3 of each, by path in the folder.
        params: Params of the run and of the logged model.
        tags: Tags of the run, the logged model and the version; the last ones win.
        metrics: Latest points of the metrics.
        inputs: Datasets that the run read.
    """

    folder: Path
    files: Mapping[str, Digest]
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: tuple[Point, ...] = ()
    inputs: tuple[RunInput, ...] = ()


def record_logged(recorder: Recorder, parts: LoggedParts) -> list[str]:
    """Hand all that was logged to the recorder; returns what was not logged, in words.

    Raises:
        InvalidInputError: If there are no files, or one has a name that no version may hold.
    """
    facts = read_mlmodel(_read(parts, MLMODEL))
    if parts.files:
        recorder.set_model(_model(parts, facts))
    recorder.add_datasets(list(_datasets(parts.inputs)))
    code = _code(parts, facts)
    recorder.set_code(code)
    recorder.set_pipeline(_command(parts.tags))
    recorder.set_hyperparameters({name: _value(text) for name, text in parts.params.items()})
    environment = read_requirements(
        _read(parts, "requirements.txt"), _read(parts, "python_env.yaml")
    )
    if environment is not None:
        recorder.set_environment(environment)
    for metric in _metrics(parts.metrics):
        recorder.add_metric(metric)
    for name in _LICENCE_TAGS:
        recorder.set_licence(parts.tags.get(name, ""))
    recorder.set_metadata(_metadata(parts.tags, facts))
    return _missing(parts, code, environment)


def _model(parts: LoggedParts, facts: MlmodelFacts) -> CapturedModel:
    found = capture_model_path(parts.folder)
    describing = tuple(name for name in DESCRIBING_FILES if name in parts.files)
    class_name = facts.class_name or (
        parts.tags.get(_CLASS_TAG, "") if "sklearn" in facts.flavors else ""
    )
    is_known = MLMODEL in parts.files
    family = class_name or (facts.family if is_known else found.family)
    loader = _loader(parts.files, facts)
    signature = found.signature if loader == "onnx" and found.signature.inputs else facts.signature
    configuration = {**found.configuration}
    if facts.options:
        configuration["mlflow"] = dict(facts.options)
    return replace(
        found,
        files={path: parts.folder / path for path in parts.files},
        loader=loader,
        family=family,
        summary=_summary(family, facts) if is_known else found.summary,
        signature=signature,
        configuration=configuration,
        covered_files=(*(found.covered_files or ()), *describing),
        stored=dict(parts.files),
    )


def _loader(files: Mapping[str, Digest], facts: MlmodelFacts) -> str:
    """Return the adapter that can load it; plain files where there is none."""
    if "sklearn" in facts.flavors and _SKOPS in files:
        return "sklearn"
    networks = [name for name in files if name.endswith(".onnx")]
    return "onnx" if "onnx" in facts.flavors and len(networks) == 1 else "file"


def _summary(family: str, facts: MlmodelFacts) -> str:
    return (
        f"{family.rpartition('.')[2]}, logged by MLflow as {', '.join(facts.flavors) or 'pyfunc'}"
    )


def _datasets(inputs: tuple[RunInput, ...]) -> Iterator[CapturedDataset]:
    """Yield the datasets of a run, each by a name of its own."""
    taken: set[str] = set()
    for found in inputs:
        role = _ROLES.get(found.context.lower(), DatasetRole.TRAINING)
        name = fit_channel_name(found.name) if found.name else "dataset"
        if name in taken:
            name = f"{name}-{fit_channel_name(found.context or found.digest)}"
        while name in taken:
            name = f"{name}-{fit_channel_name(found.digest)}"
        taken.add(name)
        yield CapturedDataset(
            name=name,
            role=role,
            files={},
            format=found.source_type or "unknown",
            # The client's digest tells states of the data apart; its bytes are not here.
            canonical_digest=hash_bytes(f"mlflow:{found.name}:{found.digest}".encode()).hex,
            row_count=read_row_count(found.profile),
            columns=read_columns(found.schema),
            source=found.source,
        )


def _code(parts: LoggedParts, facts: MlmodelFacts) -> CapturedCode:
    """Return the user's own modules beside the model, and where the script stood in git."""
    prefix = f"{facts.code_folder}/" if facts.code_folder else ""
    files = {
        path.removeprefix(prefix): parts.folder / path
        for path in parts.files
        if prefix and path.startswith(prefix) and path.endswith(".py")
    }
    commit = parts.tags.get(SOURCE_COMMIT_TAG, "")
    script = _script(parts.tags)
    return CapturedCode(
        files=files,
        entry_point=script if script in files else "",
        git=GitFacts(
            remote=parts.tags.get(_REMOTE_TAG, ""),
            commit=commit,
            branch=parts.tags.get(_BRANCH_TAG, ""),
        )
        if commit
        else None,
    )


def _command(tags: Mapping[str, str]) -> list[str]:
    script = _script(tags)
    return ["python", script] if script.endswith(".py") else [script] if script else []


def _script(tags: Mapping[str, str]) -> str:
    """Return the script's name; its folder is another one on each machine."""
    source = tags.get(SOURCE_NAME_TAG, "")
    return (PureWindowsPath if "\\" in source else PurePosixPath)(source).name


def _value(text: str) -> object:
    """Return the number, truth value or nothing that a param's text stands for, else the text."""
    words: dict[str, object] = {"True": True, "False": False, "None": None}
    if text in words:
        return words[text]
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, int | float) and not isinstance(value, bool) else text


def _metrics(points: tuple[Point, ...]) -> Iterator[Metric]:
    for point in points:
        if math.isfinite(point.value) and abs(point.value) < sys.float_info.max:
            yield Metric(name=point.name, value=repr(float(point.value)))


def _metadata(
    tags: Mapping[str, str], facts: MlmodelFacts
) -> dict[str, str | bool | int | list[str]]:
    own = {
        key: value
        for key, value in tags.items()
        if not key.startswith(_OWN_TAGS) and len(value) <= _METADATA_LIMIT
    }
    found: dict[str, str | bool | int | list[str]] = {**own}
    if facts.flavors:
        found["mlflow_flavors"] = list(facts.flavors)
    return found


def _missing(
    parts: LoggedParts, code: CapturedCode, environment: CapturedEnvironment | None
) -> list[str]:
    """Name the components that nothing was logged of, with what would have logged it."""
    has_pipeline = bool(code.files or code.git or _script(parts.tags))
    checked = (
        (MLMODEL in parts.files, "architecture: no MLmodel file; log it with log_model"),
        (bool(parts.inputs), "datasets: none was logged; mlflow.log_input does"),
        (has_pipeline, "pipeline: neither script, code nor git commit was logged"),
        (bool(parts.params), "hyperparameters: no params were logged; mlflow.log_params does"),
        (environment is not None, "environment: no requirements.txt beside the model"),
    )
    return [note for is_there, note in checked if not is_there]


def _read(parts: LoggedParts, name: str) -> bytes:
    """Return one of the small files that describe the model; nothing when it is not there."""
    if name not in parts.files:
        return b""
    path = parts.folder / name
    return path.read_bytes() if path.stat().st_size <= SIZE_LIMIT_BYTES else b""
