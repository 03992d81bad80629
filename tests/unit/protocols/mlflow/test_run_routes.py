"""Experiments, runs and what they log, over the protocol."""

from __future__ import annotations

from typing import Any

API = "/api/2.0/mlflow"


def post(ask: Any, path: str, status: int = 200, /, **fields: Any) -> Any:
    """Send a message, insist on the status, and return the answer."""
    answer = ask("POST", f"{API}/{path}", fields)
    assert answer.status == status, answer.body
    return answer.json


def get(ask: Any, path: str, status: int = 200) -> Any:
    """Ask, insist on the status, and return the answer."""
    answer = ask("GET", f"{API}/{path}")
    assert answer.status == status, answer.body
    return answer.json


def test_an_experiment_lives_its_life(ask: Any) -> None:
    """Experiments could be made and not renamed, tagged, deleted or restored."""
    number = post(ask, "experiments/create", name="churn", tags=[{"key": "team", "value": "a"}])
    number = number["experiment_id"]
    assert isinstance(number, str)
    post(ask, "experiments/update", experiment_id=number, new_name="churn-2")
    post(ask, "experiments/set-experiment-tag", experiment_id=number, key="k", value="v")
    post(ask, "experiments/delete-experiment-tag", experiment_id=number, key="team")
    found = get(ask, f"experiments/get?experiment_id={number}")["experiment"]
    assert found["name"] == "churn-2"
    assert found["artifact_location"] == f"mlflow-artifacts:/{number}"
    assert found["tags"] == [{"key": "k", "value": "v"}]
    assert isinstance(found["creation_time"], int)
    post(ask, "experiments/delete", experiment_id=number)
    found = get(ask, "experiments/get-by-name?experiment_name=churn-2")["experiment"]
    assert found["lifecycle_stage"] == "deleted"
    post(ask, "experiments/restore", experiment_id=number)
    again = post(ask, "experiments/create", 400, name="churn-2")
    assert again["error_code"] == "RESOURCE_ALREADY_EXISTS"


def test_the_default_experiment_is_there_when_it_is_asked_for(ask: Any) -> None:
    """A new client's first call would fail."""
    assert get(ask, "experiments/get?experiment_id=0")["experiment"]["name"] == "Default"
    assert get(ask, "experiments/get-by-name?experiment_name=Default")["experiment"]


def test_experiments_are_searched_in_pages(ask: Any) -> None:
    """A client would see the default experiment only, or each twice."""
    assert [one["name"] for one in post(ask, "experiments/search")["experiments"]] == ["Default"]
    for name in ("a", "b", "c"):
        post(ask, "experiments/create", name=name, tags=[{"key": "team", "value": name}])
    found, token = [], ""
    while True:
        query = f"max_results=2&order_by=name%20ASC&view_type=ALL&page_token={token}"
        page = get(ask, f"experiments/search?{query}")
        found += [one["name"] for one in page["experiments"]]
        token = page.get("next_page_token", "")
        if not token:
            break
    assert found == ["Default", "a", "b", "c"]
    one = post(ask, "experiments/search", filter="tags.team = 'b'", max_results="5")
    assert [found["name"] for found in one["experiments"]] == ["b"]
    post(ask, "experiments/search", 400, filter="nothing")
    post(ask, "experiments/search", 400, max_results=0)


def test_no_place_of_a_client_is_taken(ask: Any) -> None:
    """Somebody could read or write files of the server, or ask others through it."""
    for place in ("file:///etc", "http://x", "s3://b", "dbfs:/x", "local:/x", "/srv/x"):
        refused = post(ask, "experiments/create", 400, name="x", artifact_location=place)
        assert refused["error_code"] == "INVALID_PARAMETER_VALUE", place


