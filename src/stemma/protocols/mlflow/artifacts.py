"""Artifacts of runs and logged models: listed, sent, taken and removed.

Invariants:
    * What a client names is a key of a row; no path or address of it is ever opened.
    * An upload is refused before its body is read where that can be known.
    * The model that a finished run recorded itself stands among its artifacts, under ``model``.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import anyio.to_thread
import msgspec

from stemma.db.engine import Connection
from stemma.domain.artifact import Artifact, ArtifactEntry
from stemma.domain.errors import InvalidInputError, NotFoundError
from stemma.domain.logged_model import parse_logged_model_id
from stemma.domain.tracking import parse_run_id
from stemma.protocols.mlflow.artifact_paths import Place, artifact_uri, parse_file, parse_place
from stemma.protocols.mlflow.ports import Services
from stemma.protocols.mlflow.receiving import IN_MEMORY_BYTES, keep_all, received
from stemma.protocols.mlflow.recorded import recorded_entries, recorded_file
from stemma.protocols.mlflow.routes import MlflowRequest, MlflowRoute, Needs
from stemma.protocols.mlflow.sending import send_file
from stemma.tracking import artifacts

_FILES: Final = "/api/2.0/mlflow-artifacts/artifacts"


class FileInfo(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A file or folder in a list."""

    path: str
    is_dir: bool | None = None
    file_size: int | None = None


