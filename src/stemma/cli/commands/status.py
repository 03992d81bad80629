"""``stemma status``: the working tree against the last version.

Reads the head snapshot, so that it costs a few times a bare interpreter's start;
opens the project only when the snapshot is missing or stale, or when something was served or
shared.
"""

from __future__ import annotations

import platform
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stemma.catalog.snapshot import NOT_STORED, changed_files
from stemma.cli.console import Answer, Console
from stemma.cli.exit_codes import ExitCode
from stemma.cli.framework import verb
from stemma.cli.project import load_head, opened_delivery, opened_hub, opened_remotes
from stemma.cli.render import clean, labelled, short_run

if TYPE_CHECKING:
    from stemma.catalog.snapshot import FileStamp, Head, ModelHead
    from stemma.server.scrub import ScrubState
    from stemma.store.trash import TrashHolding

_LABELS: Final = {
    "architecture": "architecture",
    "datasets": "training data",
    "pipeline": "pipeline",
    "hyperparameters": "hyperparameters",
    "artifact": "artifact",
    "environment": "environment",
}
_SHOWN_FILES = 5
_WIDTH = 17


@verb(
    "status",
    ("What changed since the last version", "stemma status"),
    ("The same for a script", "stemma status --json"),
    ("Component and state only", "stemma status --format agent | cut -f3,4"),
)
def command(console: Console) -> ExitCode:
    """Compare the working tree with the last version, one line per component; say what serves."""
    root, head = load_head()
    rows = _rows(root, head)
    served, serving = _serving(root)
    trash, scrub = _trash(root), _scrub(root)
    shared, remotes = _remotes(root)
    partial, left = _left_elsewhere(root, head)
    console.show(
        Answer(
            payload={
                **_payload(head, rows),
                "serving": serving,
                "remotes": remotes,
                **({"left_elsewhere": left} if left else {}),
                **_trash_payload(trash),
                **_scrub_payload(scrub),
            },
            card=[
                *_card(head, rows),
                *_serving_card(served),
                *labelled(
                    [(row[2], f"{row[3]}  {row[4]}") for row in [*shared, *partial]], width=_WIDTH
                ),
                *_trash_card(trash),
                *_scrub_card(scrub),
            ],
            rows=[*rows, *served, *shared, *partial],
            hints=_hints(root, head),
        )
    )
    return ExitCode.DONE


def _serving(root: Path) -> tuple[list[list[str]], dict[str, Any]]:
    """Return what serves as rows and as JSON values; nothing in a project that never served."""
    # Looked at first: asking the hub costs half a second that such a project need not pay.
    if not (root / ".stemma" / "serve").is_dir():
        return [], {}
    from datetime import UTC, datetime

    from stemma.cli.serving_cards import serving_payload, serving_rows

    with opened_delivery() as hub:
        view = hub.serving()
    return serving_rows(view, datetime.now(UTC)), serving_payload(view)


def _remotes(root: Path) -> tuple[list[list[str]], list[Any]]:
    """Return how far we are from each remote as it was last seen, as rows and as JSON values."""
    # Looked at first, for the same reason.
    if not (root / ".stemma" / "remotes").is_dir():
        return [], []
    from stemma.cli.plain import plain  # loads a library, which most do without
    from stemma.cli.transfer_cards import standing_row

    with opened_remotes() as hub:
        standings = hub.list_standings()
    return [standing_row(standing) for standing in standings], plain(list(standings))


