"""``stemma remote``: the places that versions are pushed to and pulled from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from stemma.cli.console import Answer, Console
from stemma.cli.exit_codes import ExitCode
from stemma.cli.framework import verb
from stemma.cli.project import opened_remotes

if TYPE_CHECKING:
    from stemma.cli.project import RemoteHub

_ACTIONS: Final = {"add": 2, "list": 0, "remove": 1, "login": 1}
"""What can be done, and how many words it takes."""

_CHAINS: Final = {
    "s3": (
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (AWS_SESSION_TOKEN)",
        "~/.aws/credentials and ~/.aws/config, profile AWS_PROFILE",
        "AWS_WEB_IDENTITY_TOKEN_FILE, container and machine roles",
        "AWS_REGION; AWS_ENDPOINT_URL for servers of your own",
        'with single sign-on: eval "$(aws configure export-credentials --format env)"',
    ),
    "gs": (
        "GOOGLE_APPLICATION_CREDENTIALS (a file), GOOGLE_SERVICE_ACCOUNT",
        "gcloud auth application-default login",
        "the service account of the machine",
    ),
    "az": (
        "AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_KEY",
        "AZURE_CLIENT_ID, AZURE_CLIENT_SECRET and AZURE_TENANT_ID",
        "AZURE_USE_AZURE_CLI=true after az login, managed identities",
    ),
    "file": ("the permissions of the folder",),
}
"""Where credentials are read from, in order, by scheme."""


@verb(
    "remote",
    ("A bucket", "stemma remote add origin s3://team-models/digits"),
    ("A folder, on a disk that is shared", "stemma remote add backup /mnt/backup/models"),
    ("What there is", "stemma remote list"),
    ("Where credentials come from, and whether they work", "stemma remote login origin"),
    ("Store a key for one remote, outside the project", "stemma remote login origin --store"),
    ("The same in a job", "stemma remote login origin --store < key.env"),
    ("Forget one; what it holds stays", "stemma remote remove backup"),
)
@click.argument(
    "words",
    metavar="add NAME URL | list | remove NAME | login [NAME]",
    nargs=-1,
    shell_complete=lambda _ctx, _param, start: [it for it in _ACTIONS if it.startswith(start)],
)
@click.option(
    "--store",
    "is_stored",
    is_flag=True,
    help="With login: ask for a key, or read lines of NAME=VALUE, and keep it for this remote.",
)
@click.option(
    "--forget", "is_forgotten", is_flag=True, help="With login: remove the key that was stored."
)
def command(
    console: Console, *, words: tuple[str, ...], is_stored: bool, is_forgotten: bool
) -> ExitCode:
    """Name the places that versions are shared through; kept in stemma.toml, without secrets."""
    action, *rest = words or ("list",)
    _check(action, rest)
    if (is_stored or is_forgotten) and (action != "login" or is_stored == is_forgotten):
        context = click.get_current_context(silent=True)
        raise click.UsageError("remote login takes --store or --forget", ctx=context)
    with opened_remotes() as hub:
        match action:
            case "add":
                remote = hub.add_remote(*rest)
                console.show(_one(remote.name, remote.url, "added"))
            case "remove":
                remote = hub.remove_remote(*rest)
                console.show(_one(remote.name, remote.url, "removed; what it holds stays"))
            case "login" if is_forgotten:
                _forget(console, hub, rest[0] if rest else "")
            case "login":
                name = rest[0] if rest else ""
                if is_stored:
                    _store(console, hub, name)
                _login(console, hub, name)
            case _:
                _list(console, hub)
    return ExitCode.DONE


def _check(action: str, rest: list[str]) -> None:
    """Refuse words that are no action, or too many or few for it."""
    context = click.get_current_context(silent=True)
    if action not in _ACTIONS:
        known = ", ".join(_ACTIONS)
        raise click.UsageError(f"no {action!r} here; there are {known}", ctx=context)
    is_enough = len(rest) == _ACTIONS[action] or (action == "login" and not rest)
    if not is_enough:
        words = {"add": "NAME and URL", "list": "no name", "remove": "NAME", "login": "[NAME]"}
        raise click.UsageError(f"remote {action} takes {words[action]}", ctx=context)


def _one(name: str, url: str, what: str) -> Answer:
    from stemma.cli import render

    return Answer(
        payload={"name": name, "url": url},
        card=[f"{render.DONE} {name}   {url}   {what}"],
        rows=[[name, url]],
    )


def _list(console: Console, hub: RemoteHub) -> None:
    from stemma.cli import render

    remotes = hub.list_remotes()
    rows = [[remote.name, remote.url] for remote in remotes]
    console.show(
        Answer(
            payload=[{"name": remote.name, "url": remote.url} for remote in remotes],
            card=render.table(rows) if rows else [f"{render.NOTED} no remote is set"],
            rows=rows,
            hints=[] if rows else ["hint: stemma remote add origin s3://BUCKET/PREFIX"],
        )
    )


def _store(console: Console, hub: RemoteHub, name: str) -> None:
    """Take a key from whoever sits there, or from standard input; never from the command line."""
    import sys

    from stemma.store.backends.logins import parse_login

    remote = hub.find_remote(name)
    told = _asked(remote.url) if sys.stdin.isatty() else parse_login(sys.stdin.read())
    console.note(f"kept in {hub.store_login(name, told)}, for you alone")


def _asked(url: str) -> dict[str, str]:
    from stemma.store.backends.logins import ACCEPTED, SECRET

    return {
        name: click.prompt(
            name, default="", show_default=False, hide_input=name in SECRET, err=True
        )
        for name in ACCEPTED.get(url.partition("://")[0], ())
    }


def _forget(console: Console, hub: RemoteHub, name: str) -> None:
    from stemma.cli import render

    remote = hub.find_remote(name)
    was_there = hub.forget_login(name)
    what = "the key that was stored is removed" if was_there else "no key was stored"
    console.show(
        Answer(
            payload={"name": remote.name, "url": remote.url, "was_stored": was_there},
            card=[f"{render.DONE if was_there else render.NOTED} {remote.label}   {what}"],
            rows=[[remote.label, "removed" if was_there else "none"]],
        )
    )


def _login(console: Console, hub: RemoteHub, name: str) -> None:
    """Say where credentials come from before asking: who has none must read it, too."""
    from stemma.cli import render

    remote = hub.find_remote(name)
    scheme, separator, _ = remote.url.partition("://")
    chain = _CHAINS[scheme if separator else "file"]
    console.note(f"{remote.url} is opened with the first of these that is set:")
    if separator:
        console.note("  a key that stemma remote login --store was told for this remote")
    for line in chain:
        console.note(f"  {line}")
    hub.check_remote(name)
    console.show(
        Answer(
            payload={"name": remote.name, "url": remote.url, "has_access": True},
            card=[f"{render.DONE} {remote.label} answers and lets you in"],
            rows=[[remote.label, "ok"]],
        )
    )
