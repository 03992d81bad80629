"""``stemma check``: may a version ship?"""

from __future__ import annotations

from typing import TypedDict, Unpack

import click

from stemma.cli.console import Answer, Console
from stemma.cli.exit_codes import ExitCode
from stemma.cli.framework import complete_refs, verb
from stemma.cli.project import opened_hub


class _Options(TypedDict):
    ref: str
    is_metadata: bool
    against: str
    beside: str


@verb(
    "check",
    ("May the stable version still ship?", "stemma check digits"),
    ("A run, before it is released", "stemma check digits@r-7f3c"),
    ("Do two models fit one environment?", "stemma check digits --with churn"),
    ("Only required metadata", "stemma check digits@r-7f3c --metadata"),
)
@click.argument("ref", shell_complete=complete_refs)
@click.option("--metadata", "is_metadata", is_flag=True, help="Check metadata only.")
@click.option(
    "--against",
    default="",
    metavar="REF",
    shell_complete=complete_refs,
    help="Also say how many components differ from this version.",
)
@click.option(
    "--with",
    "beside",
    default="",
    metavar="REF",
    shell_complete=complete_refs,
    help="Also check that this version's environment fits together with the other's.",
)
def command(console: Console, **options: Unpack[_Options]) -> ExitCode:
    """Answer whether a version may ship: one table, exit 3 on a no.

    A model without a release yet is checked by its newest run.
    """
    from stemma.cli.cards import check_card, check_rows
    from stemma.cli.plain import plain
    from stemma.hub.base import CheckReport

    with opened_hub() as hub:
        report = hub.check(options["ref"], beside=options["beside"])
        diff = hub.diff(options["against"], report.label) if options["against"] else None
    if options["is_metadata"]:
        results = tuple(item for item in report.results if item.gate.startswith("metadata "))
        report = CheckReport(label=report.label, results=results)
    card = check_card(report)
    payload = {**plain(report), "passed": report.has_passed}
    if diff is not None:
        changed = [item.component for item in diff.components if not item.is_same]
        card.append(f"  against {diff.before}: {', '.join(changed) or 'nothing'} changed")
        payload["against"] = {"ref": diff.before, "changed": changed}
    console.show(Answer(payload=payload, card=card, rows=check_rows(report.results)))
    return ExitCode.DONE if report.has_passed else ExitCode.NO
