"""``stemma pull``: copy releases and channels from a remote."""

from __future__ import annotations

import click

from stemma.cli.console import Console
from stemma.cli.exit_codes import ExitCode
from stemma.cli.framework import complete_refs, verb
from stemma.cli.project import opened_remotes


@verb(
    "pull",
    ("Everything, from the only remote or origin", "stemma pull"),
    ("All versions of one model, from a remote by name", "stemma pull digits backup"),
    ("The files of one version, the names of all", "stemma pull digits@1.1.0"),
    ("The model files alone", "stemma pull digits@stable --only artifact"),
    ("Mend what is damaged or missing here", "stemma pull --repair"),
)
@click.argument("ref", default="", shell_complete=complete_refs)
@click.argument("remote", default="")
@click.option(
    "--only",
    default="",
    metavar="COMPONENTS",
    help="Components to fetch, with commas between (default: all), e.g. artifact,environment.",
)
@click.option("--dry-run", "is_dry_run", is_flag=True, help="Only say what would be fetched.")
@click.option(
    "--repair",
    "is_repair",
    is_flag=True,
    help="Read what is here of it, and replace what is damaged or missing.",
)
def command(
    console: Console, *, ref: str, remote: str, only: str, is_dry_run: bool, is_repair: bool
) -> ExitCode:
    """Copy releases with all they need, and channels, from a remote; verified before stored.

    Exits 12 when the remote went another way, 1 when something there is damaged or missing.
    """
    from stemma.cli.progress import progress
    from stemma.cli.transfer_cards import Telling, answer, exit_code
    from stemma.hub.remotes import TransferRequest

    with opened_remotes() as hub:
        names = {known.name for known in hub.list_remotes()}
        if ref in names and not remote:
            ref, remote = "", ref
        request = TransferRequest(
            ref=ref,
            remote=remote,
            only=tuple(word.strip() for word in only.split(",") if word.strip()),
            is_dry_run=is_dry_run,
            is_repair=is_repair,
        )
        with progress(console, "pulling") as reporter:
            outcome = hub.pull(request, Telling(reporter))
    console.show(answer(outcome, "pulled from", "would pull from"))
    return exit_code(outcome)
