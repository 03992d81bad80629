"""Every command that a message names can be typed: the verb and each option exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from stemma.cli.framework import app

SOURCE = Path(__file__).parents[3] / "src" / "stemma"
_HOLE = "\0"
_COMMAND = re.compile(r"\bstemma ([a-z][a-z-]*)((?: (?!stemma\b)[^\s;)`'\"]+)*)")
_ADVICE = frozenset({"hint", "fix"})


def _texts(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield every text of a module but docstrings, and whether it is a hint; values are holes."""
    tree = ast.parse(path.read_bytes())
    advice = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg in _ADVICE
        for part in ast.walk(node.value)
    }
    prose = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if id(node) not in prose:
                yield text, id(node) in advice
            case ast.JoinedStr(values=values):
                parts = [it.value if isinstance(it, ast.Constant) else _HOLE for it in values]
                yield "".join(map(str, parts)), id(node) in advice
            case _:
                continue


def _commands() -> list[tuple[str, str]]:
    """Return every command named anywhere, with the file that names it."""
    verbs = set(app.list_commands(click.Context(app)))
    found: dict[tuple[str, str], None] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        for text, is_advice in _texts(path):
            for verb, rest in _COMMAND.findall(text):
                if verb in verbs or is_advice:
                    found[f"{verb}{rest}", path.relative_to(SOURCE).as_posix()] = None
    return list(found)


def _unknown(command: str) -> list[str]:
    """Return the words of a command that the command line does not know."""
    context = click.Context(app)
    words = [word.strip(",.:") for word in command.split()]
    found = app.get_command(context, words[0])
    if found is None:
        return words[:1]
    known = {
        option
        for parameter in found.get_params(click.Context(found))
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    unknown: list[str] = []
    for word in words[1:]:
        if word in {"--", "&&", "||", "|", "or"}:
            break
        option = word.partition("=")[0]
        if option.startswith("-") and _HOLE not in option and option not in known:
            unknown.append(option)
    return unknown


def test_every_command_that_a_message_names_exists() -> None:
    """Who follows a hint in an emergency would be told that there is no such command."""
    commands = _commands()
    assert len(commands) > 150
    wrong = [(command, path) for command, path in commands if _unknown(command)]
    assert wrong == []


@pytest.mark.parametrize("command", ["repair", "pull --mend", "remote add a b --force"])
def test_a_command_that_does_not_exist_is_noticed(command: str) -> None:
    """The test above would pass whatever messages say."""
    assert _unknown(command)
