"""Searches runs.

Invariants:
    * A page holds the runs that come right after the last one of the page before, whatever was
      written meanwhile; no run comes twice while none changes.

Example:
    >>> search_runs(connection, [0], Search(filter="metrics.loss < 0.3"))  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Sequence

from stemma.db.engine import Connection
from stemma.domain.tracking import RunData
from stemma.tracking.run_log import runs_data
from stemma.tracking.search.pages import check_page_size, read_token, write_token
from stemma.tracking.search.run_queries import find_runs
from stemma.tracking.search.values import RUNS_PAGE_LIMIT, Page, Search


def search_runs(
    connection: Connection, experiments: Sequence[int] | None, search: Search
) -> Page[RunData]:
    """Return runs with all they logged, in order.

    Args:
        connection: Of the caller's transaction.
        experiments: Where to look; ``None`` for everywhere.
        search: What for; newest first when it names no order.

    Raises:
        InvalidInputError: If the filter, the order, the page's size or its token cannot be.
    """
    page = search_run_ids(connection, experiments, search)
    return Page(items=runs_data(connection, page.items), next_token=page.next_token)


def search_run_ids(
    connection: Connection, experiments: Sequence[int] | None, search: Search
) -> Page[str]:
    """Return ids of runs, in order; as ``search_runs``.

    Raises:
        InvalidInputError: If the filter, the order, the page's size or its token cannot be.
    """
    check_page_size(search, RUNS_PAGE_LIMIT)
    scope = ("runs", None if experiments is None else sorted(set(experiments)))
    found = find_runs(connection, experiments, search, read_token(search, scope))
    page = found[: search.page_size]
    token = write_token(search, scope, page[-1].mark) if len(found) > len(page) else ""
    return Page(items=[item.run for item in page], next_token=token)
