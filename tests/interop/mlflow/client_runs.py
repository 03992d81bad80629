"""What a training logs, read back: nested runs, histories, inputs, searches, deletion."""

from __future__ import annotations

import math
import sys

import mlflow
import numpy as np
import pytest
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

client = MlflowClient()
experiment = client.create_experiment("training", tags={"team": "search"})
assert client.get_experiment_by_name("training").tags["team"] == "search"

mlflow.set_experiment("training")
with mlflow.start_run(run_name="parent", description="a sweep") as parent:
    mlflow.log_params({"sweep": "lr", "width": 64})
    for number, rate in enumerate((0.1, 0.01, 0.001)):
        with mlflow.start_run(run_name=f"child-{number}", nested=True):
            mlflow.log_param("lr", rate)
            for step in range(5):
                mlflow.log_metric("loss", 1 / (step + 1) + number, step=step)
            mlflow.log_metric("accuracy", 0.9 + number / 100)
            mlflow.set_tag("stage", "tuning")
    data = mlflow.data.from_numpy(np.zeros((4, 2)), name="zeros")
    mlflow.log_input(data, context="training")

found = client.get_run(parent.info.run_id)
assert found.info.status == "FINISHED"
assert found.data.params == {"sweep": "lr", "width": "64"}
assert found.data.tags["mlflow.note.content"] == "a sweep"
assert found.inputs.dataset_inputs[0].dataset.name == "zeros"
assert found.inputs.dataset_inputs[0].tags[0].value == "training"

children = client.search_runs(
    [experiment], f"tags.mlflow.parentRunId = '{parent.info.run_id}'", order_by=["metrics.accuracy"]
)
assert [run.info.run_name for run in children] == ["child-0", "child-1", "child-2"]
history = client.get_metric_history(children[1].info.run_id, "loss")
assert [point.step for point in history] == [0, 1, 2, 3, 4]
assert (history[4].value, children[1].data.metrics["loss"]) == (1.2, 1.2)

best = mlflow.search_runs(
    experiment_names=["training"],
    filter_string="metrics.accuracy > 0.905 and params.lr != '0.1'",
    order_by=["metrics.accuracy DESC"],
)
assert list(best["params.lr"]) == ["0.001", "0.01"]
first = client.search_runs([experiment], max_results=2)
rest = client.search_runs([experiment], max_results=10, page_token=first.token)
assert len({run.info.run_id for run in [*first, *rest]}) == 4
assert not rest.token

run_id = children[0].info.run_id
client.log_batch(
    run_id,
    metrics=[Metric("odd", value, 1, step) for step, value in enumerate((math.nan, math.inf, -1))],
    params=[Param("a", "1"), Param("b", "2")],
    tags=[RunTag("x", "y")],
)
odd = [point.value for point in client.get_metric_history(run_id, "odd")]
assert math.isnan(odd[0])
assert (odd[1] > 1e308, odd[2]) == (True, -1)
client.log_batch(run_id, metrics=[Metric("odd", -1, 1, 2)])
assert len(client.get_metric_history(run_id, "odd")) == 3
with pytest.raises(MlflowException) as refused:
    client.log_param(run_id, "a", "other")
assert refused.value.error_code == "INVALID_PARAMETER_VALUE"

client.delete_run(run_id)
assert run_id not in [run.info.run_id for run in client.search_runs([experiment])]
deleted = client.search_runs([experiment], run_view_type=ViewType.DELETED_ONLY)
assert [run.info.run_id for run in deleted] == [run_id]
client.restore_run(run_id)
client.rename_experiment(experiment, "renamed")
client.delete_experiment(experiment)
assert client.get_experiment(experiment).lifecycle_stage == "deleted"
client.restore_experiment(experiment)
assert client.search_experiments(filter_string="name = 'renamed'")[0].experiment_id == experiment
with pytest.raises(MlflowException) as missing:
    client.get_run("r-0123456789abcdef")
assert missing.value.error_code == "RESOURCE_DOES_NOT_EXIST"
sys.stdout.write(f"{parent.info.run_id}\n")
