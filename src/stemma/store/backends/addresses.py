"""Where a remote is: the address a person gives, checked, and nothing else.

Invariants:
    * An address never holds a secret: a password, a query or a fragment in it is refused.
    * Reading an address touches neither disk nor network.

Example:
    >>> parse_address("s3://bucket/team/models").scheme
    's3'
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from stemma.domain.errors import InvalidInputError

FOLDER: Final = "file"
_CLOUD: Final = frozenset({"s3", "gs", "az"})
_SHELLS: Final = frozenset({"ssh", "sftp", "scp"})
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*://")
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9._-]{1,221}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where blobs of a remote rest.

    Attributes:
        scheme: ``file``, ``s3``, ``gs`` or ``az``.
        bucket: Bucket or container; empty for a folder.
        path: Absolute folder, or the prefix inside the bucket without slashes around it.
    """

    scheme: str
    bucket: str
    path: str

    @property
    def url(self) -> str:
        """The address as it is stored: a folder by its path, a bucket as URL."""
        if self.scheme == FOLDER:
            return self.path
        return f"{self.scheme}://{self.bucket}/{self.path}".rstrip("/")


def parse_address(text: str, *, folder: Path | None = None) -> Address:
    """Read an address: a folder, ``file://``, ``s3://``, ``gs://`` or ``az://``.

    Args:
        text: The address.
        folder: What a relative folder starts at; the current one by default.

    Raises:
        InvalidInputError: If it is none of these (``bad-remote-url``), or holds a secret
            (``secret-in-settings``).
    """
    if not _SCHEME.match(text):
        if not text or "\0" in text:
            raise _bad(text, "it is empty")
        place = (folder or Path.cwd()) / Path(text).expanduser()
        return Address(scheme=FOLDER, bucket="", path=os.path.normpath(place))
    parts = urlsplit(text)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise InvalidInputError(
            f"the address {_without_secret(text)} holds a user, a password or a token,"
            " which git would see",
            code="secret-in-settings",
            hint="leave it out; stemma remote login says where credentials are read from",
        )
    if parts.scheme == FOLDER and not parts.netloc and parts.path.startswith("/"):
        return Address(scheme=FOLDER, bucket="", path=os.path.normpath(unquote(parts.path)))
    if parts.scheme in _SHELLS:
        raise InvalidInputError(
            f"{parts.scheme}:// is no remote: {parts.netloc} must be mounted as a folder",
            code="bad-remote-url",
            hint=f"sshfs {parts.netloc}:{parts.path or '.'} FOLDER, then: stemma remote add"
            " NAME FOLDER",
        )
    if parts.scheme not in _CLOUD:
        raise _bad(text, f"{parts.scheme}:// is not known")
    if not _BUCKET.fullmatch(parts.netloc):
        raise _bad(text, f"{parts.netloc!r} is no bucket")
    return Address(scheme=parts.scheme, bucket=parts.netloc, path=parts.path.strip("/"))


def _bad(text: str, why: str) -> InvalidInputError:
    return InvalidInputError(
        f"not an address of a remote: {_without_secret(text)!r}: {why}",
        code="bad-remote-url",
        hint="a folder, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX",
    )


def _without_secret(text: str) -> str:
    """Return an address without what may be secret in it."""
    scheme, _, rest = text.partition("://")
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    return f"{scheme}://{rest.rpartition('@')[2]}" if rest else text
