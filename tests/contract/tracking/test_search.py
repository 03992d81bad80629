"""Searches on SQLite and on PostgreSQL: filters, orders, pages, against a plain Python filter."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from stemma.db.bulk import insert_many
from stemma.db.engine import Connection, Database
from stemma.db.rows import number_check, seal_values
from stemma.db.tracking_tables import (
    metric_series,
    model_version_tags,
    model_versions,
    registered_model_tags,
    registered_models,
    run_inputs,
    run_params,
    run_tags,
)
from stemma.domain.canonical import timestamp
from stemma.domain.errors import InvalidInputError
from stemma.domain.logged_model import LoggedModel, LoggedModelState, ModelMetric
from stemma.domain.run import RunId, RunRecord, RunStart, RunState
from stemma.domain.tracking import Experiment, Point
from stemma.tracking import experiment_queries, logged_model_queries, queries
from stemma.tracking.search.records import (
    search_experiments,
    search_logged_models,
    search_model_versions,
    search_registered_models,
)
from stemma.tracking.search.run_queries import find_runs
from stemma.tracking.search.runs import search_run_ids, search_runs
from stemma.tracking.search.values import (
    DatasetClause,
    ModelOrder,
    Page,
    Search,
    VersionKey,
    View,
)

MOMENT = datetime(2026, 5, 3, 12, tzinfo=UTC)
MOMENT_MS = int(MOMENT.timestamp() * 1000)
WORDS = ("x", "X", "xy", "a_b", "a%b", "a*b", "[x]", "")
_numbers = itertools.count(1)


@dataclass
class Kept:
    """A run as a plain value."""

    id: str
    metrics: dict[str, float] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    second: int = 0
    lasted: int | None = 1
    state: RunState = RunState.FINISHED
    experiment: int = 1
    name: str = ""
    is_deleted: bool = False


def write(connection: Connection, run: Kept) -> None:
    """Write a run and what it logged."""
    started_at = MOMENT + timedelta(seconds=run.second)
    ended_at = None if run.lasted is None else started_at + timedelta(seconds=run.lasted)
    record = RunRecord(
        id=RunId(run.id),
        start=RunStart(model="", experiment=run.experiment, name=run.name, created_by="ada"),
        state=run.state,
        started_at=started_at,
        ended_at=ended_at,
        deleted_at=MOMENT if run.is_deleted else None,
    )
    queries.insert_run(connection, record)
    rows = [
        (next(_numbers), run.id, name, 1, 1_000, None if math.isnan(value) else stored(value))
        for name, value in run.metrics.items()
    ]
    insert_many(connection, metric_series, [(*row, number_check(*row)) for row in rows])
    for table, labels in ((run_params, run.params), (run_tags, run.tags)):
        insert_many(
            connection, table, [seal_values(table, run.id, *label) for label in labels.items()]
        )


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """Return an empty database of each kind."""
    with Database.open(database_url, may_create=True) as opened:
        yield opened


def fill(database: Database, *runs: Kept) -> None:
    """Write runs."""
    with database.write() as connection:
        for run in runs:
            write(connection, run)


def found(database: Database, text: str = "", *order: str, **more: Any) -> list[str]:
    """Return the ids that a search finds in experiment 1."""
    with database.read() as connection:
        search = Search(filter=text, order=order, **more)
        return list(search_run_ids(connection, [1], search).items)


# The law ------------------------------------------------------------------------------------

METRICS = ("loss", "val loss")
VALUES = (-1.5, 0.0, 0.1, 2.0, math.nan, math.inf)


@st.composite
def kept_runs(draw: st.DrawFn) -> Kept:
    """Draw a run."""
    words = st.sampled_from(WORDS)
    return Kept(
        id="",
        metrics=draw(st.dictionaries(st.sampled_from(METRICS), st.sampled_from(VALUES))),
        params=draw(st.dictionaries(st.sampled_from(("lr", "a b")), words)),
        tags=draw(st.dictionaries(st.sampled_from(("team", "x.y")), words)),
        second=draw(st.integers(0, 3)),
        lasted=draw(st.sampled_from((None, 1, 2))),
        state=draw(st.sampled_from(RunState)),
        name=draw(words),
        is_deleted=draw(st.integers(0, 4)) == 0,
    )


Test = Callable[[Kept], bool]
COMPARED: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def is_like(text: str, pattern: str, flags: int = 0) -> bool:
    """Whether a text matches a pattern of LIKE."""
    made = "".join({"%": ".*", "_": "."}.get(mark, re.escape(mark)) for mark in pattern)
    return re.fullmatch(made, text, flags | re.DOTALL) is not None


def stored(value: float) -> float:
    """Return a value as it is kept."""
    return math.copysign(1.7976931348623157e308, value) if math.isinf(value) else value


@st.composite
def clauses(draw: st.DrawFn) -> tuple[str, Test]:
    """Draw a comparison as text and as a function."""
    what = draw(st.sampled_from(("metric", "metric", "label", "label", "null", "time", "status")))
    if what == "metric":
        name, sign = draw(st.sampled_from(METRICS)), draw(st.sampled_from(sorted(COMPARED)))
        value = draw(st.sampled_from((-1.5, 0, 0.1, 2)))
        return (
            f"metrics.`{name}` {sign} {value}",
            lambda run: name in run.metrics and COMPARED[sign](stored(run.metrics[name]), value),
        )
    if what == "time":
        sign = draw(st.sampled_from(sorted(COMPARED)))
        second = draw(st.integers(0, 3))
        text = f"start_time {sign} {MOMENT_MS + second * 1000}"
        return text, lambda run: COMPARED[sign](run.second, second)
    if what == "status":
        state = draw(st.sampled_from(RunState))
        word = "KILLED" if state is RunState.INTERRUPTED else state.name
        sign = draw(st.sampled_from(("=", "!=")))
        return f"attributes.status {sign} '{word}'", lambda run: COMPARED[sign](run.state, state)
    entity, key = draw(
        st.sampled_from((("params", "lr"), ("params", "a b"), ("tags", "team"), ("tags", "x.y")))
    )

    def labels(run: Kept) -> dict[str, str]:
        return run.params if entity == "params" else run.tags

    if what == "null":
        is_null = draw(st.booleans())
        text = f'{entity}."{key}" IS {"" if is_null else "NOT "}NULL'
        return text, lambda run: (key not in labels(run)) is is_null
    return draw(label_clauses(entity, key, labels))


@st.composite
def label_clauses(
    draw: st.DrawFn, entity: str, key: str, labels: Callable[[Kept], dict[str, str]]
) -> tuple[str, Test]:
    """Draw a comparison of a param or a tag."""
    sign = draw(st.sampled_from(("=", "!=", "LIKE", "ilike", "IN", "not in")))
    if sign.upper().endswith("IN"):
        wanted = draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=3))
        listed = ", ".join(f"'{word}'" for word in wanted)
        is_in = sign == "IN"
        return (
            f"{entity}.`{key}` {sign} ({listed})",
            lambda run: key in labels(run) and (labels(run)[key] in wanted) is is_in,
        )
    value = draw(st.sampled_from((*WORDS, "%", "a%", "_", "%B%", "a_b%")))
    tests: dict[str, Callable[[str], bool]] = {
        "=": lambda text: text == value,
        "!=": lambda text: text != value,
        "LIKE": lambda text: is_like(text, value),
        "ilike": lambda text: is_like(text, value, re.IGNORECASE),
    }
    return (
        f"{entity}.`{key}` {sign} '{value}'",
        lambda run: key in labels(run) and tests[sign](labels(run)[key]),
    )


KEYS: Mapping[str, Callable[[Kept], Any]] = {
    "metrics.loss": lambda run: run.metrics.get("loss"),
    "metrics.`val loss`": lambda run: run.metrics.get("val loss"),
    "params.lr": lambda run: run.params.get("lr"),
    "tags.`x.y`": lambda run: run.tags.get("x.y"),
    "start_time": lambda run: run.second,
    "end_time": lambda run: None if run.lasted is None else run.second + run.lasted,
    "attributes.run_name": lambda run: run.name,
}


def expected_order(runs: list[Kept], order: list[tuple[str, bool]]) -> list[str]:
    """Return ids in the order that a search must give."""
    ordered = sorted(runs, key=lambda run: (-run.second, run.id))
    for key, is_ascending in reversed(order):
        value_of = KEYS[key]

        def rank(run: Kept, value_of: Callable[[Kept], Any] = value_of) -> int:
            value = value_of(run)
            return 2 if value is None else 1 if isinstance(value, float) and value != value else 0  # noqa: PLR0124 - NaN

        numbers = [run for run in ordered if rank(run) == 0]
        numbers.sort(key=value_of, reverse=not is_ascending)
        ordered = numbers + [run for rest in (1, 2) for run in ordered if rank(run) == rest]
    return [run.id for run in ordered]


def pages_of(
    connection: Connection, experiment: int, search: Search, limit: int = 100
) -> Iterator[str]:
    """Yield the ids of every page."""
    for _ in range(limit):
        page: Page[str] = search_run_ids(connection, [experiment], search)
        assert len(page.items) <= search.page_size
        yield from page.items
        if not page.next_token:
            return
        assert len(page.items) == search.page_size
        search = replace(search, token=page.next_token)


def pages_by_index(connection: Connection, experiment: int, search: Search) -> Iterator[str]:
    """Yield the ids of every page, as when no number of runs is few."""
    start = None
    while True:
        rows = find_runs(connection, [experiment], search, start, few_limit=-1)
        page = rows[: search.page_size]
        yield from (row.run for row in page)
        if len(rows) == len(page):
            return
        start = page[-1].mark


@pytest.mark.slow
@settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    runs=st.lists(kept_runs(), min_size=1, max_size=9),
    wanted=st.lists(clauses(), max_size=3),
    order=st.lists(
        st.tuples(st.sampled_from(sorted(KEYS)), st.booleans()),
        max_size=2,
        unique_by=lambda item: item[0],
    ),
    page_size=st.integers(1, 4),
    view=st.sampled_from(View),
)
def test_pages_hold_what_a_plain_filter_takes_in_its_order(
    database: Database,
    runs: list[Kept],
    wanted: list[tuple[str, Test]],
    order: list[tuple[str, bool]],
    page_size: int,
    view: View,
) -> None:
    """A user would miss runs, see some twice, or see them in another order."""
    experiment = next(_numbers)
    for run in runs:
        run.id = f"r-{next(_numbers):08x}"
        run.experiment = experiment
    fill(database, *runs)
    views = {View.ACTIVE_ONLY: (False,), View.DELETED_ONLY: (True,), View.ALL: (False, True)}
    taken = [
        run
        for run in runs
        if run.is_deleted in views[view] and all(test(run) for _, test in wanted)
    ]
    search = Search(
        filter=" AND ".join(text for text, _ in wanted),
        order=tuple(f"{key} {'ASC' if is_ascending else 'DESC'}" for key, is_ascending in order),
        page_size=page_size,
        view=view,
    )
    with database.read() as connection:
        expected = expected_order(taken, order)
        assert list(pages_of(connection, experiment, search)) == expected
        assert list(pages_by_index(connection, experiment, search)) == expected


# Single points ------------------------------------------------------------------------------


def test_pairs_of_keys_order_runs(database: Database) -> None:
    """A second key would be left out, or runs without it come first."""
    runs = [
        Kept(
            f"r-0{number}",
            {"loss": (math.nan, 0.5, 0.5, -1.0)[number]} if number else {},
            {"lr": "0.1"} if number % 2 else {},
            {"x.y": str(number)} if number > 1 else {},
            second=number // 2,
            lasted=None if number == 1 else 1,
        )
        for number in range(4)
    ]
    fill(database, *runs)
    with database.read() as connection:
        for first, second in list(itertools.permutations(KEYS, 2))[::3]:
            order = [(first, True), (second, False)]
            search = Search(order=(first, f"{second} DESC"), page_size=3)
            expected = expected_order(runs, order)
            assert list(pages_of(connection, 1, search)) == expected, order
            assert list(pages_by_index(connection, 1, search)) == expected, order


def test_a_page_holds_all_that_a_run_logged(database: Database) -> None:
    """A table of runs would have empty columns."""
    fill(database, Kept("r-01", {"loss": 0.5}, {"lr": "0.1"}, {"team": "a"}))
    with database.read() as connection:
        (data,) = search_runs(connection, None, Search()).items
    assert data.record.id == "r-01"
    assert (data.metrics, data.params, data.tags) == (
        (Point("loss", 0.5, 1, 1_000),),
        {"lr": "0.1"},
        {"team": "a"},
    )


def test_a_page_goes_on_after_its_last_run_whatever_was_written(database: Database) -> None:
    """A new run between two pages would show a run twice."""
    fill(database, *(Kept(f"r-0{number}", second=number) for number in range(4)))
    with database.read() as connection:
        first = search_run_ids(connection, [1], Search(page_size=2))
    fill(database, Kept("r-09", second=9))
    assert list(first.items) == ["r-03", "r-02"]
    assert found(database, token=first.next_token, page_size=2) == ["r-01", "r-00"]


ATTRIBUTES = (
    ("run_id = '0123456789abcdef0123456789abcdef'", [1]),
    ("attributes.run_id IN ('0123456789abcdef0123456789abcdef', 'r-02')", [2, 1]),
    ("run_name LIKE 'first%'", [1]),
    ("`Run name` != 'first run'", [2]),
    ("user_id = 'ada' and status = 'KILLED'", [2]),
    ("status != 'KILLED'", [1]),
    ("status LIKE 'FIN%'", [1]),
    ("end_time IS NULL", [2]),
    ("created >= 1.5", [2, 1]),
    ("start_time < 99999999999999999999", [2, 1]),
    ("start_time < -99999999999999999999", []),
    ("start_time = 0.5", []),
    ("artifact_uri LIKE '%/r-02/artifacts'", [2]),
    ("artifact_uri = 'mlflow-artifacts:/1/r-02/artifacts'", [2]),
    ("dataset.name = 'wine' AND datasets.context LIKE 'train%'", [1]),
    ("dataset.digest IN ('d2')", []),
    ("metrics.loss = 1e400", [2]),
    ("metrics.loss != 7", [2]),
    ("metrics.loss IS NULL", [1]),
    ("tags.quoted = 'it''s \"so\"'", [1]),
    ("tags.`naïve` = 'ü'", [1]),
)


def test_every_name_of_an_attribute_is_known(database: Database) -> None:
    """A client's search would fail, or find other runs than it asked for."""
    names = {1: "r-0123456789abcdef0123456789abcdef", 2: "r-02"}
    tags = {"quoted": 'it\'s "so"', "naïve": "ü"}
    ended = Kept(names[1], name="first run", tags=tags)
    killed = Kept(names[2], {"loss": math.inf}, second=1, lasted=None, state=RunState.INTERRUPTED)
    fill(database, ended, killed)
    with database.write() as connection:
        row = seal_values(run_inputs, names[1], "wine", "d1", "training", "{}")
        insert_many(connection, run_inputs, [row])
    answers = {text: found(database, text) for text, _ in ATTRIBUTES}
    assert answers == {text: [names[number] for number in ids] for text, ids in ATTRIBUTES}


