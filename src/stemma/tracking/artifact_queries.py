"""All the SQL of artifacts.

Invariants:
    * Every row that is returned matched its digest; every row that is written is sealed.
    * What is below a folder is one range of the key: both engines sort paths by their bytes.
    * A function takes the connection of its caller's transaction and opens none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import BindParameter, Connection, Row, bindparam, delete, null, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from stemma.db.rows import Value, check, check_all, seal
from stemma.db.tables import runs
from stemma.db.tracking_tables import artifacts, logged_models, traces
from stemma.domain.artifact import Artifact
from stemma.domain.canonical import timestamp
from stemma.domain.digest import Digest

_AFTER_SLASH: Final = "0"
"""The character after ``/``: what begins with ``a/`` stands before ``a0``."""

_PAGE_ROWS: Final = 512
_BATCH_SIZE: Final = 500
_RELATED_MODELS: Final = 8
_OWNER: Final[BindParameter[str]] = bindparam("of_owner")
_FIND: Final = select(artifacts).where(
    artifacts.c.owner == _OWNER, artifacts.c.path == bindparam("at_path")
)
_PAGE: Final = (
    select(artifacts)
    .where(
        artifacts.c.owner == _OWNER,
        artifacts.c.path >= bindparam("low"),
        artifacts.c.path < bindparam("high"),
    )
    .order_by(artifacts.c.path)
    .limit(_PAGE_ROWS)
)
_ROOT_PAGE: Final = (
    select(artifacts)
    .where(artifacts.c.owner == _OWNER, artifacts.c.path >= bindparam("low"))
    .order_by(artifacts.c.path)
    .limit(_PAGE_ROWS)
)
_IN_THE_WAY: Final = (
    select(artifacts.c.path)
    .where(
        artifacts.c.owner == _OWNER,
        or_(
            artifacts.c.path.in_(bindparam("above", expanding=True)),
            (artifacts.c.path >= bindparam("low")) & (artifacts.c.path < bindparam("high")),
        ),
    )
    .limit(1)
)
_DELETE: Final = delete(artifacts).where(
    artifacts.c.owner == _OWNER,
    or_(
        artifacts.c.path == bindparam("at_path"),
        (artifacts.c.path >= bindparam("low")) & (artifacts.c.path < bindparam("high")),
    ),
)
_RUN: Final = select(runs.c.experiment, runs.c.deleted_at, runs.c.manifest).where(
    runs.c.id == _OWNER
)
_MODEL: Final = select(
    logged_models.c.experiment, logged_models.c.deleted_at, logged_models.c.state
).where(logged_models.c.id == _OWNER)
_TRACE: Final = select(traces.c.experiment, null().label("deleted_at")).where(traces.c.id == _OWNER)
_EXPERIMENT_OF: Final = (
    select(logged_models.c.experiment).where(logged_models.c.id == _OWNER).scalar_subquery()
)
_LATEST_MODELS: Final = (
    select(logged_models.c.id, logged_models.c.created_at)
    .where(logged_models.c.experiment == _EXPERIMENT_OF, logged_models.c.id != _OWNER)
    .order_by(logged_models.c.created_at.desc(), logged_models.c.id.desc())
    .limit(_RELATED_MODELS)
    .subquery()
)
_RELATED: Final = (
    select(artifacts.c.file)
    .join(_LATEST_MODELS, _LATEST_MODELS.c.id == artifacts.c.owner)
    .where(artifacts.c.path == bindparam("at_path"))
    .order_by(_LATEST_MODELS.c.created_at.desc())
)
_KEPT_COLUMNS: Final = ("file", "size_bytes", "stored_at", "row_digest")
_UPSERTS: Final = {
    name: made.on_conflict_do_update(
        index_elements=["owner", "path"],
        set_={column: made.excluded[column] for column in _KEPT_COLUMNS},
    )
    for name, made in (
        ("sqlite", sqlite.insert(artifacts)),
        ("postgresql", postgresql.insert(artifacts)),
    )
}


def find(connection: Connection, owner: str, path: str) -> Artifact | None:
    """Return a file."""
    row = connection.execute(_FIND, {"of_owner": owner, "at_path": path}).one_or_none()
    return None if row is None else _artifact(check(artifacts, row))


def upsert(connection: Connection, artifact: Artifact, now: datetime) -> None:
    """Write the row of a file, in the place of one with its path."""
    row: dict[str, Value] = {
        "owner": artifact.owner,
        "path": artifact.path,
        "file": str(artifact.file),
        "size_bytes": artifact.size_bytes,
        "stored_at": timestamp(now),
    }
    connection.execute(_UPSERTS[connection.dialect.name], seal(artifacts, row))


def remove(connection: Connection, owner: str, path: str) -> int:
    """Remove a file, or all that is below a folder; returns how many."""
    return connection.execute(
        _DELETE, {"of_owner": owner, "at_path": path, **_below(path)}
    ).rowcount


def in_the_way(connection: Connection, owner: str, path: str) -> str | None:
    """Return a file where ``path`` needs a folder, or the first one below it."""
    names = path.split("/")
    above = ["/".join(names[:count]) for count in range(1, len(names))]
    found = connection.execute(_IN_THE_WAY, {"of_owner": owner, "above": above, **_below(path)})
    return found.scalar_one_or_none()


def page(connection: Connection, owner: str, folder: str, start: str) -> list[Artifact]:
    """Return the next files below a folder from ``start`` on, by path; fewer are the last."""
    bounds = {"of_owner": owner, "low": start}
    if folder:
        below = _below(folder)
        bounds |= {"low": max(start, below["low"]), "high": below["high"]}
    rows = connection.execute(_PAGE if folder else _ROOT_PAGE, bounds)
    return [_artifact(row) for row in check_all(artifacts, rows)]


def is_full(rows: Sequence[Artifact]) -> bool:
    """Whether more may follow a page."""
    return len(rows) == _PAGE_ROWS


def past(folder: str) -> str:
    """Return the first text that stands after all that is below a folder."""
    return folder + _AFTER_SLASH


def find_run(connection: Connection, run: str) -> Row[Any, Any, Any] | None:
    """Return experiment, moment of deletion and manifest of a run."""
    return connection.execute(_RUN, {"of_owner": run}).one_or_none()


def find_model(connection: Connection, model: str) -> Row[Any, Any, Any] | None:
    """Return experiment, moment of deletion and state of a logged model."""
    return connection.execute(_MODEL, {"of_owner": model}).one_or_none()


def find_trace(connection: Connection, trace: str) -> Row[Any, Any] | None:
    """Return experiment of a trace, and no moment of deletion: a deleted one is gone."""
    return connection.execute(_TRACE, {"of_owner": trace}).one_or_none()


def related(connection: Connection, owner: str, path: str) -> list[Digest]:
    """Return the files at this path of the latest logged models beside this one."""
    found = connection.execute(_RELATED, {"of_owner": owner, "at_path": path}).scalars()
    return [Digest.parse(file) for file in dict.fromkeys(found)]


def every_file(connection: Connection, without: Iterable[str]) -> Iterator[Row[Any, Any, Any]]:
    """Yield owner, path and file of every row, except those of some owners."""
    left_out = frozenset(without)
    query = select(artifacts.c.owner, artifacts.c.path, artifacts.c.file)
    for row in connection.execute(query.execution_options(yield_per=1000)):
        if row.owner not in left_out:
            yield row


def _artifact(row: Row[Any]) -> Artifact:
    return Artifact(
        owner=row.owner, path=row.path, file=Digest.parse(row.file), size_bytes=row.size_bytes
    )


def _below(folder: str) -> dict[str, str]:
    return {"low": f"{folder}/", "high": past(folder)}
