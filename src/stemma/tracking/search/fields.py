"""Which entities and attributes each kind of record has, and what they may be compared with.

Invariants:
    * A clause that ``resolve`` returns can be compiled: its entity and attribute exist, and its
      comparison and value fit them.
    * Every name that MLflow's clients use for an attribute is known.

The rules are MLflow's, a little wider where a question has one plain answer: lists and
``IS NULL`` go with every text that a record need not have.  No SQL here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from stemma.domain.errors import InvalidInputError
from stemma.domain.ref import did_you_mean, suggest
from stemma.tracking.search.grammar import (
    ORDER_LIMIT,
    Clause,
    Comparison,
    FilterValue,
    Identifier,
    Order,
    parse_filter,
    parse_order,
)

_NAMED_LENGTH: Final = 80
_INTEGER: Final = re.compile(r"-?[0-9]{1,18}")


class Entity(Enum):
    """What a name before the dot may stand for."""

    ATTRIBUTE = "attributes"
    METRIC = "metrics"
    PARAM = "params"
    TAG = "tags"
    DATASET = "dataset"
    METADATA = "metadata"


class Kind(Enum):
    """What an attribute's values are."""

    TEXT = "text"
    NUMBER = "number"
    MOMENT = "moment"
    STATE = "state"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """One attribute of a kind of record.

    Attributes:
        name: Our name for it; the SQL knows it by that.
        kind: What its values are.
        is_nullable: Whether a record may be without it.
    """

    name: str
    kind: Kind = Kind.TEXT
    is_nullable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """What one kind of record can be searched and ordered by.

    Attributes:
        noun: What such records are called in messages.
        entities: Which entities there are.
        attributes: Every accepted name of an attribute.
        orders: Which entities an order may name.
    """

    noun: str
    entities: frozenset[Entity]
    attributes: Mapping[str, Attribute]
    orders: frozenset[Entity] = frozenset({Entity.ATTRIBUTE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One thing that a record has, or may have.

    Attributes:
        entity: Of which kind.
        key: Its name; of an attribute our name.
        kind: What its values are.
        is_nullable: Whether a record may be without it.
    """

    entity: Entity
    key: str
    kind: Kind
    is_nullable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A comparison that fits its field.

    Attributes:
        field: What is compared.
        comparison: How.
        value: With what.
    """

    field: Field
    comparison: Comparison
    value: FilterValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key of an order.

    Attributes:
        field: What is ordered by.
        is_ascending: Least first.
    """

    field: Field
    is_ascending: bool = True


_ENTITIES: Final = {
    "": Entity.ATTRIBUTE,
    "attribute": Entity.ATTRIBUTE,
    "attributes": Entity.ATTRIBUTE,
    "attr": Entity.ATTRIBUTE,
    "run": Entity.ATTRIBUTE,
    "trace": Entity.ATTRIBUTE,
    "metric": Entity.METRIC,
    "metrics": Entity.METRIC,
    "param": Entity.PARAM,
    "params": Entity.PARAM,
    "parameter": Entity.PARAM,
    "parameters": Entity.PARAM,
    "tag": Entity.TAG,
    "tags": Entity.TAG,
    "dataset": Entity.DATASET,
    "datasets": Entity.DATASET,
    "metadata": Entity.METADATA,
    "request_metadata": Entity.METADATA,
    "trace_metadata": Entity.METADATA,
}
_EQUALITY: Final = {Comparison.EQUAL, Comparison.UNEQUAL}
_LISTS: Final = {Comparison.IN, Comparison.NOT_IN}
_NULLS: Final = {Comparison.IS_NULL, Comparison.IS_NOT_NULL}
_PATTERNS: Final = {Comparison.LIKE, Comparison.ILIKE}
_TEXTUAL: Final = _EQUALITY | _LISTS | _PATTERNS
_NUMERIC: Final = _EQUALITY | {
    Comparison.LESS,
    Comparison.AT_MOST,
    Comparison.GREATER,
    Comparison.AT_LEAST,
}
_DATASET_KEYS: Final = ("name", "digest", "context")


def _names(*attributes: tuple[Attribute, tuple[str, ...]]) -> dict[str, Attribute]:
    return {name: attribute for attribute, names in attributes for name in names}


RUN_FIELDS: Final = Fields(
    noun="runs",
    entities=frozenset(Entity) - {Entity.METADATA},
    orders=frozenset({Entity.ATTRIBUTE, Entity.METRIC, Entity.PARAM, Entity.TAG}),
    attributes=_names(
        (Attribute(name="id"), ("run_id", "run_uuid")),
        (Attribute(name="name"), ("run_name", "run name", "Run name", "Run Name")),
        (Attribute(name="created_by"), ("user_id",)),
        (Attribute(name="state", kind=Kind.STATE), ("status",)),
        (
            Attribute(name="started_at", kind=Kind.MOMENT),
            ("start_time", "created", "Created", "timestamp"),
        ),
        (Attribute(name="ended_at", kind=Kind.MOMENT, is_nullable=True), ("end_time",)),
        (Attribute(name="artifact_root"), ("artifact_uri",)),
        (Attribute(name="model"), ("model",)),
    ),
)
EXPERIMENT_FIELDS: Final = Fields(
    noun="experiments",
    entities=frozenset({Entity.ATTRIBUTE, Entity.TAG}),
    attributes=_names(
        (Attribute(name="name"), ("name",)),
        (Attribute(name="id", kind=Kind.NUMBER), ("experiment_id",)),
        (Attribute(name="created_at", kind=Kind.MOMENT), ("creation_time",)),
        (Attribute(name="updated_at", kind=Kind.MOMENT), ("last_update_time",)),
    ),
)
LOGGED_MODEL_FIELDS: Final = Fields(
    noun="logged models",
    entities=frozenset({Entity.ATTRIBUTE, Entity.METRIC, Entity.PARAM, Entity.TAG}),
    orders=frozenset({Entity.ATTRIBUTE, Entity.METRIC}),
    attributes=_names(
        (Attribute(name="id"), ("model_id",)),
        (Attribute(name="name"), ("name", "model_name")),
        (Attribute(name="type"), ("model_type",)),
        (Attribute(name="run"), ("source_run_id", "run_id")),
        (Attribute(name="state", kind=Kind.STATE), ("status",)),
        (Attribute(name="state_message"), ("status_message",)),
        (Attribute(name="experiment", kind=Kind.NUMBER), ("experiment_id",)),
        (
            Attribute(name="created_at", kind=Kind.MOMENT),
            ("creation_time", "creation_timestamp", "creation_timestamp_ms"),
        ),
        (
            Attribute(name="updated_at", kind=Kind.MOMENT),
            ("last_updated_timestamp", "last_updated_timestamp_ms"),
        ),
    ),
)
_CREATED: Final = (Attribute(name="created_at", kind=Kind.MOMENT), ("creation_timestamp",))
_UPDATED: Final = (
    Attribute(name="updated_at", kind=Kind.MOMENT),
    ("last_updated_timestamp", "timestamp"),
)
REGISTERED_MODEL_FIELDS: Final = Fields(
    noun="registered models",
    entities=frozenset({Entity.ATTRIBUTE, Entity.TAG}),
    attributes=_names((Attribute(name="name"), ("name",)), _CREATED, _UPDATED),
)
MODEL_VERSION_FIELDS: Final = Fields(
    noun="model versions",
    entities=frozenset({Entity.ATTRIBUTE, Entity.TAG}),
    attributes=_names(
        (Attribute(name="name"), ("name",)),
        (Attribute(name="number", kind=Kind.NUMBER), ("version_number", "version")),
        (Attribute(name="run"), ("run_id",)),
        (Attribute(name="source"), ("source_path",)),
        _CREATED,
        _UPDATED,
    ),
)

TRACE_FIELDS: Final = Fields(
    noun="traces",
    entities=frozenset({Entity.ATTRIBUTE, Entity.TAG, Entity.METADATA}),
    attributes=_names(
        (Attribute(name="id"), ("trace_id", "request_id")),
        (Attribute(name="name"), ("name", "trace_name")),
        (Attribute(name="run"), ("run_id",)),
        (Attribute(name="state", kind=Kind.STATE), ("status", "state")),
        (Attribute(name="experiment", kind=Kind.NUMBER), ("experiment_id",)),
        (
            Attribute(name="requested_at", kind=Kind.MOMENT),
            ("timestamp_ms", "timestamp", "request_time"),
        ),
        (
            Attribute(name="duration_ms", kind=Kind.NUMBER, is_nullable=True),
            ("execution_time_ms", "execution_time", "execution_duration"),
        ),
        (Attribute(name="client_request"), ("client_request_id",)),
    ),
)


def resolve(fields: Fields, text: str) -> tuple[Condition, ...]:
    """Return the conditions of a filter over records with these fields.

    Raises:
        InvalidInputError: If it cannot be read, or does not fit them.
    """
    return tuple(_condition(fields, clause) for clause in parse_filter(text))


def resolve_order(fields: Fields, texts: Sequence[str]) -> tuple[Key, ...]:
    """Return the keys of an order over records with these fields; a text may hold several.

    Raises:
        InvalidInputError: If one cannot be read, does not fit, or is named twice.
    """
    keys: list[Key] = []
    for text in texts:
        keys += [_key(fields, order) for order in parse_order(text)]
        if len(keys) > ORDER_LIMIT:
            raise InvalidInputError(f"an order of more than {ORDER_LIMIT} keys", code="bad-order")
    return check_order(fields, keys)


def check_order(fields: Fields, keys: Sequence[Key]) -> tuple[Key, ...]:
    """Return the keys, when nothing is named twice and each can be ordered by.

    Raises:
        InvalidInputError: Otherwise.
    """
    seen: set[tuple[Entity, str]] = set()
    for key in keys:
        name = (key.field.entity, key.field.key)
        if key.field.entity not in fields.orders:
            raise InvalidInputError(
                f"{fields.noun} are not ordered by {key.field.entity.value}", code="bad-order"
            )
        if name in seen:
            raise InvalidInputError(
                f"the order names {name[1][:_NAMED_LENGTH]} twice", code="bad-order"
            )
        seen.add(name)
    return tuple(keys)


def find_field(fields: Fields, identifier: Identifier, code: str) -> Field:
    """Return what an identifier names.

    Raises:
        InvalidInputError: If there is no such thing.
    """
    entity = _ENTITIES.get(identifier.entity)
    if entity is None or entity not in fields.entities:
        known = sorted(entity.value for entity in fields.entities)
        near = suggest(identifier.entity, known)
        raise InvalidInputError(
            f"{fields.noun} have no {identifier.entity[:_NAMED_LENGTH]!r}{did_you_mean(near)}, at "
            f"character {identifier.position + 1}; they have {', '.join(known)}",
            code=code,
        )
    if entity is Entity.ATTRIBUTE:
        attribute = fields.attributes.get(identifier.key)
        if attribute is None:
            raise _unknown(fields, identifier, fields.attributes, code)
        return Field(
            entity=entity,
            key=attribute.name,
            kind=attribute.kind,
            is_nullable=attribute.is_nullable,
        )
    if entity is Entity.DATASET and identifier.key not in _DATASET_KEYS:
        raise _unknown(fields, identifier, _DATASET_KEYS, code)
    kind = Kind.NUMBER if entity is Entity.METRIC else Kind.TEXT
    return Field(entity=entity, key=identifier.key, kind=kind)


def _unknown(
    fields: Fields, identifier: Identifier, known: Sequence[str] | Mapping[str, object], code: str
) -> InvalidInputError:
    near = suggest(identifier.key, known)
    return InvalidInputError(
        f"{fields.noun} have no attribute {identifier.key[:_NAMED_LENGTH]!r}{did_you_mean(near)}, "
        f"at character {identifier.position + 1}; they have {', '.join(known)}",
        code=code,
    )


def _key(fields: Fields, order: Order) -> Key:
    return Key(
        field=find_field(fields, order.identifier, "bad-order"), is_ascending=order.is_ascending
    )


def _condition(fields: Fields, clause: Clause) -> Condition:
    named = find_field(fields, clause.identifier, "bad-filter")
    is_number = named.entity is Entity.ATTRIBUTE and named.kind is Kind.NUMBER
    is_text = named.kind in {Kind.TEXT, Kind.STATE}
    allowed = _TEXTUAL if is_text else _NUMERIC | _LISTS if is_number else _NUMERIC
    if named.is_nullable and named.entity is not Entity.DATASET:
        allowed = allowed | _NULLS
    if clause.comparison not in allowed:
        raise InvalidInputError(
            f"{_name(clause)} is not compared by {clause.comparison.value}, but by "
            f"{', '.join(item.value for item in Comparison if item in allowed)}",
            code="bad-filter",
        )
    value = _integers(clause) if is_number else clause.value
    is_scalar = clause.comparison not in _NULLS | _LISTS
    if is_scalar and isinstance(value, str) != is_text:
        wanted = "a text in quotes" if is_text else "a number"
        raise _mismatch(clause, wanted)
    return Condition(field=named, comparison=clause.comparison, value=value)


def _integers(clause: Clause) -> FilterValue:
    """Return the numbers of an id, which clients write as texts, too."""
    value = clause.value
    for text in value if isinstance(value, tuple) else (value,):
        if isinstance(text, str) and not _INTEGER.fullmatch(text):
            raise _mismatch(clause, "numbers")
    return int(value) if isinstance(value, str) else value


def _mismatch(clause: Clause, wanted: str) -> InvalidInputError:
    return InvalidInputError(
        f"{_name(clause)} is compared with {wanted}, not with "
        f"{str(clause.value)[:_NAMED_LENGTH]!r}",
        code="bad-filter",
    )


def _name(clause: Clause) -> str:
    identifier = clause.identifier
    name = f"{identifier.entity}.{identifier.key}" if identifier.entity else identifier.key
    return f"{name[:_NAMED_LENGTH]} (at character {identifier.position + 1})"
