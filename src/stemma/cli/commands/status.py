"""``stemma status``: the working tree against the last version.

Reads the head snapshot, so that it costs a few times a bare interpreter's start;
opens the project only when the snapshot is missing or stale.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from stemma.catalog.snapshot import changed_files
from stemma.cli.console import Answer, Console
from stemma.cli.exit_codes import ExitCode
from stemma.cli.framework import verb
from stemma.cli.project import load_head
from stemma.cli.render import labelled

if TYPE_CHECKING:
    from stemma.catalog.snapshot import FileStamp, Head, ModelHead

_LABELS = (
    ("architecture", "architecture"),
    ("datasets", "training data"),
    ("pipeline", "pipeline"),
    ("hyperparameters", "hyperparameters"),
    ("artifact", "artifact"),
    ("environment", "environment"),
)
_SHOWN_FILES = 5
_WIDTH = 17


@verb(
    "status",
    ("What changed since the last version", "stemma status"),
    ("The same for a script", "stemma status --json"),
    ("Component and state only", "stemma status --format agent | cut -f3,4"),
)
def command(console: Console) -> ExitCode:
    """Compare the working tree with the last version, one line per component."""
    root, head = load_head()
    rows = _rows(root, head)
    console.show(
        Answer(
            payload=_payload(head, rows),
            card=_card(head, rows),
            rows=rows,
            hints=_hints(head, rows),
        )
    )
    return ExitCode.DONE


def _rows(root: Path, head: Head) -> list[list[str]]:
    """Return one row per component: model, version, component, state, detail."""
    rows: list[list[str]] = []
    for name, model in head["models"].items():
        label = model["version"] or model["run"]
        if not label:
            continue
        for component, _ in _LABELS:
            rows.append([name, label, component, *_component(root, model, component)])
    for path, files in head["tracked"].items():
        rows.append(["", "", path, *_state(root, files)])
    return rows


def _component(root: Path, model: ModelHead, component: str) -> tuple[str, str]:
    summary = model["summaries"].get(component, "")
    if component == "environment":
        running = platform.python_version()
        if running != model["python"]:
            return "changed", f"python {model['python']} → {running}"
        return "recorded", summary
    if component in {"hyperparameters", "artifact"}:
        return "recorded", summary
    files = model["files"].get(component, {})
    if not files:
        return "recorded", summary
    state, detail = _state(root, files)
    return state, detail or summary


def _state(root: Path, files: Mapping[str, FileStamp]) -> tuple[str, str]:
    found = [f"{path} {what}" for path, what in changed_files(root, files)]
    if not found:
        return "same", ""
    more = f" … {len(found) - _SHOWN_FILES} more" if len(found) > _SHOWN_FILES else ""
    return "changed", ", ".join(found[:_SHOWN_FILES]) + more


def _card(head: Head, rows: list[list[str]]) -> list[str]:
    lines: list[str] = []
    labels = dict(_LABELS)
    for name, model in head["models"].items():
        lines.append(_headline(name, model))
        mine = [row for row in rows if row[0] == name]
        lines += labelled(
            [
                (labels[row[2]], row[4] if row[3] == "recorded" else f"{row[3]}  {row[4]}")
                for row in mine
            ],
            width=_WIDTH,
        )
    tracked = [row for row in rows if not row[0]]
    if tracked:
        lines.append("tracked")
        lines += labelled([(row[2], f"{row[3]}  {row[4]}") for row in tracked], width=_WIDTH)
    return lines


def _headline(name: str, model: ModelHead) -> str:
    parts = [name, model["version"] or "(no release yet)"]
    parts += [f"{channel} = {version}" for channel, version in sorted(model["channels"].items())]
    return "   ".join(parts)


def _hints(head: Head, rows: list[list[str]]) -> list[str]:
    if not head["models"]:
        return ["no runs yet: stemma run -- python train.py"]
    hints = []
    if any(row[0] and row[3] == "changed" for row in rows):
        hints.append("  next: stemma run -- python train.py")
    for name, model in head["models"].items():
        run, state = model["newest_run"]
        if run and state == "finished" and (not model["version"] or run != model["run"]):
            hints.append(f"  run {run[:8]} is not released: stemma release {name}")
    changed = [row[2] for row in rows if not row[0] and row[3] == "changed"]
    return [*hints, *(f"  next: stemma add {path}" for path in changed)]


def _payload(head: Head, rows: list[list[str]]) -> dict[str, object]:
    return {
        "models": {
            name: {
                "version": model["version"],
                "level": model["level"],
                "run": model["run"],
                "newest_run": model["newest_run"][0],
                "channels": model["channels"],
                "components": {
                    row[2]: {"state": row[3], "detail": row[4]} for row in rows if row[0] == name
                },
            }
            for name, model in head["models"].items()
        },
        "tracked": {row[2]: {"state": row[3], "detail": row[4]} for row in rows if not row[0]},
    }
