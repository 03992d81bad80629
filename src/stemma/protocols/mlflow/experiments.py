"""Experiments on the wire.

Invariants:
    * Where an experiment keeps artifacts is ours to say; a client that names a place is refused.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from stemma.db.engine import Connection
from stemma.domain.errors import InvalidInputError, NotFoundError
from stemma.domain.tracking import DEFAULT_EXPERIMENT, DEFAULT_EXPERIMENT_NAME, Experiment
from stemma.protocols.mlflow.routes import MlflowRequest, MlflowRoute, Needs
from stemma.protocols.mlflow.translate import experiment_message, labels_of, view_of
from stemma.protocols.mlflow.wire import (
    CreateExperiment,
    ExperimentByName,
    ExperimentMessage,
    ExperimentTag,
    SearchExperiments,
    UpdateExperiment,
)
from stemma.tracking import experiments
from stemma.tracking.search.records import search_experiments
from stemma.tracking.search.values import Search

_ROOT: Final = "/api/2.0/mlflow/experiments"


async def create(request: MlflowRequest) -> object:
    """Make an experiment."""
    asked = await request.body(CreateExperiment)
    if asked.artifact_location:
        raise InvalidInputError(
            f"artifacts are kept by this server, not at {asked.artifact_location[:80]!r}",
            code="bad-artifact-location",
            hint="leave artifact_location out",
        )
    verb = partial(
        experiments.create,
        name=asked.name,
        now=request.services.clock(),
        tags=labels_of(asked.tags),
    )
    return {"experiment_id": str((await request.services.write(verb)).id)}


async def get(request: MlflowRequest) -> object:
    """Return an experiment by number."""
    asked = await request.body(ExperimentMessage)
    if asked.experiment_id == DEFAULT_EXPERIMENT:
        return _answer(await _default(request))
    found = await request.services.read(partial(experiments.get, experiment=asked.experiment_id))
    return _answer(found)


async def get_by_name(request: MlflowRequest) -> object:
    """Return an experiment by name."""
    asked = await request.body(ExperimentByName)
    if asked.experiment_name == DEFAULT_EXPERIMENT_NAME:
        return _answer(await _default(request))
    verb = partial(experiments.get_by_name, name=asked.experiment_name)
    return _answer(await request.services.read(verb))


async def search(request: MlflowRequest) -> object:
    """Return a page of experiments."""
    asked = await request.body(SearchExperiments)
    await _default(request)
    what = Search(
        filter=asked.filter,
        order=tuple(asked.order_by),
        page_size=asked.max_results,
        token=asked.page_token,
        view=view_of(asked.view_type),
    )
    page = await request.services.read(partial(search_experiments, search=what))
    answer: dict[str, object] = {"experiments": [experiment_message(one) for one in page.items]}
    if page.next_token:
        answer["next_page_token"] = page.next_token
    return answer


async def rename(request: MlflowRequest) -> object:
    """Give an experiment another name."""
    asked = await request.body(UpdateExperiment)
    verb = partial(
        experiments.rename,
        experiment=asked.experiment_id,
        name=asked.new_name,
        now=request.services.clock(),
    )
    await request.services.write(verb)
    return {}


async def delete(request: MlflowRequest) -> object:
    """Delete an experiment."""
    asked = await request.body(ExperimentMessage)
    now = request.services.clock()
    await request.services.write(
        partial(experiments.delete, experiment=asked.experiment_id, now=now)
    )
    return {}


async def restore(request: MlflowRequest) -> object:
    """Take the deletion of an experiment back."""
    asked = await request.body(ExperimentMessage)
    now = request.services.clock()
    await request.services.write(
        partial(experiments.restore, experiment=asked.experiment_id, now=now)
    )
    return {}


async def set_tag(request: MlflowRequest) -> object:
    """Write a tag of an experiment."""
    asked = await request.body(ExperimentTag)
    verb = partial(
        experiments.set_tags, experiment=asked.experiment_id, tags={asked.key: asked.value}
    )
    await request.services.write(verb)
    return {}


async def delete_tag(request: MlflowRequest) -> object:
    """Remove a tag of an experiment."""
    asked = await request.body(ExperimentTag)
    await request.services.write(
        partial(experiments.delete_tag, experiment=asked.experiment_id, key=asked.key)
    )
    return {}


async def _default(request: MlflowRequest) -> Experiment:
    """Return the default experiment, which is made when somebody first asks for it."""
    now = request.services.clock()

    def verb(connection: Connection) -> Experiment:
        return experiments.get(connection, experiments.ensure_default(connection, now))

    try:
        return await request.services.read(partial(experiments.get, experiment=DEFAULT_EXPERIMENT))
    except NotFoundError:
        return await request.services.write(verb)


def _answer(experiment: Experiment) -> dict[str, object]:
    return {"experiment": experiment_message(experiment)}


ROUTES: Final = (
    MlflowRoute(
        method="POST",
        path=f"{_ROOT}/create",
        handler=create,
        needs=Needs.WRITE,
        is_whole=False,
        remark="`artifact_location` is refused: artifacts are kept by this server",
    ),
    MlflowRoute(method="GET", path=f"{_ROOT}/get", handler=get, needs=Needs.READ),
    MlflowRoute(method="GET", path=f"{_ROOT}/get-by-name", handler=get_by_name, needs=Needs.READ),
    MlflowRoute(method="GET", path=f"{_ROOT}/search", handler=search, needs=Needs.READ),
    MlflowRoute(method="POST", path=f"{_ROOT}/search", handler=search, needs=Needs.READ),
    MlflowRoute(method="POST", path=f"{_ROOT}/update", handler=rename, needs=Needs.WRITE),
    MlflowRoute(method="POST", path=f"{_ROOT}/delete", handler=delete, needs=Needs.WRITE),
    MlflowRoute(method="POST", path=f"{_ROOT}/restore", handler=restore, needs=Needs.WRITE),
    MlflowRoute(
        method="POST", path=f"{_ROOT}/set-experiment-tag", handler=set_tag, needs=Needs.WRITE
    ),
    MlflowRoute(
        method="POST", path=f"{_ROOT}/delete-experiment-tag", handler=delete_tag, needs=Needs.WRITE
    ),
)
