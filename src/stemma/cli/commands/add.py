"""``stemma add``: track data sets and files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stemma.cli.console import Answer, Console
from stemma.cli.exit_codes import ExitCode
from stemma.cli.framework import verb
from stemma.cli.project import opened_hub

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stemma.hub.base import Hub


_STATE = frozenset({".stemma", ".git"})
_SHOWN_WARNINGS = 5
_PATH = click.Path(readable=False)
"""What may not be read is told by the store, which names the permissions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Added:
    """What tracking one path did; ``warnings`` name files stored whole though they look known."""

    path: str
    pointer: str
    content: str
    size_bytes: int
    file_count: int
    new_bytes: int
    is_unchanged: bool
    warnings: tuple[str, ...]


@verb(
    "add",
    ("A file", "stemma add data/train.csv"),
    ("A folder; .stemmaignore leaves files out", "stemma add data/images"),
    ("Several, and read the answer in a script", "stemma add train.csv test.csv --json"),
    ("A snapshot of an Iceberg, Lance or Delta table", "stemma add --table lake/sales"),
)
@click.argument("paths", metavar="PATH…", nargs=-1, required=True, type=_PATH)
@click.option(
    "--table",
    "is_table",
    is_flag=True,
    help="PATH is an Iceberg, Lance or Delta table: pin a snapshot in NAME.table.json.",
)
@click.option(
    "--snapshot", default="", metavar="ID", help="With --table: which one (default: the newest)."
)
def command(console: Console, *, paths: tuple[str, ...], is_table: bool, snapshot: str) -> ExitCode:
    """Store data sets and files; PATH.stemma stands for them in git."""
    if snapshot and (not is_table or len(paths) > 1):
        raise click.UsageError(
            "--snapshot needs --table and one PATH", ctx=click.get_current_context()
        )
    with opened_hub() as hub:
        if is_table:
            from stemma.cli.tables import pin_tables, pinned_answer

            console.show(pinned_answer(pin_tables(hub, list(paths), snapshot)))
            return ExitCode.DONE
        added = [_add(console, hub, Path(path)) for path in paths]
    console.show(
        Answer(
            payload=[_payload(item) for item in added],
            card=[_line(item) for item in added],
            hints=[line for item in added for line in _warned(item)],
        )
    )
    return ExitCode.DONE


def _add(console: Console, hub: Hub, path: Path) -> _Added:
    import time

    from stemma.catalog import stat_cache
    from stemma.catalog.pointers import Pointer, ignore_in_git, pointer_path, write_pointer
    from stemma.cli.progress import progress
    from stemma.domain.errors import NotFoundError

    tracked = _inside(hub, path)
    if not tracked.exists():
        raise NotFoundError(f"no {path}", code="file-not-found", hint=f"ls {path.parent}")
    base, files = _files(tracked)
    state = hub.project_root / ".stemma"
    seen = stat_cache.survey(state, base, list(files), now_ns=time.time_ns())
    with hub.writing():
        with progress(console, f"adding {path}", seen.unread_bytes) as reporter:
            tree = stat_cache.store(hub.objects, seen, reporter.advance)
            reporter.meter.saved_bytes = seen.unread_bytes - tree.new_bytes
        hub.track(tracked.relative_to(hub.project_root.resolve()).as_posix(), tree.digest)
    single = tree.entries[0].digest if tracked.is_file() else None
    sha256 = hub.objects.sha256(single) if single is not None else None
    pointer = Pointer(
        kind="file" if tracked.is_file() else "folder",
        size_bytes=tree.size_bytes,
        content=tree.digest,
        sha256=sha256,
    )
    is_unchanged = _is_same(pointer_path(tracked), pointer)
    written = write_pointer(tracked, pointer)
    ignore_in_git(tracked)
    return _Added(
        path=str(path),
        pointer=str(written),
        content=str(tree.digest),
        size_bytes=tree.size_bytes,
        file_count=tree.file_count,
        new_bytes=tree.new_bytes,
        is_unchanged=is_unchanged,
        warnings=tree.warnings,
    )


def _inside(hub: Hub, path: Path) -> Path:
    """Return the absolute path, links in its folder resolved.

    Raises:
        InvalidInputError: If it lies outside of the project, or belongs to git or Stemma.
    """
    from stemma.domain.errors import InvalidInputError

    absolute = path.parent.resolve() / path.name if path.name not in {"", ".."} else path.resolve()
    root = hub.project_root.resolve()
    if not absolute.is_relative_to(root) or absolute == root:
        raise InvalidInputError(
            f"{path} is not inside the project {root}",
            code="outside-project",
            hint=f"copy it to {root}",
        )
    kept_out = next((word for word in (absolute.relative_to(root)).parts if word in _STATE), "")
    if kept_out or absolute.suffix in _STATE:
        raise InvalidInputError(
            f"{path} belongs to {kept_out.lstrip('.') or 'stemma'} itself and is not tracked",
            code="own-file",
            hint=f"ls {root}",
        )
    if absolute.is_symlink():
        raise InvalidInputError(
            f"{path} is a link; track what it points to",
            code="is-link",
            hint=f"stemma add {absolute.resolve()}",
        )
    return absolute


def _files(tracked: Path) -> tuple[Path, Mapping[str, Path]]:
    from stemma.catalog.capture.ignore import list_folder

    if tracked.is_dir():
        return tracked, list_folder(tracked).files
    return tracked.parent, {tracked.name: tracked}


def _is_same(pointer_file: Path, pointer: object) -> bool:
    from stemma.catalog.pointers import read_pointer
    from stemma.domain.errors import StemmaError

    try:
        return read_pointer(pointer_file) == pointer
    except StemmaError:
        return False


def _line(item: _Added) -> str:
    from stemma.cli import render

    what = f"{render.count(item.file_count, 'file')}, {render.size(item.size_bytes)}"
    if item.is_unchanged:
        return f"{render.NOTED} {item.path} unchanged   {what}"
    saved = item.size_bytes - item.new_bytes
    extra = f", {render.size(saved)} stored already" if saved > 0 else ""
    return f"{render.DONE} {item.path}   {what}{extra}   pointer {Path(item.pointer).name}"


def _warned(item: _Added) -> list[str]:
    """Return a line for each of the first files that are not what they look like."""
    lines = [f"warning: {warning}" for warning in item.warnings[:_SHOWN_WARNINGS]]
    left = len(item.warnings) - len(lines)
    return [*lines, f"warning: and {left} more; --json shows all"] if left else lines


def _payload(item: _Added) -> dict[str, object]:
    from dataclasses import asdict

    return asdict(item)
