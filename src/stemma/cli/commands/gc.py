"""``stemma gc``: free what nothing reaches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from stemma.cli.console import Answer, Console
from stemma.cli.exit_codes import ExitCode
from stemma.cli.framework import verb
from stemma.cli.project import opened_hub

if TYPE_CHECKING:
    from stemma.store.gc import GcReport


@verb(
    "gc",
    ("What would go, and why", "stemma gc --dry-run"),
    ("Free it without asking", "stemma gc --yes"),
    ("Spare what is younger than an hour", "stemma gc --grace 3600 --yes"),
)
@click.option("--dry-run", "is_dry_run", is_flag=True, help="Only say what would go and why.")
@click.option(
    "--grace",
    "grace_seconds",
    type=click.IntRange(min=0),
    metavar="SECONDS",
    help="Keep what is younger than this (default: the setting gc_grace_seconds, a day).",
)
@click.option("-y", "--yes", "is_sure", is_flag=True, help="Do not ask.")
def command(
    console: Console, *, is_dry_run: bool, grace_seconds: int | None, is_sure: bool
) -> ExitCode:
    """Free what no release, channel, recent run or tracked file reaches."""
    from stemma.cli.plain import plain
    from stemma.domain.errors import InvalidInputError
    from stemma.server.settings import load_settings

    with opened_hub() as hub:
        grace = grace_seconds
        if grace is None:
            grace = load_settings(hub.project_root).gc_grace_seconds
        report = hub.collect_garbage(is_dry_run=True, grace_seconds=grace)
        is_real = not is_dry_run and bool(report.removed)
        if is_real and not is_sure:
            if not console.is_interactive:
                raise InvalidInputError(
                    f"gc would remove {len(report.removed):,} objects and cannot ask here",
                    code="needs-yes",
                    hint="stemma gc --yes",
                )
            click.confirm(_summary(report, is_done=False) + "; go on?", abort=True, err=True)
        if is_real:
            report = hub.collect_garbage(is_dry_run=False, grace_seconds=grace)
    console.show(
        Answer(
            payload={**plain(report), "dry_run": is_dry_run},
            card=_card(report, is_done=not is_dry_run),
            rows=[[item.key, str(item.size_bytes), item.reason] for item in report.removed],
        )
    )
    return ExitCode.DONE


def _summary(report: GcReport, *, is_done: bool) -> str:
    from stemma.cli import render

    what = render.count(len(report.removed), "object")
    verb_text = "removed" if is_done else "would remove"
    return f"{verb_text} {what}, {render.size(report.freed_bytes)}; {report.kept:,} kept"


def _card(report: GcReport, *, is_done: bool) -> list[str]:
    from stemma.cli import render

    mark = render.DONE if is_done else render.NOTED
    if not report.removed:
        return [f"{render.NOTED} nothing to remove; {render.count(report.kept, 'object')} kept"]
    reasons: dict[str, list[int]] = {}
    for item in report.removed:
        reasons.setdefault(item.reason, []).append(item.size_bytes)
    return [
        f"{mark} {_summary(report, is_done=is_done)}",
        *render.table(
            [[f"{len(sizes):,}", render.size(sum(sizes)), why] for why, sizes in reasons.items()],
            indent=2,
        ),
    ]
