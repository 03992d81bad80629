"""``stemma diff``: two versions, component by component."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict, Unpack

import click

from stemma.cli.console import Answer, Console
from stemma.cli.exit_codes import ExitCode
from stemma.cli.framework import complete_refs, verb
from stemma.cli.project import opened_delivery, opened_hub

if TYPE_CHECKING:
    from stemma.cli.project import DeliveryHub
    from stemma.delivery.values import ConfigurationVersion


class _Options(TypedDict):
    before: str
    after: str
    only: str
    is_markdown: bool
    is_patch: bool
    has_exit_code: bool


_ALIASES = {"data": "datasets", "code": "architecture", "params": "hyperparameters"}
_CONFIGURATION = "configuration"


@verb(
    "diff",
    ("What changed between two releases", "stemma diff digits@1.0.0 digits@1.1.0"),
    ("A table for a review's comment", "stemma diff digits@stable digits@r-7f3c --md"),
    ("Fail when data or parameters differ", "stemma diff A B --only data,params --exit-code"),
    ("What it was served with", "stemma diff digits@c1 digits@c2 --only configuration"),
)
@click.argument("before", metavar="A", shell_complete=complete_refs)
@click.argument("after", metavar="B", shell_complete=complete_refs)
@click.option(
    "--only",
    default="",
    metavar="PARTS",
    help="Components to compare, with commas; metrics, metadata; or configuration, alone.",
)
@click.option("--md", "is_markdown", is_flag=True, help="Write Markdown.")
@click.option("--patch", "is_patch", is_flag=True, help="Show changed source lines.")
@click.option("--exit-code", "has_exit_code", is_flag=True, help="Exit 3 when anything differs.")
def command(console: Console, **options: Unpack[_Options]) -> ExitCode:
    """Compare two versions component by component.

    People see the five components and the environment; --json, --md and --format agent
    add metrics and metadata. With --only configuration A and B name what was served:
    MODEL@c3, a version that was live with it, or MODEL for the newest.
    """
    if options["only"].strip() == _CONFIGURATION:
        return _diff_configurations(console, options)
    return _diff_versions(console, options)


def _diff_versions(console: Console, options: _Options) -> ExitCode:
    from stemma.cli.cards import (
        FIVE_AND_ENVIRONMENT,
        diff_card,
        diff_markdown,
        diff_rows,
        select_components,
    )
    from stemma.cli.plain import plain

    only = parse_components(options["only"])
    with opened_hub() as hub:
        diff = hub.diff(options["before"], options["after"])
    shown = select_components(diff, only)
    if options["is_markdown"]:
        card = diff_markdown(diff, shown)
    else:
        is_patch_hidden = bool(diff.patch) and not options["is_patch"]
        people = [item for item in shown if only or item.component in FIVE_AND_ENVIRONMENT]
        card = diff_card(people, has_patch=is_patch_hidden)
        card += ["", *diff.patch.splitlines()] if diff.patch and options["is_patch"] else []
    is_plain = options["is_markdown"] or options["is_patch"]
    payload = plain(diff)
    payload["components"] = [plain(component) for component in shown]
    console.show(Answer(payload=payload, card=card, rows=None if is_plain else diff_rows(shown)))
    is_different = not all(component.is_same for component in shown)
    return ExitCode.NO if options["has_exit_code"] and is_different else ExitCode.DONE


def _diff_configurations(console: Console, options: _Options) -> ExitCode:
    from stemma.cli import configuration_cards as cards

    if options["is_patch"]:
        raise click.UsageError(
            "--patch shows source lines; a configuration has none", ctx=click.get_current_context()
        )
    with opened_delivery() as hub:
        before, after = (_configuration(hub, options[name]) for name in ("before", "after"))
    show = cards.configuration_diff_card
    if options["is_markdown"]:
        show = cards.configuration_diff_markdown
    found = cards.changes(before.configuration, after.configuration)
    console.show(
        Answer(
            payload=cards.configuration_diff_payload(before, after),
            card=show(before, after),
            rows=None if options["is_markdown"] else [list(change) for change in found],
        )
    )
    return ExitCode.NO if options["has_exit_code"] and found else ExitCode.DONE


def _configuration(hub: DeliveryHub, ref: str) -> ConfigurationVersion:
    """Return the configuration that ``digits@c3``, ``digits@1.1.0`` or ``digits`` names."""
    from stemma.cli.configuration_cards import is_number, pick_configuration

    model, _, selector = ref.partition("@")
    if selector and not is_number(selector):
        selector = hub.resolve(ref).version
    known = hub.configurations(model)
    if not known:
        hub.log(model, limit=1)  # an unknown model is told, with near names
    return pick_configuration(known, model, selector)


def parse_components(text: str) -> list[str]:
    """Read ``data,params`` as component names.

    Raises:
        UsageError: If one is unknown.
    """
    from stemma.cli.cards import COMPONENT_LABELS

    names = [_ALIASES.get(word.strip(), word.strip()) for word in text.split(",") if word.strip()]
    unknown = [name for name in names if name not in COMPONENT_LABELS]
    if unknown:
        known = ", ".join([*COMPONENT_LABELS, *_ALIASES])
        known += f"; {_CONFIGURATION} goes alone"
        raise click.UsageError(
            f"no component {unknown[0]!r}; components: {known}", ctx=click.get_current_context()
        )
    return names
