"""``stemma gc``: free what nothing reaches, by way of a trash; bring it back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from stemma.cli.console import Answer, Console
from stemma.cli.exit_codes import ExitCode
from stemma.cli.framework import verb
from stemma.cli.project import opened_hub

if TYPE_CHECKING:
    from datetime import datetime

    from stemma.hub.base import Hub
    from stemma.store.gc import GcReport
    from stemma.store.trash import TrashHolding


@verb(
    "gc",
    ("What would go, and why", "stemma gc --dry-run"),
    ("Move it to the trash without asking", "stemma gc --yes"),
    ("Spare what is younger than an hour", "stemma gc --grace 3600 --yes"),
    ("Bring back what went to the trash", "stemma gc --restore"),
    ("Only what went today", "stemma gc --restore --since 2026-11-23"),
    ("What deleted runs hold, too", "stemma gc --deleted-runs now --dry-run"),
    ("Free the disk at once, the trash too", "stemma gc --empty-trash --yes"),
)
@click.option("--dry-run", "is_dry_run", is_flag=True, help="Only say what would happen and why.")
@click.option(
    "--grace",
    "grace_seconds",
    type=click.IntRange(min=0),
    metavar="SECONDS",
    help="Keep what is younger than this (default: the setting gc_grace_seconds, a day).",
)
@click.option("-y", "--yes", "is_sure", is_flag=True, help="Do not ask.")
@click.option("--restore", "is_restore", is_flag=True, help="Bring back what is in the trash.")
@click.option(
    "--since", metavar="MOMENT", help="With --restore: only what went to the trash since then."
)
@click.option(
    "--deleted-runs",
    "deleted_days",
    metavar="DAYS",
    help="Forget runs and logged models that were deleted longer ago than this, or `now`"
    " (default: the setting gc_deleted_seconds, 30 days).",
)
@click.option(
    "--empty-trash", "is_final", is_flag=True, help="Free at once what goes, and the trash."
)
def command(console: Console, **options: Any) -> ExitCode:
    """Move to the trash what no release, channel, recent run or tracked file reaches.

    The trash keeps it for a week (the setting gc_trash_seconds); a later gc frees it then.
    """
    is_restore, since = options["is_restore"], options["since"]
    if since is not None and not is_restore:
        raise click.UsageError("--since goes with --restore")
    options["deleted_seconds"] = _seconds_of(options.pop("deleted_days"))
    if is_restore and options["is_final"]:
        raise click.UsageError("--restore and --empty-trash contradict each other")
    with opened_hub() as hub:
        if is_restore:
            console.show(_restore(hub, since, is_dry_run=options["is_dry_run"]))
        else:
            console.show(_collect(console, hub, options))
    return ExitCode.DONE


def _collect(console: Console, hub: Hub, options: dict[str, Any]) -> Answer:
    """Collect, after a look at what would go and the user's consent."""
    from stemma.cli.plain import plain
    from stemma.domain.errors import InvalidInputError
    from stemma.server.settings import load_settings

    settings = load_settings(hub.project_root)
    grace, is_final = options["grace_seconds"], options["is_final"]
    deleted = options["deleted_seconds"]
    asked = {
        "grace_seconds": settings.gc_grace_seconds if grace is None else grace,
        "trash_seconds": settings.gc_trash_seconds,
        "deleted_seconds": settings.gc_deleted_seconds if deleted is None else deleted,
        "is_final": is_final,
    }
    report = hub.collect_garbage(is_dry_run=True, **asked)
    is_needed = bool(report.removed or report.expired.count or report.forgotten)
    is_real = not options["is_dry_run"] and is_needed
    # What goes for good because its time is over was in the trash for a week: no question.
    is_asked = bool(report.removed or report.forgotten or is_final)
    if is_real and not options["is_sure"] and is_asked:
        if not console.is_interactive:
            raise InvalidInputError(
                f"gc would {_summary(report)} and cannot ask here",
                code="needs-yes",
                hint="stemma gc --empty-trash --yes" if is_final else "stemma gc --yes",
            )
        click.confirm(f"would {_summary(report)}; go on?", abort=True, err=True)
    if is_real:
        report = hub.collect_garbage(is_dry_run=False, **asked)
    return Answer(
        payload={**plain(report), "dry_run": options["is_dry_run"]},
        card=_card(report, is_done=not options["is_dry_run"]),
        rows=[
            [item.key, str(item.size_bytes), item.reason]
            for item in (*report.forgotten, *report.removed)
        ],
    )


