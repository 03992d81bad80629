"""``stemma rollout``: a canary from first percent to all, watched by the judge."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, TypedDict, Unpack

import click

from stemma.cli.console import Answer, Console, Format
from stemma.cli.exit_codes import ExitCode
from stemma.cli.framework import complete_refs, verb
from stemma.cli.project import opened_delivery

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stemma.cli.project import DeliveryHub
    from stemma.cli.watching import Screen
    from stemma.delivery.values import RolloutView
    from stemma.domain.rollout import Rollout, RolloutPlan

_COMMANDS: Final = ("pause", "resume", "promote", "abort")
_ACTIONS: Final = (*_COMMANDS, "status")
_START: Final = "start"
_RATE: Final = 50.0
_LEAST_LIMIT_SECONDS: Final = 60
_ALLOWED: Final = {
    **{action: {"reason"} for action in _COMMANDS},
    "status": {"is_watching", "is_log"},
    _START: {
        *("steps", "hold", "hold_limit", "min_requests", "demo_rate", "is_detached", "reason"),
        *("is_watching", "requests_path"),
    },
}
"""Options that each action takes."""


class _Options(TypedDict):
    words: tuple[str, ...]
    steps: str
    hold: str
    hold_limit: str
    min_requests: int | None
    demo_rate: float | None
    requests_path: str | None
    is_detached: bool
    reason: str
    is_watching: bool
    is_log: bool


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> Sequence[str]:
    """Complete what can be done, then names."""
    words = ctx.params.get("words") or ()
    known = [] if words else [name for name in _ACTIONS if name.startswith(incomplete)]
    return [*known, *complete_refs(ctx, param, incomplete)]


@verb(
    "rollout",
    ("5 % for a day, then 25, 50 and 100 %", "stemma rollout digits@1.1.0"),
    (
        "Other steps, each held for an hour",
        "stemma rollout digits@1.1.0 --steps 10,50,100 --hold 1h",
    ),
    ("Start it and come back later", "stemma rollout digits@1.1.0 --detach"),
    ("Where it stands, live, with the evidence", "stemma rollout status digits -w"),
    ("Every look and decision", "stemma rollout status digits --log"),
    ("Stop moving, saying why", 'stemma rollout pause digits -m "wait for the sale"'),
    ("Take it back", "stemma rollout abort digits"),
)
@click.argument(
    "words",
    metavar="REF | pause|resume|promote|abort|status MODEL",
    nargs=-1,
    required=True,
    shell_complete=_complete,
)
@click.option(
    "--steps", default="", metavar="PERCENTS", help="Shares of the requests (default 5,25,50,100)."
)
@click.option(
    "--hold", default="", metavar="TIME", help="How long each step is watched (default 24h)."
)
@click.option(
    "--hold-limit",
    default="",
    metavar="TIME",
    help="How long a step may wait for evidence before it is paused"
    " (default: twice --hold, at least a minute).",
)
@click.option(
    "--min-requests",
    type=click.IntRange(min=1),
    metavar="N",
    help="Requests of the canary that a step needs at least.",
)
@click.option(
    "--demo-traffic",
    "demo_rate",
    is_flag=False,
    flag_value=_RATE,
    default=None,
    type=click.FloatRange(min=0, min_open=True),
    metavar="[RATE]",
    help="Send requests while watching (default 50 a second).",
)
@click.option(
    "--requests",
    "requests_path",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="With --demo-traffic: what to send, JSON lines (default: stable's golden rows).",
)
@click.option("--detach", "is_detached", is_flag=True, help="Start it and do not watch.")
@click.option("-m", "--reason", default="", help="Why, in your words; stored.")
@click.option("-w", "--watch", "is_watching", is_flag=True, help="With status: follow to the end.")
@click.option("--log", "is_log", is_flag=True, help="With status: every look and decision.")
def command(console: Console, **options: Unpack[_Options]) -> ExitCode:
    """Give a version some of the requests, then more, while the judge sees no harm.

    Exits 0 when it is live, 3 when it was taken back. Ctrl-C stops watching, not the rollout.
    """
    action, name = read_words(options["words"])
    _check(action, options)
    with opened_delivery() as hub:
        if action == _START:
            return _start(console, hub, name, options)
        if action == "status":
            return _status(console, hub, name, options)
        return _command(console, hub, action, name, reason=options["reason"])


def read_words(words: tuple[str, ...]) -> tuple[str, str]:
    """Return what is to be done, and with what.

    Raises:
        UsageError: If the words are neither a REF nor an action and a MODEL.
    """
    context = click.get_current_context(silent=True)
    first = words[0]
    if len(words) == 1 and first not in _ACTIONS:
        return _START, first
    if len(words) == 1:
        raise click.UsageError(f"rollout {first} needs a MODEL", ctx=context)
    if len(words) > 2 or first not in _ACTIONS:  # noqa: PLR2004 - an action and a model
        known = ", ".join(_ACTIONS)
        raise click.UsageError(
            f"rollout takes one REF, or one of {known} and a MODEL; not {' '.join(words)!r}",
            ctx=context,
        )
    return first, words[1].partition("@")[0]


def _check(action: str, options: _Options) -> None:
    """Refuse options that the action does not take."""
    context = click.get_current_context()
    names = {param.name: param.opts[-1] for param in context.command.params}
    for name, value in options.items():
        is_given = name != "words" and value not in {"", False, None}
        if is_given and name not in _ALLOWED[action]:
            what = "starting a rollout" if action == _START else f"rollout {action}"
            raise click.UsageError(f"{names[name]} does not go with {what}", ctx=context)
    if options["is_detached"] and (options["demo_rate"] or options["is_watching"]):
        raise click.UsageError("--detach does not watch", ctx=context)
    if options["requests_path"] and options["demo_rate"] is None:
        raise click.UsageError("--requests needs --demo-traffic", ctx=context)


def _plan(options: _Options) -> RolloutPlan:
    """Read the plan from the options; what is not given stays as it is by default."""
    from dataclasses import replace

    from stemma.domain.rollout import RolloutPlan
    from stemma.domain.rollout_plan import check_plan, parse_hold, parse_steps

    plan = RolloutPlan()
    if options["steps"]:
        plan = replace(plan, steps_bp=parse_steps(options["steps"]))
    if options["hold"]:
        seconds = parse_hold(options["hold"])
        plan = replace(
            plan, hold_seconds=seconds, hold_limit_seconds=max(2 * seconds, _LEAST_LIMIT_SECONDS)
        )
    if options["hold_limit"]:
        plan = replace(plan, hold_limit_seconds=parse_hold(options["hold_limit"]))
    if options["min_requests"] is not None:
        plan = replace(plan, judge=replace(plan.judge, minimum_requests=options["min_requests"]))
    check_plan(plan)
    return plan


def _start(console: Console, hub: DeliveryHub, ref: str, options: _Options) -> ExitCode:
    from stemma.hub.delivery import RolloutRequest

    request = RolloutRequest(ref=ref, plan=_plan(options), reason=options["reason"])
    with ExitStack() as stack:
        each = None
        if options["demo_rate"] is not None:
            # Before the rollout: without requests to send none must begin.
            each = _send_traffic(hub, options, stack)
        view = hub.start_rollout(request)
        model = view.rollout.model
        if options["is_detached"]:
            _answer(console, view, hints=[f"  follow it: stemma rollout status {model} -w"])
            return ExitCode.DONE
        return _follow(console, hub, model, each)


def _follow(
    console: Console, hub: DeliveryHub, model: str, each: Callable[[], str] | None = None
) -> ExitCode:
    """Watch a rollout to its end; Ctrl-C leaves it running."""
    import sys

    from stemma.cli.watching import Pace, Screen, watch

    pace = Pace()
    screen = Screen(console.progress, sys.stderr, pace)
    try:
        view = watch(hub, model, screen, pace, each=lambda: _warning(hub, each))
    except KeyboardInterrupt:
        return _leave(console, hub, model)
    _answer(console, view, screen=screen)
    return exit_code_of(view.rollout)


def _warning(hub: DeliveryHub, each: Callable[[], str] | None) -> str:
    """Return what keeps a rollout from going on, beside the rollout itself."""
    if not hub.serving().server.is_running:
        return "no server runs, so the rollout waits; go on: stemma serve"
    return each() if each is not None else ""


def _send_traffic(hub: DeliveryHub, options: _Options, stack: ExitStack) -> Callable[[], str]:
    """Start the demo traffic that was asked for, and return what notices its end."""
    import tempfile
    from pathlib import Path

    from stemma.cli.demo_traffic import Traffic, demo_traffic, write_golden_requests

    model, view = hub.resolve(options["words"][0]).model, hub.serving()
    requests = Path(options["requests_path"] or "")
    if options["requests_path"] is None:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="stemma-traffic-"))
        requests = Path(folder) / "requests.jsonl"
        served = [item for item in view.models if item.deployment.model == model]
        write_golden_requests(hub, model, served, requests)
    traffic = Traffic(
        address=view.server.address,
        model=model,
        rate_per_second=options["demo_rate"] or _RATE,
        requests=requests,
    )
    return stack.enter_context(demo_traffic(traffic))


def _leave(console: Console, hub: DeliveryHub, model: str) -> ExitCode:
    """Say that the rollout goes on without a watcher."""
    view = hub.rollout(model)
    goes_on = (
        []
        if view.rollout.state.is_final
        else [
            f"the rollout of {model} goes on; follow it: stemma rollout status {model} -w",
            f"take it back: stemma rollout abort {model}",
        ]
    )
    _answer(console, view, hints=goes_on)
    return ExitCode.INTERRUPTED


def exit_code_of(rollout: Rollout) -> ExitCode:
    """Return 0 unless the rollout was taken back, or waits for a person."""
    from stemma.domain.rollout import RolloutState

    back = {RolloutState.ROLLING_BACK, RolloutState.ROLLED_BACK, RolloutState.FAILED}
    return ExitCode.NO if rollout.state in {*back, RolloutState.PAUSED} else ExitCode.DONE


def _answer(
    console: Console,
    view: RolloutView,
    *,
    screen: Screen | None = None,
    hints: Sequence[str] = (),
) -> None:
    from datetime import UTC, datetime

    from stemma.cli.rollout_cards import rollout_card, rollout_payload, rollout_rows

    seen = screen.seen if screen is not None else {}
    console.show(
        Answer(
            payload=rollout_payload(view),
            card=rollout_card(view, datetime.now(UTC), seen=seen),
            rows=rollout_rows(view),
            hints=hints,
        )
    )


def _status(console: Console, hub: DeliveryHub, model: str, options: _Options) -> ExitCode:
    from stemma.cli.plain import plain
    from stemma.cli.rollout_cards import EVENT_HEADER, event_rows

    view = hub.rollout(model)
    if options["is_watching"] and not view.rollout.state.is_final:
        code = _follow(console, hub, model)
        if not options["is_log"] or code is ExitCode.INTERRUPTED:
            return code
        view = hub.rollout(model)
    if options["is_log"]:
        rows = event_rows(view.events, is_precise=console.format is not Format.HUMAN)
        payload = [plain(event) for event in view.events]
        console.show(Answer(payload=payload, rows=rows, header=EVENT_HEADER))
    else:
        _answer(console, view)
    return exit_code_of(view.rollout) if options["is_watching"] else ExitCode.DONE


def _command(
    console: Console, hub: DeliveryHub, action: str, model: str, *, reason: str
) -> ExitCode:
    from stemma.domain.rollout import RolloutCommand

    hub.rollout(model)  # a model that was never rolled out is told so
    view = hub.command_rollout(model, RolloutCommand(action), reason=reason)
    follow = f"  follow it: stemma rollout status {model} -w"
    _answer(console, view, hints=[] if view.rollout.state.is_final else [follow])
    return ExitCode.DONE
