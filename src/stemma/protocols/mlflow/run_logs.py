"""What runs log, on the wire: points of metrics, params, tags, inputs and outputs.

Invariants:
    * An answer comes after what was logged is durable.
    * A batch is written whole or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import msgspec

from stemma.db.engine import Connection
from stemma.domain.errors import InvalidInputError
from stemma.domain.logged_model import ModelMetric, parse_logged_model_id
from stemma.domain.run import RunId
from stemma.domain.tracking import Point, RunInput, RunOutput, storable_value
from stemma.protocols.mlflow.routes import MlflowRequest, MlflowRoute, Needs
from stemma.protocols.mlflow.translate import labels_of, run_of
from stemma.protocols.mlflow.wire import (
    LogBatch,
    LogInputs,
    LogMetric,
    LogModel,
    LogOutputs,
    MetricMessage,
    RunLabel,
    RunMessage,
)
from stemma.tracking import run_log
from stemma.tracking.logged_models import log_model_metrics

_ROOT: Final = "/api/2.0/mlflow/runs"
_HISTORY_TAG: Final = "mlflow.log-model.history"
_MODEL_FIELDS: Final = ("artifact_path", "flavors", "utc_time_created", "run_id")


async def log_metric(request: MlflowRequest) -> object:
    """Add a point of a metric."""
    asked = await request.body(LogMetric)
    return await _log(request, run_of(_named(asked)), LogBatch(metrics=[asked]))


async def log_batch(request: MlflowRequest) -> object:
    """Add points, params and tags."""
    asked = await request.body(LogBatch)
    return await _log(request, run_of(asked), asked)


async def log_param(request: MlflowRequest) -> object:
    """Write a param."""
    asked = await request.body(RunLabel)
    verb = partial(run_log.log_params, run=run_of(asked), params={asked.key: asked.value})
    await request.services.write(verb)
    return {}


async def set_tag(request: MlflowRequest) -> object:
    """Write a tag."""
    asked = await request.body(RunLabel)
    verb = partial(run_log.set_tags, run=run_of(asked), tags={asked.key: asked.value})
    await request.services.write(verb)
    return {}


async def delete_tag(request: MlflowRequest) -> object:
    """Remove a tag."""
    asked = await request.body(RunLabel)
    await request.services.write(partial(run_log.delete_tag, run=run_of(asked), key=asked.key))
    return {}


async def log_inputs(request: MlflowRequest) -> object:
    """Add datasets and logged models that a run read."""
    asked = await request.body(LogInputs)
    inputs = [
        RunInput(
            name=item.dataset.name,
            digest=item.dataset.digest,
            source_type=item.dataset.source_type,
            source=item.dataset.source,
            schema=item.dataset.schema,
            profile=item.dataset.profile,
            tags=labels_of(item.tags),
        )
        for item in asked.datasets
    ]
    models = [parse_logged_model_id(model.model_id) for model in asked.models]
    await request.services.write(
        partial(run_log.log_inputs, run=run_of(asked), inputs=inputs, model_inputs=models)
    )
    return {}


async def log_outputs(request: MlflowRequest) -> object:
    """Add logged models that a run made."""
    asked = await request.body(LogOutputs)
    outputs = [
        RunOutput(logged_model=parse_logged_model_id(model.model_id), step=model.step)
        for model in asked.models
    ]
    await request.services.write(partial(run_log.log_outputs, run=run_of(asked), outputs=outputs))
    return {}


async def log_model(request: MlflowRequest) -> object:
    """Keep what an older client says of a model that it logged, in a tag as MLflow does."""
    asked = await request.body(LogModel)
    said, run = _model_said(asked.model_json), run_of(asked)

    def verb(connection: Connection) -> None:
        record = run_log.run_data(connection, run)
        history = [*_models_said(record.tags.get(_HISTORY_TAG, "[]")), said]
        text = msgspec.json.encode(history).decode("utf-8")
        run_log.set_tags(connection, run, {_HISTORY_TAG: text})

    await request.services.write(verb)
    return {}


async def _log(request: MlflowRequest, run: RunId, asked: LogBatch) -> object:
    points = [
        Point(metric.key, metric.value, metric.step, metric.timestamp * 1000)
        for metric in asked.metrics
    ]
    verb = partial(
        run_log.log_batch,
        run=run,
        points=points,
        params=_params_of(asked),
        tags=labels_of(asked.tags),
    )
    of_models = _model_metrics(run, asked.metrics)
    if not of_models:
        await request.services.write(verb)
        return {}

    def both(connection: Connection) -> None:
        verb(connection)
        log_model_metrics(connection, of_models)

    await request.services.write(both)
    return {}


def _params_of(asked: LogBatch) -> dict[str, str]:
    """Return the params of a batch.

    Raises:
        InvalidInputError: If one has two values.
    """
    params = labels_of(asked.params)
    if len(params) < len(asked.params):
        for param in asked.params:
            if params[param.key] != param.value:
                raise InvalidInputError(
                    f"param {param.key[:80]} has two values in one batch", code="param-differs"
                )
    return params


def _model_metrics(run: RunId, metrics: Sequence[MetricMessage]) -> list[tuple[str, ModelMetric]]:
    return [
        (
            parse_logged_model_id(metric.model_id),
            ModelMetric(
                metric.key,
                storable_value(metric.value),
                metric.step,
                metric.timestamp * 1000,
                run,
                metric.dataset_name,
                metric.dataset_digest,
            ),
        )
        for metric in metrics
        if metric.model_id
    ]


def _model_said(text: str) -> dict[str, Any]:
    """Return what was said of a model.

    Raises:
        InvalidInputError: If it is no JSON object, or a field is missing.
    """
    try:
        said = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidInputError(f"model_json is no JSON: {error}", code="bad-body") from error
    missing = [name for name in _MODEL_FIELDS if not isinstance(said, dict) or name not in said]
    if missing or not isinstance(said, dict):
        raise InvalidInputError(f"model_json lacks {', '.join(missing)}", code="bad-body")
    return {str(key): value for key, value in said.items()}


def _models_said(text: str) -> list[Any]:
    """Return what the tag holds; nothing when a client wrote something else there."""
    try:
        said = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return []
    return said if isinstance(said, list) else []


def _named(asked: LogMetric) -> RunMessage:
    return RunMessage(run_id=asked.run_id, run_uuid=asked.run_uuid)


ROUTES: Final = (
    MlflowRoute(method="POST", path=f"{_ROOT}/log-metric", handler=log_metric, needs=Needs.WRITE),
    MlflowRoute(method="POST", path=f"{_ROOT}/log-batch", handler=log_batch, needs=Needs.WRITE),
    MlflowRoute(method="POST", path=f"{_ROOT}/log-parameter", handler=log_param, needs=Needs.WRITE),
    MlflowRoute(method="POST", path=f"{_ROOT}/set-tag", handler=set_tag, needs=Needs.WRITE),
    MlflowRoute(method="POST", path=f"{_ROOT}/delete-tag", handler=delete_tag, needs=Needs.WRITE),
    MlflowRoute(method="POST", path=f"{_ROOT}/log-inputs", handler=log_inputs, needs=Needs.WRITE),
    MlflowRoute(method="POST", path=f"{_ROOT}/outputs", handler=log_outputs, needs=Needs.WRITE),
    MlflowRoute(method="POST", path=f"{_ROOT}/log-model", handler=log_model, needs=Needs.WRITE),
)
