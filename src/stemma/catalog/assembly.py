"""Puts the collected parts of a run together: components, evidence, manifest.

Invariants:
    * Files and blobs are durable before a tree names them, and trees before the manifest.
    * A part that was not captured is an empty component, never a made-up value.

This module collects nothing; see ``stemma.catalog.recording``.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stemma.catalog.capture.base import (
    CapturedCode,
    CapturedDataset,
    CapturedEnvironment,
    CapturedModel,
    CapturedPredictions,
    GitFacts,
)
from stemma.catalog.capture.data import write_npz_to
from stemma.catalog.capture.hyperparameters import encode_hyperparameters, to_json_value
from stemma.catalog.capture.rows import ROW_DIGEST_BYTES
from stemma.catalog.identity import (
    architecture_identity,
    artifact_identity,
    datasets_identity,
    environment_identity,
    pipeline_identity,
)
from stemma.catalog.staging import StagedFiles, Staging, earlier_files
from stemma.domain import canonical
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
    PipelineComponent,
    Stage,
)
from stemma.domain.digest import Digest
from stemma.domain.errors import InvalidInputError
from stemma.domain.manifest import Evidence, GoldenSet, Manifest, Metric, Provenance
from stemma.store.formats.detect import FileFormat, detect_format
from stemma.store.objects import ObjectStore

_TENSOR_CONTAINERS: Final = frozenset(
    {
        FileFormat.SAFETENSORS,
        FileFormat.NPZ,
        FileFormat.NPY,
        FileFormat.SKOPS,
        FileFormat.ONNX,
        FileFormat.GGUF,
        FileFormat.PICKLE,
    }
)


@dataclass(slots=True, kw_only=True)
class Parts:
    """What a run handed over so far.

    Attributes:
        root: Root of the project, resolved.
        model: The model; ``None`` when none was recorded.
        datasets: By name.
        predictions: On the golden set.
        code: Source files.
        environment: What it ran in; ``None`` when not captured.
        command: How it was run, normalised.
        stages: Declared stages.
        configuration: Configuration files.
        passed: Hyperparameters beyond the model's own that were passed.
        defaulted: Such that took their default.
        metrics: Sorted by key.
        service: Sorted by key.
        licence: SPDX expression.
        personal_data: How personal the data is.
        metadata: The model's metadata.
        earlier: Manifests of versions that this one may resemble, beside its parents.
    """

    root: Path
    model: CapturedModel | None = None
    datasets: dict[str, CapturedDataset] = field(default_factory=dict)
    predictions: CapturedPredictions | None = None
    code: CapturedCode = field(default_factory=CapturedCode)
    environment: CapturedEnvironment | None = None
    command: tuple[str, ...] = ()
    stages: tuple[Stage, ...] = ()
    configuration: tuple[Path, ...] = ()
    passed: dict[str, object] = field(default_factory=dict)
    defaulted: dict[str, object] = field(default_factory=dict)
    metrics: tuple[Metric, ...] = ()
    service: tuple[Metric, ...] = ()
    licence: str = ""
    personal_data: str = ""
    metadata: dict[str, str | bool | int | list[str]] = field(default_factory=dict)
    earlier: tuple[Digest, ...] = ()


class _Blobs(NamedTuple):
    """Blobs of the architecture."""

    structure: Digest | None
    tokens: Digest | None
    patch: Digest | None


class _Tables(NamedTuple):
    """Blobs of one dataset."""

    statistics: Digest | None
    row_digests: Digest | None


def assemble(
    objects: ObjectStore, model_name: str, parts: Parts, provenance: Provenance
) -> tuple[Manifest, list[str]]:
    """Store everything and return the manifest, with what the user should know.

    Raises:
        ConflictError: If a file changed since it was captured (``file-changed``).
        InvalidInputError: If a name may not be in a version, or predictions name a
            dataset that was not recorded.
    """
    model = parts.model or CapturedModel(files={}, loader="file", family="", summary="")
    staging = Staging(objects)
    warnings: list[str] = []
    datasets = sorted(parts.datasets.values(), key=lambda item: (item.role.value, item.name))
    evidence = _evidence(parts, staging, warnings)
    environment = _environment(parts.environment, staging)
    hyperparameters = _hyperparameters(parts, model, staging)
    blobs = _Blobs(
        structure=_structure_blob(model, staging),
        tokens=_json_blob(staging, list(model.tokens)) if model.tokens else None,
        patch=_patch_blob(parts.code.git, staging),
    )
    tensors = _json_blob(staging, dict(model.tensors)) if model.tensors else None
    tables = [_dataset_tables(dataset, staging) for dataset in datasets]
    code_files = staging.add_files(parts.code.texts)
    pipeline_files = staging.add_files(_pipeline_files(parts, model))
    artifact_files = _artifact_files(parts, model, provenance, staging)
    data_files = [staging.add_files(dataset.files, dataset.stamps) for dataset in datasets]
    staging.flush()  # Trees may only name what is durable.
    warnings += (note for files in (artifact_files, *data_files) for note in files.notes)
    recorded = tuple(
        _dataset(dataset, staging.store_tree(files).digest, files, blobs)
        for dataset, files, blobs in zip(datasets, data_files, tables, strict=True)
    )
    manifest = Manifest(
        model=model_name,
        architecture=_architecture(parts, model, staging.store_tree(code_files).digest, blobs),
        datasets=DatasetsComponent(identity=datasets_identity(recorded), datasets=recorded),
        pipeline=_pipeline(parts, pipeline_files, staging.store_tree(pipeline_files).digest),
        hyperparameters=hyperparameters,
        artifact=_artifact(
            model, artifact_files, staging.store_tree(artifact_files).digest, tensors
        ),
        environment=environment,
        evidence=evidence,
        provenance=provenance,
        metadata=dict(parts.metadata),
    )
    return manifest, warnings


def _artifact_files(
    parts: Parts, model: CapturedModel, provenance: Provenance, staging: Staging
) -> StagedFiles:
    """Take in the model's files, unless the store has them."""
    if model.stored:
        return staging.add_stored(model.stored)
    earlier = (*provenance.parents, *parts.earlier)
    return staging.add_files(model.files, model.stamps, earlier_files(staging.objects, earlier))


