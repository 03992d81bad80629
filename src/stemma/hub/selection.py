"""Which part of a version is meant: components, and folders or files inside of them.

Paths are those of ``stemma checkout``: ``artifact/weights.safetensors``, ``code/train.py``,
``data/digits-train/images.csv``; ``data/digits-train`` is a whole dataset.

Invariants:
    * Nothing is chosen that was not named; a path that names nothing is an error.

It reads no store: whoever asks for paths says how trees are read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

from stemma.domain.digest import Digest
from stemma.domain.errors import InvalidInputError, NotFoundError
from stemma.domain.manifest import Manifest
from stemma.domain.ref import did_you_mean, suggest
from stemma.domain.tree import Tree, TreeEntry
from stemma.hub.version_contents import COMPONENTS, contents_of
from stemma.store.transfer import Content

_FOLDERS: Final = ("artifact", "code", "data")
_ALIASES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"code": ("architecture", "pipeline"), "data": ("datasets",), "params": ("hyperparameters",)}
)
_SHORT: Final = MappingProxyType(
    {"architecture": "code", "datasets": "data", "hyperparameters": "params"}
)


class PlacedTree(NamedTuple):
    """A tree of a version: the folder a checkout puts it in, its component, its digest."""

    folder: str
    component: str
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What was named; without either it is everything.

    Attributes:
        components: Whole components.
        paths: Folders and files, without slash at either end.
    """

    components: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()

    def contents(self, manifest: Manifest) -> list[Content]:
        """Return what belongs to the components that were named, or all there is."""
        if self.paths and not self.components:
            return []
        return contents_of(manifest, self.components)

    def entries(
        self, label: str, manifest: Manifest, read_tree: Callable[[Digest], Tree]
    ) -> dict[Digest, tuple[TreeEntry, ...]]:
        """Return by tree the entries that the paths name.

        Args:
            label: What the version is called, for the error.
            manifest: The version.
            read_tree: Reads a tree; asked for those a path leads into.

        Raises:
            NotFoundError: If a path names nothing (``path-not-found``).
        """
        found: dict[Digest, dict[str, TreeEntry]] = {}
        for path in self.paths:
            known: list[str] = []
            is_found = False
            for place in trees_of(manifest):
                if not may_hold(place.folder, path):
                    continue
                # Noted even without an entry: so it is known that nothing of it is missing.
                chosen = found.setdefault(place.digest, {})
                for entry in read_tree(place.digest).entries:
                    full = f"{place.folder}/{entry.path}"
                    known.append(full)
                    if is_under(full, path):
                        is_found = True
                        chosen[entry.path] = entry
            if not is_found:
                near = suggest(path, known or [place.folder for place in trees_of(manifest)])
                raise NotFoundError(
                    f"{label} holds no {path}{did_you_mean(near)}",
                    code="path-not-found",
                    hint=f"stemma checkout {label} --dry-run --json",
                )
        return {tree: tuple(entries.values()) for tree, entries in found.items()}


def parse_selection(names: Iterable[str]) -> Selection:
    """Read components (``artifact``, ``data``) and paths in them (``artifact/weights.bin``).

    Raises:
        InvalidInputError: If a name is neither (``bad-component``).
    """
    components: list[str] = []
    paths: list[str] = []
    for name in names:
        first, _, rest = name.strip("/").partition("/")
        if rest and (_SHORT.get(first, first) in _FOLDERS or first == "pipeline"):
            folder = "code" if first == "pipeline" else _SHORT.get(first, first)
            paths.append(f"{folder}/{rest}")
        elif not rest and first in (*COMPONENTS, *_ALIASES):
            components += _ALIASES.get(first, (first,))
        else:
            raise InvalidInputError(
                f"{name!r} is no component, nor a path in one; the components are"
                f" {', '.join(COMPONENTS)}, and paths start with"
                f" {', '.join(f'{folder}/' for folder in _FOLDERS)}",
                code="bad-component",
                hint="stemma pull REF --only artifact",
            )
    return Selection(components=tuple(dict.fromkeys(components)), paths=tuple(dict.fromkeys(paths)))


def trees_of(manifest: Manifest) -> list[PlacedTree]:
    """Return the trees of a version, in the order of a checkout."""
    return [
        PlacedTree("code", "architecture", manifest.architecture.content),
        PlacedTree("code", "pipeline", manifest.pipeline.content),
        *(
            PlacedTree(f"data/{dataset.name}", "datasets", dataset.content)
            for dataset in manifest.datasets.datasets
        ),
        PlacedTree("artifact", "artifact", manifest.artifact.content),
    ]


def is_under(path: str, folder: str) -> bool:
    """Whether a path is that one or lies in it."""
    return path == folder or path.startswith(f"{folder}/")


def may_hold(folder: str, path: str) -> bool:
    """Whether a path leads into a folder, or holds it."""
    return is_under(path, folder) or is_under(folder, path)


def missing_parts(manifest: Manifest, missing: Collection[Digest]) -> tuple[str, ...]:
    """Return the components, as ``--only`` takes them, to which missing contents belong."""
    return tuple(
        dict.fromkeys(
            "code" if component == "pipeline" else _SHORT.get(component, component)
            for component in COMPONENTS
            if any(it.digest in missing for it in contents_of(manifest, (component,)))
        )
    )