def test_a_search_looks_in_the_experiments_that_are_named(database: Database) -> None:
    """A run of another project would come up, or a number out of range crash the server."""
    fill(database, *(Kept(f"r-0{number}", experiment=number) for number in (1, 2, 3)))

    def runs_of(*experiments: int) -> list[str]:
        with database.read() as connection:
            return list(search_run_ids(connection, experiments, Search()).items)

    assert runs_of(1, 3, 3) == ["r-01", "r-03"]
    assert runs_of(2, 10**30) == ["r-02"]
    assert runs_of() == runs_of(-(10**30)) == []
    with pytest.raises(InvalidInputError):
        runs_of(*range(30_000))


def test_a_token_is_of_one_search(database: Database) -> None:
    """A client would page through other runs than it asked for, or read a crash."""
    fill(database, *(Kept(f"r-0{number}", {"loss": number / 2}) for number in range(3)))
    search = Search(order=("metrics.loss",), page_size=1)
    with database.read() as connection:
        token = search_run_ids(connection, [1], search).next_token
        assert list(search_run_ids(connection, [1], replace(search, token=token)).items) == ["r-01"]
        for other in (
            replace(search, token=token, filter="metrics.loss > 0"),
            replace(search, token=token, order=("metrics.loss DESC",)),
            replace(search, token=token, view=View.ALL),
            replace(search, token=token[:-8] + "AAAAAAAA"),
            *(replace(search, token=text) for text in ("eyJvZmZzZXQiOiAxfQ==", "é", "A" * 300_000)),
        ):
            with pytest.raises(InvalidInputError) as refused:
                search_run_ids(connection, [1], other)
            assert refused.value.code == "bad-page-token"
        with pytest.raises(InvalidInputError):
            search_run_ids(connection, [2], replace(search, token=token))
        for size in (0, -1, 50_001):
            with pytest.raises(InvalidInputError, match="page"):
                search_run_ids(connection, [1], replace(search, page_size=size))


