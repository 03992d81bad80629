"""Keys of experiments, logged models, registered models, versions and traces that a filter takes.

Invariants:
    * An order is total: its keys, then the default ones that it does not name.
    * Deleted model versions are found by nobody.  Prompts, which clients keep as registered
      models with a tag, are found only by those that ask for them.

There are few of these; a page is one statement that sorts what the filter takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, FromClause, Select, and_, exists, or_, select

from stemma.db.tracking_tables import (
    experiment_tags,
    experiments,
    logged_model_metrics,
    logged_model_params,
    logged_model_tags,
    logged_models,
    model_version_tags,
    model_versions,
    registered_model_tags,
    registered_models,
    trace_metadata,
    trace_tags,
    traces,
)
from stemma.domain.logged_model import LoggedModelState
from stemma.domain.registry import ModelStage
from stemma.domain.trace import TraceState
from stemma.tracking.search.condition_queries import Source, compile_condition, within
from stemma.tracking.search.fields import (
    EXPERIMENT_FIELDS,
    LOGGED_MODEL_FIELDS,
    MODEL_VERSION_FIELDS,
    REGISTERED_MODEL_FIELDS,
    TRACE_FIELDS,
    Condition,
    Entity,
    Fields,
    Key,
    Kind,
    check_order,
    find_field,
    resolve,
    resolve_order,
)
from stemma.tracking.search.grammar import Comparison, Identifier
from stemma.tracking.search.keyset_queries import SortKey, after, as_text, direction, nullable
from stemma.tracking.search.pages import Mark, check_values
from stemma.tracking.search.values import DatasetClause, ModelOrder, Search, View

IS_PROMPT_TAG: Final = "mlflow.prompt.is_prompt"
"""A registered model with this tag is a prompt."""

_EXPERIMENTS: Final = Source(
    table=experiments,
    columns={column.name: column for column in experiments.columns},
    parts={Entity.TAG: experiment_tags},
    owners={"id": "experiment"},
)
_LOGGED_MODELS: Final = Source(
    table=logged_models,
    columns={column.name: column for column in logged_models.columns},
    parts={
        Entity.METRIC: logged_model_metrics,
        Entity.PARAM: logged_model_params,
        Entity.TAG: logged_model_tags,
    },
    owners={"id": "logged_model"},
    states={state.value: (state.value,) for state in LoggedModelState},
    runs=frozenset({"run"}),
)
_REGISTERED_MODELS: Final = Source(
    table=registered_models,
    columns={column.name: column for column in registered_models.columns},
    parts={Entity.TAG: registered_model_tags},
    owners={"name": "name"},
)
_MODEL_VERSIONS: Final = Source(
    table=model_versions,
    columns={column.name: column for column in model_versions.columns},
    parts={Entity.TAG: model_version_tags},
    owners={"name": "name", "number": "number"},
    runs=frozenset({"run"}),
)
_TRACES: Final = Source(
    table=traces,
    columns={column.name: column for column in traces.columns},
    parts={Entity.TAG: trace_tags, Entity.METADATA: trace_metadata},
    owners={"id": "trace"},
    states={state.value: (state.value,) for state in TraceState},
    runs=frozenset({"run"}),
)
_KINDS: Final = {Kind.NUMBER: int}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Kept:
    """Records of one kind, in their own order.

    Attributes:
        fields: What they can be searched by.
        source: Where they stand.
        default: Their order; what a search does not name of it follows its own keys.
    """

    fields: Fields
    source: Source
    default: tuple[tuple[str, bool], ...]


_ALL_EXPERIMENTS: Final = _Kept(
    fields=EXPERIMENT_FIELDS,
    source=_EXPERIMENTS,
    default=(("created_at", False), ("id", False)),
)
_ALL_LOGGED_MODELS: Final = _Kept(
    fields=LOGGED_MODEL_FIELDS,
    source=_LOGGED_MODELS,
    default=(("created_at", False), ("id", True)),
)
_ALL_REGISTERED_MODELS: Final = _Kept(
    fields=REGISTERED_MODEL_FIELDS, source=_REGISTERED_MODELS, default=(("name", True),)
)
_ALL_MODEL_VERSIONS: Final = _Kept(
    fields=MODEL_VERSION_FIELDS,
    source=_MODEL_VERSIONS,
    default=(("updated_at", False), ("name", True), ("number", False)),
)
_ALL_TRACES: Final = _Kept(
    fields=TRACE_FIELDS, source=_TRACES, default=(("requested_at", False), ("id", True))
)

Rows = list[tuple[tuple[Any, ...], Mark]]
"""Keys of records, each with where a page would end with it."""


def find_experiments(connection: Connection, search: Search, start: Mark | None) -> Rows:
    """Return numbers of experiments, one more than a page when there are so many.

    Raises:
        InvalidInputError: If the filter, the order or ``start`` cannot be.
    """
    dialect = connection.dialect.name
    query = select(experiments.c.id).where(*_viewed(experiments.c.deleted_at, search.view))
    query = query.where(*_clauses(_ALL_EXPERIMENTS, search.filter, dialect))
    keys = _ordered(_ALL_EXPERIMENTS, search.order, dialect)
    return _page(connection, query, keys, search, start)


def find_logged_models(
    connection: Connection,
    of_experiments: Sequence[int],
    search: Search,
    start: Mark | None,
    *,
    datasets: Sequence[DatasetClause] = (),
    order: Sequence[ModelOrder] = (),
) -> Rows:
    """Return ids of logged models, one more than a page when there are so many.

    Raises:
        InvalidInputError: If the filter, the order or ``start`` cannot be.
    """
    dialect = connection.dialect.name
    conditions = resolve(LOGGED_MODEL_FIELDS, search.filter)
    source = _LOGGED_MODELS
    query = select(logged_models.c.id).where(
        within(logged_models.c.experiment, of_experiments),
        *_viewed(logged_models.c.deleted_at, search.view),
    )
    if datasets:
        source = replace(source, metric_condition=lambda part: _on_datasets(part, datasets))
        if all(item.field.entity is not Entity.METRIC for item in conditions):
            metrics = logged_model_metrics.alias()
            is_its = metrics.c.logged_model == logged_models.c.id
            query = query.where(exists().where(is_its, _on_datasets(metrics, datasets)))
    query = query.where(*(compile_condition(source, item, dialect) for item in conditions))
    return _page(connection, query, _model_keys(order, dialect), search, start)


def find_registered_models(connection: Connection, search: Search, start: Mark | None) -> Rows:
    """Return names of registered models, one more than a page when there are so many.

    Raises:
        InvalidInputError: If the filter, the order or ``start`` cannot be.
    """
    dialect = connection.dialect.name
    query = select(registered_models.c.name)
    query = query.where(*_clauses(_ALL_REGISTERED_MODELS, search.filter, dialect))
    keys = _ordered(_ALL_REGISTERED_MODELS, search.order, dialect)
    return _page(connection, query, keys, search, start)


def find_model_versions(connection: Connection, search: Search, start: Mark | None) -> Rows:
    """Return names and numbers of versions, one more than a page when there are so many.

    Raises:
        InvalidInputError: If the filter, the order or ``start`` cannot be.
    """
    dialect = connection.dialect.name
    query = select(model_versions.c.name, model_versions.c.number)
    query = query.where(model_versions.c.stage != ModelStage.DELETED.value)
    query = query.where(*_clauses(_ALL_MODEL_VERSIONS, search.filter, dialect))
    keys = _ordered(_ALL_MODEL_VERSIONS, search.order, dialect)
    return _page(connection, query, keys, search, start)


def find_traces(
    connection: Connection, of_experiments: Sequence[int], search: Search, start: Mark | None
) -> Rows:
    """Return ids of traces, one more than a page when there are so many.

    Raises:
        InvalidInputError: If the filter, the order or ``start`` cannot be.
    """
    dialect = connection.dialect.name
    conditions = resolve(TRACE_FIELDS, search.filter)
    query = select(traces.c.id).where(
        within(traces.c.experiment, of_experiments),
        *(compile_condition(_TRACES, item, dialect) for item in conditions),
    )
    keys = _ordered(_ALL_TRACES, search.order, dialect)
    return _page(connection, query, keys, search, start)


def _page(
    connection: Connection,
    query: Select[Any],
    keys: Sequence[SortKey],
    search: Search,
    start: Mark | None,
) -> Rows:
    width = len(query.selected_columns)
    query = query.add_columns(
        *(key.expression.label(f"key_{index}") for index, key in enumerate(keys))
    )
    if start is not None:
        check_values(start, [key.kind for key in keys])
        query = query.where(after(keys, start.values))
    query = query.order_by(*(direction(key) for key in keys)).limit(search.page_size + 1)
    return [
        (tuple(row[:width]), Mark(values=tuple(row[width:]))) for row in connection.execute(query)
    ]


def _viewed(deleted_at: ColumnElement[Any], view: View) -> tuple[ColumnElement[bool], ...]:
    if view is View.ALL:
        return ()
    return (deleted_at.is_(None) if view is View.ACTIVE_ONLY else deleted_at.is_not(None),)


def _clauses(kept: _Kept, text: str, dialect: str) -> list[ColumnElement[bool]]:
    conditions = resolve(kept.fields, text)
    if kept is _ALL_EXPERIMENTS:
        return [compile_condition(kept.source, item, dialect) for item in conditions]
    asked = [item for item in conditions if item.field.key == IS_PROMPT_TAG]
    rest = [item for item in conditions if item not in asked]
    clauses = [compile_condition(kept.source, item, dialect) for item in rest]
    return [*clauses, _are_prompts(kept, wants_prompts=any(map(_wants_prompts, asked)))]


def _wants_prompts(condition: Condition) -> bool:
    is_true = str(condition.value).lower() == "true"
    return is_true if condition.comparison is Comparison.EQUAL else not is_true


def _are_prompts(kept: _Kept, *, wants_prompts: bool) -> ColumnElement[bool]:
    """Return that a registered model, or the one of a version, is a prompt, or is none."""
    tags = registered_model_tags.alias()
    marked = (tags.c.key == IS_PROMPT_TAG, tags.c.value == "true")
    is_prompt: ColumnElement[bool] = exists().where(
        tags.c.name == kept.source.table.c.name, *marked
    )
    if kept is _ALL_MODEL_VERSIONS:
        own = model_version_tags.alias()
        is_prompt = or_(
            is_prompt,
            exists().where(
                own.c.name == model_versions.c.name,
                own.c.number == model_versions.c.number,
                own.c.key == IS_PROMPT_TAG,
                own.c.value == "true",
            ),
        )
    return is_prompt if wants_prompts else ~is_prompt


def _ordered(kept: _Kept, texts: Sequence[str], dialect: str) -> list[SortKey]:
    return _completed(kept, resolve_order(kept.fields, texts), dialect)


def _completed(kept: _Kept, order: Sequence[Key], dialect: str) -> list[SortKey]:
    """Return the keys of an order, and those that make it total."""
    keys: list[SortKey] = []
    for key in order:
        own = _attribute_key(kept, key.field.key, dialect, key.is_ascending)
        if key.field.is_nullable:
            keys += nullable(own.expression, is_ascending=own.is_ascending, kind=own.kind)
        else:
            keys.append(own)
    named = {key.field.key for key in order}
    return keys + [
        _attribute_key(kept, name, dialect, is_ascending)
        for name, is_ascending in kept.default
        if name not in named
    ]


def _attribute_key(kept: _Kept, name: str, dialect: str, is_ascending: bool) -> SortKey:  # noqa: FBT001 - read as a pair of the default order
    column = kept.source.columns[name]
    kind = next(item.kind for item in kept.fields.attributes.values() if item.name == name)
    return SortKey(
        expression=as_text(column, dialect) if kind in {Kind.TEXT, Kind.STATE} else column,
        is_ascending=is_ascending,
        kind=_KINDS.get(kind, str),
    )


def _on_datasets(part: FromClause, datasets: Sequence[DatasetClause]) -> ColumnElement[bool]:
    return or_(
        *(
            and_(part.c.dataset_name == item.name, part.c.dataset_digest == item.digest)
            if item.digest
            else part.c.dataset_name == item.name
            for item in datasets
        )
    )


def _model_keys(order: Sequence[ModelOrder], dialect: str) -> list[SortKey]:
    """Return the keys of an order of logged models; of a metric its latest value counts."""
    fields = [_model_field(item) for item in order]
    check_order(LOGGED_MODEL_FIELDS, fields)
    keys: list[SortKey] = []
    for item, key in zip(order, fields, strict=True):
        if key.field.entity is Entity.METRIC:
            value = _latest_value(key.field.key, item.dataset)
            keys += nullable(value, is_ascending=item.is_ascending, kind=float)
        else:
            keys += [_attribute_key(_ALL_LOGGED_MODELS, key.field.key, dialect, item.is_ascending)]
    named = [key for key in fields if key.field.entity is Entity.ATTRIBUTE]
    return keys + _completed(_ALL_LOGGED_MODELS, named, dialect)[len(named) :]


def _model_field(item: ModelOrder) -> Key:
    entity, dot, key = item.field.partition(".")
    identifier = Identifier(entity=entity, key=key) if dot else Identifier(entity="", key=entity)
    return Key(
        field=find_field(LOGGED_MODEL_FIELDS, identifier, "bad-order"),
        is_ascending=item.is_ascending,
    )


def _latest_value(name: str, dataset: DatasetClause | None) -> ColumnElement[Any]:
    metrics = logged_model_metrics.alias()
    query = select(metrics.c.value).where(
        metrics.c.logged_model == logged_models.c.id, metrics.c.name == name
    )
    if dataset is not None:
        query = query.where(_on_datasets(metrics, [dataset]))
    newest = (metrics.c.logged_at_us.desc(), metrics.c.step.desc(), metrics.c.run)
    return query.order_by(*newest).limit(1).scalar_subquery()
