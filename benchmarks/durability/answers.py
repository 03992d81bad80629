"""What every reading verb answers in a project, as plain values that can be compared.

Each reading that raises one of our errors answers ``refused``: an error is a right answer
about damaged bytes, another value never is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Final

from stemma.catalog.pointers import read_pointer
from stemma.domain.digest import Digest
from stemma.domain.errors import StemmaError
from stemma.hub.base import Hub
from stemma.server.wiring import open_hub

REFUSED: Final = "refused"
Reading = tuple[str, Callable[[], object]]


def answers(root: Path, refs: list[str], pointers: list[Path]) -> dict[str, str]:
    """Return the answer of every reading verb by its name, hashed."""
    found = {
        f"pointer {path.name}": _ask(lambda path=path: read_pointer(path)) for path in pointers
    }
    try:
        hub = open_hub(root)
    except StemmaError:
        return found
    with closing(hub):
        for name, reading in _readings(hub, refs):
            found[name] = _ask(reading)
    return found


def differing(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Name every reading that answers something else than before, without an error."""
    return [name for name, answer in after.items() if answer not in {before[name], REFUSED}]


def _ask(reading: Callable[[], object]) -> str:
    try:
        answer = reading()
    except StemmaError:
        return REFUSED
    return hashlib.sha256(repr(answer).encode()).hexdigest()


def _readings(hub: Hub, refs: list[str]) -> Iterator[Reading]:
    models = sorted({ref.partition("@")[0] for ref in refs})
    yield "models", hub.list_models
    yield "runs", lambda: hub.list_runs(limit=1000)
    yield "completions", lambda: [hub.completions(f"{model}@") for model in models]
    for model in models:
        yield f"log {model}", lambda model=model: hub.log(model, limit=1000)
        yield f"history {model}", lambda model=model: hub.channel_history(model, "stable")
    for ref in refs:
        yield f"resolve {ref}", lambda ref=ref: hub.resolve(ref)
        yield f"facts {ref}", lambda ref=ref: repr(hub.facts(hub.resolve(ref)))
        yield f"files {ref}", lambda ref=ref: _files(hub, ref)
        yield f"check {ref}", lambda ref=ref: hub.check(ref)
        yield f"curve {ref}", lambda ref=ref: _curve(hub, ref)
    for before, after in pairwise(refs):
        yield (
            f"diff {before} {after}",
            lambda before=before, after=after: repr(hub.diff(before, after)),
        )


def _curve(hub: Hub, ref: str) -> object:
    return hub.curve(hub.get_run(hub.resolve(ref).manifest.provenance.run).id, "loss")


def _files(hub: Hub, ref: str) -> object:
    """Return the bytes of every file of every tree of a version, hashed."""
    manifest = hub.resolve(ref).manifest
    trees = [
        manifest.artifact.content,
        manifest.architecture.content,
        manifest.pipeline.content,
        *(dataset.content for dataset in manifest.datasets.datasets),
    ]
    return [_tree(hub, tree) for tree in trees]


def _tree(hub: Hub, tree: Digest) -> object:
    return [
        (
            entry.path,
            entry.digest and hashlib.sha256(hub.objects.read_bytes(entry.digest)).hexdigest(),
        )
        for entry in hub.objects.read_tree(tree).entries
    ]
