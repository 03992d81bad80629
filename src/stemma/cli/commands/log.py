"""``stemma log``: versions, runs, or the moves of a channel."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypedDict, Unpack

import click

from stemma.cli.console import Answer, Console, Format
from stemma.cli.exit_codes import ExitCode
from stemma.cli.framework import complete_refs, verb
from stemma.cli.project import opened_delivery, opened_hub

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stemma.domain.errors import NotFoundError
    from stemma.hub.base import Hub, LogRow


class _Options(TypedDict):
    model: str
    metric: str
    limit: int
    channel: str
    at: str
    are_runs: bool
    filter: str
    order: str
    are_configurations: bool


@verb(
    "log",
    ("Every model", "stemma log"),
    ("Versions of one, with a metric", "stemma log digits --metric accuracy"),
    ("Which version was stable then?", "stemma log digits --channel stable --at 2026-05-03"),
    ("Runs, released or not", "stemma log digits --runs"),
    ("The best runs", "stemma log --runs --filter 'metrics.loss < 0.3' --order metrics.loss"),
    ("What it was served with, and what changed", "stemma log digits --configuration"),
)
@click.argument("model", required=False, default="", shell_complete=complete_refs)
@click.option("--metric", default="", help="Show this metric, e.g. accuracy or recall[class=8].")
@click.option("-n", "--limit", default=50, type=click.IntRange(1), help="At most so many lines.")
@click.option("--channel", default="", help="Show the moves of this channel.")
@click.option("--at", default="", metavar="DATE", help="With --channel: where it pointed then.")
@click.option("--runs", "are_runs", is_flag=True, help="List runs instead of versions.")
@click.option(
    "--filter",
    default="",
    help="With --runs: comparisons joined by AND, e.g. metrics.loss < 0.3 and params.lr = '0.1'.",
)
@click.option(
    "--order",
    default="",
    help="With --runs: keys joined by commas, e.g. metrics.loss DESC; else newest first.",
)
@click.option(
    "--configuration",
    "are_configurations",
    is_flag=True,
    help="List the configurations it was served with, and what changed in each.",
)
def command(console: Console, **options: Unpack[_Options]) -> ExitCode:
    """List versions, newest first: number, level, metric, channels, when, who, why."""
    model = options["model"].partition("@")[0]
    if options["channel"] and not model:
        raise click.UsageError("--channel needs a MODEL", ctx=click.get_current_context())
    if options["are_configurations"] and not model:
        raise click.UsageError("--configuration needs a MODEL", ctx=click.get_current_context())
    if options["at"] and not options["channel"]:
        raise click.UsageError("--at needs --channel", ctx=click.get_current_context())
    if (options["filter"] or options["order"]) and not options["are_runs"]:
        raise click.UsageError("--filter and --order need --runs", ctx=click.get_current_context())
    moment = parse_moment(options["at"]) if options["at"] else None
    is_precise = console.format is not Format.HUMAN
    if options["are_configurations"]:
        console.show(_configurations(model, options["limit"], is_precise=is_precise))
        return ExitCode.DONE
    with opened_hub() as hub:
        if options["are_runs"]:
            answer = _runs(hub, model, options, is_precise=is_precise)
        elif moment is not None:
            answer = _channel_at(hub, model, options["channel"], moment)
        elif options["channel"]:
            answer = _moves(hub, model, options, is_precise=is_precise)
        elif model:
            answer = _versions(hub, model, options, is_precise=is_precise)
        else:
            answer = _models(hub)
    console.show(answer)
    return ExitCode.DONE


def parse_moment(text: str) -> datetime:
    """Read a date (its end, UTC) or a moment in ISO 8601.

    Raises:
        InvalidInputError: If it is neither.
    """
    from stemma.domain.errors import InvalidInputError

    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInputError(
            f"not a date: {text!r}", code="bad-date", hint="write it like 2026-05-03"
        ) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    if len(text) <= len("2026-05-03"):
        moment += timedelta(days=1) - timedelta(microseconds=1)
    return moment


def _versions(hub: Hub, model: str, options: _Options, *, is_precise: bool) -> Answer:
    from stemma.cli.cards import LOG_HEADER, log_rows
    from stemma.cli.plain import plain

    rows = hub.log(model, metric=options["metric"], limit=options["limit"])
    return Answer(
        payload=[plain(row) for row in rows],
        rows=log_rows(rows, is_precise=is_precise),
        header=LOG_HEADER,
        hints=_log_hints(hub, model, rows, options["metric"]),
    )


def _log_hints(hub: Hub, model: str, rows: Sequence[LogRow], metric: str) -> list[str]:
    """Say why a table is empty, or its column of the metric."""
    from stemma.domain.ref import did_you_mean, suggest

    if not rows:
        return [f"no releases yet: stemma release {model}"]
    if not metric or any(row.metric is not None for row in rows):
        return []
    newest = hub.resolve(f"{model}@{rows[0].version}").manifest.evidence
    near = suggest(metric, [known.key for known in newest.metrics])
    return [f"no version here has {metric}{did_you_mean(near)}"]


def _models(hub: Hub) -> Answer:
    from stemma.cli import render
    from stemma.cli.plain import plain

    models = hub.list_models()
    return Answer(
        payload=[plain(model) for model in models],
        rows=[
            [
                model.name,
                model.newest or "(none)",
                render.count(model.release_count, "release"),
                " ".join(f"{name}={version}" for name, version in sorted(model.channels.items())),
            ]
            for model in models
        ],
        header=("model", "newest", "releases", "channels"),
        hints=[] if models else ["no models yet: stemma run -- python train.py"],
    )


def _runs(hub: Hub, model: str, options: _Options, *, is_precise: bool) -> Answer:
    from stemma.cli.run_cards import asked_columns, run_header, run_payload, run_table
    from stemma.tracking.search.values import Search

    search = Search(
        filter=options["filter"],
        order=(options["order"],) if options["order"] else (),
        page_size=options["limit"],
        model=model,
    )
    columns = asked_columns(search)
    found = hub.search_runs(search)
    empty = "no run is like that" if search.filter else "no runs yet: stemma run -- python train.py"
    return Answer(
        payload=[run_payload(data) for data in found],
        rows=run_table(found, columns, is_precise=is_precise),
        header=run_header(columns),
        hints=[] if found else [empty],
    )


def _configurations(model: str, limit: int, *, is_precise: bool) -> Answer:
    from stemma.cli.configuration_cards import CONFIGURATION_HEADER, configuration_rows
    from stemma.cli.plain import plain

    with opened_delivery() as hub:
        known = hub.configurations(model)
        if not known:
            hub.log(model, limit=1)  # an unknown model is told, with near names
    return Answer(
        payload=[plain(item) for item in known[:limit]],
        rows=configuration_rows(known, is_precise=is_precise)[:limit],
        header=CONFIGURATION_HEADER,
        hints=[] if known else [f"never served yet: stemma serve {model}"],
    )


def _moves(hub: Hub, model: str, options: _Options, *, is_precise: bool) -> Answer:
    from stemma.cli.cards import MOVE_HEADER, move_rows
    from stemma.cli.plain import plain

    moves = hub.channel_history(model, options["channel"])[: options["limit"]]
    if not moves:
        raise _unknown_channel(hub, model, options["channel"])
    return Answer(
        payload=[plain(move) for move in moves],
        rows=move_rows(moves, is_precise=is_precise),
        header=MOVE_HEADER,
    )


def _unknown_channel(hub: Hub, model: str, channel: str) -> NotFoundError:
    """Return the error for a channel that never pointed anywhere."""
    from stemma.domain.errors import NotFoundError
    from stemma.domain.ref import did_you_mean, suggest

    hub.log(model, limit=1)  # an unknown model is told first, with near names
    channels = next((view.channels for view in hub.list_models() if view.name == model), {})
    near = suggest(channel, channels)
    known = f"; its channels: {', '.join(sorted(channels))}" if channels else "; it has none"
    return NotFoundError(
        f"{model} has no channel {channel}{did_you_mean(near) or known}",
        code="channel-not-found",
        hint=f"stemma log {model} --channel {near[0]}" if near else f"stemma log {model}",
    )


def _channel_at(hub: Hub, model: str, channel: str, moment: datetime) -> Answer:
    from stemma.cli.plain import plain
    from stemma.domain.errors import NotFoundError

    move = hub.channel_at(model, channel, moment)
    if move is None and not hub.channel_history(model, channel):
        raise _unknown_channel(hub, model, channel)
    if move is None or not move.version:
        raise NotFoundError(
            f"{model} had no {channel} at {moment:%Y-%m-%d %H:%M} UTC",
            code="channel-not-set",
            hint=f"stemma log {model} --channel {channel}",
        )
    since = f"since {move.moved_at:%Y-%m-%d %H:%M} UTC, moved by {move.moved_by}"
    return Answer(
        payload=plain(move),
        card=[f"{model} {channel} = {move.version}   {since}"],
        rows=[[move.version, move.moved_at.isoformat(), move.moved_by, move.reason]],
    )