def test_the_newest_runs_are_read_from_an_index(tmp_path: Path) -> None:
    """A page of a large project would sort every run of it."""
    with Database.open(f"sqlite:///{tmp_path}/stemma.db", may_create=True) as database:
        fill(database, *(Kept(f"r-{number:03x}", second=number) for number in range(300)))
        asked: list[tuple[str, Any]] = []
        with database.read() as connection:

            @event.listens_for(connection, "before_cursor_execute")
            def listen(*arguments: Any) -> None:
                asked.append(arguments[2:4])

            for text, order in (("", ()), ("metrics.loss > 1", ("metrics.loss DESC",))):
                search = Search(filter=text, order=order)
                find_runs(connection, [1], search, None, few_limit=-1)
            plans = [
                " ".join(
                    row[3]
                    for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values)
                )
                for sql, values in (asked[0], asked[-1])
            ]
        assert "ix_runs_experiment_started_at_id" in plans[0]
        assert "ix_metric_series_name_value_run (name=? AND value>?)" in plans[1]
        assert "FOR ORDER BY" not in "".join(plans)  # but ties, "FOR RIGHT PART OF ORDER BY"


def test_experiments_are_searched(database: Database) -> None:
    """The list of experiments would be empty, or unordered."""
    with database.write() as connection:
        for number, name in enumerate(("vision", "text", "Vision 2"), 1):
            made = MOMENT + timedelta(seconds=number)
            gone = MOMENT if name == "text" else None
            experiment_queries.put(
                connection,
                Experiment(id=number, name=name, created_at=made, updated_at=made, deleted_at=gone),
            )
        experiment_queries.set_tags(connection, 1, {"team": "a"})

    def ids(text: str = "", *order: str, **more: Any) -> list[int]:
        with database.read() as connection:
            page = search_experiments(connection, Search(filter=text, order=order, **more))
        return [item.id for item in page.items]

    assert ids() == [3, 1]
    assert ids(view=View.ALL) == [3, 2, 1]
    assert ids("name LIKE 'vis%'") == [1]
    assert ids("name ILIKE 'vis%'", "name") == [3, 1]
    assert ids("tags.team = 'a'") == ids("experiment_id = '1'") == [1]
    assert ids("experiment_id IN ('1', '3')", "experiment_id ASC") == [1, 3]
    assert ids(f"creation_time > {MOMENT_MS + 1000}") == [3]
    with pytest.raises(InvalidInputError):
        ids("metrics.loss > 1")
    with pytest.raises(InvalidInputError):
        ids("", "tags.team")


