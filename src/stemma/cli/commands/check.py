"""``stemma check``: may a version ship?"""

from __future__ import annotations

from dataclasses import replace
from typing import TypedDict, Unpack

import click

from stemma.cli.console import Answer, Console
from stemma.cli.exit_codes import ExitCode
from stemma.cli.framework import complete_refs, verb
from stemma.cli.project import opened_delivery, opened_hub


class _Options(TypedDict):
    ref: str
    is_metadata: bool
    against: str
    beside: str
    is_staging: bool
    requests_path: str | None
    seconds: float | None
    rate: float | None


@verb(
    "check",
    ("May the stable version still ship?", "stemma check digits"),
    ("A run, before it is released", "stemma check digits@r-7f3c"),
    ("Do two models fit one environment?", "stemma check digits --with churn"),
    ("Only required metadata", "stemma check digits@r-7f3c --metadata"),
    ("Started and tried as production would", "stemma check digits@1.1.0 --staging"),
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
@click.option(
    "--staging",
    "is_staging",
    is_flag=True,
    help="Start it on an idle slot with production's configuration and replay requests.",
)
@click.option(
    "--requests",
    "requests_path",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="With --staging: requests to replay, JSON lines (default: recorded, else golden ones).",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    help="With --staging: how long to send requests (default 10).",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    help="With --staging: requests per second (default: production's, else 50).",
)
def command(console: Console, **options: Unpack[_Options]) -> ExitCode:
    """Answer whether a version may ship: one table, exit 3 on a no.

    A model without a release yet is checked by its newest run.
    """
    _check_options(options)
    return _staging(console, options) if options["is_staging"] else _check(console, options)


def _check_options(options: _Options) -> None:
    """Refuse options of one kind of check with the other."""
    context = click.get_current_context()
    of_staging = options["requests_path"] or options["seconds"] or options["rate"]
    of_metadata = options["is_metadata"] or options["against"] or options["beside"]
    if of_staging and not options["is_staging"]:
        raise click.UsageError("--requests, --seconds and --rate need --staging", ctx=context)
    if of_metadata and options["is_staging"]:
        raise click.UsageError(
            "--staging checks all there is; leave --metadata, --against and --with out",
            ctx=context,
        )


def _staging(console: Console, options: _Options) -> ExitCode:
    from stemma.cli.cards import check_rows
    from stemma.cli.plain import plain
    from stemma.cli.staging_cards import staging_card
    from stemma.cli.telling import telling
    from stemma.hub.delivery import StagingRequest

    request = StagingRequest(ref=options["ref"], requests_path=options["requests_path"] or "")
    seconds = options["seconds"] or request.seconds
    rate = options["rate"] or request.rate_per_second
    request = replace(request, seconds=seconds, rate_per_second=rate)
    with opened_delivery() as hub, telling(console) as told:
        report = hub.validate(request, told)
    console.show(
        Answer(
            payload={**plain(report), "passed": report.has_passed},
            card=staging_card(report),
            rows=check_rows(report.results),
        )
    )
    return ExitCode.DONE if report.has_passed else ExitCode.NO


def _check(console: Console, options: _Options) -> ExitCode:
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