def _architecture(
    parts: Parts, model: CapturedModel, content: Digest, blobs: _Blobs
) -> ArchitectureComponent:
    return ArchitectureComponent(
        identity=architecture_identity(parts.model, _module_sources(parts, model)),
        content=content,
        entry_point=parts.code.entry_point,
        git=_git_state(parts.code.git, blobs.patch),
        family=model.family,
        summary=model.summary,
        parameter_count=model.parameter_count,
        structure=blobs.structure,
        signature=model.signature,
        labels=model.labels,
        tokens=blobs.tokens,
        special_tokens=model.special_tokens,
    )


def _json_blob(staging: Staging, value: object) -> Digest:
    """Store strict, deterministic JSON; floats as ``repr`` gives them."""
    text = json.dumps(
        to_json_value(value),
        ensure_ascii=False,
        allow_nan=False,
        separators=(",", ":"),
        sort_keys=True,
    )
    return staging.add_blob(text.encode("utf-8", errors="backslashreplace"))


def _structure_blob(model: CapturedModel, staging: Staging) -> Digest | None:
    if not model.structure.layers and not model.structure.tensors:
        return None
    return staging.add_blob(canonical.encode(model.structure))


def _patch_blob(git: GitFacts | None, staging: Staging) -> Digest | None:
    return staging.add_blob(git.patch) if git is not None and git.patch else None


def _git_state(git: GitFacts | None, patch: Digest | None) -> GitState | None:
    if git is None:
        return None
    return GitState(
        remote=git.remote,
        commit=git.commit,
        branch=git.branch,
        is_dirty=git.is_dirty,
        patch=patch,
    )


def _entry_file(parts: Parts) -> Path | None:
    return parts.code.files.get(parts.code.entry_point)


def _defining_modules(parts: Parts, model: CapturedModel) -> frozenset[Path]:
    """Modules that define the model; the entry script counts with its classes only."""
    entry = _entry_file(parts)
    found = {file.resolve() for file in model.defining_modules}
    return frozenset(found - {entry.resolve()} if entry is not None else found)


def _module_sources(parts: Parts, model: CapturedModel) -> dict[str, str]:
    defining = _defining_modules(parts, model)
    texts = parts.code.texts
    return {
        path: texts[path].read_text(encoding="utf-8", errors="surrogateescape")
        for path, file in parts.code.files.items()
        if file.resolve() in defining
    }


def _pipeline_files(parts: Parts, model: CapturedModel) -> dict[str, Path]:
    """The entry script, local modules that do not define the model, and configuration."""
    defining = _defining_modules(parts, model)
    texts = parts.code.texts
    files = {
        path: texts[path]
        for path, file in parts.code.files.items()
        if file.resolve() not in defining
    }
    for file in parts.configuration:
        files[_configuration_name(parts, file)] = file.resolve()
    return files


def _configuration_name(parts: Parts, file: Path) -> str:
    real = file.resolve()
    return real.relative_to(parts.root).as_posix() if real.is_relative_to(parts.root) else real.name


def _pipeline(parts: Parts, files: StagedFiles, content: Digest) -> PipelineComponent:
    entry = parts.code.entry_point
    script = entry if entry in files.digests else ""
    return PipelineComponent(
        identity=pipeline_identity(files.digests, script, parts.command, parts.stages),
        content=content,
        script=script,
        command=parts.command,
        stages=parts.stages,
        configuration=tuple(
            sorted({_configuration_name(parts, file) for file in parts.configuration})
        ),
    )


def _hyperparameters(
    parts: Parts, model: CapturedModel, staging: Staging
) -> HyperparametersComponent:
    passed = {**model.passed, **parts.passed}
    defaulted = {**model.defaulted, **parts.defaulted}
    content = staging.add_blob(encode_hyperparameters(passed, defaulted))
    return HyperparametersComponent(
        identity=content,
        content=content,
        passed_count=len(passed),
        defaulted_count=len(defaulted.keys() - passed.keys()),
    )


