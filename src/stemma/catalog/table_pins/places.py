"""Where tables are, and reading what their formats never rewrite.

A folder is read as a folder.  Only formats whose own library reads an address take one, and of
addresses only object stores: a pin may come from somebody else's push, and must not make this
machine ask any server it names.
"""

from __future__ import annotations

import hashlib
import importlib
import stat
from pathlib import Path
from types import ModuleType
from typing import Any, Final
from urllib.parse import urlsplit

from stemma.catalog.table_pins.pin import Anchor, DataFile, TablePin
from stemma.domain.errors import InvalidInputError, NotFoundError

_SCHEMES: Final = frozenset({"s3", "s3a", "gs", "abfs", "abfss", "wasb", "wasbs"})
_BLOCK_BYTES: Final = 1 << 20


def is_address(location: str) -> bool:
    """Whether a location is an address and no path of this machine.

    Raises:
        InvalidInputError: If it is an address of a kind that is never opened, or holds a
            password (``bad-table-location``).
    """
    parts = urlsplit(location)
    if not parts.scheme or "://" not in location:
        return False
    if parts.scheme not in _SCHEMES or parts.username or parts.password:
        raise InvalidInputError(
            f"a table cannot be pinned at a {parts.scheme} address, or with a password in it",
            code="bad-table-location",
            hint="stemma add --table FOLDER",
        )
    return True


def folder_of(location: str, root: Path) -> Path:
    """Return the folder a pin's location names, from the project's folder."""
    return root / location


def location_of(folder: Path, root: Path) -> str:
    """Return how a pin names a folder: below the project, else absolute."""
    real, top = folder.resolve(), root.resolve()
    return real.relative_to(top).as_posix() if real.is_relative_to(top) else real.as_posix()


def below(path: str, folder: Path | None) -> str:
    """Return a path or ``file:`` address relative to the table's folder, where it is below it."""
    plain = path.removeprefix("file://")
    if folder is None or "://" in plain:
        return path
    real = folder.resolve()
    found = Path(plain)
    return found.relative_to(real).as_posix() if found.is_relative_to(real) else plain


def anchor_in(folder: Path, path: Path) -> Anchor:
    """Read and name a file that the format never rewrites.

    Raises:
        OSError: If it cannot be read, or is no plain file: a pin may name anything.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise FileNotFoundError(path)
    hasher = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            hasher.update(block)
    return Anchor(path=path.relative_to(folder).as_posix(), sha256=f"sha256:{hasher.hexdigest()}")


def changed_anchor(folder: Path, anchor: Anchor) -> str:
    """Say what is wrong with an anchor in a folder; empty when nothing is."""
    try:
        found = anchor_in(folder, folder / anchor.path)
    except OSError:
        return f"{anchor.path} is gone"
    return "" if found == anchor else f"{anchor.path} was changed"


def changed_file(folder: Path, file: DataFile) -> str:
    """Say what is wrong with a data file in a folder; empty when it has its size."""
    try:
        size_bytes = (folder / file.path).stat().st_size
    except OSError:
        return f"{file.path} is gone"
    return "" if size_bytes == file.size_bytes else f"{file.path} has another size"


def changed(pinned: TablePin, folder: Path) -> str:
    """Say what is wrong with the anchors and files of a pin; empty when nothing is."""
    wrong = [changed_anchor(folder, anchor) for anchor in pinned.anchors]
    wrong += [changed_file(folder, file) for file in pinned.files]
    return next(filter(None, wrong), "")


def library(module: str, extra: str) -> Any:
    """Import a format's own library.

    Raises:
        InvalidInputError: If it is not installed (``extra-missing``).
    """
    try:
        found: ModuleType = importlib.import_module(module)
    except ImportError as error:
        raise InvalidInputError(
            f"{extra} tables need the package {module.partition('.')[0]}",
            code="extra-missing",
            hint=f"pip install 'stemma-ml[{extra}]'",
        ) from error
    return found


def no_snapshot(location: str, snapshot: str, known: str) -> NotFoundError:
    """Return the error of a snapshot that a table does not have."""
    return NotFoundError(
        f"the table {location} has no snapshot {snapshot or 'at all'}; it has {known or 'none'}",
        code="snapshot-not-found",
        hint=f"stemma add --table {location}",
    )


def unreadable(location: str, error: BaseException) -> InvalidInputError:
    """Return the error of a folder that its format's library cannot read."""
    reason = " ".join(str(error).split())[:200]
    return InvalidInputError(
        f"the table {location} cannot be read: {reason}",
        code="unreadable-table",
        hint=f"ls {location}",
    )