class FileList(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a folder holds."""

    root_uri: str = ""
    files: list[FileInfo]


class ListArtifacts(msgspec.Struct, frozen=True, kw_only=True):
    """Which folder of a run is asked for."""

    run_id: str = ""
    run_uuid: str = ""
    path: str = ""


class ListModelArtifacts(msgspec.Struct, frozen=True, kw_only=True):
    """Which folder of a logged model is asked for."""

    artifact_directory_path: str = ""


class AskedFile(msgspec.Struct, frozen=True, kw_only=True):
    """Which file of a logged model is asked for."""

    artifact_file_path: str = ""


class ListPlace(msgspec.Struct, frozen=True, kw_only=True):
    """Which folder is asked for, by its place."""

    path: str = ""


async def list_place(request: MlflowRequest) -> FileList:
    """List a folder by its place; the paths in the answer are names in it."""
    asked = await request.body(ListPlace)
    place = parse_place(asked.path)
    entries = await anyio.to_thread.run_sync(
        list_entries, request.services, place.owner, place.path
    )
    files = [_info(entry, entry.path.rpartition("/")[2]) for entry in entries]
    return FileList(files=files)


async def list_of_run(request: MlflowRequest) -> FileList:
    """List a folder of a run; the paths in the answer are from its root."""
    asked = await request.body(ListArtifacts)
    run = parse_run_id(asked.run_id or asked.run_uuid)
    experiment = await request.services.read(partial(artifacts.experiment_of, owner=run))
    entries = await anyio.to_thread.run_sync(list_entries, request.services, run, asked.path)
    return FileList(
        root_uri=artifact_uri(experiment, run),
        files=[_info(entry, entry.path) for entry in entries],
    )


async def list_of_model(request: MlflowRequest) -> FileList:
    """List a folder of a logged model; the paths in the answer are from its root."""
    asked = await request.body(ListModelArtifacts)
    model = parse_logged_model_id(request.path["model_id"])
    experiment = await request.services.read(partial(artifacts.experiment_of, owner=model))
    entries = await anyio.to_thread.run_sync(
        list_entries, request.services, model, asked.artifact_directory_path
    )
    return FileList(
        root_uri=artifact_uri(experiment, model),
        files=[_info(entry, entry.path) for entry in entries],
    )


async def download(request: MlflowRequest) -> object:
    """Send a file."""
    place = parse_file(request.path["artifact_path"])
    return await send_file(request, partial(find_file, request.services, place.owner, place.path))


async def download_of_run(request: MlflowRequest) -> object:
    """Send a file of a run, as MLflow's pages ask for it."""
    asked = await request.body(ListArtifacts)
    run = parse_run_id(asked.run_id or asked.run_uuid)
    return await send_file(request, partial(find_file, request.services, run, asked.path))


async def download_of_model(request: MlflowRequest) -> object:
    """Send a file of a logged model, as MLflow's pages ask for it."""
    asked = await request.body(AskedFile)
    model = parse_logged_model_id(request.path["model_id"])
    return await send_file(
        request, partial(find_file, request.services, model, asked.artifact_file_path)
    )


async def upload(request: MlflowRequest) -> object:
    """Take a file; one that is there is replaced."""
    await take_file(request, parse_file(request.path["artifact_path"]))
    return {}


async def remove(request: MlflowRequest) -> object:
    """Remove a file, or a folder with all in it."""
    place = parse_file(request.path["artifact_path"])
    await request.services.write(
        partial(artifacts.delete, owner=place.owner, path=place.path, experiment=place.experiment)
    )
    return {}


async def take_file(request: MlflowRequest, place: Place) -> None:
    """Store the body of a request at a place."""
    announced = request.headers.get("content-length", "")
    if not announced.isdecimal() or int(announced) > IN_MEMORY_BYTES:
        await request.services.read(partial(check_place, place))
    async with received(request.stream(), request.services.temporary) as body:
        await keep_all(request.services, place, body)


def check_place(place: Place, connection: Connection) -> None:
    """Check that a file may be put at a place."""
    artifacts.check_writable(connection, place.owner, place.path, experiment=place.experiment)


def list_entries(services: Services, owner: str, folder: str) -> list[ArtifactEntry]:
    """Return what a folder of a run or a logged model holds.  For a worker thread."""
    with services.database.read() as connection:
        found = artifacts.list_folder(connection, owner, folder)
        manifest = artifacts.manifest_of(connection, owner)
    if manifest is None:
        return found
    names = {entry.path for entry in found}
    recorded = recorded_entries(services, manifest, folder)
    merged = [*found, *(entry for entry in recorded if entry.path not in names)]
    return sorted(merged, key=lambda entry: entry.path)


def find_file(services: Services, owner: str, path: str) -> Artifact:
    """Return a file of a run or a logged model.  For a worker thread.

    Raises:
        NotFoundError: If there is none.
    """
    with services.database.read() as connection:
        try:
            return artifacts.get(connection, owner, path)
        except NotFoundError:
            manifest = artifacts.manifest_of(connection, owner)
    found = None if manifest is None else recorded_file(services, manifest, path)
    if found is None:
        raise artifacts.no_artifact(owner, path)
    return Artifact(owner=owner, path=path, file=found.file, size_bytes=found.size_bytes)


def place_of(experiment: int, owner: str, path: str) -> Place:
    """Return the place of a file that was named by its owner and path.

    Raises:
        InvalidInputError: If no artifact may have that path.
    """
    if not path:
        raise InvalidInputError("an artifact without a path", code="bad-artifact-path")
    return Place(experiment, owner, "").child(path)


def _info(entry: ArtifactEntry, path: str) -> FileInfo:
    if entry.is_folder:
        return FileInfo(path=path, is_dir=True)
    return FileInfo(path=path, is_dir=False, file_size=entry.size_bytes)


ROUTES: Final = (
    MlflowRoute(method="GET", path=_FILES, handler=list_place, needs=Needs.READ),
    MlflowRoute(
        method="GET", path=f"{_FILES}/{{artifact_path:path}}", handler=download, needs=Needs.READ
    ),
    MlflowRoute(
        method="PUT", path=f"{_FILES}/{{artifact_path:path}}", handler=upload, needs=Needs.WRITE
    ),
    MlflowRoute(
        method="DELETE", path=f"{_FILES}/{{artifact_path:path}}", handler=remove, needs=Needs.WRITE
    ),
    MlflowRoute(
        method="GET",
        path="/api/2.0/mlflow/artifacts/list",
        handler=list_of_run,
        needs=Needs.READ,
    ),
    MlflowRoute(
        method="GET",
        path="/api/2.0/mlflow/logged-models/{model_id}/artifacts/directories",
        handler=list_of_model,
        needs=Needs.READ,
    ),
    MlflowRoute(method="GET", path="/get-artifact", handler=download_of_run, needs=Needs.READ),
    MlflowRoute(
        method="GET",
        path="/ajax-api/2.0/mlflow/logged-models/{model_id}/artifacts/files",
        handler=download_of_model,
        needs=Needs.READ,
    ),
)
