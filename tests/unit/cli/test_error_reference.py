"""``docs/reference/errors.md`` against the source: every code is there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "reference" / "errors.md"


def _codes() -> Iterator[str]:
    """Yield every constant code that an error is raised with, and the default ones."""
    for path in (ROOT / "src" / "stemma").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            match node:
                case ast.keyword(arg="code", value=ast.Constant(value=str(code))):
                    yield code
                case ast.Assign(
                    targets=[ast.Name(id="default_code")], value=ast.Constant(value=str(code))
                ):
                    yield code
                case _:
                    continue


def test_every_error_code_is_in_the_reference() -> None:
    """A script that meets a code could not look up what it means."""
    documented = set(
        re.findall(r"^\| `([a-z0-9-]+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert sorted(set(_codes()) - documented) == []
