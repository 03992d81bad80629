"""The project that a verb works on: opened late, closed always."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from stemma.catalog.snapshot import Head, Sources, read_head, stamp_sources
from stemma.domain.errors import NoProjectError, StemmaError
from stemma.server.settings_files import settings_files

if TYPE_CHECKING:
    from typing import Protocol

    from stemma.hub.base import Hub
    from stemma.hub.delivery import DeliveryVerbs
    from stemma.hub.local_parts import LocalParts
    from stemma.hub.remotes import RemoteVerbs
    from stemma.hub.tokens import TokenVerbs

    class DeliveryHub(Hub, DeliveryVerbs, Protocol):
        """Every verb on models and storage, and those that move traffic."""

    class RemoteHub(Hub, RemoteVerbs, Protocol):
        """Every verb on models and storage, and those on remotes."""


@contextmanager
def opened_hub() -> Iterator[Hub]:
    """Open the project's hub, and close it at the end.

    Raises:
        NoProjectError: If there is no project here or above.
    """
    # Loaded here: opening costs half a second of imports that --help must not pay.
    wiring = importlib.import_module("stemma.server.wiring")
    hub: Hub = wiring.open_hub()
    try:
        yield hub
    finally:
        hub.close()


@contextmanager
def opened_delivery() -> Iterator[DeliveryHub]:
    """Open the project's hub for the verbs that move traffic, and close it at the end.

    Raises:
        NoProjectError: If there is no project here or above.
    """
    with opened_hub() as hub:
        yield cast("DeliveryHub", hub)


@contextmanager
def opened_remotes() -> Iterator[RemoteHub]:
    """Open the project's hub for the verbs on remotes, and close it at the end.

    Raises:
        NoProjectError: If there is no project here or above.
    """
    with opened_hub() as hub:
        yield cast("RemoteHub", hub)


@contextmanager
def opened_parts() -> Iterator[LocalParts]:
    """Open the project's services for an import or export, and close them at the end.

    Raises:
        NoProjectError: If there is no project here or above.
    """
    # Loaded here: opening costs half a second of imports that --help must not pay.
    wiring = importlib.import_module("stemma.server.wiring")
    with closing(wiring.open_hub()) as hub:
        yield hub.parts


@contextmanager
def opened_tokens() -> Iterator[TokenVerbs]:
    """Open the project's hub for the verbs on tokens, and close it at the end.

    Raises:
        NoProjectError: If there is no project here or above.
    """
    with opened_hub() as hub:
        yield cast("TokenVerbs", hub)


def find_root() -> Path:
    """Find the project without loading the wiring, which costs half a second.

    Raises:
        NoProjectError: If there is no project here or above.
    """
    named = os.environ.get("STEMMA_PROJECT")
    start = Path(named).resolve() if named else Path.cwd()
    for folder in (start,) if named else (start, *start.parents):
        if (folder / ".stemma").is_dir():
            return folder
    raise NoProjectError(f"no stemma project in {start} or above it", hint="stemma init")


def load_head() -> tuple[Path, Head]:
    """Return the project's folder and its head: the snapshot, else read from the hub.

    Raises:
        NoProjectError: If there is no project here or above.
    """
    root = find_root()
    head = None
    if not os.environ.get("STEMMA_DATABASE"):
        head = read_head(root / ".stemma", look_at_sources(root))
    if head is None:
        heads = importlib.import_module("stemma.cli.heads")
        head = heads.refresh_head()
    return root, head


def look_at_sources(root: Path) -> Sources:
    """Look at the files that a head is read from."""
    return stamp_sources(root, settings_files(root, os.environ))


def complete_models(prefix: str) -> Sequence[str]:
    """Return models that begin with ``prefix``; nothing when the project cannot be opened."""
    return [name for name in complete(prefix) if "@" not in name]


def complete(prefix: str) -> Sequence[str]:
    """Return names that begin with ``prefix``; nothing when the project cannot be opened."""
    try:
        _, head = load_head()
    except StemmaError:
        return ()
    names: list[str] = []
    for model, known in head["models"].items():
        names += [model, *(f"{model}@{name}" for name in (*known["channels"], *known["versions"]))]
    return [name for name in names if name.startswith(prefix)]
