"""The head snapshot read from the hub, for when there is none or it is stale."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stemma.catalog.pointer_files import SUFFIX, find_pointers
from stemma.catalog.pointers import read_pointer
from stemma.catalog.snapshot import (
    NOT_STORED,
    CandidateHead,
    FileStamp,
    Head,
    ModelHead,
    stamp_file,
    write_head,
)
from stemma.cli.project import look_at_sources, opened_hub
from stemma.cli.version_cards import components
from stemma.cli.versions import load_version
from stemma.domain.errors import NotFoundError, StemmaError
from stemma.domain.run import RunState
from stemma.domain.tree import TreeEntry
from stemma.hub.base import ModelView
from stemma.server.settings import load_settings

if TYPE_CHECKING:
    from stemma.domain.digest import Digest
    from stemma.domain.manifest import Manifest
    from stemma.domain.run import RunRecord
    from stemma.hub.base import Hub

_COMPLETED_VERSIONS: Final = 100
_LOOKED_AT_RUNS: Final = 50


def refresh_head() -> Head:
    """Read the head from the hub and keep it for the next ``status``."""
    with opened_hub() as hub:
        root = hub.project_root.resolve()
        before = look_at_sources(root)
        models = {view.name: _model_head(hub, root, view) for view in _all_models(hub)}
        head = Head(models=models, tracked={}, unreadable={})
        _add_tracked(hub, root, head)
    # Another database leaves no file here whose time would say that the head is stale.
    is_here = not load_settings(root).database
    # A writer between the two looks would make this head stale: then it is not kept.
    if is_here and look_at_sources(root) == before:
        # In a read-only project status works all the same, only slower.
        with contextlib.suppress(OSError):
            write_head(root / ".stemma", head, before)
    return head


def _all_models(hub: Hub) -> list[ModelView]:
    """Return every model, those too of which no run has finished yet."""
    views = {view.name: view for view in hub.list_models()}
    for run in hub.list_runs(limit=_LOOKED_AT_RUNS):
        # What a tracking client logs is of no model until it is released.
        if run.start.model and run.start.model not in views:
            views[run.start.model] = ModelView(
                name=run.start.model, release_count=0, newest="", channels={}, newest_run=run
            )
    return [views[name] for name in sorted(views)]


def _model_head(hub: Hub, root: Path, view: ModelView) -> ModelHead:
    newest = view.newest_run
    head = ModelHead(
        version=view.newest,
        level="",
        run="",
        newest_run=newest.id if newest else "",
        newest_state=newest.state.value if newest else "",
        failure=newest.failure if newest else "",
        channels=view.channels,
        versions=_newest_versions(hub, view),
        python="",
        command=[],
        summaries={},
        files={},
        candidate=None,
    )
    runs = _finished_runs(hub, view.name)
    if view.newest:
        ref = f"{view.name}@{view.newest}"
    elif runs:
        ref = f"{view.name}@{runs[0].id}"
    else:
        return head
    named = hub.resolve(ref)
    manifest = named.manifest
    head["level"] = named.release.level.value if named.release else ""
    head["run"] = manifest.provenance.run
    head["python"] = manifest.environment.python
    head["command"] = list(manifest.pipeline.command)
    try:
        loaded = load_version(hub, ref)
        for name, text in components(loaded.facts, loaded.passed):
            known = head["summaries"].get(name)
            head["summaries"][name] = f"{known}, {text}" if known else text
        head["files"] = _component_files(hub, root, manifest)
    except NotFoundError:
        # What was left on a remote cannot be compared with; anything else is damage.
        if not hub.left_elsewhere(named.digest).contents:
            raise
        return head
    head["candidate"] = _candidate(hub, root, runs, manifest if view.newest else None)
    return head


def _newest_versions(hub: Hub, view: ModelView) -> list[str]:
    if not view.release_count:
        return []
    return [row.version for row in hub.log(view.name, limit=_COMPLETED_VERSIONS)]


def _finished_runs(hub: Hub, model: str) -> list[RunRecord]:
    runs = hub.list_runs(model, limit=_LOOKED_AT_RUNS)
    return [run for run in runs if run.state is RunState.FINISHED and run.manifest is not None]


def _candidate(
    hub: Hub, root: Path, runs: list[RunRecord], released: Manifest | None
) -> CandidateHead | None:
    """Return the newest finished run, unless it is released or the same as the release."""
    if not runs:
        return None
    view = hub.resolve(f"{runs[0].start.model}@{runs[0].id}")
    manifest = view.manifest
    if view.version or (released is not None and manifest.identities == released.identities):
        return None
    files = _component_files(hub, root, manifest)
    return CandidateHead(
        run=runs[0].id,
        python=manifest.environment.python,
        files={name: stamp for part in files.values() for name, stamp in part.items()},
    )


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


def _add_tracked(hub: Hub, root: Path, head: Head) -> None:
    """Fill in what pointers track, and why one cannot be compared."""
    for file in find_pointers(root):
        path = file.with_name(file.name.removesuffix(SUFFIX)).relative_to(root)
        try:
            pointer = read_pointer(file)
            entries = _entries(hub, pointer.content)
        except NotFoundError:
            head["unreadable"][path.as_posix()] = NOT_STORED
        except StemmaError as error:
            head["unreadable"][path.as_posix()] = error.message
        else:
            if pointer.kind == "file":
                # A pointer that was renamed with its file keeps the old name in its tree.
                entries = tuple(replace(entry, path=path.name) for entry in entries)
            base = path if pointer.kind == "folder" else path.parent
            head["tracked"][path.as_posix()] = _stamps(root, base, entries)
