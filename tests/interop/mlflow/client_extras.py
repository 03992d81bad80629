"""Figures, tables and dicts, asynchronous logging, system metrics, tags of experiments."""

from __future__ import annotations

import sys
import time

import matplotlib as mpl
import mlflow
import numpy as np
import pandas as pd
from mlflow.tracking import MlflowClient

mpl.use("Agg")
from matplotlib import pyplot as plt

client = MlflowClient()
experiment = mlflow.set_experiment("extras")
mlflow.set_experiment_tags({"team": "vision", "mlflow.note.content": "what else is logged"})
assert client.get_experiment(experiment.experiment_id).tags["team"] == "vision"
client.delete_experiment_tag(experiment.experiment_id, "team")
assert "team" not in client.get_experiment(experiment.experiment_id).tags

with mlflow.start_run() as run:
    figure, axes = plt.subplots()
    axes.plot([1, 2, 3])
    mlflow.log_figure(figure, "plots/curve.png")
    mlflow.log_dict({"classes": ["a", "é"]}, "classes.json")
    mlflow.log_text("one\ntwo", "notes/ü.txt")
    mlflow.log_table(pd.DataFrame({"question": ["a"], "score": [1]}), "answers.json")
    mlflow.log_table({"question": ["b"], "score": [2]}, "answers.json")
    mlflow.log_image(np.zeros((4, 4, 3), "uint8"), "black.png")
assert mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/classes.json")["classes"][1] == "é"
assert mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/notes/ü.txt") == "one\ntwo"
assert len(mlflow.load_table("answers.json", run_ids=[run.info.run_id])) == 2
names = {entry.path for entry in client.list_artifacts(run.info.run_id)}
assert names == {"plots", "classes.json", "notes", "answers.json", "black.png"}, names
assert [entry.path for entry in client.list_artifacts(run.info.run_id, "plots")] == [
    "plots/curve.png"
]

mlflow.config.enable_async_logging(enable=True)
with mlflow.start_run() as background:
    mlflow.log_params({f"p{number}": number for number in range(150)})
    for step in range(300):
        mlflow.log_metric("loss", 1 / (step + 1), step=step)
    mlflow.set_tags({"a": "b"})
mlflow.flush_async_logging()
mlflow.config.enable_async_logging(enable=False)
found = client.get_run(background.info.run_id)
assert len(client.get_metric_history(background.info.run_id, "loss")) == 300
assert (len(found.data.params), found.data.tags["a"]) == (150, "b")

mlflow.enable_system_metrics_logging()
mlflow.set_system_metrics_sampling_interval(0.1)
mlflow.set_system_metrics_samples_before_logging(1)
with mlflow.start_run() as watched:
    time.sleep(0.6)
mlflow.disable_system_metrics_logging()
metrics = client.get_run(watched.info.run_id).data.metrics
assert "system/cpu_utilization_percentage" in metrics, metrics
assert client.get_metric_history(watched.info.run_id, "system/cpu_utilization_percentage")

model = mlflow.create_external_model(name="elsewhere", model_type="agent", params={"k": "v"})
mlflow.set_logged_model_tags(model.model_id, {"stage": "trial"})
mlflow.log_metric("quality", 0.9, model_id=model.model_id)
[searched] = mlflow.search_logged_models(
    experiment_ids=[experiment.experiment_id],
    filter_string="metrics.quality > 0.5 AND tags.stage = 'trial'",
    order_by=[{"field_name": "metrics.quality", "ascending": False}],
    output_format="list",
)
assert (searched.name, searched.params) == ("elsewhere", {"k": "v"})
client.delete_logged_model(model.model_id)
assert not mlflow.search_logged_models(
    experiment_ids=[experiment.experiment_id], output_format="list"
)
sys.stdout.write(f"{run.info.run_id}\n")
