"""Files of trees that were pulled without the rest of their tree.

Invariants:
    * A portion is stored when its files are, so that every tree in the store is whole.
    * A portion that has become all of its tree is that tree, and none any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from stemma.catalog import rows as build
from stemma.catalog.absences import Portion, note_portions, read_absences, read_portions
from stemma.domain.digest import Digest
from stemma.domain.tree import Tree, TreeEntry
from stemma.store.keys import record_key
from stemma.store.objects import ObjectStore


class PortionHere(NamedTuple):
    """The files of a tree that are here, and the paths that are here whole."""

    tree: Tree
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftElsewhere:
    """What of a version was left on a remote on purpose.

    Attributes:
        contents: Trees and files that are not here.
        portions: What is here of some of these trees, by tree.
    """

    contents: frozenset[Digest]
    portions: Mapping[Digest, PortionHere]


def find_left(objects: ObjectStore, state: Path, manifest: Digest) -> LeftElsewhere:
    """Return what of a version was left on a remote, and is not here.

    Args:
        objects: The store.
        state: The project's ``.stemma``.
        manifest: The version.
    """
    contents = frozenset(
        content
        for content in read_absences(state).get(manifest, ())
        if not objects.has_tree(content) and not objects.has(content)
    )
    noted = read_portions(state).get(manifest, {}) if contents else {}
    return LeftElsewhere(
        contents=contents,
        portions={
            tree: PortionHere(objects.read_tree(portion.tree), portion.paths)
            for tree, portion in noted.items()
            if tree in contents and objects.has_tree(portion.tree)
        },
    )


def absences_with_portions(state: Path) -> dict[Digest, dict[Digest, Digest | None]]:
    """Return by manifest what was left elsewhere, with the tree of what of it is here."""
    noted = read_portions(state)
    return {
        manifest: {
            content: portion.tree if (portion := noted.get(manifest, {}).get(content)) else None
            for content in contents
        }
        for manifest, contents in read_absences(state).items()
    }


class Came(NamedTuple):
    """A version, the paths that were asked of it, and what they name in its trees."""

    manifest: Digest
    paths: tuple[str, ...]
    entries: Mapping[Digest, tuple[TreeEntry, ...]]


def keep_portions(objects: ObjectStore, state: Path, came: Iterable[Came]) -> set[Digest]:
    """Store what came of trees, with what had come before; returns the trees that are whole.

    Args:
        objects: The store, which holds the files.
        state: The project's ``.stemma``.
        came: What was copied.
    """
    noted = read_portions(state)
    whole: set[Digest] = set()
    for version in came:
        own = noted.setdefault(version.manifest, {})
        for tree, entries in version.entries.items():
            if not objects.has_tree(tree):
                own[tree] = _grown(objects, own.get(tree), entries, version.paths)
            if objects.has_tree(tree):
                whole.add(tree)
    note_portions(
        state,
        {
            manifest: {tree: own[tree] for tree in own if not objects.has_tree(tree)}
            for manifest, own in noted.items()
        },
    )
    return whole


def _grown(
    objects: ObjectStore,
    known: Portion | None,
    entries: Iterable[TreeEntry],
    paths: tuple[str, ...],
) -> Portion:
    merged = {entry.path: entry for entry in entries}
    if known is not None and objects.has_tree(known.tree):
        merged |= {entry.path: entry for entry in objects.read_tree(known.tree).entries}
        paths = tuple(dict.fromkeys((*known.paths, *paths)))
    return Portion(tree=objects.put_tree_from(merged.values()).digest, paths=paths)


def portion_roots(objects: ObjectStore, state: Path) -> list[Digest]:
    """Return the portions of recorded versions, which a collection must keep."""
    return [
        portion.tree
        for manifest, portions in read_portions(state).items()
        if objects.backend.exists(record_key(build.MANIFEST, manifest))
        for portion in portions.values()
        if objects.has_tree(portion.tree)
    ]
