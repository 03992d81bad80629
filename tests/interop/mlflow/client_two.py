"""Two clients at once, in processes of their own, on one run and one registered model."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context

from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

_STEPS = 25


def log(run: str, source: str, number: int) -> list[int]:
    """Log to the run, register versions, fight for an alias; return the numbers given."""
    client = MlflowClient()
    with ThreadPoolExecutor(4) as pool:
        sent = [
            pool.submit(client.log_metric, run, "loss", number, 1_000 + step, step)
            for step in range(_STEPS)
        ]
        sent += [pool.submit(client.set_tag, run, "shared", str(number)) for _ in range(5)]
        sent += [pool.submit(client.log_param, run, "same", "value") for _ in range(5)]
        for future in sent:
            future.result()
    client.log_batch(
        run,
        [Metric(f"own-{number}", 1, 1, 0)],
        [Param(f"own-{number}", "x")],
        [RunTag(f"own-{number}", "y")],
    )
    try:
        client.log_param(run, "contested", str(number))
    except MlflowException as error:
        assert error.error_code == "INVALID_PARAMETER_VALUE", error  # noqa: PT017 - a race
    made = []
    for _ in range(3):
        version = client.create_model_version("shared", source, run)
        client.set_registered_model_alias("shared", "champion", version.version)
        made.append(int(version.version))
    return made


def main() -> None:
    """Let both log, then look at what is there."""
    client = MlflowClient()
    run = client.create_run(client.create_experiment("two at once")).info
    client.log_text(run.run_id, "weights", "model/weights.txt")
    client.create_registered_model("shared")
    source = f"{run.artifact_uri}/model"
    with get_context("spawn").Pool(2) as pool:
        made = pool.starmap(log, [(run.run_id, source, 1), (run.run_id, source, 2)])
    assert sorted(made[0] + made[1]) == list(range(1, 7)), made

    data = client.get_run(run.run_id).data
    points = client.get_metric_history(run.run_id, "loss")
    assert sorted((point.step, point.value) for point in points) == [
        (step, number) for step in range(_STEPS) for number in (1, 2)
    ]
    # Of points with one step and one moment the greater value is the latest.
    assert data.metrics == {"loss": 2, "own-1": 1, "own-2": 1}
    assert data.params.pop("contested") in {"1", "2"}
    assert data.params == {"same": "value", "own-1": "x", "own-2": "x"}
    assert data.tags["shared"] in {"1", "2"}
    champion = client.get_model_version_by_alias("shared", "champion")
    assert int(champion.version) in {made[0][-1], made[1][-1]}
    sys.stdout.write(f"{run.run_id}\n")


if __name__ == "__main__":
    main()
