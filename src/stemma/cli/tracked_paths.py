"""Which tracked paths an argument of ``push`` and ``pull`` means, if any."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stemma.catalog.pointer_files import SUFFIX, find_pointers

if TYPE_CHECKING:
    from stemma.cli.project import RemoteHub


def tracked_paths(hub: RemoteHub, text: str) -> tuple[str, ...]:
    """Return the tracked paths that ``text`` names, relative to the project.

    ``data/train.csv`` and ``data/train.csv.stemma`` name one; ``data/`` names those under it.
    A model of this project comes before a path of that name; ``./digits`` is the path.
    """
    if not text or "://" in text or "@" in text.partition("/")[0]:
        return ()
    if "/" not in text and any(view.name == text for view in hub.list_models()):
        return ()
    root = hub.project_root.resolve()
    path = Path.cwd() / text
    path = path.with_name(path.name.removesuffix(SUFFIX))
    pointer = path.with_name(path.name + SUFFIX)
    found = [pointer] if pointer.is_file() else []
    if not found and "/" in text and path.is_dir() and path.resolve().is_relative_to(root):
        found = find_pointers(path)
    inside = (file.parent.resolve() / file.name for file in found)
    return tuple(
        file.relative_to(root).as_posix().removesuffix(SUFFIX)
        for file in inside
        if file.is_relative_to(root)
    )
