"""``stemma pull``: copy releases and channels from a remote."""

from __future__ import annotations

from typing import TypedDict, Unpack

import click

from stemma.cli.console import Console
from stemma.cli.exit_codes import ExitCode
from stemma.cli.framework import complete_refs, verb
from stemma.cli.project import opened_parts, opened_remotes


class _Options(TypedDict):
    ref: str
    remote: str
    only: str
    is_forced: bool
    is_dry_run: bool
    is_repair: bool


@verb(
    "pull",
    ("Everything, from the only remote or origin", "stemma pull"),
    ("All versions of one model, from a remote by name", "stemma pull digits backup"),
    ("The files of one version, the names of all", "stemma pull digits@1.1.0"),
    ("The model files alone", "stemma pull digits@stable --only artifact"),
    ("One file of it", "stemma pull digits@stable --only artifact/model.joblib"),
    ("A tracked file or folder alone", "stemma pull data/train.csv"),
    ("Mend what is damaged or missing here", "stemma pull --repair"),
    ("All of an MLflow server", "stemma pull mlflow://127.0.0.1:5000/"),
    ("One experiment of it", "stemma pull mlflow://127.0.0.1:5000/churn"),
    ("A registered model of it", "stemma pull mlflow://127.0.0.1:5000/models:/churn"),
)
@click.argument("ref", default="", shell_complete=complete_refs)
@click.argument("remote", default="")
@click.option(
    "--only",
    default="",
    metavar="PARTS",
    help="Components to fetch, or paths in them (default: all), e.g. artifact,data/digits-train.",
)
@click.option("--force", "is_forced", is_flag=True, help="Replace tracked files here that differ.")
@click.option("--dry-run", "is_dry_run", is_flag=True, help="Only say what would be fetched.")
@click.option(
    "--repair",
    "is_repair",
    is_flag=True,
    help="Read what is here of it, and replace what is damaged or missing.",
)
def command(console: Console, **options: Unpack[_Options]) -> ExitCode:
    """Copy releases with all they need, and channels, from a remote; verified before stored.

    Without REF also what pointer files name: tracked files that are missing here are written.
    With a tracked PATH in place of REF, that alone.
    With the address of an MLflow server (mlflow://, mlflow+https://), imports what it holds.

    Exits 12 when the remote went another way, 1 when something there is damaged or missing.
    """
    from stemma.cli.progress import progress
    from stemma.cli.tracked_paths import tracked_paths
    from stemma.cli.transfer_cards import Telling, answer, exit_code
    from stemma.hub.foreign.mlflow_address import is_mlflow_address
    from stemma.hub.remotes import TransferRequest

    ref, remote = options["ref"], options["remote"]
    if is_mlflow_address(ref):
        return _import(console, options)
    with opened_remotes() as hub:
        names = {known.name for known in hub.list_remotes()}
        if ref in names and not remote:
            ref, remote = "", ref
        paths = tracked_paths(hub, ref)
        if paths and options["only"]:
            raise click.UsageError(
                "--only is about versions, not tracked files", ctx=click.get_current_context()
            )
        request = TransferRequest(
            ref="" if paths else ref,
            remote=remote,
            only=tuple(word.strip() for word in options["only"].split(",") if word.strip()),
            is_dry_run=options["is_dry_run"],
            is_repair=options["is_repair"],
            paths=paths,
            is_forced=options["is_forced"],
        )
        with progress(console, "pulling") as reporter:
            outcome = hub.pull(request, Telling(reporter))
    console.show(answer(outcome, "pulled from", "would pull from"))
    return exit_code(outcome)


def _import(console: Console, options: _Options) -> ExitCode:
    import os

    from stemma.cli.foreign_cards import TellingForeign, exit_code, pull_answer
    from stemma.cli.progress import progress
    from stemma.hub.foreign.mlflow_address import parse_mlflow_address
    from stemma.hub.foreign.mlflow_pull import pull_mlflow

    if options["remote"] or options["only"] or options["is_forced"]:
        raise click.UsageError(
            "with the address of an MLflow server go --dry-run and --repair only",
            ctx=click.get_current_context(),
        )
    address = parse_mlflow_address(options["ref"])
    with opened_parts() as parts, progress(console, "pulling") as reporter:
        outcome = pull_mlflow(
            parts,
            address,
            os.environ,
            TellingForeign(reporter),
            is_dry_run=options["is_dry_run"],
            is_repair=options["is_repair"],
        )
    console.show(pull_answer(outcome))
    return exit_code(outcome)
