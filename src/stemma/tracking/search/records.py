"""Searches experiments, logged models, registered models, their versions, and traces.

Invariants:
    * A page continues right after the last item of the page before.

A search answers with keys; the callers read the records they need, each kind in its own way.

Example:
    >>> search_model_versions(connection, Search(filter="name = 'clf'"))  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from stemma.db.engine import Connection
from stemma.domain.errors import InvalidInputError
from stemma.domain.tracking import Experiment
from stemma.tracking import experiments
from stemma.tracking.search.grammar import ORDER_LIMIT
from stemma.tracking.search.pages import check_page_size, read_token, write_token
from stemma.tracking.search.record_queries import (
    Rows,
    find_experiments,
    find_logged_models,
    find_model_versions,
    find_registered_models,
    find_traces,
)
from stemma.tracking.search.values import (
    EXPERIMENTS_PAGE_LIMIT,
    LOGGED_MODELS_PAGE_LIMIT,
    MODEL_VERSIONS_PAGE_LIMIT,
    REGISTERED_MODELS_PAGE_LIMIT,
    TRACES_PAGE_LIMIT,
    DatasetClause,
    ModelOrder,
    Page,
    Search,
    VersionKey,
)

KeyT = TypeVar("KeyT")


def search_experiments(connection: Connection, search: Search) -> Page[Experiment]:
    """Return experiments, newest first when the search names no order.

    Raises:
        InvalidInputError: If the filter, the order, the page's size or its token cannot be.
    """
    check_page_size(search, EXPERIMENTS_PAGE_LIMIT)
    scope = ("experiments",)
    found = find_experiments(connection, search, read_token(search, scope))
    page = _page(found, search, scope, lambda key: int(key[0]))
    return Page(
        items=experiments.get_many(connection, list(page.items)), next_token=page.next_token
    )


def search_logged_models(
    connection: Connection,
    of_experiments: Sequence[int],
    search: Search,
    *,
    datasets: Sequence[DatasetClause] = (),
    order: Sequence[ModelOrder] = (),
) -> Page[str]:
    """Return ids of logged models, newest first when there is no order.

    Args:
        connection: Of the caller's transaction.
        of_experiments: Where to look.
        search: What for; its own ``order`` is not used.
        datasets: Metrics count only when they were measured on one of these.
        order: What they are ordered by.

    Raises:
        InvalidInputError: If the filter, the order, the page's size or its token cannot be.
    """
    check_page_size(search, LOGGED_MODELS_PAGE_LIMIT)
    if len(order) > ORDER_LIMIT or len(datasets) > ORDER_LIMIT:
        raise InvalidInputError(
            f"a search with more than {ORDER_LIMIT} datasets or keys of its order",
            code="bad-order",
        )
    if not all(item.name for item in datasets):
        raise InvalidInputError("a dataset without its name", code="bad-filter")
    scope = (
        "logged-models",
        sorted(set(of_experiments)),
        [(item.name, item.digest) for item in datasets],
        [(item.field, item.is_ascending, repr(item.dataset)) for item in order],
    )
    start = read_token(search, scope)
    found = find_logged_models(
        connection, of_experiments, search, start, datasets=datasets, order=order
    )
    return _page(found, search, scope, lambda key: str(key[0]))


def search_registered_models(connection: Connection, search: Search) -> Page[str]:
    """Return names of registered models, by name when the search names no order.

    Raises:
        InvalidInputError: If the filter, the order, the page's size or its token cannot be.
    """
    check_page_size(search, REGISTERED_MODELS_PAGE_LIMIT)
    scope = ("registered-models",)
    found = find_registered_models(connection, search, read_token(search, scope))
    return _page(found, search, scope, lambda key: str(key[0]))


def search_model_versions(connection: Connection, search: Search) -> Page[VersionKey]:
    """Return names and numbers of versions, last changed first when the search has no order.

    Raises:
        InvalidInputError: If the filter, the order, the page's size or its token cannot be.
    """
    check_page_size(search, MODEL_VERSIONS_PAGE_LIMIT)
    scope = ("model-versions",)
    found = find_model_versions(connection, search, read_token(search, scope))
    return _page(found, search, scope, lambda key: VersionKey(*key))


def search_traces(
    connection: Connection, of_experiments: Sequence[int], search: Search
) -> Page[str]:
    """Return ids of traces, newest first when the search names no order.

    Raises:
        InvalidInputError: If the filter, the order, the page's size or its token cannot be.
    """
    check_page_size(search, TRACES_PAGE_LIMIT)
    scope = ("traces", sorted(set(of_experiments)))
    found = find_traces(connection, of_experiments, search, read_token(search, scope))
    return _page(found, search, scope, lambda key: str(key[0]))


def _page(
    found: Rows, search: Search, scope: object, key: Callable[[tuple[Any, ...]], KeyT]
) -> Page[KeyT]:
    kept = found[: search.page_size]
    token = write_token(search, scope, kept[-1][1]) if len(found) > len(kept) else ""
    return Page(items=[key(row) for row, _ in kept], next_token=token)
