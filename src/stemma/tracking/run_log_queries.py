"""All the SQL of what runs log besides metrics: params, tags, inputs and outputs.

Invariants:
    * Every row that is returned matched its digest; every row that is written is sealed.
    * A function takes the connection of its caller's transaction and opens none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from sqlalchemy import Connection, bindparam, delete

from stemma.db.bulk import insert_many, read_many, select_many
from stemma.db.rows import seal_values
from stemma.db.tracking_tables import (
    run_inputs,
    run_model_inputs,
    run_outputs,
    run_params,
    run_tags,
)
from stemma.domain.tracking import RunInput, RunOutput

_DELETE_TAG: Final = delete(run_tags).where(
    run_tags.c.run == bindparam("of_run"), run_tags.c.key == bindparam("of_key")
)
Labels = dict[str, dict[str, str]]


class _Body(msgspec.Struct, frozen=True, omit_defaults=True):
    """The part of an input that nobody searches."""

    source_type: str = ""
    source: str = ""
    schema: str = ""
    profile: str = ""
    tags: dict[str, str] = {}


def add_params(connection: Connection, run: str, params: Mapping[str, str]) -> bool:
    """Add params; whether none of them was there. What was there stays."""
    rows = [seal_values(run_params, run, *param) for param in params.items()]
    return insert_many(connection, run_params, rows) == len(rows)


def params_of(connection: Connection, run: str, keys: Sequence[str]) -> dict[str, str]:
    """Return the params of those names."""
    found = select_many(connection, run_params, "key", keys, run=run)
    return {row.key: row.value for row in found}


def set_tags(connection: Connection, run: str, tags: Mapping[str, str]) -> None:
    """Write tags over what was there."""
    rows = [seal_values(run_tags, run, *tag) for tag in tags.items()]
    insert_many(connection, run_tags, rows, replaces=True)


def delete_tag(connection: Connection, run: str, key: str) -> bool:
    """Remove a tag; whether there was one."""
    return connection.execute(_DELETE_TAG, {"of_run": run, "of_key": key}).rowcount > 0


def add_inputs(connection: Connection, run: str, inputs: Sequence[RunInput]) -> None:
    """Add datasets; one of a name and digest that is there stays as it is."""
    rows = [
        seal_values(
            run_inputs,
            run,
            item.name,
            item.digest,
            item.context,
            msgspec.json.encode(
                _Body(
                    source_type=item.source_type,
                    source=item.source,
                    schema=item.schema,
                    profile=item.profile,
                    tags=dict(item.tags),
                )
            ).decode(),
        )
        for item in inputs
    ]
    insert_many(connection, run_inputs, rows)


def add_model_inputs(connection: Connection, run: str, models: Sequence[str]) -> None:
    """Add logged models that a run read."""
    rows = [seal_values(run_model_inputs, run, model) for model in models]
    insert_many(connection, run_model_inputs, rows)


def add_outputs(connection: Connection, run: str, outputs: Sequence[RunOutput]) -> None:
    """Add logged models that a run made; one that is there stays as it is."""
    rows = [seal_values(run_outputs, run, item.logged_model, item.step) for item in outputs]
    insert_many(connection, run_outputs, rows)


def find_params(connection: Connection, runs: Sequence[str]) -> Labels:
    """Return the params of runs, by run."""
    found: Labels = {}
    for run, key, value, _ in read_many(connection, run_params, "run", runs):
        found.setdefault(run, {})[key] = value
    return found


def find_tags(connection: Connection, runs: Sequence[str]) -> Labels:
    """Return the tags of runs, by run."""
    found: Labels = {}
    for run, key, value, _ in read_many(connection, run_tags, "run", runs):
        found.setdefault(run, {})[key] = value
    return found


def find_inputs(connection: Connection, runs: Sequence[str]) -> dict[str, list[RunInput]]:
    """Return the datasets that runs read, by run."""
    found: dict[str, list[RunInput]] = {}
    for row in select_many(connection, run_inputs, "run", runs):
        body = msgspec.json.decode(row.body, type=_Body)
        item = RunInput(name=row.name, digest=row.digest, **msgspec.structs.asdict(body))
        found.setdefault(row.run, []).append(item)
    for items in found.values():
        items.sort(key=lambda item: (item.name, item.digest))
    return found


def find_model_inputs(connection: Connection, runs: Sequence[str]) -> dict[str, list[str]]:
    """Return the logged models that runs read, by run."""
    found: dict[str, list[str]] = {}
    for row in select_many(connection, run_model_inputs, "run", runs):
        found.setdefault(row.run, []).append(row.logged_model)
    return {run: sorted(models) for run, models in found.items()}


def find_outputs(connection: Connection, runs: Sequence[str]) -> dict[str, list[RunOutput]]:
    """Return the logged models that runs made, by run."""
    found: dict[str, list[RunOutput]] = {}
    for row in select_many(connection, run_outputs, "run", runs):
        item = RunOutput(logged_model=row.logged_model, step=row.step)
        found.setdefault(row.run, []).append(item)
    for items in found.values():
        items.sort(key=lambda item: item.logged_model)
    return found
