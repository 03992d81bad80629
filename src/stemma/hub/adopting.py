"""Models that MLflow logged, made into candidates that ``stemma release`` can release.

Invariants:
    * Files are in the store already: a candidate names them, and nothing is stored twice.
    * The manifest's record is durable before a row names it; adopting again gives the same
      manifest as long as nothing else was logged.
    * A candidate stays unreleased until it is released as any other; it expires as any other.

What is put together from what stands in ``stemma.hub.logged``; numbers of versions are given in
``stemma.tracking.registry``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from stemma.catalog.capture.work_folder import WorkFolder
from stemma.catalog.recording import Recorder
from stemma.db.engine import Connection
from stemma.domain.artifact import Artifact
from stemma.domain.digest import Digest
from stemma.domain.errors import ConflictError, InvalidInputError, NotFoundError
from stemma.domain.manifest import Provenance
from stemma.domain.registry import (
    ModelVersion,
    NewVersion,
    RegisteredModel,
    RunFolder,
)
from stemma.domain.release import is_candidate
from stemma.domain.run import RunId, RunRecord, RunStart, RunState
from stemma.domain.tracking import NOTE_TAG, USER_TAG, RunData
from stemma.domain.tree import check_paths
from stemma.hub.local_parts import LocalParts
from stemma.hub.logged import LoggedParts, record_logged
from stemma.tracking import adoption, artifacts, logged_models, registry, run_log
from stemma.tracking.registered_sources import download_source

_TEMPORARY: Final = ".stemma/tmp"
_REASON_LIMIT: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A version that can be released.

    Attributes:
        run: The run it is of, with its manifest.
        notes: What was not logged, in words.
    """

    run: RunRecord
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Logged:
    """What rows say of a version."""

    files: Mapping[str, Artifact]
    run: RunData | None
    params: Mapping[str, str]
    tags: Mapping[str, str]
    created_by: str


def adopt_version(parts: LocalParts, model: RegisteredModel, version: ModelVersion) -> Candidate:
    """Make a candidate of a registered version; an alias may name one before it has files.

    Raises:
        InvalidInputError: If a version may not hold one of its files.
    """
    with parts.database.read() as connection:
        found = _read(connection, version)
    record = _record(version, found)
    recorder = Recorder(parts.objects, parts.root, model.model)
    tags = {**found.tags, **version.tags}
    with parts.writing():
        check_paths(found.files)
        with closing(WorkFolder(parts.root / _TEMPORARY, record.id)) as work:
            folder = work.path
            for path, file in found.files.items():
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                parts.objects.export_file(file.file, target)
            logged = LoggedParts(
                folder=folder,
                files={path: file.file for path, file in found.files.items()},
                params=found.params,
                tags=tags,
                metrics=() if found.run is None else found.run.metrics,
                inputs=() if found.run is None else found.run.inputs,
            )
            missing = record_logged(recorder, logged)
            manifest = recorder.build(_provenance(record, tags))
        digest = parts.catalog.register(manifest)
        with parts.database.write() as connection:
            adoption.note(connection, version, record, model.model, digest)
    _move_aliases(parts, model, version, (record.id, digest))
    return Candidate(
        run=replace(record, manifest=digest, start=replace(record.start, model=model.model)),
        notes=(*missing, *recorder.warnings),
    )


def newest_candidate(parts: LocalParts, model: str, runs: Sequence[RunRecord]) -> Candidate | None:
    """Adopt the newest registered version that is not released, unless a run is newer.

    Args:
        parts: The services.
        model: Name of the model.
        runs: The model's runs, newest first.

    Returns:
        The candidate; ``None`` when there is none, or Stemma recorded a run that ended later.

    Raises:
        ConflictError: If its run has not finished (``run-not-finished``).
    """
    with parts.database.read() as connection:
        found = adoption.newest_registered(connection, model)
        if found is None:
            return None
        logged = adoption.registered_runs(connection, model)
        record = run_log.get(connection, found[1].run) if found[1].run else None
    own = next((run for run in runs if run.manifest is not None and run.id not in logged), None)
    if own is not None and own.ended_at is not None and own.ended_at > found[1].created_at:
        return None
    if record is not None:
        refuse_open(record, model)
    return _to_release(parts, *found)


def candidate_of_run(parts: LocalParts, model: str, run: RunRecord) -> Candidate:
    """Adopt what a run of MLflow logged, as a version of the model.

    Raises:
        NotFoundError: If the run logged no model.
        ConflictError: If it has not finished (``run-not-finished``).
    """
    refuse_open(run, model)
    return _to_release(parts, *registered_of_run(parts, model, run))


