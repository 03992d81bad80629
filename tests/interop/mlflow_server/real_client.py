"""MLflow's own client, in a process of its own: logs what is imported, reads what was exported.

It prints one JSON line when it has logged, then one for each registered model it is asked for.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any


def wait_for(address: str) -> None:
    """Wait until the server answers."""
    for _ in range(600):
        try:
            urllib.request.urlopen(f"{address}/health", timeout=1).close()  # noqa: S310 - http
        except OSError:
            time.sleep(0.1)
        else:
            return


def log_all(mlflow: Any) -> dict[str, str]:
    """Log two experiments, a nested run, a model with an alias, and an artifact."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    rows, labels = np.arange(8.0).reshape(4, 2), np.array([0, 1, 0, 1])
    client = mlflow.MlflowClient()
    mlflow.set_experiment("other")
    with mlflow.start_run() as many:
        mlflow.log_metrics({f"metric-{number}": float(number) for number in range(40)})
    mlflow.set_experiment("churn")
    with mlflow.start_run(run_name="outer") as outer:
        mlflow.log_params({"learning_rate": "0.1", "depth": 3})
        mlflow.set_tag("team", "growth")
        for step in range(5):
            mlflow.log_metric("loss", 1 / (step + 1), step=step)
        mlflow.log_metric("odd", float("nan"))
        mlflow.log_text("hello\n" * 400_000, "reports/large/text.txt")
        dataset = mlflow.data.from_numpy(rows, targets=labels, name="rows")
        mlflow.log_input(dataset, context="training")
        info = mlflow.sklearn.log_model(
            LogisticRegression().fit(rows, labels),
            name="classifier",
            registered_model_name="churn",
            serialization_format="skops",
            pip_requirements=["scikit-learn"],
        )
        with mlflow.start_run(run_name="inner", nested=True) as inner:
            mlflow.log_metric("loss", 0.5)
    client.set_registered_model_alias("churn", "champion", "1")
    client.set_model_version_tag("churn", "1", "why", "best")
    runs = {"outer": outer, "inner": inner, "many": many}
    return {name: run.info.run_id for name, run in runs.items()} | {"model": info.model_id}


def read_back(mlflow: Any, name: str) -> dict[str, Any]:
    """Return what the first version of a registered model is."""
    client = mlflow.MlflowClient()
    version = client.get_model_version(name, "1")
    run = client.get_run(version.run_id)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(mlflow.artifacts.download_artifacts(f"models:/{name}/1", dst_path=folder))
        files = {path.name: path.read_text() for path in place.iterdir()}
    history = client.get_metric_history(version.run_id, "loss")
    return {
        "tags": version.tags,
        "params": run.data.params,
        "metrics": run.data.metrics,
        "status": run.info.status,
        "inputs": [item.dataset.name for item in run.inputs.dataset_inputs],
        "curve": [[point.step, point.value] for point in history],
        "files": files,
    }


def _tell(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Log, then answer."""
    address = sys.argv[1]
    import mlflow

    wait_for(address)
    mlflow.set_tracking_uri(address)
    _tell(log_all(mlflow))
    for line in sys.stdin:
        _tell(read_back(mlflow, line.strip()))


if __name__ == "__main__":
    main()
