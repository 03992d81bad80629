"""LightGBM by autolog, torch and ONNX by hand: each is logged, found and loaded again."""

from __future__ import annotations

import lightgbm
import mlflow
import numpy as np
import onnx
import torch
from mlflow.tracking import MlflowClient
from skl2onnx import to_onnx
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression

features, labels = load_breast_cancer(return_X_y=True)
features = features.astype(np.float32)
mlflow.set_experiment("flavors")

mlflow.lightgbm.autolog()
with mlflow.start_run() as run:
    booster = lightgbm.train(
        {"objective": "binary", "num_threads": 1, "verbose": -1},
        lightgbm.Dataset(features, labels),
        num_boost_round=5,
        valid_sets=[lightgbm.Dataset(features, labels)],
    )
mlflow.lightgbm.autolog(disable=True)
client = MlflowClient()
names = [metric for metric in client.get_run(run.info.run_id).data.metrics if "logloss" in metric]
assert len(client.get_metric_history(run.info.run_id, names[0])) == 5
[output] = client.get_run(run.info.run_id).outputs.model_outputs
found = mlflow.lightgbm.load_model(f"models:/{output.model_id}")
assert np.allclose(found.predict(features), booster.predict(features))

with mlflow.start_run():
    layer = torch.nn.Linear(30, 2)
    info = mlflow.pytorch.log_model(layer, name="torch", input_example=features[:1])
loaded = mlflow.pytorch.load_model(info.model_uri)
assert torch.equal(loaded.weight, layer.weight)

with mlflow.start_run():
    estimator = LogisticRegression(max_iter=10).fit(features, labels)
    graph = to_onnx(estimator, features[:1])
    info = mlflow.onnx.log_model(graph, name="onnx", registered_model_name="tumours")
assert (
    onnx.load_model_from_string(
        mlflow.onnx.load_model("models:/tumours/1").SerializeToString()
    ).graph.node
    == graph.graph.node
)
models = mlflow.search_logged_models(
    experiment_ids=[info_experiment := client.get_experiment_by_name("flavors").experiment_id],
    output_format="list",
)
assert {model.name for model in models} >= {"torch", "onnx"}, info_experiment