def test_a_run_is_read_as_it_was_logged(ask: Any) -> None:
    """What a training logged would be lost or changed on its way."""
    run = post(
        ask,
        "runs/create",
        experiment_id="0",
        user_id="ada",
        run_name="first",
        start_time=1_700_000_000_123,
        tags=[{"key": "a", "value": "b"}],
    )["run"]["info"]["run_id"]
    post(ask, "runs/log-parameter", run_id=run, key="lr", value="0.1")
    post(ask, "runs/log-metric", run_id=run, key="loss", value=0.5, timestamp="12", step="3")
    post(ask, "runs/log-metric", run_uuid=run, key="odd", value="NaN", timestamp=1)
    post(ask, "runs/log-metric", run_id=run, key="top", value="Infinity", timestamp=1)
    post(ask, "runs/set-tag", run_id=run, key="gone", value="x")
    post(ask, "runs/delete-tag", run_id=run, key="gone")
    dataset = {"name": "train", "digest": "d1", "source_type": "code", "source": "{}"}
    tags = [{"key": "mlflow.data.context", "value": "training"}]
    post(ask, "runs/log-inputs", run_id=run, datasets=[{"dataset": dataset, "tags": tags}])
    ended = post(ask, "runs/update", run_id=run, status="FINISHED", end_time=1_700_000_001_000)
    assert ended["run_info"]["status"] == "FINISHED"
    found = get(ask, f"runs/get?run_id={run}&run_uuid={run}")["run"]
    info, data = found["info"], found["data"]
    assert (info["run_name"], info["user_id"], info["experiment_id"]) == ("first", "ada", "0")
    assert (info["start_time"], info["end_time"]) == (1_700_000_000_123, 1_700_000_001_000)
    assert info["artifact_uri"] == f"mlflow-artifacts:/0/{run}/artifacts"
    values = {metric["key"]: metric["value"] for metric in data["metrics"]}
    assert values == {"loss": 0.5, "odd": "NaN", "top": 1.7976931348623157e308}
    assert data["params"] == [{"key": "lr", "value": "0.1"}]
    assert {tag["key"]: tag["value"] for tag in data["tags"]} == {
        "a": "b",
        "mlflow.runName": "first",
    }
    assert found["inputs"]["dataset_inputs"] == [{"tags": tags, "dataset": dataset}]


def test_a_batch_is_written_whole_or_not_at_all(ask: Any) -> None:
    """A client that tries again would find half of it there."""
    run = ask.make_run()
    model = ask.make_model()
    metrics = [
        {"key": "loss", "value": step / 10, "timestamp": step, "step": step} for step in range(9)
    ]
    of_model = {"key": "acc", "value": 0.9, "timestamp": 1, "model_id": model}
    labels = [{"key": "k", "value": "v"}]
    post(
        ask, "runs/log-batch", run_id=run, metrics=[*metrics, of_model], params=labels, tags=labels
    )
    wrong = [{"key": "k", "value": "other"}]
    post(ask, "runs/log-batch", 400, run_id=run, tags=[{"key": "t", "value": "x"}], params=wrong)
    twice = [*wrong, {"key": "n", "value": "1"}, {"key": "n", "value": "2"}]
    post(ask, "runs/log-batch", 400, run_id=run, params=twice[1:])
    data = get(ask, f"runs/get?run_id={run}")["run"]["data"]
    assert [tag["key"] for tag in data["tags"]] == ["k", "mlflow.runName"]
    assert [param["key"] for param in data["params"]] == ["k"]
    found = get(ask, f"logged-models/{model}")["model"]["data"]["metrics"]
    assert [(metric["key"], metric["value"]) for metric in found] == [("acc", 0.9)]


def test_a_history_comes_in_pages(ask: Any) -> None:
    """A long curve would be cut off, or fill the memory of both sides."""
    run = ask.make_run()
    points = [{"key": "a/b", "value": step, "timestamp": 5, "step": step} for step in range(25)]
    post(ask, "runs/log-batch", run_id=run, metrics=points)
    steps, token = [], ""
    while True:
        url = f"metrics/get-history?run_id={run}&metric_key=a/b&max_results=10&page_token={token}"
        page = get(ask, url)
        steps += [point["step"] for point in page["metrics"]]
        token = page.get("next_page_token", "")
        if not token:
            break
    assert steps == list(range(25))
    assert get(ask, f"metrics/get-history?run_id={run}&metric_key=none") == {"metrics": []}
    for bad in ("x", "eA==", "WzEsMiwiMyJd", "%C3%A9"):
        get(ask, f"metrics/get-history?run_id={run}&metric_key=a/b&page_token={bad}", 400)


def test_histories_of_several_runs_are_thinned_out(ask: Any) -> None:
    """A chart of a hundred runs would ask for a million points."""
    runs = [ask.make_run(), ask.make_run()]
    for run, most in zip(runs, (100, 7), strict=True):
        points = [{"key": "m", "value": s, "timestamp": s, "step": s} for s in range(most)]
        post(ask, "runs/log-batch", run_id=run, metrics=points)
    query = "&".join(f"run_ids={run}" for run in runs)
    found = get(ask, f"metrics/get-history-bulk-interval?{query}&metric_key=m&max_results=5")
    steps = [[p["step"] for p in found["metrics"] if p["run_id"] == run] for run in runs]
    assert steps == [[0, 6, 25, 50, 74, 99], [0, 6]]
    within = "metric_key=m&start_step=90&end_step=95&max_results=100"
    found = get(ask, f"metrics/get-history-bulk-interval?{query}&{within}")
    assert [point["step"] for point in found["metrics"]] == list(range(90, 96))
    for bad in ("metric_key=m&start_step=1", "metric_key=m&max_results=0", "max_results=1"):
        get(ask, f"metrics/get-history-bulk-interval?{query}&{bad}", 400)


