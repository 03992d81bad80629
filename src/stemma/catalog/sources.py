"""The source texts of a version, for diffs and for judging what an edit really changed."""

from __future__ import annotations

from stemma.catalog.capture.code import is_equal_but_for_hyperparameters
from stemma.catalog.diff import Sources, changed_hyperparameters
from stemma.domain.digest import Digest
from stemma.domain.facts import VersionFacts
from stemma.domain.tree import EntryKind
from stemma.store.objects import ObjectStore

_LARGEST_TEXT_BYTES = 2 * 1024 * 1024


def load_sources(objects: ObjectStore, facts: VersionFacts) -> Sources:
    """Return every text file of the version's code and pipeline, by path."""
    manifest = facts.manifest
    texts = _texts(objects, manifest.architecture.content)
    texts.update(_texts(objects, manifest.pipeline.content))
    return Sources(texts=texts)


def is_source_equal(objects: ObjectStore, before: VersionFacts, after: VersionFacts) -> bool:
    """Whether the pipelines' files differ in nothing but values of changed hyperparameters."""
    left, right = before.manifest.pipeline, after.manifest.pipeline
    if (left.command, left.stages, left.script) != (right.command, right.stages, right.script):
        return False
    old, new = _texts(objects, left.content), _texts(objects, right.content)
    if old.keys() != new.keys():
        return False
    names = {name.rpartition("__")[2] for name in changed_hyperparameters(before, after)}
    return all(
        old[path] == new[path] or is_equal_but_for_hyperparameters(old[path], new[path], names)
        for path in old
    )


def _texts(objects: ObjectStore, tree: Digest) -> dict[str, str]:
    texts: dict[str, str] = {}
    for entry in objects.read_tree(tree).entries:
        if entry.kind is EntryKind.SYMLINK or entry.digest is None:
            continue
        if entry.size_bytes > _LARGEST_TEXT_BYTES:
            texts[entry.path] = f"(not shown: {entry.size_bytes} bytes, {entry.digest})"
            continue
        data = objects.read_bytes(entry.digest)
        texts[entry.path] = data.decode("utf-8", errors="replace")
    return texts
