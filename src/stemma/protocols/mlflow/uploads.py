"""Files that arrive in parts, at addresses that need no token, and become one at the end.

Invariants:
    * An upload is a folder with a random name below the folder for files under way; parts are
      named by number and digest, never by a client's text.
    * Nothing of an upload can be read before it is complete; then its row is written as that of
      any other artifact.
    * The folder goes when the upload is completed, aborted, or its time is over.

It knows no routes; see ``multipart``.
"""

from __future__ import annotations

import io
import re
import secrets
import shutil
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Final, final

import msgspec
from typing_extensions import override

from stemma.domain.errors import InvalidInputError, NotFoundError
from stemma.store.backends.files import translated_os_errors

PARTS_LIMIT: Final = 10_000
LIFETIME_SECONDS: Final = 24 * 60 * 60
"""How long parts may come, and wait."""

_PREFIX: Final = "mpu-"
_ABOUT: Final = "about.json"
_ID: Final = re.compile(r"[0-9a-f]{32}")
_ID_SIZE_BYTES: Final = 16
_PART: Final = re.compile(r"([0-9]{5})-([0-9a-f]{64})")
_UNFINISHED: Final = "unfinished-"


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """An upload under way.

    Attributes:
        id: Its name.
        place: Where the file will be.
        part_count: How many parts it has.
        expires: When its time is over, in seconds since 1970.
    """

    id: str
    place: str
    part_count: int
    expires: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part that has arrived.

    Attributes:
        path: Its file.
        size_bytes: Its size.
    """

    path: Path
    size_bytes: int


@final
class UploadFolder:
    """Uploads under way, in one folder."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; it is made when it is needed."""
        self._folder = folder

    def start(self, place: str, part_count: int, now: float) -> Upload:
        """Begin an upload, and remove those whose time is over.

        Raises:
            InvalidInputError: If it has no part or too many.
        """
        if not 1 <= part_count <= PARTS_LIMIT:
            raise InvalidInputError(
                f"an upload of {part_count} parts; it may have 1 to {PARTS_LIMIT}",
                code="bad-upload",
                hint="raise MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE",
            )
        self.remove_expired(now)
        upload = Upload(
            id=secrets.token_hex(_ID_SIZE_BYTES),
            place=place,
            part_count=part_count,
            expires=int(now) + LIFETIME_SECONDS,
        )
        with translated_os_errors(f"write to {self._folder}"):
            self._of(upload.id).mkdir(parents=True)
            (self._of(upload.id) / _ABOUT).write_bytes(msgspec.json.encode(upload))
        return upload

    def find(self, identity: str) -> Upload:
        """Return an upload under way.

        Raises:
            NotFoundError: If there is none (``upload-not-found``).
        """
        try:
            if not _ID.fullmatch(identity):
                raise FileNotFoundError
            about = (self._of(identity) / _ABOUT).read_bytes()
            return msgspec.json.decode(about, type=Upload)
        except (OSError, msgspec.DecodeError) as error:
            raise NotFoundError(
                f"no upload {identity[:80]} is under way",
                code="upload-not-found",
                hint="start it again",
            ) from error

    def new_part(self, upload: Upload) -> Path:
        """Return a path for a part that begins to arrive."""
        return self._of(upload.id) / f"{_UNFINISHED}{secrets.token_hex(_ID_SIZE_BYTES)}"

    def keep_part(self, upload: Upload, number: int, arrived: Path, digest: str) -> None:
        """Let a part count that has arrived; one sent before with this number does no more.

        Raises:
            NotFoundError: If the upload has ended meanwhile.
        """
        try:
            arrived.replace(self._of(upload.id) / _part_name(number, digest))
        except FileNotFoundError as error:
            raise NotFoundError(
                f"upload {upload.id} has ended", code="upload-not-found", hint="start it again"
            ) from error
        for path in self._of(upload.id).glob(f"{number:05d}-*"):
            if path.name != _part_name(number, digest):
                path.unlink(missing_ok=True)

    def parts(self, upload: Upload, named: Mapping[int, str]) -> list[Part]:
        """Return the parts in order.

        Args:
            upload: The upload.
            named: Digest of each part by its number, as the client was told it.

        Raises:
            InvalidInputError: If one is missing or is another one (``upload-incomplete``).
        """
        arrived = self._arrived(upload)
        for number in range(1, upload.part_count + 1):
            path = arrived.get(number)
            digest = named.get(number, "").strip('"')
            if path is None or (digest and path.name != _part_name(number, digest)):
                raise InvalidInputError(
                    f"part {number} of {upload.part_count} of upload {upload.id} has not arrived",
                    code="upload-incomplete",
                    hint="send it again",
                )
        return [
            Part(path=arrived[number], size_bytes=arrived[number].stat().st_size)
            for number in range(1, upload.part_count + 1)
        ]

    def remove(self, identity: str) -> None:
        """Remove an upload and its parts; one that is not there is gone already."""
        if _ID.fullmatch(identity):
            shutil.rmtree(self._of(identity), ignore_errors=True)

    def remove_expired(self, now: float) -> int:
        """Remove uploads whose time is over; returns how many."""
        count = 0
        for path in self._folder.glob(f"{_PREFIX}*"):
            identity = path.name.removeprefix(_PREFIX)
            try:
                expires = self.find(identity).expires
            except NotFoundError:
                expires = int(_age_start(path)) + LIFETIME_SECONDS
            if expires < now:
                self.remove(identity)
                count += 1
        return count

    def _arrived(self, upload: Upload) -> dict[int, Path]:
        found: dict[int, Path] = {}
        for path in self._of(upload.id).iterdir():
            match = _PART.fullmatch(path.name)
            if match:
                found[int(match[1])] = path
        return found

    def _of(self, identity: str) -> Path:
        return self._folder / f"{_PREFIX}{identity}"


@final
class Joined(io.RawIOBase):
    """Files one after another, read as one."""

    def __init__(self, parts: Sequence[Part]) -> None:
        """Open nothing yet."""
        super().__init__()
        self._parts = parts
        self._starts = list(accumulate((part.size_bytes for part in parts), initial=0))
        self.size_bytes = self._starts[-1]
        self._position = 0
        self._open: tuple[int, io.FileIO] | None = None

    @override
    def readable(self) -> bool:
        return True

    @override
    def seekable(self) -> bool:
        return True

    @override
    def tell(self) -> int:
        return self._position

    @override
    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size_bytes}
        self._position = base[whence] + offset
        return self._position

    @override
    def readinto(self, buffer: object, /) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        if self._position >= self.size_bytes:
            return 0
        number = bisect_right(self._starts, self._position) - 1
        stream = self._file(number)
        stream.seek(self._position - self._starts[number])
        count = stream.readinto(view)
        self._position += count
        return count

    @override
    def close(self) -> None:
        self._let_go()
        super().close()

    def _file(self, number: int) -> io.FileIO:
        if self._open is None or self._open[0] != number:
            self._let_go()
            self._open = (number, io.FileIO(self._parts[number].path))
        return self._open[1]

    def _let_go(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None


def _part_name(number: int, digest: str) -> str:
    return f"{number:05d}-{digest}"


def _age_start(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
