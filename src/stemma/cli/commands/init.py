"""``stemma init``: make a project here."""

from __future__ import annotations

from pathlib import Path

from stemma.cli import render
from stemma.cli.console import Answer, Console
from stemma.cli.exit_codes import ExitCode
from stemma.cli.framework import verb


@verb(
    "init",
    ("Start in this folder", "stemma init"),
    ("Start, and read the answer in a script", "stemma init --json"),
    ("Then record a first run", "stemma run -- python train.py"),
)
def command(console: Console) -> ExitCode:
    """Make .stemma/ and stemma.toml here; safe to repeat, never touches git state."""
    from stemma.server.wiring import init_project

    root = Path.cwd()
    is_new = init_project(root)
    line = (
        f"{render.DONE} Ready. Versions live in .stemma/ (SQLite + files), settings in stemma.toml"
        if is_new
        else f"{render.NOTED} Already a project: nothing to do"
    )
    console.show(
        Answer(
            payload={"root": str(root), "created": is_new},
            card=[line],
            hints=["  next: write train.py, then `stemma run python train.py`"] if is_new else [],
        )
    )
    return ExitCode.DONE
