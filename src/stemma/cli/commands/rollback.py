"""``stemma rollback``: back to the previous stable version, or a drill of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict, Unpack

import click

from stemma.cli.console import Answer, Console, Format
from stemma.cli.exit_codes import ExitCode
from stemma.cli.framework import complete_models, complete_refs, verb
from stemma.cli.project import opened_delivery

if TYPE_CHECKING:
    from typing import Any

    from stemma.cli.project import DeliveryHub
    from stemma.delivery.values import RollbackReport


class _Options(TypedDict):
    model: str
    target: str
    is_drill: bool
    reason: str
    is_list: bool
    is_history: bool


@verb(
    "rollback",
    ("To the previous stable version, now", "stemma rollback digits"),
    ("To one of your choice, saying why", 'stemma rollback digits --to 1.0.0 -m "wrong prices"'),
    ("Measure it without moving users", "stemma rollback digits --drill"),
    ("What could be gone back to, and how ready it is", "stemma rollback digits --list"),
    ("Past rollbacks and drills with their times", "stemma rollback digits --history"),
)
@click.argument("model", shell_complete=complete_models)
@click.option(
    "--to",
    "target",
    default="",
    metavar="REF",
    shell_complete=complete_refs,
    help="Version to go back to (default: the previous stable one).",
)
@click.option(
    "--drill", "is_drill", is_flag=True, help="Do and time all of it on an idle slot; move nobody."
)
@click.option("-m", "--reason", default="", help="Why, in your words; stored.")
@click.option("--list", "is_list", is_flag=True, help="Show the three newest stable versions.")
@click.option("--history", "is_history", is_flag=True, help="Show past rollbacks and drills.")
def command(console: Console, **options: Unpack[_Options]) -> ExitCode:
    """Bring production back: traffic first, then configuration, dependencies, artifacts.

    Skips every step and analysis; ends a rollout under way. Works without a server.
    """
    _check(options)
    model = options["model"]
    with opened_delivery() as hub:
        if options["is_list"]:
            return _list(console, hub, model)
        if options["is_history"]:
            return _history(console, hub, model)
        return _roll_back(console, hub, options)


def _check(options: _Options) -> None:
    """Refuse options that contradict each other, and a version where a model belongs."""
    context = click.get_current_context()
    model, at, version = options["model"].partition("@")
    if at:
        error = click.UsageError(f"rollback takes a MODEL; name the version with --to {version}")
        error.add_note(f"stemma rollback {model} --to {version}")
        raise error
    other = options["target"].partition("@")[0]
    if "@" in options["target"] and other != model:
        raise click.UsageError(f"--to names {other}, not a version of {model}", ctx=context)
    is_reading = options["is_list"] or options["is_history"]
    is_acting = options["is_drill"] or options["target"] or options["reason"]
    if (options["is_list"] and options["is_history"]) or (is_reading and is_acting):
        raise click.UsageError("--list and --history only look; each goes alone", ctx=context)


def target_ref(model: str, target: str) -> str:
    """Return ``--to`` as a ref of the model; empty when it was not given."""
    return target if not target or "@" in target else f"{model}@{target}"


def exit_code_of(report: RollbackReport) -> ExitCode:
    """Return 0 done and in time, 3 a drill or a part's limit says no, 1 it did not succeed."""
    if report.has_passed:
        return ExitCode.DONE
    return ExitCode.FAILED if report.failure and not report.is_drill else ExitCode.NO


def _roll_back(console: Console, hub: DeliveryHub, options: _Options) -> ExitCode:
    from stemma.cli.rollback_cards import phase_rows, rollback_card, rollback_payload
    from stemma.cli.telling import telling

    model = options["model"]
    with telling(console) as told:
        report = hub.rollback(
            model,
            told,
            to=target_ref(model, options["target"]),
            is_drill=options["is_drill"],
            reason=options["reason"],
        )
    hints = [] if report.has_passed else [f"  next: stemma rollback {model} --list"]
    console.show(
        Answer(
            payload=rollback_payload(report),
            card=rollback_card(report),
            rows=phase_rows(report),
            hints=hints,
        )
    )
    if report.failure and console.format is Format.AGENT:
        console.show_failure(report.failure)
    return exit_code_of(report)


def nothing_of(hub: DeliveryHub, model: str) -> list[Any]:
    """Return an empty list; a model that is unknown is told, with near names.

    Raises:
        NotFoundError: If there is no such model.
    """
    hub.log(model, limit=1)
    return []


def _list(console: Console, hub: DeliveryHub, model: str) -> ExitCode:
    from stemma.cli.plain import plain
    from stemma.cli.rollback_cards import READINESS_HEADER, readiness_rows

    found = hub.readiness(model) or nothing_of(hub, model)
    none = [f"no stable version yet: stemma serve {model} --channel stable"]
    console.show(
        Answer(
            payload=[plain(item) for item in found],
            rows=readiness_rows(found),
            header=READINESS_HEADER,
            hints=[] if found else none,
        )
    )
    return ExitCode.DONE


def _history(console: Console, hub: DeliveryHub, model: str) -> ExitCode:
    from stemma.cli.rollback_cards import HISTORY_HEADER, history_rows, rollback_payload

    found = hub.drills(model) or nothing_of(hub, model)
    hints = [] if found else [f"no rollback and no drill yet: stemma rollback {model} --drill"]
    console.show(
        Answer(
            payload=[rollback_payload(item) for item in found],
            rows=history_rows(found, is_precise=console.format is not Format.HUMAN),
            header=HISTORY_HEADER,
            hints=hints,
        )
    )
    return ExitCode.DONE
