"""``stemma push``: copy releases and channels to a remote."""

from __future__ import annotations

import click

from stemma.cli.console import Console
from stemma.cli.exit_codes import ExitCode
from stemma.cli.framework import complete_refs, verb
from stemma.cli.project import opened_parts, opened_remotes


@verb(
    "push",
    ("Everything, to the only remote or origin", "stemma push"),
    ("One model, to a remote by name", "stemma push digits backup"),
    ("A release and all before it", "stemma push digits@1.1.0"),
    ("A tracked file or folder alone", "stemma push data/train.csv"),
    ("What would be sent", "stemma push --dry-run"),
    ("Mend what is damaged or missing there", "stemma push --repair"),
    ("A release to an MLflow server", "stemma push digits@1.1.0 mlflow://127.0.0.1:5000/"),
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
    With the address of an MLflow server as REMOTE, the release is a run and a version there.

    Exits 12 when the remote went another way, 1 when something here is damaged or missing.
    """
    from stemma.cli.progress import progress
    from stemma.cli.tracked_paths import tracked_paths
    from stemma.cli.transfer_cards import Telling, answer, exit_code
    from stemma.hub.foreign.mlflow_address import is_mlflow_address
    from stemma.hub.remotes import TransferRequest

    if is_mlflow_address(remote) or is_mlflow_address(ref):
        return _export(console, ref, remote, is_dry_run=is_dry_run, is_repair=is_repair)
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


def _export(
    console: Console, ref: str, remote: str, *, is_dry_run: bool, is_repair: bool
) -> ExitCode:
    import os

    from stemma.cli.foreign_cards import TellingForeign, exit_code, push_answer
    from stemma.cli.progress import progress
    from stemma.hub.foreign.mlflow_address import parse_mlflow_address
    from stemma.hub.foreign.mlflow_push import push_mlflow

    if is_repair or not remote:
        raise click.UsageError(
            "an MLflow server takes one release: stemma push MODEL@VERSION mlflow://HOST:PORT/",
            ctx=click.get_current_context(),
        )
    address = parse_mlflow_address(remote)
    with opened_parts() as parts, progress(console, "pushing") as reporter:
        outcome = push_mlflow(
            parts, ref, address, os.environ, TellingForeign(reporter), is_dry_run=is_dry_run
        )
    console.show(push_answer(outcome))
    return exit_code(outcome)
