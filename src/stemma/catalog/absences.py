"""Which contents of versions were left on a remote on purpose, when a part was pulled.

Of a tree that was left, some files may be here.  They are a tree of their own in the store, a
*portion*, so that every tree that is stored is whole and a collection keeps them.

Invariants:
    * What is noted here is absent by choice, version by version; anything else that a version
      names and the store does not hold is lost.
    * A file that cannot be read notes nothing: then absence is told as loss, never the reverse.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stemma.domain.digest import Digest
from stemma.domain.errors import InvalidInputError
from stemma.store.backends.local import fsync_folder, translated_os_errors

_FILE: Final = "elsewhere.json"
_PORTIONS_FILE: Final = "portions.json"


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
    _write(
        state / _FILE,
        {str(key): sorted(map(str, value)) for key, value in sorted(table.items()) if value},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Portion:
    """What is here of a tree that was left elsewhere.

    Attributes:
        tree: The tree of what is here.
        paths: What was asked for, all of which is in it; as a checkout names it.
    """

    tree: Digest
    paths: tuple[str, ...]


def read_portions(state: Path) -> dict[Digest, dict[Digest, Portion]]:
    """Return what is here by manifest, and by tree that was left elsewhere.

    Args:
        state: The project's ``.stemma``.
    """
    try:
        table = json.loads((state / _PORTIONS_FILE).read_bytes())
        return {
            Digest.parse(manifest): {
                Digest.parse(tree): Portion(
                    tree=Digest.parse(portion["tree"]), paths=tuple(map(str, portion["paths"]))
                )
                for tree, portion in portions.items()
            }
            for manifest, portions in table.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError, InvalidInputError):
        return {}


def note_portions(state: Path, noted: Mapping[Digest, Mapping[Digest, Portion]]) -> None:
    """Note what ``read_portions`` returns, in place of what was noted."""
    if noted == read_portions(state):
        return
    _write(
        state / _PORTIONS_FILE,
        {
            str(manifest): {
                str(tree): {"tree": str(portion.tree), "paths": list(portion.paths)}
                for tree, portion in sorted(portions.items())
            }
            for manifest, portions in sorted(noted.items())
            if portions
        },
    )


def _write(path: Path, table: object) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    with translated_os_errors(f"write {path}"):
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(json.dumps(table))
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        fsync_folder(path.parent)
