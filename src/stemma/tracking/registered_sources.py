"""Where the files of registered versions are: what clients may name, and where to find it now.

Invariants:
    * A source is a folder of a run, a logged model, or another version, all of this project, and
      is the very run's or logged model's that the client names beside it.
    * No source is opened here, or anywhere else as it came.
"""

from __future__ import annotations

from stemma.db.engine import Connection
from stemma.domain.registry import (
    LoggedModelFolder,
    ModelStage,
    ModelVersion,
    NewVersion,
    RunFolder,
    Source,
    VersionFiles,
    bad_source,
    parse_source,
)
from stemma.domain.tracking import parse_run_id
from stemma.tracking import registry_queries as queries
from stemma.tracking import registry_source_queries as sources


def settle(connection: Connection, new: NewVersion, source: Source) -> tuple[str, str, str]:
    """Return run, logged model and source of what a client registers.

    Raises:
        InvalidInputError: If there is no such source, or the client names another run or model.
    """
    run = str(parse_run_id(new.run)) if new.run else ""
    match source:
        case RunFolder():
            return _of_run(connection, new, run, source)
        case LoggedModelFolder(logged_model):
            return _of_logged_model(connection, new, run, logged_model)
        case VersionFiles(name, number):
            version = queries.find_version(connection, name, number)
            if version is None or version.stage is ModelStage.DELETED:
                raise bad_source(new.source, f"there is no version {number} of {name}")
            if run not in {"", version.run} or new.logged_model not in {"", version.logged_model}:
                raise bad_source(new.source, "it is of another run or logged model")
            return version.run, version.logged_model, version.source


def _of_run(
    connection: Connection, new: NewVersion, run: str, source: RunFolder
) -> tuple[str, str, str]:
    found = sources.find_source_run(connection, source.run)
    if run != source.run or new.logged_model:
        raise bad_source(new.source, f"it is not of run_id {new.run!r}")
    if found is None or found.is_deleted:
        raise bad_source(new.source, f"there is no run {source.run}")
    return run, "", str(RunFolder(str(found.experiment), source.run, source.path))


def _of_logged_model(
    connection: Connection, new: NewVersion, run: str, logged_model: str
) -> tuple[str, str, str]:
    model = sources.find_source_model(connection, logged_model)
    if new.logged_model not in {"", logged_model}:
        raise bad_source(new.source, f"it is not of model_id {new.logged_model!r}")
    if model is None or model.is_deleted:
        raise bad_source(new.source, f"there is no logged model {logged_model}")
    if run not in {"", model.run}:
        raise bad_source(new.source, f"it is not of run_id {new.run!r}")
    return model.run, logged_model, f"models:/{logged_model}"


def download_source(connection: Connection, version: ModelVersion) -> RunFolder | LoggedModelFolder:
    """Return where the files of a version are now.

    A client that logged a model in a run may name it by the run and a path, although its files
    are the logged model's.
    """
    source = parse_source(version.source)
    if isinstance(source, RunFolder) and not sources.has_files(connection, source.run, source.path):
        logged_model = sources.logged_model_named(connection, source.run, source.path)
        if logged_model:
            return LoggedModelFolder(logged_model)
    if isinstance(source, VersionFiles):
        raise bad_source(version.source)
    return source


def artifact_uri(connection: Connection, version: ModelVersion) -> str:
    """Return the address that clients download the files of a version by."""
    source = download_source(connection, version)
    if isinstance(source, RunFolder):
        return str(source)
    model = sources.find_source_model(connection, source.logged_model)
    experiment = 0 if model is None else model.experiment
    return f"mlflow-artifacts:/{experiment}/models/{source.logged_model}/artifacts"


def version_with(connection: Connection, run: str, path: str) -> str:
    """Return the registered version that a file or folder of a run is part of, in words."""
    for version in queries.folder_versions(connection, run):
        source = parse_source(version.source)
        folder = source.path if isinstance(source, RunFolder) else ""
        names = (f"{path}/", f"{folder}/" if folder else "")
        if names[0].startswith(names[1]) or names[1].startswith(names[0]):
            return f"version {version.number} of {version.name}"
    return ""
