"""The composition root: settings in, a hub out.

The only module that says which class implements what.  The command line and the SDK
open their hub here, and so will the server.

Example:
    >>> with closing(open_hub()) as hub:  # doctest: +SKIP
    ...     hub.resolve("digits@stable").version
    '1.1.0'
"""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

from stemma.catalog.capture.environment import fit_environment
from stemma.catalog.rebuild import rebuild
from stemma.catalog.releasing import Releaser, read_fix_rows
from stemma.catalog.service import CatalogService
from stemma.db.chunk_index import SqlChunkIndex
from stemma.db.engine import Connection, Database
from stemma.delivery.layout import ServeLayout
from stemma.delivery.server_file import server_lock
from stemma.domain.errors import IntegrityError, NoProjectError, NotFoundError
from stemma.domain.policy import ModelPolicy
from stemma.domain.release import Release
from stemma.hub.base import DoctorReport, Finding, RepairReport, Restored
from stemma.hub.local import LocalHub
from stemma.hub.local_parts import LocalParts
from stemma.hub.local_storage import examine_files
from stemma.server.settings import Settings, load_settings
from stemma.server.settings_files import PROJECT_FILE
from stemma.server.state_folder import STATE_FOLDER
from stemma.store.backends.local import LocalBackend
from stemma.store.index import ChunkLocation, MemoryChunkIndex
from stemma.store.leases import Leases
from stemma.store.locks import StoreLock
from stemma.store.objects import ObjectStore
from stemma.tracking.release_numbers import number_releases
from stemma.tracking.service import RunService

if TYPE_CHECKING:
    from stemma.delivery.parts import DeliveryParts

_REBUILD: Final = "stemma doctor --rebuild"
_PROJECT_VARIABLE: Final = "STEMMA_PROJECT"
_FIRST_SETTINGS: Final = """\
# Settings of this project; `stemma doctor --settings` shows each value and where it came from.
# A model's promises and gates go here, for example:
#
# [model.digits]
# interface = ["predict", "predict_proba"]    # what callers rely on; losing one is a MAJOR change
# [model.digits.gates]
# accuracy = ">= 0.965"
"""


def find_project(start: Path | None = None) -> Path:
    """Return the project's folder: ``STEMMA_PROJECT``, else ``start`` or a folder above it.

    Raises:
        NoProjectError: If there is none.
    """
    named = os.environ.get(_PROJECT_VARIABLE)
    if start is None and named:
        root = Path(named).resolve()
        if (root / STATE_FOLDER).is_dir():
            return root
        raise NoProjectError(
            f"{_PROJECT_VARIABLE} is {named}, which holds no {STATE_FOLDER} folder",
            hint=f"stemma init there, or unset {_PROJECT_VARIABLE}",
        )
    origin = (start or Path.cwd()).resolve()
    for folder in (origin, *origin.parents):
        if (folder / STATE_FOLDER).is_dir():
            return folder
    raise NoProjectError(f"no stemma project in {origin} or above it", hint="stemma init")


def init_project(root: Path) -> bool:
    """Make ``.stemma/`` and ``stemma.toml`` where they are missing; safe to repeat.

    Returns:
        Whether anything was made.
    """
    # A relative folder would make a database URL that SQLite takes for another path.
    root = root.resolve()
    state = root / STATE_FOLDER
    had_state = (state / "objects").is_dir()
    for name in ("objects", "tmp", "journal", "cache", "leases"):
        (state / name).mkdir(parents=True, exist_ok=True)
    (state / ".gitignore").write_text("*\n", encoding="utf-8")
    if not (root / PROJECT_FILE).exists() and not _has_tool_table(root):
        (root / PROJECT_FILE).write_text(_FIRST_SETTINGS, encoding="utf-8")
    settings = load_settings(root)
    had_database = bool(settings.database) or (state / "stemma.db").exists()
    Database.open(database_url(root, settings), may_create=True).close()
    return not (had_state and had_database)


def _has_tool_table(root: Path) -> bool:
    try:
        return "[tool.stemma" in (root / "pyproject.toml").read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return False


def database_url(root: Path, settings: Settings) -> str:
    """Return the database's URL: the one that is set, else SQLite inside ``.stemma``."""
    return settings.database or f"sqlite:///{root / STATE_FOLDER / 'stemma.db'}"


