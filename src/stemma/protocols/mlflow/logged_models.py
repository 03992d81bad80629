"""Logged models on the wire.

Invariants:
    * The address of a logged model's artifacts is ours; none is taken from a client.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Final

import msgspec

from stemma.db.engine import Connection
from stemma.domain.errors import InvalidInputError
from stemma.domain.logged_model import (
    LoggedModel,
    LoggedModelState,
    ModelMetric,
    parse_logged_model_id,
)
from stemma.domain.tracking import parse_run_id
from stemma.protocols.mlflow.artifact_paths import artifact_uri
from stemma.protocols.mlflow.routes import MlflowRequest, MlflowRoute, Needs
from stemma.tracking import logged_models
from stemma.tracking.search.records import search_logged_models
from stemma.tracking.search.values import DatasetClause, ModelOrder, Search

_ROOT: Final = "/api/2.0/mlflow/logged-models"
_ONE: Final = f"{_ROOT}/{{model_id}}"
_STATES: Final = {
    LoggedModelState.UNSPECIFIED: "LOGGED_MODEL_STATUS_UNSPECIFIED",
    LoggedModelState.PENDING: "LOGGED_MODEL_PENDING",
    LoggedModelState.READY: "LOGGED_MODEL_READY",
    LoggedModelState.FAILED: "LOGGED_MODEL_UPLOAD_FAILED",
}
_STATE_OF: Final[dict[str, LoggedModelState]] = {
    **{text: state for state, text in _STATES.items()},
    # Protobuf's JSON lets clients send the number of a word, too.
    **{str(number): state for number, state in enumerate(_STATES)},
}


class Label(msgspec.Struct, frozen=True, kw_only=True):
    """A param or a tag."""

    key: str = ""
    value: str = ""


class CreateModel(msgspec.Struct, frozen=True, kw_only=True):
    """What a logged model is to be."""

    experiment_id: int
    name: str = ""
    model_type: str = ""
    source_run_id: str = ""
    params: list[Label] = []
    tags: list[Label] = []


class FinishModel(msgspec.Struct, frozen=True, kw_only=True):
    """Where a logged model stands from now on."""

    status: str | int


class Labels(msgspec.Struct, frozen=True, kw_only=True):
    """Params or tags of a logged model."""

    params: list[Label] = []
    tags: list[Label] = []


class AskedModel(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a deleted logged model is meant, too."""

    allow_deleted: str = ""


