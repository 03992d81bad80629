"""Addresses that carry their own permission, for requests that show no token.

Invariants:
    * A signature covers method, path and the moment it ends; it is compared in constant time.
    * A path is signed as it is understood, not as it is written, so encoding changes nothing.

Example:
    >>> query = sign(b"key", "GET", "/a", 100)
    >>> check_signature(b"key", "GET", "/a", parse_qs(query), now=99)
"""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlencode

from stemma.domain.errors import DeniedError
from stemma.store.backends.files import translated_os_errors

__all__ = ["LIFETIME_LIMIT_SECONDS", "check_signature", "load_key", "parse_qs", "sign"]

LIFETIME_LIMIT_SECONDS: Final = 7 * 24 * 60 * 60

_KEY_BYTES: Final = 32
_EXPIRES: Final = "expires"
_SIGNATURE: Final = "signature"


def load_key(path: Path) -> bytes:
    """Return the key in a file that only its owner may read; made when there is none.

    It outlives the server, so that uploads go on after a restart.
    """
    with translated_os_errors(f"read {path}"):
        if not path.exists():
            _make_key(path)
        return path.read_bytes()


def _make_key(path: Path) -> None:
    made = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        handle = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as stream:
            stream.write(secrets.token_bytes(_KEY_BYTES))
            stream.flush()
            os.fsync(stream.fileno())
        # Another server may be first: its key counts.
        with suppress(FileExistsError):
            os.link(made, path)
    finally:
        made.unlink(missing_ok=True)


def sign(key: bytes, method: str, path: str, expires: int) -> str:
    """Return the query that permits one method on one path until a second since 1970."""
    return urlencode({_EXPIRES: expires, _SIGNATURE: _signature(key, method, path, expires)})


def check_signature(
    key: bytes, method: str, path: str, query: Mapping[str, Sequence[str]], *, now: float
) -> None:
    """Check the query of a signed address.

    Raises:
        DeniedError: If it is not signed by us, or its time is over.
    """
    given = query.get(_SIGNATURE, [""])[0]
    expires = query.get(_EXPIRES, [""])[0]
    is_number = expires.isascii() and expires.isdecimal()
    expected = _signature(key, method, path, int(expires[:18]) if is_number else 0)
    if not hmac.compare_digest(expected.encode(), given.encode()):
        raise DeniedError("the address is not signed by this server", code="bad-signature")
    if not is_number or int(expires) < now:
        raise DeniedError(
            "the time of this address is over", code="signature-expired", hint="ask for a new one"
        )


def _signature(key: bytes, method: str, path: str, expires: int) -> str:
    text = f"{method}\n{path}\n{expires}".encode("utf-8", "surrogatepass")
    return hmac.new(key, text, sha256).hexdigest()
