"""Large artifacts: uploads in parts and signed addresses.

Clients show no token at the addresses they are handed here: each carries a signature that
permits one method on one path, for some hours.

Invariants:
    * Whoever asks for an address must be allowed to do what it permits.
    * An upload can be completed only for the place it was begun for.
"""

from __future__ import annotations

from functools import partial
from typing import Final
from urllib.parse import quote

import anyio.to_thread
import msgspec

from stemma.domain.errors import InvalidInputError
from stemma.domain.logged_model import parse_logged_model_id
from stemma.domain.tracking import parse_run_id
from stemma.protocols.mlflow.artifact_paths import Place, base_name, parse_file, parse_place
from stemma.protocols.mlflow.artifacts import check_place, find_file, place_of, take_file
from stemma.protocols.mlflow.receiving import keep, save_part
from stemma.protocols.mlflow.routes import MlflowRequest, MlflowRoute, Needs, Response
from stemma.protocols.mlflow.sending import send_file
from stemma.protocols.mlflow.signing import LIFETIME_LIMIT_SECONDS, check_signature, sign
from stemma.protocols.mlflow.uploads import Joined, Part, Upload, UploadFolder
from stemma.tracking import artifacts

_ROOT: Final = "/api/2.0/mlflow-artifacts"
_PART: Final = f"{_ROOT}/mpu/part"
_SIGNED: Final = f"{_ROOT}/signed"
_DOWNLOAD_SECONDS: Final = 6 * 60 * 60
"""A client asks once, then fetches range after range with the same address."""


