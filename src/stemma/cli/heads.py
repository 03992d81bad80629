"""The head snapshot read from the hub, for when there is none or it is stale."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stemma.catalog.pointers import SUFFIX, find_pointers, read_pointer
from stemma.catalog.snapshot import (
    FileStamp,
    Head,
    ModelHead,
    stamp_database,
    stamp_file,
    write_head,
)
from stemma.cli.project import opened_hub
from stemma.cli.version_cards import components
from stemma.cli.versions import load_version
from stemma.domain.errors import StemmaError
from stemma.domain.run import RunState
from stemma.domain.tree import TreeEntry

if TYPE_CHECKING:
    from stemma.domain.digest import Digest
    from stemma.domain.manifest import Manifest
    from stemma.hub.base import Hub, ModelView

_COMPLETED_VERSIONS: Final = 100


def refresh_head(state: Path) -> Head:
    """Read the head from the hub and keep it for the next ``status``."""
    before = stamp_database(state)
    with opened_hub() as hub:
        root = hub.project_root.resolve()
        models = {view.name: _model_head(hub, root, view) for view in hub.list_models()}
        head = Head(models=models, tracked=_tracked(hub, root))
    # A writer between the two stamps would make this head stale: then it is not kept.
    if before and stamp_database(state) == before:
        # In a read-only project status works all the same, only slower.
        with contextlib.suppress(OSError):
            write_head(state, head, before)
    return head


def _model_head(hub: Hub, root: Path, view: ModelView) -> ModelHead:
    newest = view.newest_run
    head = ModelHead(
        version=view.newest,
        level="",
        run="",
        newest_run=(newest.id, newest.state.value) if newest else ("", ""),
        channels=view.channels,
        versions=[row.version for row in hub.log(view.name, limit=_COMPLETED_VERSIONS)],
        python="",
        summaries={},
        files={},
    )
    if view.newest:
        ref = f"{view.name}@{view.newest}"
    elif newest is not None and newest.state is RunState.FINISHED:
        ref = f"{view.name}@{newest.id}"
    else:
        return head
    loaded = load_version(hub, ref)
    manifest = loaded.view.manifest
    head["level"] = loaded.view.release.level.value if loaded.view.release else ""
    head["run"] = manifest.provenance.run
    head["python"] = manifest.environment.python
    head["summaries"] = dict(components(loaded.facts, loaded.passed))
    head["files"] = _component_files(hub, root, manifest)
    return head


def _component_files(hub: Hub, root: Path, manifest: Manifest) -> dict[str, dict[str, FileStamp]]:
    pipeline = _stamps(root, Path(), _entries(hub, manifest.pipeline.content))
    code = _stamps(root, Path(), _entries(hub, manifest.architecture.content))
    data: dict[str, FileStamp] = {}
    for dataset in manifest.datasets.datasets:
        source = _source(root, dataset.source)
        if source is not None:
            base = source if (root / source).is_dir() else source.parent
            data |= _stamps(root, base, _entries(hub, dataset.content))
    return {
        "architecture": {name: stamp for name, stamp in code.items() if name not in pipeline},
        "datasets": data,
        "pipeline": pipeline,
    }


def _source(root: Path, source: str) -> Path | None:
    """Return where a dataset lies in the project; ``None`` when it lies elsewhere."""
    if not source:
        return None
    path = (root / source).resolve()
    if path.is_relative_to(root) and path.exists():
        return path.relative_to(root)
    return None


def _entries(hub: Hub, tree: Digest) -> tuple[TreeEntry, ...]:
    return hub.objects.read_tree(tree).entries


def _stamps(root: Path, base: Path, entries: Iterable[TreeEntry]) -> dict[str, FileStamp]:
    return {
        (base / entry.path).as_posix(): stamp_file(
            root / base / entry.path, entry.size_bytes, entry.digest.hex
        )
        for entry in entries
        if entry.digest is not None
    }


def _tracked(hub: Hub, root: Path) -> dict[str, dict[str, FileStamp]]:
    tracked: dict[str, dict[str, FileStamp]] = {}
    for file in find_pointers(root):
        path = file.with_name(file.name.removesuffix(SUFFIX)).resolve().relative_to(root)
        try:
            pointer = read_pointer(file)
            entries = _entries(hub, pointer.content)
        except StemmaError:
            continue  # damaged pointers are for doctor
        base = path if pointer.kind == "folder" else path.parent
        tracked[path.as_posix()] = _stamps(root, base, entries)
    return tracked