def _artifact(
    model: CapturedModel, files: StagedFiles, content: Digest, tensors: Digest | None
) -> ArtifactComponent:
    formats = {path: detect_format(model.files[path]) for path in files.files}
    rows = tuple(
        ArtifactFile(
            path=path,
            format=formats[path].value,
            size_bytes=stored.size_bytes,
            digest=stored.digest,
            sha256=stored.sha256,
        )
        for path, stored in sorted(files.files.items())
    )
    others = {
        path: digest
        for path, digest in files.digests.items()
        if not _is_covered(model, path, formats[path])
    }
    return ArtifactComponent(
        identity=artifact_identity(model, others),
        content=content,
        files=rows,
        size_bytes=sum(row.size_bytes for row in rows),
        loader=model.loader,
        tensors=tensors,
        is_pickle=model.is_pickle or FileFormat.PICKLE in formats.values(),
    )


def _is_covered(model: CapturedModel, path: str, found: FileFormat) -> bool:
    """Whether tensors and configuration say all that the file holds."""
    if model.covered_files is not None:
        return path in model.covered_files
    return bool(model.tensors or model.configuration) and found in _TENSOR_CONTAINERS


def _environment(captured: CapturedEnvironment | None, staging: Staging) -> Environment:
    found = captured or CapturedEnvironment(
        lock_text="", requirements=(), packages=(), python="", platform=""
    )
    return Environment(
        identity=environment_identity(found),
        lock=staging.add_blob(found.lock_text.encode("utf-8")),
        requirements=found.requirements,
        packages=found.packages,
        python=found.python,
        platform=found.platform,
        accelerator=found.accelerator,
        has_hashes=found.has_hashes,
    )


def _dataset_tables(dataset: CapturedDataset, staging: Staging) -> _Tables:
    digests = dataset.row_digests
    return _Tables(
        statistics=_json_blob(staging, dict(dataset.statistics)) if dataset.statistics else None,
        row_digests=None
        if digests is None
        else staging.add_blob(np.ascontiguousarray(digests).tobytes()),
    )


def _dataset(
    dataset: CapturedDataset, content: Digest, files: StagedFiles, tables: _Tables
) -> Dataset:
    return Dataset(
        name=dataset.name,
        role=dataset.role,
        identity=Digest.blake3(dataset.canonical_digest),
        content=content,
        format=dataset.format,
        row_count=dataset.row_count,
        size_bytes=sum(entry.size_bytes for entry in files.entries),
        columns=dataset.columns,
        statistics=tables.statistics,
        row_digests=tables.row_digests,
        preprocessing=dataset.preprocessing,
        source=dataset.source,
    )


def _evidence(parts: Parts, staging: Staging, warnings: list[str]) -> Evidence:
    return Evidence(
        metrics=parts.metrics,
        golden=_golden(parts, staging, warnings),
        service=parts.service,
        licence=parts.licence,
        personal_data=parts.personal_data,
    )


def _golden(parts: Parts, staging: Staging, warnings: list[str]) -> GoldenSet | None:
    found = parts.predictions
    if found is None:
        return None
    dataset = parts.datasets.get(found.dataset)
    if dataset is None or dataset.role is not DatasetRole.TEST:
        raise InvalidInputError(
            f"predictions were made on {found.dataset!r}, which is no recorded test dataset",
            code="golden-set-not-recorded",
            hint="record it with role test before its predictions",
        )
    arrays: dict[str, NDArray[np.generic]] = {
        "row_digest": found.row_digests,
        "prediction": found.predictions,
    }
    optional = {"label": found.labels, "score": found.scores, "slice": found.slices}
    arrays |= {name: array for name, array in optional.items() if array is not None}
    stream = io.BytesIO()
    write_npz_to(stream, arrays)
    overlap_count = _overlap(parts.datasets, found, warnings)
    return GoldenSet(
        dataset=found.dataset,
        identity=Digest.blake3(dataset.canonical_digest),
        predictions=staging.add_blob(stream.getvalue()),
        row_count=len(found.row_digests),
        task=found.task,
        metric=found.metric,
        training_overlap_count=overlap_count,
    )


def _overlap(
    datasets: Mapping[str, CapturedDataset], golden: CapturedPredictions, warnings: list[str]
) -> int:
    """Count golden rows that are also training rows, and say so."""
    training = [item for item in datasets.values() if item.role is DatasetRole.TRAINING]
    unknown = sorted(item.name for item in training if item.row_digests is None)
    if unknown:
        warnings.append(
            f"training data {', '.join(unknown)} has no row digests: "
            f"overlap with {golden.dataset} is unknown"
        )
    known = [_as_keys(item.row_digests) for item in training if item.row_digests is not None]
    if not known:
        return 0
    is_shared = np.isin(_as_keys(golden.row_digests), np.concatenate(known))
    count = int(np.count_nonzero(is_shared))
    if count:
        warnings.append(
            f"{count} of {len(golden.row_digests)} rows of {golden.dataset} are also training "
            "rows: they prove nothing and are left out of comparisons"
        )
    return count


def _as_keys(digests: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    flat = np.ascontiguousarray(digests).view(f"S{ROW_DIGEST_BYTES}")
    return flat.reshape(-1)
