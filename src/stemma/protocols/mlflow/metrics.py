"""Histories of metrics on the wire, whole or thinned out.

Invariants:
    * A page has no more points than clients ask for at most, however long a history is.
    * Of a history that is thinned out the first and the last step of each run are kept.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from functools import partial
from typing import Final

from stemma.db.engine import Connection
from stemma.domain.errors import InvalidInputError
from stemma.domain.tracking import HISTORY_PAGE_LIMIT, Point
from stemma.protocols.mlflow.routes import MlflowRequest, MlflowRoute, Needs
from stemma.protocols.mlflow.translate import (
    point_message,
    read_mark,
    run_named,
    run_of,
    write_mark,
)
from stemma.protocols.mlflow.wire import MetricHistories, MetricHistory
from stemma.tracking import run_log

_RUNS_LIMIT: Final = 100
_POINTS_LIMIT: Final = 2_500


async def get_history(request: MlflowRequest) -> object:
    """Return a page of the points of a metric."""
    asked = await request.body(MetricHistory)
    if asked.max_results < 0:
        raise InvalidInputError("max_results is negative", code="bad-page-size")
    points, mark = await request.services.read(
        partial(
            run_log.metric_history,
            run=run_of(asked),
            name=asked.metric_key,
            limit=asked.max_results or HISTORY_PAGE_LIMIT,
            after=read_mark(asked.page_token),
        )
    )
    answer: dict[str, object] = {"metrics": [point_message(point) for point in points]}
    if mark is not None:
        answer["next_page_token"] = write_mark(mark)
    return answer


async def get_histories(request: MlflowRequest) -> object:
    """Return points of a metric of several runs, so many steps of each at most."""
    asked = await request.body(MetricHistories)
    if not 1 <= len(asked.run_ids) <= _RUNS_LIMIT:
        raise InvalidInputError(
            f"{len(asked.run_ids)} runs were asked for; 1 to {_RUNS_LIMIT} can be",
            code="bad-page-size",
        )
    if (asked.start_step is None) != (asked.end_step is None):
        raise InvalidInputError("start_step and end_step go together", code="bad-step")
    if not 1 <= asked.max_results <= _POINTS_LIMIT:
        raise InvalidInputError(
            f"max_results is 1 to {_POINTS_LIMIT}, not {asked.max_results}", code="bad-page-size"
        )
    found = await request.services.read(partial(_read_histories, asked=asked))
    return {"metrics": found}


def _read_histories(connection: Connection, asked: MetricHistories) -> list[dict[str, object]]:
    points = {
        run: _whole_history(connection, run_named(run), asked.metric_key)
        for run in dict.fromkeys(asked.run_ids)
    }
    steps = _chosen_steps([[point.step for point in found] for found in points.values()], asked)
    return [
        {**point_message(point), "run_id": run}
        for run, found in points.items()
        for point in found
        if point.step in steps
    ]


def _whole_history(connection: Connection, run: str, name: str) -> list[Point]:
    points, mark = run_log.metric_history(connection, run, name)
    while mark is not None:
        more, mark = run_log.metric_history(connection, run, name, after=mark)
        points += more
    return points


def _chosen_steps(runs: list[list[int]], asked: MetricHistories) -> set[int]:
    """Return which steps to show: evenly spread, and the first and the last of each run."""
    known = sorted({step for steps in runs for step in steps})
    low = asked.start_step if asked.start_step is not None else 0
    high = asked.end_step if asked.end_step is not None else max(known, default=0)
    within = known[bisect_left(known, low) : bisect_right(known, high)]
    ends = {step for steps in runs if steps for step in (steps[0], steps[-1])}
    return _spread(within, asked.max_results) | {step for step in ends if low <= step <= high}


def _spread(steps: list[int], most: int) -> set[int]:
    if len(steps) <= most:
        return set(steps)
    if most == 1:
        return {steps[-1]}
    return {steps[round(number * (len(steps) - 1) / (most - 1))] for number in range(most)}


ROUTES: Final = (
    MlflowRoute(
        method="GET",
        path="/api/2.0/mlflow/metrics/get-history",
        handler=get_history,
        needs=Needs.READ,
        is_whole=False,
        remark="at most 25,000 points a page, also without `max_results`",
    ),
    MlflowRoute(
        method="GET",
        path="/api/2.0/mlflow/metrics/get-history-bulk-interval",
        handler=get_histories,
        needs=Needs.READ,
    ),
)
