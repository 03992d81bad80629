"""Runs on the wire: opened, changed, deleted, restored, read and searched."""

from __future__ import annotations

from functools import partial
from typing import Final

from stemma.domain.run import RunStart
from stemma.domain.tracking import KEY_LENGTH_LIMIT, storable, to_moment, too_long
from stemma.protocols.mlflow.routes import MlflowRequest, MlflowRoute, Needs
from stemma.protocols.mlflow.translate import (
    labels_of,
    run_info_message,
    run_message,
    run_of,
    state_of,
    view_of,
)
from stemma.protocols.mlflow.wire import CreateRun, RunMessage, SearchRuns, UpdateRun
from stemma.tracking import run_log
from stemma.tracking.search.runs import search_runs
from stemma.tracking.search.values import Search

_ROOT: Final = "/api/2.0/mlflow/runs"


async def create(request: MlflowRequest) -> object:
    """Open a run."""
    asked = await request.body(CreateRun)
    now = request.services.clock()
    user = storable(asked.user_id or request.user)
    if len(user) > KEY_LENGTH_LIMIT:
        raise too_long("user", user, KEY_LENGTH_LIMIT)
    verb = partial(
        run_log.create_run,
        start=RunStart(
            model="", experiment=asked.experiment_id, name=asked.run_name, created_by=user
        ),
        started_at=to_moment(asked.start_time * 1000) if asked.start_time else now,
        now=now,
        tags=labels_of(asked.tags),
    )
    return {"run": run_message(await request.services.write(verb))}


async def get(request: MlflowRequest) -> object:
    """Return a run with all it logged."""
    run = run_of(await request.body(RunMessage))
    return {"run": run_message(await request.services.read(partial(run_log.run_data, run=run)))}


async def update(request: MlflowRequest) -> object:
    """Change a run's state, end and name."""
    asked = await request.body(UpdateRun)
    verb = partial(
        run_log.update,
        run=run_of(asked),
        state=state_of(asked.status),
        ended_at=to_moment(asked.end_time * 1000) if asked.end_time else None,
        name=asked.run_name,
    )
    return {"run_info": run_info_message(await request.services.write(verb))}


async def delete(request: MlflowRequest) -> object:
    """Delete a run; its files go by garbage collection."""
    run = run_of(await request.body(RunMessage))
    now = request.services.clock()
    await request.services.write(partial(run_log.delete, run=run, now=now))
    return {}


async def restore(request: MlflowRequest) -> object:
    """Take the deletion of a run back."""
    run = run_of(await request.body(RunMessage))
    await request.services.write(partial(run_log.restore, run=run))
    return {}


async def search(request: MlflowRequest) -> object:
    """Return a page of runs with all they logged."""
    asked = await request.body(SearchRuns)
    what = Search(
        filter=asked.filter,
        order=tuple(asked.order_by),
        page_size=asked.max_results,
        token=asked.page_token,
        view=view_of(asked.run_view_type),
    )
    page = await request.services.read(
        partial(search_runs, experiments=asked.experiment_ids, search=what)
    )
    answer: dict[str, object] = {"runs": [run_message(run) for run in page.items]}
    if page.next_token:
        answer["next_page_token"] = page.next_token
    return answer


ROUTES: Final = (
    MlflowRoute(method="POST", path=f"{_ROOT}/create", handler=create, needs=Needs.WRITE),
    MlflowRoute(method="GET", path=f"{_ROOT}/get", handler=get, needs=Needs.READ),
    MlflowRoute(
        method="POST",
        path=f"{_ROOT}/update",
        handler=update,
        needs=Needs.WRITE,
        is_whole=False,
        remark="of a run that Stemma records itself only the name changes",
    ),
    MlflowRoute(method="POST", path=f"{_ROOT}/delete", handler=delete, needs=Needs.WRITE),
    MlflowRoute(method="POST", path=f"{_ROOT}/restore", handler=restore, needs=Needs.WRITE),
    MlflowRoute(method="POST", path=f"{_ROOT}/search", handler=search, needs=Needs.READ),
)