def _to_release(parts: LocalParts, model: RegisteredModel, version: ModelVersion) -> Candidate:
    """Adopt a version that shall be released, so it must have files."""
    with parts.database.read() as connection:
        if not _read(connection, version).files:
            raise InvalidInputError(
                f"version {version.number} of {model.name} has no files at {version.source}",
                code="empty-model",
                hint="log the model with log_model, and register what it returns",
            )
    return adopt_version(parts, model, version)


def registered_of_run(
    parts: LocalParts, model: str, run: RunRecord
) -> tuple[RegisteredModel, ModelVersion]:
    """Return the version of a model that a run logged; one that is not registered is.

    Raises:
        NotFoundError: If the run logged no model.
        ConflictError: If the run's name would be another registered model's.
    """
    now = parts.clock()
    with parts.database.write() as connection:
        known = adoption.registered_of_run(connection, model, run.id)
        if known is not None:
            return known
        source = adoption.model_of_run(connection, run)
        if source is None:
            raise NotFoundError(
                f"run {run.id} logged no model",
                code="run-without-version",
                hint="log it with log_model, or register files of the run",
            )
        registered = registry.model_of(connection, model, now)
        new = NewVersion(
            name=registered.name, source=source, run=run.id, created_by=run.start.created_by
        )
        return registered, registry.create_version(connection, new, now)


def refuse_open(record: RunRecord, model: str) -> None:
    """Refuse to release what a run logs that has not finished.

    Raises:
        ConflictError: If it has not (``run-not-finished``).
    """
    if record.state is not RunState.FINISHED:
        raise ConflictError(
            f"run {record.id} is {record.state.value}; only a finished run can be released",
            code="run-not-finished",
            hint=f"end it, then stemma release {model}@{record.id}",
        )


def _read(connection: Connection, version: ModelVersion) -> _Logged:
    run = run_log.run_data(connection, version.run) if version.run else None
    params: dict[str, str] = {} if run is None else {**run.params}
    tags: dict[str, str] = {} if run is None else {**run.tags}
    created_by = version.created_by
    if version.logged_model:
        logged = logged_models.get(connection, version.logged_model, is_deleted_too=True)
        params |= logged.params
        tags |= logged.tags
    if run is not None:
        created_by = run.record.start.created_by or tags.get(USER_TAG, "") or created_by
    source = download_source(connection, version)
    owner, folder = (
        (source.run, source.path) if isinstance(source, RunFolder) else (source.logged_model, "")
    )
    files = _files(connection, owner, folder)
    return _Logged(files=files, run=run, params=params, tags=tags, created_by=created_by)


def _files(connection: Connection, owner: str, folder: str) -> dict[str, Artifact]:
    start = len(folder) + 1 if folder else 0
    return {file.path[start:]: file for file in artifacts.list_below(connection, owner, folder)}


def _record(version: ModelVersion, found: _Logged) -> RunRecord:
    """Return the run; a model that no run logged gets one that stands for its logging."""
    if found.run is not None:
        return found.run.record
    return RunRecord(
        id=RunId(f"r-{version.logged_model.removeprefix('m-')}"),
        start=RunStart(model="", created_by=found.created_by),
        state=RunState.FINISHED,
        started_at=version.created_at,
        ended_at=version.created_at,
    )


def _provenance(record: RunRecord, tags: Mapping[str, str]) -> Provenance:
    return Provenance(
        run=record.id,
        started_at=record.started_at,
        ended_at=_ended_at(record),
        created_by=record.start.created_by or tags.get(USER_TAG, ""),
        host=record.start.host,
        reason=(record.start.reason or tags.get(NOTE_TAG, ""))[:_REASON_LIMIT],
    )


def _ended_at(record: RunRecord) -> datetime:
    return record.started_at if record.ended_at is None else record.ended_at


def _move_aliases(
    parts: LocalParts,
    model: RegisteredModel,
    version: ModelVersion,
    candidate: tuple[RunId, Digest],
) -> None:
    """Let aliases of the version follow, when more was logged since it was adopted."""
    if version.manifest in {None, candidate[1]}:
        return
    for alias, move in parts.catalog.channel_moves(model.model).items():
        if is_candidate(move.version) and move.manifest == version.manifest:
            parts.catalog.move_channel_to_candidate(
                model.model, alias, candidate, moved_by=move.moved_by
            )
