"""What ``stemma remote login --store`` was told, one file for each address, for the user alone.

Invariants:
    * Nothing is written inside a project, where git would see it: the folder is the user's own,
      ``$XDG_CONFIG_HOME/stemma/logins`` or ``~/.config/stemma/logins``.
    * Only the user can read the files (0600 in a folder of 0700); one that others can read is
      refused, not used.
    * What is stored are the variables that the cloud's own tools know, checked for the scheme.

It asks no cloud whether the secret is right; see ``stemma.store.backends.cloud``.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from stemma.domain.errors import DeniedError, InvalidInputError
from stemma.store.backends.addresses import Address
from stemma.store.backends.local import translated_os_errors

ACCEPTED: Final[Mapping[str, tuple[str, ...]]] = {
    "s3": (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_REGION",
        "AWS_ENDPOINT_URL",
    ),
    "gs": ("GOOGLE_SERVICE_ACCOUNT_KEY",),
    "az": (
        "AZURE_STORAGE_ACCOUNT_NAME",
        "AZURE_STORAGE_ACCOUNT_KEY",
        "AZURE_STORAGE_SAS_TOKEN",
        "AZURE_STORAGE_ENDPOINT",
    ),
}
"""What can be stored, by scheme, in the order in which it is asked for."""

SECRET: Final = frozenset(
    {
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "GOOGLE_SERVICE_ACCOUNT_KEY",
        "AZURE_STORAGE_ACCOUNT_KEY",
        "AZURE_STORAGE_SAS_TOKEN",
    }
)
"""Those of them that nobody may see."""

_ENOUGH: Final[Mapping[str, tuple[frozenset[str], ...]]] = {
    "s3": (frozenset({"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}),),
    "gs": (frozenset({"GOOGLE_SERVICE_ACCOUNT_KEY"}),),
    "az": (
        frozenset({"AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY"}),
        frozenset({"AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_SAS_TOKEN"}),
    ),
}


def read_login(address: Address, variables: Mapping[str, str]) -> dict[str, str]:
    """Return what was stored for an address; nothing when nothing was.

    Raises:
        DeniedError: If others can read the file (``login-exposed``).
        InvalidInputError: If the file is not as it was written (``bad-login``).
    """
    path = _path(address, variables)
    with translated_os_errors(f"read {path}", is_write=False):
        try:
            mode = path.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return {}
        if stat.S_IMODE(mode) & 0o077:
            raise DeniedError(
                f"others can read {path}, which holds a secret",
                code="login-exposed",
                hint=f"chmod 600 {path}",
            )
        text = path.read_text(encoding="utf-8")
    try:
        return check_login(address, json.loads(text)["variables"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInputError(
            f"{path} is damaged",
            code="bad-login",
            hint=f"stemma remote login {address.url} --store",
        ) from error


def write_login(address: Address, variables: Mapping[str, str], told: Mapping[str, str]) -> Path:
    """Store what was told for an address, in place of what was there; returns the file.

    Raises:
        InvalidInputError: If it is not what opens such an address (``bad-login``).
    """
    path = _path(address, variables)
    text = json.dumps({"url": address.url, "variables": check_login(address, told)})
    with translated_os_errors(f"write {path}"):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.parent.chmod(0o700)
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    return path


def forget_login(address: Address, variables: Mapping[str, str]) -> bool:
    """Remove what was stored for an address; returns whether there was anything."""
    path = _path(address, variables)
    with translated_os_errors(f"remove {path}"):
        is_there = path.exists()
        path.unlink(missing_ok=True)
    return is_there


def check_login(address: Address, told: Mapping[str, str]) -> dict[str, str]:
    """Return what was told without what is empty, if it can open the address.

    Raises:
        InvalidInputError: If a name is not known, or something is missing (``bad-login``);
            the message holds no value.
    """
    accepted = ACCEPTED.get(address.scheme, ())
    kept = {name: value.strip() for name, value in told.items() if value.strip()}
    unknown = sorted(set(told) - set(accepted))
    if unknown or not any(names <= kept.keys() for names in _ENOUGH.get(address.scheme, ())):
        what = f"{unknown[0]!r} is not known" if unknown else "something is missing"
        raise InvalidInputError(
            f"that does not open {address.url}: {what}; lines of NAME=VALUE with"
            f" {', '.join(accepted) or 'nothing: a folder has permissions'}",
            code="bad-login",
            hint=f"stemma remote login {address.url}",
        )
    return kept


def parse_login(lines: str) -> dict[str, str]:
    """Read lines of ``NAME=VALUE``; empty lines and what follows ``#`` at their start are passed.

    Raises:
        InvalidInputError: If a line is no such (``bad-login``); the message holds no value.
    """
    told: dict[str, str] = {}
    for number, line in enumerate(lines.splitlines(), start=1):
        text = line.strip().removeprefix("export ").strip()
        if not text or text.startswith("#"):
            continue
        name, separator, value = text.partition("=")
        if not separator or not name.isidentifier():
            raise InvalidInputError(
                f"line {number} is not NAME=VALUE", code="bad-login", hint="stemma remote --help"
            )
        told[name] = value.strip().strip("\"'") if not value.startswith("{") else value
    return told


def _path(address: Address, variables: Mapping[str, str]) -> Path:
    # Not Path.home(), which raises for a user without a home, as many containers have.
    home = Path(variables.get("HOME", "/nonexistent"))
    folder = Path(variables.get("XDG_CONFIG_HOME") or home / ".config")
    name = hashlib.sha256(address.url.encode()).hexdigest()[:32]
    return folder / "stemma" / "logins" / f"{name}.json"
