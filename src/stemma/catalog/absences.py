"""Which contents of versions were left on a remote on purpose, when a part was pulled.

Invariants:
    * What is noted here is absent by choice, version by version; anything else that a version
      names and the store does not hold is lost.
    * A file that cannot be read notes nothing: then absence is told as loss, never the reverse.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from stemma.domain.digest import Digest
from stemma.domain.errors import InvalidInputError
from stemma.store.backends.local import fsync_folder, translated_os_errors

_FILE: Final = "elsewhere.json"


def read_absences(state: Path) -> dict[Digest, frozenset[Digest]]:
    """Return by manifest the contents that were left elsewhere.

    Args:
        state: The project's ``.stemma``.
    """
    try:
        table = json.loads((state / _FILE).read_bytes())
        return {
            Digest.parse(manifest): frozenset(map(Digest.parse, contents))
            for manifest, contents in table.items()
        }
    except (OSError, ValueError, TypeError, AttributeError, InvalidInputError):
        return {}


def note_absences(state: Path, noted: Mapping[Digest, Collection[Digest]]) -> None:
    """Note by manifest what is left elsewhere; nothing of a version that is whole now."""
    table = {**read_absences(state), **{key: frozenset(value) for key, value in noted.items()}}
    text = json.dumps(
        {str(key): sorted(map(str, value)) for key, value in sorted(table.items()) if value}
    )
    path = state / _FILE
    temporary = path.with_name(f"{_FILE}.{os.getpid()}")
    with translated_os_errors(f"write {path}"):
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        fsync_folder(state)