def fill_registry(database: Database) -> None:
    """Write two models, one prompt, and versions."""
    moment = timestamp(MOMENT)
    later = timestamp(MOMENT + timedelta(seconds=1))
    with database.write() as connection:
        for name, changed in (("clf", moment), ("Ranker", later), ("greet", moment)):
            row = seal_values(registered_models, name, name.lower(), "", moment, changed)
            insert_many(connection, registered_models, [row])
        tags = [("greet", "mlflow.prompt.is_prompt", "true"), ("clf", "team", "a")]
        insert_many(
            connection,
            registered_model_tags,
            [seal_values(registered_model_tags, *tag) for tag in tags],
        )
        for name, number, stage in (
            ("clf", 1, "None"),
            ("clf", 2, "Production"),
            ("clf", 3, "Deleted"),
            ("greet", 1, "None"),
        ):
            columns = ("r-0a", "", "src", "", stage, moment, moment, "ada", None, "")
            row = seal_values(model_versions, name, number, *columns)
            insert_many(connection, model_versions, [row])
        tag = seal_values(model_version_tags, "clf", 2, "ok", "yes")
        insert_many(connection, model_version_tags, [tag])


def test_the_registry_is_searched(database: Database) -> None:
    """A client that lists models would see none, or prompts among them."""
    fill_registry(database)
    with database.read() as connection:

        def names(text: str = "", *order: str) -> list[str]:
            return list(
                search_registered_models(connection, Search(filter=text, order=order)).items
            )

        def versions(text: str = "", *order: str) -> list[VersionKey]:
            return list(search_model_versions(connection, Search(filter=text, order=order)).items)

        assert names() == ["Ranker", "clf"]
        assert names("tag.`mlflow.prompt.is_prompt` != 'true'") == ["Ranker", "clf"]
        assert names("tag.`mlflow.prompt.is_prompt` = 'true'") == ["greet"]
        assert names("name ilike '%R%'", "timestamp DESC") == ["Ranker"]
        assert names("tags.team != 'b'") == ["clf"]
        assert versions("name='clf'") == [("clf", 2), ("clf", 1)]
        assert versions("name='clf' and version_number < 2") == [("clf", 1)]
        assert versions("version_number > 1.5 and version < 99999999999999999999") == [("clf", 2)]
        assert versions("version_number IN ('1', '7')") == [("clf", 1)]
        assert versions("run_id = 'r-0a'", "version_number ASC") == [("clf", 1), ("clf", 2)]
        assert versions("tags.ok = 'yes'") == [("clf", 2)]
        assert versions("tags.`mlflow.prompt.is_prompt` = 'true'") == [("greet", 1)]
        first = search_model_versions(connection, Search(page_size=1))
        search = Search(page_size=1, token=first.next_token)
        assert list(search_model_versions(connection, search).items) == [("clf", 1)]
        with pytest.raises(InvalidInputError):
            search_registered_models(connection, search)


