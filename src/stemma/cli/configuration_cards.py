"""What verbs say about configurations: their history, and what differs between two.

Invariants:
    * Pure: values in, lines and rows out.
    * Settings are named as ``stemma.toml`` names them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from stemma.cli import render
from stemma.cli.plain import plain
from stemma.delivery.values import ConfigurationVersion
from stemma.domain.configuration import Configuration, diff_configurations
from stemma.domain.errors import NotFoundError

_NUMBER: Final = re.compile(r"c([1-9][0-9]*)")
Change = tuple[str, str, str]


def configuration_label(found: ConfigurationVersion) -> str:
    """Return how a configuration is called, ``digits@c3``."""
    return f"{found.model}@c{found.number}"


def is_number(selector: str) -> bool:
    """Whether a selector names a configuration by its number, ``c3``."""
    return _NUMBER.fullmatch(selector) is not None


def pick_configuration(
    known: Sequence[ConfigurationVersion], model: str, selector: str
) -> ConfigurationVersion:
    """Return the configuration that ``c3``, a version it was live with, or nothing names.

    Args:
        known: The model's configurations, newest first.
        model: Name of the model.
        selector: ``c3``, SemVer text of a version, or empty for the newest.

    Raises:
        NotFoundError: If there is none.
    """
    numbered = _NUMBER.fullmatch(selector)
    for item in known:
        is_numbered = numbered is not None and item.number == int(numbered[1])
        if not selector or is_numbered or selector in item.proven_with:
            return item
    names = ", ".join(f"c{item.number}" for item in known)
    if selector and numbered is None and known:
        what = f"no configuration of {model} was live with {selector}"
    else:
        what = f"{model} has no configuration {selector}".rstrip()
    raise NotFoundError(
        f"{what}; there are {names}" if known else f"{what}: it was never served",
        code="configuration-not-found",
        hint=f"stemma log {model} --configuration" if known else f"stemma serve {model}",
    )


def changes(before: Configuration, after: Configuration) -> list[Change]:
    """Return every setting that differs: its key, before, after."""
    return diff_configurations(before, after)


def change_text(change: Change) -> str:
    """Write one change, ``replicas 1 → 2``."""
    key, before, after = change
    return f"{key} {before or '(none)'} → {after or '(none)'}"


CONFIGURATION_HEADER: Final = ("number", "when", "who", "live with", "what changed")


def configuration_rows(
    known: Sequence[ConfigurationVersion], *, is_precise: bool
) -> list[list[str]]:
    """Return one row per configuration, newest first, each against the one before it."""
    earlier = {item.number: item for item in known}
    rows: list[list[str]] = []
    for item in known:
        previous = earlier.get(item.number - 1)
        base = previous.configuration if previous is not None else Configuration()
        found = "; ".join(change_text(change) for change in changes(base, item.configuration))
        rows.append(
            [
                f"c{item.number}",
                item.created_at.isoformat() if is_precise else f"{item.created_at:%Y-%m-%d %H:%M}",
                item.by,
                ", ".join(item.proven_with),
                found or ("the defaults" if previous is None else "nothing"),
            ]
        )
    return rows


def configuration_diff_card(before: ConfigurationVersion, after: ConfigurationVersion) -> list[str]:
    """Compare two configurations, one line per setting that differs."""
    found = changes(before.configuration, after.configuration)
    names = f"{configuration_label(before)} → {configuration_label(after)}"
    if not found:
        return [f"{render.DONE} {names}   same"]
    lines = [f"{render.NOTED} {names}   {render.count(len(found), 'setting')} changed"]
    pairs = [(key, f"{old or '(none)'} → {new or '(none)'}") for key, old, new in found]
    return [*lines, *render.labelled(pairs, width=17)]


def configuration_diff_markdown(
    before: ConfigurationVersion, after: ConfigurationVersion
) -> list[str]:
    """Write what differs as a Markdown table, for a review's comment."""
    rows = changes(before.configuration, after.configuration)
    head = f"### {configuration_label(before)} → {configuration_label(after)}"
    table = ["| setting | before | after |", "|---|---|---|"]
    return [head, "", *table, *("| " + " | ".join(_escaped(row)) + " |" for row in rows)]


def _escaped(row: Change) -> list[str]:
    return [cell.replace("\\", "\\\\").replace("|", "\\|") or "–" for cell in row]


def configuration_diff_payload(
    before: ConfigurationVersion, after: ConfigurationVersion
) -> dict[str, Any]:
    """Return what differs as JSON values."""
    return {
        "before": plain(before),
        "after": plain(after),
        "changes": [
            {"setting": key, "before": old, "after": new}
            for key, old, new in changes(before.configuration, after.configuration)
        ],
    }
