"""``docs/compat/inference.md`` against the application."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[4] / "docs" / "compat" / "inference.md"
ROW = re.compile(r"^\| (?P<mark>[✓◐✗]) \| (?P<method>\w+) \| `(?P<path>[^`]+)` \|", re.MULTILINE)
ROWS = [
    (found["mark"], found["method"], found["path"])
    for found in ROW.finditer(PAGE.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize(("mark", "method", "path"), ROWS, ids=str)
def test_an_endpoint_is_there_as_the_table_says(
    make_asker: Callable[..., Any], mark: str, method: str, path: str
) -> None:
    """A client that relies on the table would meet 404, or miss what works."""
    path = path.replace("NAME", "digits").replace("VERSION", "1.2.0")
    asker = make_asker()
    reply = asker.get(path) if method == "GET" else asker.post(path, {})
    assert (reply.status in {404, 405}) == (mark == "✗"), reply.body


def test_the_table_has_rows() -> None:
    """The test above would pass on nothing."""
    assert len(ROWS) > 15