def fill_logged_models(database: Database) -> None:
    """Write three, of which two were measured on two datasets."""
    with database.write() as connection:
        for number, (name, loss) in enumerate((("a", 0.5), ("b", 0.1), ("c", None))):
            model = LoggedModel(
                id=f"m-{number}",
                experiment=1,
                name=name,
                state=LoggedModelState.READY,
                created_at=MOMENT + timedelta(seconds=number),
                updated_at=MOMENT,
            )
            logged_model_queries.insert_model(connection, model)
            logged_model_queries.upsert_tags(connection, model.id, {"team": name})
            points = [
                ModelMetric("loss", value, 1, 1_000 + step, "r-0a", dataset, "d1")
                for step, (dataset, value) in enumerate((("test", loss), ("train", 0.3)))
                if value is not None
            ]
            logged_model_queries.upsert_metrics(connection, [(model.id, point) for point in points])


def test_logged_models_are_searched(database: Database) -> None:
    """The best model on a dataset would not be found."""
    fill_logged_models(database)

    def ids(text: str = "", *order: ModelOrder, dataset: str = "", **more: Any) -> list[str]:
        datasets = [DatasetClause(name=dataset)] if dataset else []
        with database.read() as connection:
            search = Search(filter=text, **more)
            page = search_logged_models(connection, [1], search, datasets=datasets, order=order)
        return list(page.items)

    test = DatasetClause(name="test", digest="d1")
    by_loss = ModelOrder(field="metrics.loss", dataset=test)
    assert ids() == ["m-2", "m-1", "m-0"]
    assert ids("name = 'a' AND tags.team != 'b'") == ids("model_id = 'm-0'") == ["m-0"]
    assert ids("", by_loss) == ["m-1", "m-0", "m-2"]
    assert ids("", replace(by_loss, is_ascending=False)) == ["m-0", "m-1", "m-2"]
    assert ids("metrics.loss > 0.4") == ["m-0"]
    assert ids("metrics.loss > 0.2", dataset="test") == ["m-0"]
    assert ids("", ModelOrder(field="creation_timestamp"), dataset="test") == ["m-0", "m-1"]
    assert ids("status = 'READY'", view=View.DELETED_ONLY) == []
    with database.read() as connection:
        page = search_logged_models(connection, [1], Search(page_size=1), order=[by_loss])
        following = Search(page_size=1, token=page.next_token)
        assert list(search_logged_models(connection, [1], following, order=[by_loss]).items) == [
            "m-0"
        ]
        with pytest.raises(InvalidInputError):
            search_logged_models(connection, [1], following)
    for refused in (ModelOrder(field="params.a"), ModelOrder(field="color")):
        with pytest.raises(InvalidInputError):
            ids("", refused)
    with pytest.raises(InvalidInputError):
        ids("", by_loss, by_loss)