def _left_elsewhere(root: Path, head: Head) -> tuple[list[list[str]], list[Any]]:
    """Return which of the versions compared with are here in part, as rows and JSON values."""
    # Looked at first, for the same reason; and the file before that, for reading costs imports.
    if not (root / ".stemma" / "elsewhere.json").is_file():
        return [], []
    from stemma.catalog.absences import read_absences

    if not read_absences(root / ".stemma"):
        return [], []
    from stemma.hub.selection import missing_parts

    rows: list[list[str]] = []
    payload: list[Any] = []
    with opened_hub() as hub:
        for model, known in head["models"].items():
            if not known["version"]:
                continue
            view = hub.resolve(f"{model}@{known['version']}")
            missing = missing_parts(view.manifest, hub.left_elsewhere(view.digest).contents)
            if missing:
                detail = f"without {', '.join(missing)}   (stemma pull {view.label})"
                rows.append([model, known["version"], view.label, "here in part", detail])
                payload.append({"ref": view.label, "missing": list(missing)})
    return rows, payload


def _trash(root: Path) -> TrashHolding | None:
    """Return what the trash holds; nothing where none ever was, for looking costs imports."""
    objects = root / ".stemma" / "objects"
    if not (objects / "trash").is_dir() and not any((objects / "packs").glob("*.dead")):
        return None
    from stemma.store.backends.local import LocalBackend
    from stemma.store.trash import summed

    return summed(LocalBackend(objects).trash.list())


def _trash_payload(trash: TrashHolding | None) -> dict[str, Any]:
    if trash is None:
        return {}
    from stemma.cli.plain import plain

    return {"trash": plain(trash)}


def _trash_card(trash: TrashHolding | None) -> list[str]:
    if trash is None or not trash.count:
        return []
    from stemma.cli.trash_cards import trash_line

    return [trash_line(trash)]


def _scrub(root: Path) -> ScrubState | None:
    """Return how far a server has read the store; nothing where none ever did."""
    folder = root / ".stemma" / "serve"
    if not (folder / "scrub.json").is_file():
        return None
    from stemma.server.scrub import read_scrub

    return read_scrub(folder)


def _scrub_payload(scrub: ScrubState | None) -> dict[str, Any]:
    if scrub is None:
        return {}
    from stemma.cli.plain import plain

    return {"scrub": plain(scrub)}


def _scrub_card(scrub: ScrubState | None) -> list[str]:
    if scrub is None:
        return []
    from stemma.cli.trash_cards import scrub_line

    return [scrub_line(scrub)]


def _serving_card(rows: list[list[str]]) -> list[str]:
    """Return what serves for people, by model; the server last."""
    lines: list[str] = []
    for model in dict.fromkeys(row[0] for row in rows):
        lines.append(f"production of {model}" if model else "server")
        own = [row for row in rows if row[0] == model]
        pairs = [
            (what, f"{state}  {detail}") if model else (state, detail)
            for _, _, what, state, detail in own
        ]
        lines += labelled(pairs, width=_WIDTH)
    return lines


def _rows(root: Path, head: Head) -> list[list[str]]:
    """Return one row per component, run and tracked path: model, version, what, state, detail."""
    rows: list[list[str]] = []
    for name, model in head["models"].items():
        label = model["version"] or model["run"]
        states: list[tuple[str, str, str]] = []
        if label:
            states += [(part, *_component(root, model, part)) for part in _LABELS]
        is_changed = any(state == "changed" for _, state, _ in states)
        states += [("run", *state) for state in _run_states(model)]
        if _needs_run(root, model, is_changed=is_changed):
            states.append(("next", "stemma run needed", _command(model)))
        rows += [[name, label, *state] for state in states]
    for path, files in head["tracked"].items():
        state = ("missing", "") if not (root / path).exists() else _state(root, files)
        rows.append(["", "", path, *state])
    rows += [["", "", path, "unreadable", clean(why)] for path, why in head["unreadable"].items()]
    return rows


def _run_states(model: ModelHead) -> Iterator[tuple[str, str]]:
    """Yield what is to be known of runs: one to release, one that goes on or went wrong."""
    candidate = model["candidate"]
    if candidate is not None:
        yield "not released", short_run(candidate["run"])
    if model["newest_state"] not in {"", "finished"}:
        why = f": {clean(model['failure'])}" if model["failure"] else ""
        yield model["newest_state"], f"{short_run(model['newest_run'])}{why}"