class AskedDataset(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset that metrics must have been measured on."""

    dataset_name: str
    dataset_digest: str = ""


class AskedOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What logged models are ordered by."""

    field_name: str
    ascending: bool = True
    dataset_name: str = ""
    dataset_digest: str = ""


class SearchModels(msgspec.Struct, frozen=True, kw_only=True):
    """Which logged models are looked for."""

    experiment_ids: list[int] = []
    filter: str = ""
    datasets: list[AskedDataset] = []
    max_results: int = 50
    order_by: list[AskedOrder] = []
    page_token: str = ""


async def create(request: MlflowRequest) -> object:
    """Make a logged model."""
    asked = await request.body(CreateModel)
    new = logged_models.NewLoggedModel(
        experiment=asked.experiment_id,
        run=parse_run_id(asked.source_run_id) if asked.source_run_id else "",
        name=asked.name,
        type=asked.model_type,
        params=labels_of(asked.params),
        tags=labels_of(asked.tags),
    )
    now = request.services.clock()
    return _answer(await request.services.write(partial(logged_models.create, new=new, now=now)))


async def get(request: MlflowRequest) -> object:
    """Return a logged model."""
    asked = await request.body(AskedModel)
    is_deleted_too = asked.allow_deleted.lower() == "true"
    found = await request.services.read(
        partial(logged_models.get, identity=_model_of(request), is_deleted_too=is_deleted_too)
    )
    return _answer(found)


async def search(request: MlflowRequest) -> object:
    """Return a page of logged models."""
    asked = await request.body(SearchModels)
    what = Search(filter=asked.filter, page_size=asked.max_results, token=asked.page_token)
    datasets = [
        DatasetClause(name=it.dataset_name, digest=it.dataset_digest) for it in asked.datasets
    ]
    order = [_order_of(key) for key in asked.order_by]

    def verb(connection: Connection) -> tuple[list[LoggedModel], str]:
        page = search_logged_models(
            connection, asked.experiment_ids, what, datasets=datasets, order=order
        )
        return logged_models.get_many(connection, page.items), page.next_token

    found, token = await request.services.read(verb)
    answer: dict[str, object] = {"models": [model_message(model) for model in found]}
    if token:
        answer["next_page_token"] = token
    return answer


async def finish(request: MlflowRequest) -> object:
    """Say where a logged model stands."""
    asked = await request.body(FinishModel)
    state = _STATE_OF.get(str(asked.status))
    if state is None:
        raise InvalidInputError(
            f"no status of a logged model: {str(asked.status)[:80]!r}; there are"
            f" {', '.join(_STATES.values())}",
            code="bad-status",
        )
    verb = partial(
        logged_models.finish,
        identity=_model_of(request),
        state=state,
        now=request.services.clock(),
    )
    return _answer(await request.services.write(verb))


async def delete(request: MlflowRequest) -> object:
    """Delete a logged model; its files go by garbage collection."""
    now = request.services.clock()
    await request.services.write(
        partial(logged_models.delete, identity=_model_of(request), now=now)
    )
    return {}


async def set_tags(request: MlflowRequest) -> object:
    """Write tags."""
    tags = labels_of((await request.body(Labels)).tags)
    verb = partial(
        logged_models.set_tags,
        identity=_model_of(request),
        tags=tags,
        now=request.services.clock(),
    )
    return _answer(await request.services.write(verb))


async def delete_tag(request: MlflowRequest) -> object:
    """Remove a tag."""
    verb = partial(
        logged_models.delete_tag,
        identity=_model_of(request),
        key=request.path["tag_key"],
        now=request.services.clock(),
    )
    await request.services.write(verb)
    return {}


async def log_params(request: MlflowRequest) -> object:
    """Write params."""
    params = labels_of((await request.body(Labels)).params)
    identity, now = _model_of(request), request.services.clock()

    def verb(connection: Connection) -> LoggedModel:
        logged_models.log_params(connection, identity, params, now)
        return logged_models.get(connection, identity)

    return _answer(await request.services.write(verb))


def labels_of(labels: list[Label]) -> dict[str, str]:
    """Return params or tags by key; of several with one key the last."""
    return {label.key: label.value for label in labels}


def model_message(model: LoggedModel) -> dict[str, object]:
    """Return a logged model as clients read it."""
    info: dict[str, object] = {
        "model_id": model.id,
        "experiment_id": str(model.experiment),
        "name": model.name,
        "creation_timestamp_ms": _milliseconds(model.created_at.timestamp()),
        "last_updated_timestamp_ms": _milliseconds(model.updated_at.timestamp()),
        "artifact_uri": artifact_uri(model.experiment, model.id),
        "status": _STATES[model.state],
        "model_type": model.type,
        "source_run_id": model.run,
        "tags": _label_messages(model.tags),
    }
    if model.state_message:
        info["status_message"] = model.state_message
    metrics = [_metric_message(model.id, metric) for metric in model.metrics]
    return {"info": info, "data": {"params": _label_messages(model.params), "metrics": metrics}}


def _order_of(key: AskedOrder) -> ModelOrder:
    if key.dataset_digest and not key.dataset_name:
        raise InvalidInputError("a dataset without its name", code="bad-order")
    dataset = DatasetClause(name=key.dataset_name, digest=key.dataset_digest)
    return ModelOrder(
        field=key.field_name,
        is_ascending=key.ascending,
        dataset=dataset if key.dataset_name else None,
    )


def _answer(model: LoggedModel) -> dict[str, object]:
    return {"model": model_message(model)}


def _label_messages(labels: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in sorted(labels.items())]


def _metric_message(model: str, metric: ModelMetric) -> dict[str, object]:
    message: dict[str, object] = {
        "key": metric.name,
        "value": "NaN" if math.isnan(metric.value) else metric.value,
        "timestamp": metric.logged_at_us // 1000,
        "step": metric.step,
        "model_id": model,
        "run_id": metric.run,
    }
    if metric.dataset_name:
        message["dataset_name"] = metric.dataset_name
        message["dataset_digest"] = metric.dataset_digest
    return message


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _model_of(request: MlflowRequest) -> str:
    return parse_logged_model_id(request.path["model_id"])


ROUTES: Final = (
    MlflowRoute(method="POST", path=_ROOT, handler=create, needs=Needs.WRITE),
    MlflowRoute(method="POST", path=f"{_ROOT}/search", handler=search, needs=Needs.READ),
    MlflowRoute(method="GET", path=_ONE, handler=get, needs=Needs.READ),
    MlflowRoute(method="PATCH", path=_ONE, handler=finish, needs=Needs.WRITE),
    MlflowRoute(method="DELETE", path=_ONE, handler=delete, needs=Needs.WRITE),
    MlflowRoute(method="PATCH", path=f"{_ONE}/tags", handler=set_tags, needs=Needs.WRITE),
    MlflowRoute(
        method="DELETE", path=f"{_ONE}/tags/{{tag_key:path}}", handler=delete_tag, needs=Needs.WRITE
    ),
    MlflowRoute(method="POST", path=f"{_ONE}/params", handler=log_params, needs=Needs.WRITE),
)
