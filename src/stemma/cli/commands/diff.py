"""``stemma diff``: two versions, component by component."""

from __future__ import annotations

from typing import TypedDict, Unpack

import click

from stemma.cli.console import Answer, Console
from stemma.cli.exit_codes import ExitCode
from stemma.cli.framework import complete_refs, verb
from stemma.cli.project import opened_hub


class _Options(TypedDict):
    before: str
    after: str
    only: str
    is_markdown: bool
    is_patch: bool
    has_exit_code: bool


_ALIASES = {"data": "datasets", "code": "architecture", "params": "hyperparameters"}


@verb(
    "diff",
    ("What changed between two releases", "stemma diff digits@1.0.0 digits@1.1.0"),
    ("A table for a review's comment", "stemma diff digits@stable digits@r-7f3c --md"),
    ("Fail when data or parameters differ", "stemma diff A B --only data,params --exit-code"),
)
@click.argument("before", metavar="A", shell_complete=complete_refs)
@click.argument("after", metavar="B", shell_complete=complete_refs)
@click.option(
    "--only",
    default="",
    metavar="PARTS",
    help="Components to compare, with commas; metrics and metadata too.",
)
@click.option("--md", "is_markdown", is_flag=True, help="Write Markdown.")
@click.option("--patch", "is_patch", is_flag=True, help="Show changed source lines.")
@click.option("--exit-code", "has_exit_code", is_flag=True, help="Exit 3 when anything differs.")
def command(console: Console, **options: Unpack[_Options]) -> ExitCode:
    """Compare two versions component by component.

    People see the five components and the environment; --json, --md and --format agent
    add metrics and metadata.
    """
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
        raise click.UsageError(
            f"no component {unknown[0]!r}; components: {known}", ctx=click.get_current_context()
        )
    return names
