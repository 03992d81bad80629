"""``stemma push``: copy releases and channels to a remote."""

from __future__ import annotations

import click

from stemma.cli.console import Console
from stemma.cli.exit_codes import ExitCode
from stemma.cli.framework import complete_refs, verb
from stemma.cli.project import opened_remotes


@verb(
    "push",
    ("Everything, to the only remote or origin", "stemma push"),
    ("One model, to a remote by name", "stemma push digits backup"),
    ("A release and all before it", "stemma push digits@1.1.0"),
    ("A tracked file or folder alone", "stemma push data/train.csv"),
    ("What would be sent", "stemma push --dry-run"),
    ("Mend what is damaged or missing there", "stemma push --repair"),
)
@click.argument("ref", default="", shell_complete=complete_refs)
@click.argument("remote", default="")
@click.option("--dry-run", "is_dry_run", is_flag=True, help="Only say what would be sent.")
@click.option(
    "--repair",
    "is_repair",
    is_flag=True,
    help="Read what the remote has of it, and replace what is damaged or missing.",
)
def command(
    console: Console, *, ref: str, remote: str, is_dry_run: bool, is_repair: bool
) -> ExitCode:
    """Copy releases with all they need, and channels, to a remote; what is there is not sent.

    Without REF also what pointer files name.  With a tracked PATH in place of REF, that alone.

    Exits 12 when the remote went another way, 1 when something here is damaged or missing.
    """
    from stemma.cli.progress import progress
    from stemma.cli.tracked_paths import tracked_paths
    from stemma.cli.transfer_cards import Telling, answer, exit_code
    from stemma.hub.remotes import TransferRequest

    with opened_remotes() as hub:
        names = {known.name for known in hub.list_remotes()}
        if ref in names and not remote:
            ref, remote = "", ref
        paths = tracked_paths(hub, ref)
        request = TransferRequest(
            ref="" if paths else ref,
            remote=remote,
            is_dry_run=is_dry_run,
            is_repair=is_repair,
            paths=paths,
        )
        with progress(console, "pushing") as reporter:
            outcome = hub.push(request, Telling(reporter))
    console.show(answer(outcome, "pushed to", "would push to"))
    return exit_code(outcome)