def open_hub(start: Path | None = None) -> LocalHub:
    """Open the project's hub; close it when done.

    Raises:
        NoProjectError: If there is no project here or above.
        IntegrityError: If the database is damaged; ``stemma doctor --rebuild`` mends it.
        InvalidInputError: If a settings file is wrong.
    """
    root = find_project(start)
    settings = load_settings(root)
    state = root / STATE_FOLDER
    database = Database.open(database_url(root, settings), may_create=False)
    clock = partial(datetime.now, UTC)
    objects = ObjectStore(LocalBackend(state / "objects"), SqlChunkIndex(database, ChunkLocation))
    catalog = CatalogService(database, objects, clock=clock, on_release=_number)
    return LocalHub(
        LocalParts(
            root=root,
            user=settings.user,
            models=settings.models,
            objects=objects,
            lock=StoreLock(state),
            leases=Leases(state),
            lock_timeout_seconds=settings.lock_timeout_seconds,
            database=database,
            catalog=catalog,
            releaser=Releaser(
                catalog,
                objects,
                clock=clock,
                fit_environment=fit_environment,
                load_fix_rows=partial(_load_fix_rows, root),
            ),
            runs=RunService(database, clock=clock, journal_folder=state / "journal"),
            clock=clock,
            make_delivery=_DeliveryOnce(),
            may_use_network=settings.may_use_network,
            load_remotes=lambda: load_settings(root).remotes,
        )
    )


def _number(connection: Connection, release: Release) -> None:
    """Let clients that count versions find the release."""
    number_releases(connection, release.model, release.released_at)


@final
class _DeliveryOnce:
    """Composes delivery at its first use: it brings HTTP and process parts few verbs need."""

    def __init__(self) -> None:
        self._made: DeliveryParts | None = None

    def __call__(self, parts: LocalParts) -> DeliveryParts:
        if self._made is None:
            from stemma.server.delivery_wiring import (  # noqa: PLC0415
                compose_delivery,
                delivery_sources,
            )

            self._made = compose_delivery(delivery_sources(parts))
        return self._made


def _load_fix_rows(root: Path, policy: ModelPolicy) -> frozenset[bytes]:
    if not policy.fix_set:
        return frozenset()
    try:
        text = (root / policy.fix_set).read_text(encoding="utf-8")
    except OSError as error:
        raise NotFoundError(
            f"fix set {policy.fix_set} cannot be read: {error.strerror}",
            code="no-fix-set",
            hint="edit `fix_set` in stemma.toml",
        ) from error
    return read_fix_rows(text, policy.fix_set)


def rebuild_project(start: Path | None = None) -> dict[str, int]:
    """Make the database again from the records in the store; works when it is damaged.

    Returns:
        How many rows of each table were made.

    Raises:
        NoProjectError: If there is no project here or above.
        LockedError: If another command is writing.
        ConflictError: If a server of the project runs (``server-running``).
    """
    root = find_project(start)
    settings = load_settings(root)
    state = root / STATE_FOLDER
    with (
        server_lock(ServeLayout(state=state)),
        StoreLock(state).exclusive(timeout_seconds=settings.lock_timeout_seconds),
    ):
        backend = LocalBackend(state / "objects")
        backend.mend()
        made = rebuild(database_url(root, settings), backend)
    hub = open_hub(root)
    try:
        made["curves"] = hub.restore_curves()
    finally:
        hub.close()
    return made


def repair_project(start: Path | None = None) -> RepairReport:
    """Restore what is damaged or missing, objects first, then the rows they stand for.

    Raises:
        NoProjectError: If there is no project here or above.
        ConflictError: If the database must be made again while a server of the project runs.
    """
    root = find_project(start)
    from_records = Restored(what="stemma.db", source="the records")
    made: tuple[Restored, ...] = ()
    try:
        hub = open_hub(root)
    except (IntegrityError, NotFoundError):
        rebuild_project(root)
        made = (from_records,)
        hub = open_hub(root)
    with closing(hub):
        report = hub.repair()
    problems = [finding for finding in report.after.findings if not finding.is_harmless]
    # A row whose record is lost is all that tells of it; only a person may give that up.
    is_lossy = any(finding.kind == "row-without-record" for finding in problems)
    if not is_lossy and any(finding.fix == _REBUILD for finding in problems):
        rebuild_project(root)
        made = (from_records,)
        report = replace(report, after=examine_project(root))
    return replace(report, restored=(*made, *report.restored))


def examine_project(start: Path | None = None) -> DoctorReport:
    """Check objects, rows, database file and pointers; works when the database is damaged.

    Raises:
        NoProjectError: If there is no project here or above.
    """
    root = find_project(start)
    try:
        hub = open_hub(root)
    except (IntegrityError, NotFoundError) as error:
        # The frames' own headers say where chunks are, so objects can be checked without rows.
        objects = ObjectStore(LocalBackend(root / STATE_FOLDER / "objects"), MemoryChunkIndex())
        objects.rebuild_index()
        finding = Finding(kind=error.code, where="stemma.db", detail=error.message, fix=_REBUILD)
        return examine_files(root, objects, [finding], 0)
    try:
        return hub.doctor()
    finally:
        hub.close()