def test_runs_are_searched_in_pages(ask: Any) -> None:
    """A client would see each run twice, or none."""
    runs = [ask.make_run() for _ in range(5)]
    post(ask, "runs/delete", run_id=runs[0])
    found, token = [], ""
    while True:
        page = post(
            ask, "runs/search", experiment_ids=["0"], max_results=2, page_token=token,
            run_view_type="ALL",
        )  # fmt: skip
        found += [run["info"]["run_id"] for run in page["runs"]]
        token = page.get("next_page_token", "")
        if not token:
            break
    assert sorted(found) == sorted(runs)
    active = post(ask, "runs/search", experiment_ids=["0"], run_view_type=1)["runs"]
    assert len(active) == 4
    assert post(ask, "runs/search", experiment_ids=[]) == {"runs": []}
    post(ask, "runs/search", 400, experiment_ids=["0"], run_view_type="SOME")
    post(ask, "runs/search", 400, experiment_ids=["0"], filter="metrics.a = = 1")


WRONG_LOGS: tuple[tuple[str, dict[str, Any], int], ...] = (
    ("runs/log-metric", {"key": "a", "value": 1, "timestamp": 2**62}, 400),
    ("runs/log-metric", {"key": "a", "timestamp": 1}, 400),
    ("runs/log-metric", {"key": "../a", "value": 1, "timestamp": 1}, 400),
    ("runs/log-metric", {"key": "a" * 10_000, "value": 1, "timestamp": 1}, 400),
    ("runs/log-metric", {"key": "a", "value": 1, "timestamp": 1, "model_id": "x"}, 400),
    (
        "runs/log-metric",
        {"key": "a", "value": 1, "timestamp": 1, "model_id": "m-" + "0" * 32},
        404,
    ),
    ("runs/log-parameter", {"key": "a", "value": "x" * 6_001}, 400),
    ("runs/log-parameter", {"key": "a", "value": 1}, 400),
    ("runs/set-tag", {"key": "a", "value": "x" * 10_000}, 400),
    ("runs/delete-tag", {"key": "none"}, 404),
    ("runs/update", {"status": "ASLEEP"}, 400),
    ("runs/update", {"status": "FINISHED", "end_time": 2**62}, 400),
    ("runs/outputs", {"models": [{"model_id": "../x"}]}, 400),
    ("runs/log-model", {"model_json": "[" * 100_000}, 400),
    ("runs/log-model", {"model_json": "{}"}, 400),
    ("runs/log-batch", {"metrics": [{"key": "a", "value": 1, "timestamp": 1}] * 1_001}, 400),
)


def test_what_cannot_be_logged_is_refused(ask: Any) -> None:
    """A bad value would be kept, or be a fault of the server's."""
    run = ask.make_run()
    for path, fields, status in WRONG_LOGS:
        post(ask, path, status, run_id=run, **fields)


def test_runs_that_are_not_there_are_named_as_mlflow_does(ask: Any) -> None:
    """A client would take a run that is gone for a mistake in its own call."""
    for run, status in (("", 400), ("abc", 404), ("0" * 32, 404), ("../x", 400), ("r-é", 400)):
        post(ask, "runs/set-tag", status, run_id=run, key="a", value="b")


def test_an_older_clients_models_are_kept_as_a_tag(ask: Any) -> None:
    """A model of an older client could not be found by its run."""
    run = ask.make_run()
    said = f'{{"artifact_path":"m","flavors":{{}},"utc_time_created":"x","run_id":"{run}"}}'
    post(ask, "runs/log-model", run_id=run, model_json=said)
    post(ask, "runs/log-model", run_id=run, model_json=said)
    tags = get(ask, f"runs/get?run_id={run}")["run"]["data"]["tags"]
    (history,) = [tag["value"] for tag in tags if tag["key"] == "mlflow.log-model.history"]
    assert history == f"[{said},{said}]"
    post(ask, "runs/set-tag", run_id=run, key="mlflow.log-model.history", value="no JSON")
    post(ask, "runs/log-model", run_id=run, model_json=said)


def test_a_deleted_parent_takes_nothing(ask: Any) -> None:
    """What is logged to a deleted experiment would come back with it, or never be seen."""
    number = post(ask, "experiments/create", name="gone")["experiment_id"]
    run = post(ask, "runs/create", experiment_id=number)["run"]["info"]["run_id"]
    post(ask, "experiments/delete", experiment_id=number)
    post(ask, "runs/create", 400, experiment_id=number)
    post(ask, "runs/set-tag", 400, run_id=run, key="a", value="b")
    post(ask, "runs/restore", 400, run_id=run)
    post(ask, "runs/create", 404, experiment_id="99")
