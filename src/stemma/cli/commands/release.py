"""``stemma release``: an immutable version, numbered from evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict, Unpack

import click

from stemma.cli.console import Answer, Console
from stemma.cli.exit_codes import ExitCode
from stemma.cli.framework import complete_refs, verb
from stemma.cli.project import opened_hub

if TYPE_CHECKING:
    from stemma.domain.ref import Ref
    from stemma.hub.base import Hub


class _Options(TypedDict):
    target: str
    run: str
    bump: str
    reason: str
    is_prerelease: bool
    is_dry_run: bool
    message: str
    channel: str
    dropped: str


@verb(
    "release",
    ("Release the newest run", "stemma release digits"),
    ("Only say what the number would be, and why", "stemma release digits --dry-run"),
    ("Move a channel to a release", "stemma release digits@1.0.0 --channel stable"),
    ("Release what an MLflow client logged in a run", "stemma release digits@r-7f3c2a90"),
    ("Remove a channel, keep its history", "stemma release digits --drop-channel trial"),
    ("Another level than the computed one", 'stemma release digits --bump patch --reason "…"'),
)
@click.argument("target", metavar="MODEL[@REF]", shell_complete=complete_refs)
@click.option("--run", default="", metavar="RUN", help="Release this run instead of the newest.")
@click.option(
    "--bump",
    type=click.Choice(["auto", "major", "minor", "patch"]),
    default="auto",
    help="Level; auto computes it from evidence. Lowering it needs --reason.",
)
@click.option("--reason", default="", help="Why another level than the computed one; stored.")
@click.option(
    "--pre", "is_prerelease", is_flag=True, help="Release as X.Y.Z-pre.N, even if gates fail."
)
@click.option("--dry-run", "is_dry_run", is_flag=True, help="Decide and explain; change nothing.")
@click.option("-m", "--message", default="", help="What this release is, in your words.")
@click.option("--channel", default="", help="Let this channel point to the release.")
@click.option(
    "--drop-channel",
    "dropped",
    default="",
    metavar="CHANNEL",
    help="Release nothing; remove this channel. Its history stays.",
)
def command(console: Console, **options: Unpack[_Options]) -> ExitCode:
    """Make an immutable version; its number comes from evidence, gates decide whether.

    With a version after @ and --channel nothing is released: the channel moves.
    """
    from stemma.domain.ref import ManifestPrefix, Newest, Ref, RunPrefix, is_bare_run

    with opened_hub() as hub:
        if is_bare_run(options["target"]):
            view = hub.resolve(options["target"])
            options["target"] = f"{view.model}@{view.manifest.provenance.run}"
        # Parsed before anything happens: `digits@` is a typing error, not the newest run.
        ref = Ref.parse(options["target"])
        match ref.selector:
            case _ if options["dropped"]:
                return _drop(console, hub, ref, options)
            case Newest() | RunPrefix() | ManifestPrefix():
                return _release(console, hub, ref, options)
            case _:
                return _move(console, hub, ref.model, options)


def _drop(console: Console, hub: Hub, ref: Ref, options: _Options) -> ExitCode:
    from stemma.cli.cards import channel_line
    from stemma.cli.plain import plain

    channel = options["dropped"]
    others = (options["run"], options["channel"], options["is_prerelease"])
    if str(ref) != ref.model or any(others) or options["bump"] != "auto":
        raise click.UsageError(
            "--drop-channel takes a MODEL, --reason and --dry-run only",
            ctx=click.get_current_context(),
        )
    if options["is_dry_run"]:
        version = hub.resolve(f"{ref.model}@{channel}").version
        line = f"• {ref.model} {channel} = {version} would be removed"
        console.show(Answer(payload={"channel": channel, "version": version}, card=[line]))
        return ExitCode.DONE
    reason = options["reason"] or options["message"]
    move = hub.move_channel(ref.model, channel, "", reason=reason)
    console.show(Answer(payload={**plain(move), "moved": True}, card=[channel_line(move)]))
    return ExitCode.DONE


def _move(console: Console, hub: Hub, model: str, options: _Options) -> ExitCode:
    from stemma.cli.cards import channel_line
    from stemma.cli.plain import plain
    from stemma.domain.errors import InvalidInputError

    if not options["channel"]:
        raise InvalidInputError(
            f"{options['target']} is released and never changes; name a channel to move to it",
            code="already-released",
            hint=f"stemma release {options['target']} --channel stable",
        )
    target = hub.resolve(options["target"])
    history = hub.channel_history(model, options["channel"])
    is_new = not history or history[0].version != target.version
    if not is_new:
        move = history[0]
    elif options["is_dry_run"]:
        line = f"• {model} {options['channel']} would be {target.version}"
        console.show(
            Answer(payload={"channel": options["channel"], "would_be": target.version}, card=[line])
        )
        return ExitCode.DONE
    else:
        reason = options["reason"] or options["message"]
        move = hub.move_channel(model, options["channel"], options["target"], reason=reason)
    console.show(
        Answer(payload={**plain(move), "moved": is_new}, card=[channel_line(move, is_new=is_new)])
    )
    return ExitCode.DONE


def _release(console: Console, hub: Hub, ref: Ref, options: _Options) -> ExitCode:
    from stemma.cli.cards import release_card, release_hints
    from stemma.cli.plain import plain
    from stemma.domain.errors import NotFoundError
    from stemma.domain.ref import Newest, RunPrefix
    from stemma.domain.verdict import Level
    from stemma.hub.base import ReleaseRequest, ReleaseStatus

    run = options["run"]
    if not isinstance(ref.selector, Newest):
        try:
            run = hub.resolve(options["target"]).manifest.provenance.run
        except NotFoundError:
            if not isinstance(ref.selector, RunPrefix):
                raise
            run = ref.selector.prefix  # of a tracking client: it becomes a version just now
    outcome = hub.release(
        ReleaseRequest(
            model=ref.model,
            run=run,
            bump=None if options["bump"] == "auto" else Level(options["bump"]),
            override_reason=options["reason"],
            is_prerelease=options["is_prerelease"],
            is_dry_run=options["is_dry_run"],
            message=options["message"],
            channel=options["channel"],
            released_by=hub.user,
        )
    )
    console.show(
        Answer(
            payload=plain(outcome),
            card=release_card(
                outcome,
                is_prerelease=options["is_prerelease"],
                channel="" if options["is_dry_run"] else options["channel"],
            ),
            hints=release_hints(outcome),
        )
    )
    return ExitCode.NO if outcome.status is ReleaseStatus.REFUSED else ExitCode.DONE
