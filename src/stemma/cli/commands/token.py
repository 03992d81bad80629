"""``stemma token``: who may call a server of this project from beyond the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from stemma.cli.console import Answer, Console
from stemma.cli.exit_codes import ExitCode
from stemma.cli.framework import verb
from stemma.cli.project import opened_tokens

if TYPE_CHECKING:
    from datetime import datetime

    from stemma.domain.access import Token
    from stemma.hub.tokens import TokenVerbs

_ACTIONS: Final = {"create": 1, "list": 0, "revoke": 1}
"""What can be done, and how many words it takes."""


@verb(
    "token",
    ("For a training machine", "stemma token create trainer --role write"),
    ("For people who look, for a month", "stemma token create team --role read --expires 30d"),
    ("What there is", "stemma token list"),
    ("One that leaked", "stemma token revoke trainer"),
)
@click.argument(
    "words",
    metavar="create NAME | list | revoke NAME",
    nargs=-1,
    shell_complete=lambda _ctx, _param, start: [it for it in _ACTIONS if it.startswith(start)],
)
@click.option(
    "--role",
    type=click.Choice(["read", "write", "admin"]),
    default="read",
    show_default=True,
    help="With create: read sees records and artifacts, write changes them, admin may do all.",
)
@click.option(
    "--expires", default="", metavar="TIME", help="With create: for how long, e.g. 12h, 30d, 4w."
)
def command(console: Console, *, words: tuple[str, ...], role: str, expires: str) -> ExitCode:
    """Make tokens for callers of `stemma serve --host`; a token is shown once, and kept nowhere."""
    from stemma.domain.access import Role, parse_lifetime

    action, *rest = words or ("list",)
    _check(action, rest)
    lifetime = parse_lifetime(expires) if expires else None
    with opened_tokens() as hub:
        match action:
            case "create":
                token, text = hub.create_token(rest[0], Role(role), lifetime)
                console.show(_created(token, text))
            case "revoke":
                hub.revoke_token(rest[0])
                console.show(_revoked(rest[0]))
            case _:
                _list(console, hub)
    return ExitCode.DONE


def _check(action: str, rest: list[str]) -> None:
    """Refuse words that are no action, or too many or few for it."""
    context = click.get_current_context(silent=True)
    if action not in _ACTIONS:
        known = ", ".join(_ACTIONS)
        raise click.UsageError(f"no {action!r} here; there are {known}", ctx=context)
    if len(rest) != _ACTIONS[action]:
        words = "NAME" if _ACTIONS[action] else "no name"
        raise click.UsageError(f"token {action} takes {words}", ctx=context)


def _created(token: Token, text: str) -> Answer:
    from stemma.cli import render

    until = _until(token.expires_at)
    return Answer(
        payload={**_payload(token), "token": text},
        card=[
            f"{render.DONE} {token.name}   {token.role}   {until}",
            f"  {text}",
            "  shown once: export MLFLOW_TRACKING_TOKEN with it, or send it as a Bearer token",
        ],
        rows=[[token.name, token.role.value, until, text]],
    )


def _revoked(name: str) -> Answer:
    from stemma.cli import render

    said = f"{render.DONE} {name} allows nothing any more"
    return Answer(payload={"revoked": name}, card=[said], rows=[[name]])


def _list(console: Console, hub: TokenVerbs) -> None:
    from stemma.cli import render

    found = hub.list_tokens()
    rows = [[it.name, it.role.value, _until(it.expires_at), f"by {it.created_by}"] for it in found]
    console.show(
        Answer(
            payload=[_payload(token) for token in found],
            card=render.table(rows) if rows else [f"{render.NOTED} no token"],
            rows=rows,
            hints=[] if rows else ["hint: stemma token create NAME --role write"],
        )
    )


def _payload(token: Token) -> dict[str, str | None]:
    return {
        "name": token.name,
        "role": token.role.value,
        "created_at": token.created_at.isoformat(),
        "created_by": token.created_by,
        "expires_at": token.expires_at.isoformat() if token.expires_at else None,
    }


def _until(moment: datetime | None) -> str:
    return f"until {moment:%Y-%m-%d %H:%M} UTC" if moment else "for ever"
