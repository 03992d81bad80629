"""The life of a registered model: versions, tags, aliases, stages, search, deletion."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

client = MlflowClient()
mlflow.set_experiment("registry")
with mlflow.start_run() as run:
    Path("weights.txt").write_text("1 2 3", encoding="utf-8")
    mlflow.log_artifact("weights.txt", "model")
source = f"{run.info.artifact_uri}/model"

client.create_registered_model("Sales Forecast", tags={"owner": "ana"}, description="weekly")
for _ in range(3):
    client.create_model_version("Sales Forecast", source, run.info.run_id)
found = client.get_registered_model("Sales Forecast")
assert (found.description, found.tags) == ("weekly", {"owner": "ana"})
versions = client.search_model_versions("name = 'Sales Forecast'")
assert sorted(int(version.version) for version in versions) == [1, 2, 3]
assert all(version.status == "READY" for version in versions)

client.set_registered_model_alias("Sales Forecast", "champion", 2)
assert client.get_model_version_by_alias("Sales Forecast", "champion").version in (2, "2")
client.set_registered_model_alias("Sales Forecast", "champion", 3)
assert "champion" in client.get_model_version("Sales Forecast", 3).aliases
client.delete_registered_model_alias("Sales Forecast", "champion")
with pytest.raises(MlflowException, match="champion"):
    client.get_model_version_by_alias("Sales Forecast", "champion")

client.set_model_version_tag("Sales Forecast", 1, "reviewed", "yes")
client.update_model_version("Sales Forecast", 1, description="first")
assert client.get_model_version("Sales Forecast", 1).tags == {"reviewed": "yes"}
client.delete_model_version_tag("Sales Forecast", 1, "reviewed")
client.transition_model_version_stage("Sales Forecast", 1, "Staging")
assert client.get_latest_versions("Sales Forecast", ["Staging"])[0].version in (1, "1")
path = mlflow.artifacts.download_artifacts("models:/Sales Forecast/1", dst_path="got")
assert (Path(path) / "weights.txt").read_text(encoding="utf-8") == "1 2 3"
assert client.search_registered_models("name LIKE 'Sales%'")[0].name == "Sales Forecast"

client.delete_model_version("Sales Forecast", 1)
assert len(client.search_model_versions("name = 'Sales Forecast'")) == 2
for bad in ("file:///etc", "http://example.com/model", "/etc/passwd", "local:/tmp", "dbfs:/x"):
    with pytest.raises(MlflowException) as refused:
        client.create_model_version("Sales Forecast", bad, run.info.run_id)
    assert refused.value.error_code == "INVALID_PARAMETER_VALUE", bad
client.delete_registered_model("Sales Forecast")
assert not client.search_registered_models("name = 'Sales Forecast'")
