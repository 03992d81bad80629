"""``[remote.NAME]`` tables in a project's settings file: added and removed as text.

Invariants:
    * Everything else in the file stays as a person wrote it, comments too.
    * The file is read as TOML before it is replaced; what would mean anything else than one
      table more or less is refused and left to the person.

It knows no other setting; see ``stemma.server.settings``.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Final

from stemma.domain.errors import InvalidInputError
from stemma.store.backends.local import translated_os_errors
from stemma.store.export import write_file

_OWN_FILE: Final = "stemma.toml"
_SHARED_FILE: Final = "pyproject.toml"


def add_table(root: Path, name: str, url: str) -> Path:
    """Add ``[remote.NAME]``; returns the file that was changed."""
    path, prefix, text = _read(root)
    separator = "" if not text or text.endswith("\n\n") else "\n" if text.endswith("\n") else "\n\n"
    # A JSON string is a TOML string.
    quoted = json.dumps(url, ensure_ascii=False)
    return _replace(path, text, f"{text}{separator}[{prefix}remote.{name}]\nurl = {quoted}\n")


def remove_table(root: Path, name: str) -> Path:
    """Remove ``[remote.NAME]``; returns the file that was changed."""
    path, prefix, text = _read(root)
    header = re.escape(f"[{prefix}remote.{name}]")
    table = re.compile(rf"^{header}[^\n]*\n(?:(?!\[)[^\n]*(?:\n|\Z))*", re.MULTILINE)
    return _replace(path, text, table.sub("", text).rstrip("\n") + "\n", gone=name)


def _read(root: Path) -> tuple[Path, str, str]:
    """Return the settings file, what its tables begin with, and its text."""
    own, shared = root / _OWN_FILE, root / _SHARED_FILE
    with translated_os_errors(f"read {own}", is_write=False):
        if own.exists() or not shared.exists():
            return own, "", own.read_text(encoding="utf-8") if own.exists() else ""
        text = shared.read_text(encoding="utf-8")
    if "stemma" in tomllib.loads(text).get("tool", {}):
        return shared, "tool.stemma.", text
    return own, "", ""


def _replace(path: Path, before: str, after: str, *, gone: str = "") -> Path:
    expected = _remotes(path, tomllib.loads(before))
    expected.pop(gone, None)
    try:
        found = _remotes(path, tomllib.loads(after))
    except tomllib.TOMLDecodeError:
        found = {}
    kept = {name: table for name, table in found.items() if name in expected}
    if kept != expected or (gone and gone in found) or (not gone and len(found) == len(expected)):
        raise InvalidInputError(
            f"{path} is laid out in a way that a program should not edit",
            code="bad-settings-file",
            hint=f"edit {path}: a table [remote.NAME] holds url",
        )
    write_file([after.encode()], path, is_executable=False)
    return path


def _remotes(path: Path, table: dict[str, object]) -> dict[str, object]:
    if path.name == _SHARED_FILE:
        tool = table.get("tool", {})
        table = tool.get("stemma", {}) if isinstance(tool, dict) else {}
    found = table.get("remote", {})
    return dict(found) if isinstance(found, dict) else {}
