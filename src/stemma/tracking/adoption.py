"""Which registered version a candidate is made of, and what is noted once it is made.

Invariants:
    * A run belongs to the model of the first candidate made of it, once it has finished.
    * A logged model that no run made gets a run of its own, for a candidate is a run's.

It builds no manifest; see ``stemma.hub.adopting``.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Final

from stemma.db.engine import Connection
from stemma.domain.digest import Digest
from stemma.domain.registry import ModelVersion, RegisteredModel, RunFolder
from stemma.domain.run import RunId, RunRecord, RunState
from stemma.tracking import queries as run_queries
from stemma.tracking import registry, registry_queries
from stemma.tracking import registry_source_queries as sources

_MLMODEL: Final = "MLmodel"


def note(
    connection: Connection,
    version: ModelVersion,
    record: RunRecord,
    model: str,
    manifest: Digest,
) -> None:
    """Note the manifest of a version, and let its run belong to the model.

    Raises:
        NotFoundError: If the version was deleted meanwhile.
        ConflictError: If it is released with another manifest.
    """
    registry.adopted(connection, version.name, version.number, manifest)
    found = run_queries.find_run(connection, record.id)
    if found is None:
        start = replace(record.start, model=model)
        run_queries.insert_run(connection, replace(record, start=start, manifest=manifest))
        return
    is_free = not found.start.model or found.start.model == model
    if found.state is RunState.FINISHED and is_free and not _is_native(found):
        start = replace(found.start, model=model)
        run_queries.update_run(connection, replace(found, start=start, manifest=manifest))


def newest_registered(
    connection: Connection, model: str
) -> tuple[RegisteredModel, ModelVersion] | None:
    """Return the newest version of a model that is not released; ``None`` for none."""
    registered = registry_queries.find_model_of(connection, model)
    if registered is None:
        return None
    version = registry_queries.newest_unreleased(connection, registered.name)
    if version is None:
        return None
    return registered, registry.with_version_tags(connection, [version])[0]


def registered_of_run(
    connection: Connection, model: str, run: RunId
) -> tuple[RegisteredModel, ModelVersion] | None:
    """Return the newest version of a model that a run made; ``None`` for none."""
    registered = registry_queries.find_model_of(connection, model)
    if registered is None:
        return None
    found = registry_queries.versions_of_run(connection, registered.name, run)
    if not found:
        return None
    return registered, registry.with_version_tags(connection, found[-1:])[0]


def registered_runs(connection: Connection, model: str) -> Collection[str]:
    """Return the runs of which a version of the model was registered by a client."""
    registered = registry_queries.find_model_of(connection, model)
    if registered is None:
        return frozenset()
    return frozenset(
        version.run for version in registry_queries.all_versions(connection, registered.name)
    )


def model_of_run(connection: Connection, record: RunRecord) -> str | None:
    """Return the source of the model that a run logged last; ``None`` when it logged none.

    Logged models come first; without one it is the folder among the run's artifacts that says
    it holds a model.
    """
    logged = sources.newest_logged_model(connection, record.id)
    if logged:
        return f"models:/{logged}"
    folder = sources.folder_with(connection, record.id, _MLMODEL)
    if folder is None:
        return None
    return str(RunFolder(str(record.start.experiment), record.id, folder))


def _is_native(record: RunRecord) -> bool:
    """Whether Stemma recorded it: then it had its model from its start."""
    return bool(record.start.process or record.start.invocation)