def _needs_run(root: Path, model: ModelHead, *, is_changed: bool) -> bool:
    """Whether the working tree is neither what was released nor what could be."""
    candidate = model["candidate"]
    if candidate is None or not is_changed:
        return is_changed
    differs = next(changed_files(root, candidate["files"]), None) is not None
    return differs or candidate["python"] != platform.python_version()


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
    if not rows and not head["models"]:
        return ["no models yet"]
    lines: list[str] = []
    for name, model in head["models"].items():
        lines.append(_headline(name, model))
        lines += labelled([_line(row) for row in rows if row[0] == name], width=_WIDTH)
    tracked = [row for row in rows if not row[0]]
    if tracked:
        lines.append("tracked")
        lines += labelled([(row[2], f"{row[3]}  {row[4]}") for row in tracked], width=_WIDTH)
    return lines


def _line(row: list[str]) -> tuple[str, str]:
    """Return label and text of a row for people."""
    name, _, what, state, detail = row
    match what, state:
        case "next", _:
            return what, f"{state}: {detail}"
        case "run", "not released":
            return what, f"{detail} {state}: stemma release {name}"
        case "run", "running":
            return what, f"{detail} {state}"
        case "run", _:
            run, _, why = detail.partition(": ")
            return what, f"{run} {state}{why and f': {why}'}   (stemma log {name} --runs)"
        case _:
            return _LABELS[what], f"{state}  {detail}"


def _headline(name: str, model: ModelHead) -> str:
    parts = [name, model["version"] or "(no release yet)"]
    parts += [f"{channel} = {version}" for channel, version in sorted(model["channels"].items())]
    return "   ".join(parts)


def _command(model: ModelHead) -> str:
    return f"stemma run -- {shlex.join(model['command']) or 'python train.py'}"


def _hints(root: Path, head: Head) -> list[str]:
    hints = [] if head["models"] else ["  next: stemma run -- python train.py"]
    for path, files in head["tracked"].items():
        hints += _tracked_hint(root, path, [what for _, what in changed_files(root, files)])
    for path in head["unreadable"]:
        if head["unreadable"][path] == NOT_STORED:
            hints.append(f"  next: stemma pull {shlex.quote(path)}")
        elif (root / path).exists():
            hints.append(f"  next: stemma add {shlex.quote(path)}")
        else:
            hints.append(f"  next: copy {path} here, then: stemma add {shlex.quote(path)}")
    return hints


def _tracked_hint(root: Path, path: str, changes: list[str]) -> list[str]:
    if not changes:
        return []
    name = shlex.quote(path)
    if not (root / path).exists():
        return [f"  next: stemma pull {name}"]
    if set(changes) == {"missing"}:
        return [f"  next: stemma pull {name}, or stemma add {name} if they may go"]
    return [f"  next: stemma add {name}, or stemma pull {name} if git brought a newer pointer"]


def _payload(head: Head, rows: list[list[str]]) -> dict[str, object]:
    return {
        "models": {
            name: _model_payload(model, [row[2:] for row in rows if row[0] == name])
            for name, model in head["models"].items()
        },
        "tracked": {row[2]: {"state": row[3], "detail": row[4]} for row in rows if not row[0]},
    }


def _model_payload(model: ModelHead, states: list[list[str]]) -> dict[str, object]:
    return {
        "version": model["version"],
        "level": model["level"],
        "run": model["run"],
        "newest_run": model["newest_run"],
        "newest_run_state": model["newest_state"],
        "failure": model["failure"],
        "unreleased_run": model["candidate"]["run"] if model["candidate"] else "",
        "needs_run": any(what == "next" for what, _, _ in states),
        "channels": model["channels"],
        "components": {
            what: {"state": state, "detail": detail}
            for what, state, detail in states
            if what in _LABELS
        },
    }
