"""scikit-learn: autolog, a model logged, registered, given an alias, loaded and evaluated."""

from __future__ import annotations

import sys

import mlflow
import numpy as np
from mlflow.tracking import MlflowClient
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

features, labels = load_digits(return_X_y=True)
features = features / 16
mlflow.set_experiment("digits")
mlflow.sklearn.autolog(log_datasets=True)
with mlflow.start_run() as run:
    model = LogisticRegression(max_iter=200, C=0.5).fit(features[:1200], labels[:1200])
mlflow.sklearn.autolog(disable=True)

client = MlflowClient()
logged = client.get_run(run.info.run_id)
assert logged.data.params["C"] == "0.5"
assert logged.data.metrics["training_accuracy_score"] > 0.9
assert logged.outputs.model_outputs, "autolog logged no model"

with mlflow.start_run():
    info = mlflow.sklearn.log_model(
        model, name="model", input_example=features[:2], registered_model_name="digits-clf"
    )
client.set_registered_model_alias("digits-clf", "champion", 1)
loaded = mlflow.sklearn.load_model("models:/digits-clf@champion")
assert np.array_equal(loaded.predict(features[1200:]), model.predict(features[1200:]))
assert np.array_equal(
    mlflow.pyfunc.load_model("models:/digits-clf/1").predict(features[:5]),
    model.predict(features[:5]),
)
again = mlflow.sklearn.load_model(info.model_uri)
assert np.array_equal(again.coef_, model.coef_)

answers = mlflow.models.evaluate(
    "models:/digits-clf@champion",
    data=features[1200:1300],
    targets=labels[1200:1300],
    model_type="classifier",
    evaluator_config={"log_model_explainability": False},
)
assert answers.metrics["accuracy_score"] > 0.8
sys.stdout.write(f"{info.model_id}\n")