def _seconds_of(days: str | None) -> int | None:
    """Return the seconds of a number of days; `now` is none."""
    if days is None or days == "now":
        return None if days is None else 0
    if not days.isascii() or not days.isdecimal():
        raise click.UsageError("--deleted-runs takes a number of days, or now")
    return int(days) * 24 * 60 * 60


def _summary(report: GcReport) -> str:
    """Say what is done with how much, as after `would`."""
    from stemma.cli import render

    what = f"{render.count(len(report.removed), 'object')}, {render.size(report.freed_bytes)}"
    text = f"remove {what}, for good" if report.is_final else f"move to the trash: {what}"
    if report.forgotten:
        text = f"forget {render.count(len(report.forgotten), 'deleted run or model')}, and {text}"
    return text + (f", and free {_amount(report.expired)} of the trash" if _expires(report) else "")


def _expires(report: GcReport) -> bool:
    return report.expired.count > 0


def _amount(holding: TrashHolding) -> str:
    from stemma.cli import render

    return f"{render.count(holding.count, 'object')}, {render.size(holding.size_bytes)},"


def _card(report: GcReport, *, is_done: bool) -> list[str]:
    from stemma.cli import render
    from stemma.cli.trash_cards import trash_line

    mark = render.DONE if is_done else render.NOTED
    if report.removed:
        lines = [f"{mark} {_did(report, is_done=is_done)}; {report.kept:,} kept"]
    else:
        kept = render.count(report.kept, "object")
        lines = [f"{render.NOTED} nothing to remove; {kept} kept"]
    reasons: dict[str, list[int]] = {}
    for item in report.removed:
        reasons.setdefault(item.reason, []).append(item.size_bytes)
    rows = [[f"{len(sizes):,}", render.size(sum(sizes)), why] for why, sizes in reasons.items()]
    lines += render.table(rows, indent=2)
    lines += [
        f"  {'forgot' if is_done else 'would forget'} {item.key}"
        f" ({render.size(item.size_bytes)} of artifacts): {item.reason}"
        for item in report.forgotten
    ]
    if _expires(report):
        why = "" if report.is_final else " whose time there is over"
        done = "freed" if is_done else "would free"
        lines.append(f"  {done} {_amount(report.expired)} of the trash{why}")
    if is_done and report.trash.count:
        lines.append(f"  {trash_line(report.trash)}")
    return lines


def _did(report: GcReport, *, is_done: bool) -> str:
    from stemma.cli import render

    what = f"{render.count(len(report.removed), 'object')}, {render.size(report.freed_bytes)}"
    if report.is_final:
        return f"{'removed' if is_done else 'would remove'} {what}"
    return f"{'moved' if is_done else 'would move'} to the trash: {what}"


def _restore(hub: Hub, since: str | None, *, is_dry_run: bool) -> Answer:
    """Bring back what is in the trash."""
    from stemma.cli import render
    from stemma.cli.plain import plain

    moment = None if since is None else _start_of(since)
    report = hub.restore_garbage(since=moment, is_dry_run=is_dry_run)
    size_bytes = sum(blob.size_bytes for blob in report.restored)
    what = f"{render.count(len(report.restored), 'object')}, {render.size(size_bytes)}"
    mark = render.NOTED if is_dry_run or not report.restored else render.DONE
    did = "would bring back" if is_dry_run else "brought back"
    text = f"{did} {what}" if report.restored else "nothing to bring back from the trash"
    hints = [f"  {render.REFUSED} damaged, left in the trash: {key}" for key in report.damaged]
    if report.records and not is_dry_run:
        hints.append("  next: release what you need, or raise expiry_days; gc takes it again else")
    return Answer(
        payload={**plain(report), "dry_run": is_dry_run},
        card=[f"{mark} {text}"],
        rows=[[blob.key, str(blob.size_bytes), "restored"] for blob in report.restored]
        + [[key, "", "damaged"] for key in report.damaged],
        hints=hints,
    )


def _start_of(text: str) -> datetime:
    """Read a moment; a date is its start."""
    from datetime import timedelta

    from stemma.cli.commands.log import parse_moment

    moment = parse_moment(text)
    if len(text) > len("2026-05-03"):
        return moment
    return moment - timedelta(days=1) + timedelta(microseconds=1)
