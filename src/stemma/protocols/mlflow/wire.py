"""Messages that clients send about experiments, runs and metrics, as MLflow's protocol has them.

Invariants:
    * A field that a message needs has no default, so that it is refused without it.
    * Integers are 64-bit, and experiments are their numbers: text of one is one.

It says nothing of answers; see ``translate``.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec

Integer: TypeAlias = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
ExperimentNumber: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]

_RUNS_PAGE_SIZE: Final = 1_000
_POINTS_PER_RUN: Final = 250


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message; fields that are not known are ignored."""


class Label(Message, frozen=True, kw_only=True):
    """A param or a tag."""

    key: str
    value: str = ""


class ExperimentMessage(Message, frozen=True, kw_only=True):
    """An experiment."""

    experiment_id: ExperimentNumber


class ExperimentByName(Message, frozen=True, kw_only=True):
    """An experiment by its name."""

    experiment_name: str


class CreateExperiment(Message, frozen=True, kw_only=True):
    """An experiment to be made."""

    name: str
    artifact_location: str = ""
    tags: list[Label] = []


class UpdateExperiment(ExperimentMessage, frozen=True, kw_only=True):
    """Another name of an experiment."""

    new_name: str = ""


class ExperimentTag(ExperimentMessage, frozen=True, kw_only=True):
    """A tag of an experiment."""

    key: str
    value: str = ""


class SearchExperiments(Message, frozen=True, kw_only=True):
    """A search of experiments."""

    max_results: Integer = _RUNS_PAGE_SIZE
    page_token: str = ""
    filter: str = ""
    order_by: list[str] = []
    view_type: str | int = "ACTIVE_ONLY"


class CreateRun(Message, frozen=True, kw_only=True):
    """A run to be opened."""

    experiment_id: ExperimentNumber = 0
    user_id: str = ""
    run_name: str = ""
    start_time: Integer = 0
    tags: list[Label] = []


class RunMessage(Message, frozen=True, kw_only=True):
    """A run, by either of the two names of its id."""

    run_id: str = ""
    run_uuid: str = ""


class UpdateRun(RunMessage, frozen=True, kw_only=True):
    """Where a run stands from now on."""

    status: str | int = ""
    end_time: Integer = 0
    run_name: str = ""


class RunLabel(RunMessage, frozen=True, kw_only=True):
    """A param or a tag of a run."""

    key: str
    value: str = ""


class MetricMessage(Message, frozen=True, kw_only=True):
    """A point of a metric, of a logged model, too, when it names one."""

    key: str
    value: float
    timestamp: Integer
    step: Integer = 0
    model_id: str = ""
    dataset_name: str = ""
    dataset_digest: str = ""


class LogMetric(MetricMessage, frozen=True, kw_only=True):
    """A point of a metric of a run."""

    run_id: str = ""
    run_uuid: str = ""


class LogBatch(RunMessage, frozen=True, kw_only=True):
    """Points, params and tags of a run."""

    metrics: list[MetricMessage] = []
    params: list[Label] = []
    tags: list[Label] = []


class LogModel(RunMessage, frozen=True, kw_only=True):
    """What an older client says of a model that it logged."""

    model_json: str


class DatasetMessage(Message, frozen=True, kw_only=True):
    """A dataset, as a client describes it."""

    name: str
    digest: str
    source_type: str = ""
    source: str = ""
    schema: str = ""
    profile: str = ""


class DatasetInput(Message, frozen=True, kw_only=True):
    """A dataset that a run read."""

    dataset: DatasetMessage
    tags: list[Label] = []


class ModelInput(Message, frozen=True, kw_only=True):
    """A logged model that a run read."""

    model_id: str


class ModelOutput(Message, frozen=True, kw_only=True):
    """A logged model that a run made."""

    model_id: str
    step: Integer = 0


class LogInputs(RunMessage, frozen=True, kw_only=True):
    """What a run read."""

    datasets: list[DatasetInput] = []
    models: list[ModelInput] = []


class LogOutputs(RunMessage, frozen=True, kw_only=True):
    """What a run made."""

    models: list[ModelOutput] = []


class SearchRuns(Message, frozen=True, kw_only=True):
    """A search of runs."""

    experiment_ids: list[ExperimentNumber] = []
    filter: str = ""
    run_view_type: str | int = "ACTIVE_ONLY"
    max_results: Integer = _RUNS_PAGE_SIZE
    order_by: list[str] = []
    page_token: str = ""


class MetricHistory(RunMessage, frozen=True, kw_only=True):
    """A page of the points of a metric."""

    metric_key: str
    page_token: str = ""
    max_results: Integer = 0


class MetricHistories(Message, frozen=True, kw_only=True):
    """Points of a metric of several runs, thinned out."""

    metric_key: str
    run_ids: list[str] = []
    start_step: Integer | None = None
    end_step: Integer | None = None
    max_results: Integer = _POINTS_PER_RUN
