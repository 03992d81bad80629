"""What is asked of a search, and what it answers.

Invariants:
    * A page's token is opaque and continues one search only; see ``stemma.tracking.search.pages``.

This module knows neither the language nor tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Generic, NamedTuple, TypeVar

ItemT = TypeVar("ItemT")

RUNS_PAGE_LIMIT: Final = 50_000
EXPERIMENTS_PAGE_LIMIT: Final = 50_000
LOGGED_MODELS_PAGE_LIMIT: Final = 10_000
REGISTERED_MODELS_PAGE_LIMIT: Final = 1_000
MODEL_VERSIONS_PAGE_LIMIT: Final = 200_000
TRACES_PAGE_LIMIT: Final = 500
"""Most items in one page, as the clients know it."""


class View(Enum):
    """Which of the deleted and the others are looked through."""

    ACTIVE_ONLY = "active-only"
    DELETED_ONLY = "deleted-only"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """One page of a search.

    Attributes:
        filter: Comparisons joined by ``AND``; empty for everything.
        order: Keys such as ``metrics.loss DESC``; empty for newest first.
        page_size: Most items in the page.
        token: The ``next_token`` of the page before; empty for the first page.
        view: Whether deleted ones count.
        model: Runs of this model only, as Stemma names it; empty for all.
    """

    filter: str = ""
    order: tuple[str, ...] = ()
    page_size: int = 1_000
    token: str = ""
    view: View = View.ACTIVE_ONLY
    model: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetClause:
    """Metrics of logged models count only when they were measured on this dataset.

    Attributes:
        name: The dataset's name.
        digest: Its digest; empty for any.
    """

    name: str
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOrder:
    """One key that logged models are ordered by.

    Attributes:
        field: An attribute, or ``metrics.NAME``.
        is_ascending: Least first.
        dataset: Which dataset the metric must have been measured on; ``None`` for any.
    """

    field: str
    is_ascending: bool = True
    dataset: DatasetClause | None = None


class VersionKey(NamedTuple):
    """Names one model version."""

    name: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[ItemT]):
    """Items in order, and where the next page begins.

    Attributes:
        items: What was found.
        next_token: Asks for the next page; empty when there is none.
    """

    items: Sequence[ItemT]
    next_token: str = ""