class CreateUpload(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be uploaded: the client's own path, and how many parts it will have."""

    path: str
    num_parts: int = 1


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """Where a part goes."""

    url: str
    part_number: int
    headers: dict[str, str] = {}


class CreatedUpload(msgspec.Struct, frozen=True, kw_only=True):
    """An upload that has begun."""

    upload_id: str
    credentials: list[Credential]


class SentPart(msgspec.Struct, frozen=True, kw_only=True):
    """A part that a client has sent."""

    part_number: int
    etag: str = ""


class EndUpload(msgspec.Struct, frozen=True, kw_only=True):
    """An upload that ends."""

    path: str
    upload_id: str
    parts: list[SentPart] = []


class Address(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A signed address; the two families of endpoints name it differently."""

    url: str = ""
    presigned_url: str = ""
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    file_size: int | None = None


class AskedAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Which file of a run or a logged model an address is asked for."""

    path: str
    run_id: str = ""
    model_id: str = ""
    expiration: int = _DOWNLOAD_SECONDS


async def create(request: MlflowRequest) -> CreatedUpload:
    """Begin an upload."""
    asked = await request.body(CreateUpload)
    place = _target(request, asked.path)
    await request.services.read(partial(check_place, place))
    upload = await anyio.to_thread.run_sync(
        _folder(request).start, str(place), asked.num_parts, _now(request)
    )
    return CreatedUpload(
        upload_id=upload.id,
        credentials=[
            Credential(url=_part_url(request, upload, number), part_number=number)
            for number in range(1, upload.part_count + 1)
        ],
    )


async def take_part(request: MlflowRequest) -> Response:
    """Take a part; sent again, it counts once."""
    identity, number = request.path["upload_id"], request.path["part_number"]
    _check_signed(request, f"{_PART}/{identity}/{number}")
    uploads = _folder(request)
    upload = await anyio.to_thread.run_sync(uploads.find, identity)
    arriving = uploads.new_part(upload)
    digest = await save_part(request.stream(), arriving)
    try:
        await anyio.to_thread.run_sync(uploads.keep_part, upload, int(number), arriving, digest)
    finally:
        arriving.unlink(missing_ok=True)
    return Response(media_type="", headers={"etag": f'"{digest}"'})


async def complete(request: MlflowRequest) -> object:
    """Make one file of the parts."""
    asked = await request.body(EndUpload)
    place = _target(request, asked.path)
    uploads = _folder(request)
    upload = await anyio.to_thread.run_sync(uploads.find, asked.upload_id)
    if upload.place != str(place):
        raise InvalidInputError(
            f"upload {upload.id} is not one of {place}", code="bad-upload", hint="start it again"
        )
    named = {part.part_number: part.etag for part in asked.parts}
    parts = await anyio.to_thread.run_sync(uploads.parts, upload, named)
    await anyio.to_thread.run_sync(_join, request, place, parts)
    await anyio.to_thread.run_sync(uploads.remove, upload.id)
    return {}


async def abort(request: MlflowRequest) -> object:
    """Drop an upload and what has arrived of it."""
    asked = await request.body(EndUpload)
    parse_place(request.path["artifact_path"])
    await anyio.to_thread.run_sync(_folder(request).remove, asked.upload_id)
    return {}


async def download_address(request: MlflowRequest) -> Address:
    """Return an address that a file can be fetched from, in ranges if need be."""
    place = parse_file(request.path["artifact_path"])
    found = await anyio.to_thread.run_sync(find_file, request.services, place.owner, place.path)
    url = _file_url(request, "GET", place, _DOWNLOAD_SECONDS)
    return Address(url=url, file_size=found.size_bytes)


async def run_download_address(request: MlflowRequest) -> Address:
    """Return an address that a file of a run can be fetched from."""
    asked = await request.body(AskedAddress)
    place = await _asked_place(request, asked)
    found = await anyio.to_thread.run_sync(find_file, request.services, place.owner, place.path)
    url = _file_url(request, "GET", place, asked.expiration)
    return Address(presigned_url=url, file_size=found.size_bytes)


async def upload_address(request: MlflowRequest) -> Address:
    """Return an address that a file of a run or a logged model can be put to."""
    asked = await request.body(AskedAddress)
    place = await _asked_place(request, asked)
    await request.services.read(partial(check_place, place))
    return Address(presigned_url=_file_url(request, "PUT", place, asked.expiration))


async def signed_download(request: MlflowRequest) -> Response:
    """Send a file to whoever has its signed address."""
    place = parse_file(request.path["artifact_path"])
    _check_signed(request, f"{_SIGNED}/{place}", method="GET")
    return await send_file(request, partial(find_file, request.services, place.owner, place.path))


async def signed_upload(request: MlflowRequest) -> object:
    """Take a file from whoever has its signed address."""
    place = parse_file(request.path["artifact_path"])
    _check_signed(request, f"{_SIGNED}/{place}")
    await take_file(request, place)
    return {}


def _join(request: MlflowRequest, place: Place, parts: list[Part]) -> None:
    with Joined(parts) as joined:
        keep(request.services, place, joined, joined.size_bytes)


def _target(request: MlflowRequest, client_path: str) -> Place:
    """Return where a file of a client goes: its name, in the folder of the path."""
    return parse_place(request.path["artifact_path"]).child(base_name(client_path))


async def _asked_place(request: MlflowRequest, asked: AskedAddress) -> Place:
    if bool(asked.run_id) == bool(asked.model_id):
        raise InvalidInputError("name one of run_id and model_id", code="bad-owner")
    if not 1 <= asked.expiration <= LIFETIME_LIMIT_SECONDS:
        raise InvalidInputError(
            f"expiration of {asked.expiration} seconds; it may be 1 to {LIFETIME_LIMIT_SECONDS}",
            code="bad-expiration",
        )
    named = parse_run_id(asked.run_id) if asked.run_id else parse_logged_model_id(asked.model_id)
    experiment = await request.services.read(partial(artifacts.experiment_of, owner=named))
    return place_of(experiment, named, asked.path)


def _folder(request: MlflowRequest) -> UploadFolder:
    return UploadFolder(request.services.temporary)


def _now(request: MlflowRequest) -> float:
    return request.services.clock().timestamp()


def _part_url(request: MlflowRequest, upload: Upload, number: int) -> str:
    path = f"{_PART}/{upload.id}/{number}"
    return f"{request.base_url}{path}?{sign(request.services.secret, 'PUT', path, upload.expires)}"


def _file_url(request: MlflowRequest, method: str, place: Place, seconds: int) -> str:
    path = f"{_SIGNED}/{place}"
    signed = sign(request.services.secret, method, path, int(_now(request)) + seconds)
    return f"{request.base_url}{quote(path)}?{signed}"


def _check_signed(request: MlflowRequest, path: str, *, method: str = "PUT") -> None:
    check_signature(request.services.secret, method, path, request.query, now=_now(request))


_PATH: Final = "{artifact_path:path}"
_PART_ROUTE: Final = f"{_PART}/{{upload_id}}/{{part_number}}"

ROUTES: Final = (
    MlflowRoute(
        method="POST", path=f"{_ROOT}/mpu/create/{_PATH}", handler=create, needs=Needs.WRITE
    ),
    MlflowRoute(
        method="POST", path=f"{_ROOT}/mpu/complete/{_PATH}", handler=complete, needs=Needs.WRITE
    ),
    MlflowRoute(method="POST", path=f"{_ROOT}/mpu/abort/{_PATH}", handler=abort, needs=Needs.WRITE),
    MlflowRoute(
        method="PUT",
        path=_PART_ROUTE,
        handler=take_part,
        needs=Needs.SIGNED,
        remark="an address of ours, handed out by mpu/create",
    ),
    MlflowRoute(
        method="GET",
        path=f"{_ROOT}/presigned/{_PATH}",
        handler=download_address,
        needs=Needs.READ,
    ),
    MlflowRoute(
        method="GET",
        path=f"{_SIGNED}/{_PATH}",
        handler=signed_download,
        needs=Needs.SIGNED,
        remark="an address of ours, handed out where a download is asked for",
    ),
    MlflowRoute(
        method="PUT",
        path=f"{_SIGNED}/{_PATH}",
        handler=signed_upload,
        needs=Needs.SIGNED,
        remark="an address of ours, handed out where an upload is asked for",
    ),
    MlflowRoute(
        method="POST",
        path="/api/2.0/mlflow/artifacts/presigned-download-url",
        handler=run_download_address,
        needs=Needs.READ,
    ),
    MlflowRoute(
        method="POST",
        path="/api/2.0/mlflow/artifacts/presigned-upload-url",
        handler=upload_address,
        needs=Needs.WRITE,
    ),
)
