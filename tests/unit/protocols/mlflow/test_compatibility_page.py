"""``docs/compat/mlflow.md`` against the routes."""

from __future__ import annotations

import re
from pathlib import Path

from stemma.protocols.mlflow.endpoints import ENDPOINTS
from stemma.protocols.mlflow.routes import MlflowRoute
from stemma.protocols.mlflow.table import ROUTES

PAGE = Path(__file__).parents[4] / "docs" / "compat" / "mlflow.md"
ROW = re.compile(r"^\| ([✓◐✗]) \| (\w+) \| `([^`]+)` \| ?(.*?) ?\|$", re.MULTILINE)


def plain(path: str) -> str:
    """Return a path as the page writes it."""
    return path.replace(":path}", "}")


def row(method: str, path: str, route: MlflowRoute | None) -> tuple[str, str, str, str]:
    """Return the row that a route must have."""
    if route is None:
        return ("✗", method, path, "")
    return ("✓" if route.is_whole else "◐", method, path, route.remark)


def test_the_page_says_of_every_endpoint_what_is_there_of_it() -> None:
    """A client's author would rely on what is missing, or do without what works."""
    found: dict[tuple[str, str], MlflowRoute | None] = {
        (method, plain(path)): None for method, path in ENDPOINTS
    }
    found |= {(route.method, plain(route.path)): route for route in ROUTES}
    wanted = {row(*key, route) for key, route in found.items()}
    written = set(ROW.findall(PAGE.read_text(encoding="utf-8")))
    assert sorted(wanted - written) == [], "these rows are missing"
    assert sorted(written - wanted) == [], "these rows are wrong"


def test_what_is_a_part_only_says_which() -> None:
    """A reader would not learn what is missing."""
    assert all(route.remark for route in ROUTES if not route.is_whole)
