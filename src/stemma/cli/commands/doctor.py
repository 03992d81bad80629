"""``stemma doctor``: find problems, name the commands that fix them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import click

from stemma.cli.console import Answer, Console
from stemma.cli.exit_codes import ExitCode
from stemma.cli.framework import verb

if TYPE_CHECKING:
    from stemma.hub.base import DoctorReport

_DIGEST: Final = re.compile(r"\b([0-9a-f]{8})[0-9a-f]{24,}\b")
_NOUNS: Final = {
    "runs": "run",
    "manifests": "version",
    "releases": "release",
    "channel_moves": "channel move",
    "chunks": "chunk",
}
"""What people call the rows of a table; the others are counted in `--json` only."""


@verb(
    "doctor",
    ("Check every object, row and pointer", "stemma doctor"),
    ("Make the database again from the records", "stemma doctor --rebuild"),
    ("Restore what is damaged from remotes and other copies", "stemma doctor --repair"),
    ("Each setting with its origin", "stemma doctor --settings"),
)
@click.option("--rebuild", "is_rebuild", is_flag=True, help="Make the database again.")
@click.option("--repair", "is_repair", is_flag=True, help="Restore what is damaged or missing.")
@click.option("--settings", "are_settings", is_flag=True, help="Show each setting and its origin.")
def command(console: Console, *, is_rebuild: bool, is_repair: bool, are_settings: bool) -> ExitCode:
    """Find problems and name the commands that fix them; exit 3 when there are any."""
    if are_settings:
        console.show(_settings())
        return ExitCode.DONE
    if is_rebuild:
        console.show(_rebuild())
        return ExitCode.DONE
    if is_repair:
        return _repair(console)
    from stemma.cli.plain import plain
    from stemma.server.wiring import examine_project

    report = examine_project()
    console.show(
        Answer(
            payload={**plain(report), "healthy": report.is_healthy},
            card=_card(report),
            rows=_rows(report),
            hints=[] if report.is_healthy else ["  next: stemma doctor --repair"],
        )
    )
    return ExitCode.DONE if report.is_healthy else ExitCode.NO


def _rows(report: DoctorReport) -> list[list[str]]:
    return [
        [
            "note" if finding.is_harmless else "problem",
            finding.kind,
            finding.where,
            finding.detail,
            finding.fix,
            "; ".join(finding.harms),
        ]
        for finding in report.findings
    ]


def _repair(console: Console) -> ExitCode:
    """Restore what can be restored; exit 3 when something is still harmed."""
    from stemma.cli import render
    from stemma.cli.plain import plain
    from stemma.server.wiring import repair_project

    report = repair_project()
    restored = [["restored", _shortened(item.what), item.source] for item in report.restored]
    aside = [["set aside", _shortened(key), "nothing needs it"] for key in report.set_aside]
    console.show(
        Answer(
            payload={**plain(report), "healthy": report.after.is_healthy},
            card=[*render.table([*restored, *aside]), *_card(report.after)],
            rows=[
                *(["restored", "", item.what, "", "", item.source] for item in report.restored),
                *(["set aside", "", key, "", "", ""] for key in report.set_aside),
                *_rows(report.after),
            ],
            hints=[f"  {render.NOTED} {note}" for note in report.notes],
        )
    )
    return ExitCode.DONE if report.after.is_healthy else ExitCode.NO


def _card(report: DoctorReport) -> list[str]:
    from stemma.cli import render
    from stemma.cli.trash_cards import trash_line

    checked = ", ".join(
        render.count(number, kind.removesuffix("s")) for kind, number in report.checked.items()
    )
    problems = [finding for finding in report.findings if not finding.is_harmless]
    if problems:
        head = f"{render.REFUSED} {render.count(len(problems), 'problem')} found in {checked}"
    else:
        head = f"{render.DONE} no problems in {checked}"
    lines = [head]
    for finding in report.findings:
        mark = render.NOTED if finding.is_harmless else render.REFUSED
        detail = _shortened(render.clean(finding.detail))
        lines.append(f"  {mark} {finding.kind}  {_shortened(finding.where)}  {detail}")
        if finding.harms:
            lines.append(f"    harms {'; '.join(finding.harms)}")
        lines += [f"    - {_shortened(render.clean(part))}" for part in finding.parts]
        if finding.fix:
            lines.append(f"    fix: {finding.fix}")
    if report.trash.count:
        lines.append(f"  {trash_line(report.trash)}")
    return lines


def _shortened(text: str) -> str:
    """Cut digests to what people compare; `--json` and the command of the fix have them whole."""
    return _DIGEST.sub(r"\1…", text)


def _rebuild() -> Answer:
    from stemma.cli import render
    from stemma.server.wiring import rebuild_project

    made = rebuild_project()
    named = [(_NOUNS[kind], number) for kind, number in made.items() if kind in _NOUNS]
    text = ", ".join(render.count(number, noun) for noun, number in named)
    if made.get("damaged_records"):
        text += f"; {render.count(made['damaged_records'], 'damaged record')} left out"
    if made.get("lost_rollouts"):
        text += f"; {render.count(made['lost_rollouts'], 'rollout')} with a torn log left out"
    return Answer(
        payload=made,
        card=[f"{render.DONE} database made again: {text or 'empty'}"],
        rows=[[kind, str(number)] for kind, number in made.items()],
    )


def _settings() -> Answer:
    from dataclasses import fields

    from stemma.server.settings import load_settings
    from stemma.server.wiring import find_project
    from stemma.store.codecs.kernels.selection import SWITCH, selected

    settings = load_settings(find_project())
    rows = [
        [
            field.name,
            _shown(field.name, getattr(settings, field.name)),
            settings.origins[field.name],
        ]
        for field in fields(settings)
        if field.name not in {"models", "origins"}
    ]
    rows += [
        [f"model.{name}", ", ".join(table), "stemma.toml"]
        for name, table in settings.models.items()
    ]
    # Not a setting of the project: it must be known before any project is.
    obstacle = selected().obstacle
    origin = "environment" if obstacle.startswith(SWITCH) else "installation"
    rows.append(["accelerator", f"numpy: {obstacle}" if obstacle else "C", origin])
    return Answer(
        payload=[{"setting": key, "value": value, "origin": origin} for key, value, origin in rows],
        rows=rows,
        header=("setting", "value", "origin"),
    )


def _shown(name: str, value: object) -> str:
    """Write a value; a database URL without its password."""
    from urllib.parse import urlsplit

    text = str(value)
    password = urlsplit(text).password if name == "database" else None
    return text.replace(f":{password}@", ":***@") if password else text
