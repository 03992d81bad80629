"""Opens the backend behind a remote's address.

Invariants:
    * Opening asks nothing of a folder or bucket, and writes nothing.
    * The cloud library is loaded only for addresses that need it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stemma.domain.errors import InvalidInputError
from stemma.store.backends.addresses import FOLDER, Address
from stemma.store.backends.base import BlobBackend
from stemma.store.backends.local import LocalBackend
from stemma.store.backends.logins import read_login


def open_backend(address: Address, variables: Mapping[str, str]) -> BlobBackend:
    """Return the backend behind an address.

    Args:
        address: Where.
        variables: Environment variables that credentials are taken from.

    Raises:
        InvalidInputError: If the cloud library is not installed (``extra-missing``).
        DeniedError: If there are no credentials (``no-credentials``), or others can read
            those that login stored (``login-exposed``).
    """
    if address.scheme == FOLDER:
        return LocalBackend(Path(address.path))
    try:
        from stemma.store.backends.cloud import open_cloud  # noqa: PLC0415 - an optional extra
    except ModuleNotFoundError as error:
        if error.name != "obstore":
            raise
        raise InvalidInputError(
            f"{address.url} needs the library obstore, which is not installed",
            code="extra-missing",
            hint="pip install 'stemma-ml[cloud]'",
        ) from error
    return open_cloud(address, variables, login=read_login(address, variables))
