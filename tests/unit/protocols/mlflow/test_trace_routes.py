"""Traces over the protocol."""

from __future__ import annotations

from typing import Any

import pytest

API = "/api/3.0/mlflow/traces"
ONE = "tr-" + "a" * 32


def info(**fields: Any) -> dict[str, Any]:
    """Return a message that tells of a trace."""
    told = {
        "trace_id": ONE,
        "trace_location": {
            "type": "MLFLOW_EXPERIMENT",
            "mlflow_experiment": {"experiment_id": "0"},
        },
        "request_time": "2026-05-01T12:00:00.123Z",
        "execution_duration": "1.5s",
        "state": "OK",
        **fields,
    }
    return {"trace": {"trace_info": told}}


def test_a_trace_is_kept_with_the_file_of_its_spans(ask: Any) -> None:
    """What an application did would be lost, or come back as something else."""
    told = ask("POST", API, info(tags={"mlflow.traceName": "f"}, request_preview="q"))
    assert told.status == 200, told.body
    kept = told.json["trace"]["trace_info"]
    place = f"mlflow-artifacts:/0/traces/{ONE}/artifacts"
    assert kept["tags"] == {"mlflow.traceName": "f", "mlflow.artifactLocation": place}
    assert kept["request_time"] == "2026-05-01T12:00:00.123000Z"
    assert (kept["execution_duration"], kept["request_preview"]) == ("1.500s", "q")
    assert ask("GET", f"{API}/{ONE}").json == told.json
    url = f"/api/2.0/mlflow-artifacts/artifacts/0/traces/{ONE}/artifacts/traces.json"
    assert ask("GET", url).status == 404
    assert ask("PUT", url, b'{"spans": []}').status == 200
    assert ask("GET", url).body == b'{"spans": []}'
    spans = f"/ajax-api/3.0/mlflow/get-trace-artifact?request_id={ONE}"
    assert ask("GET", spans).body == b'{"spans": []}'
    assert ask("PUT", url.replace("/0/traces", "/1/traces"), b"{}").status == 404
    infos = ask("POST", f"{API}/batchGetInfos", {"trace_ids": [ONE, "tr-1"]}).json
    assert [one["trace_id"] for one in infos["trace_infos"]] == [ONE]


def test_traces_are_searched_tagged_and_deleted(ask: Any) -> None:
    """Calls would not be found, or could not be removed."""
    ask("POST", API, info())
    ask("POST", API, info(trace_id="tr-2", state="2"))
    places = [{"mlflow_experiment": {"experiment_id": "0"}}]
    found = ask("POST", f"{API}/search", {"locations": places, "max_results": 1}).json
    assert [one["trace_id"] for one in found["traces"]] == ["tr-2"]
    assert found["next_page_token"]
    errors = {"locations": places, "filter": "status = 'ERROR'"}
    assert len(ask("POST", f"{API}/search", errors).json["traces"]) == 1
    tags = f"/api/2.0/mlflow/traces/{ONE}/tags"
    assert ask("PATCH", tags, {"key": "a", "value": "b"}).status == 200
    assert ask("DELETE", tags, {"key": "a"}).status == 200
    assert ask("DELETE", tags, {"key": "a"}).status == 404
    run = ask.make_run()
    link = {"trace_ids": [ONE], "run_id": run}
    assert ask("POST", "/api/2.0/mlflow/traces/link-to-run", link).status == 200
    mine = {"locations": places, "filter": f"run_id = '{run}'"}
    assert len(ask("POST", f"{API}/search", mine).json["traces"]) == 1
    gone = {"experiment_id": "0", "request_ids": [ONE]}
    assert ask("POST", f"{API}/delete-traces", gone).json == {"traces_deleted": 1}
    older = {"experiment_id": "0", "max_timestamp_millis": "1777636800123", "max_traces": 5}
    assert ask("POST", f"{API}/delete-traces", older).json == {"traces_deleted": 1}
    assert ask("GET", f"{API}/{ONE}").status == 404


@pytest.mark.parametrize(
    "wrong",
    [
        {"trace_id": "../x"},
        {"trace_location": {"type": "INFERENCE_TABLE"}},
        {"state": "GOOD"},
        {"execution_duration": "-1s"},
        {"execution_duration": "1e9s"},
        {"request_time": "2026-05-01T12:00:00"},
        {"request_time": "1900-05-01T12:00:00Z"},
        {"assessments": [{}]},
        {"trace_metadata": {"mlflow.sourceRun": "../x"}},
        {"tags": {"k": 1}},
    ],
)
def test_a_wrong_trace_is_refused(ask: Any, wrong: dict[str, Any]) -> None:
    """A client's mistake would be a fault of ours, or be kept."""
    answer = ask("POST", API, info(**wrong))
    assert (answer.status, answer.json["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"request_ids": [ONE], "max_timestamp_millis": 1},
        {"request_ids": [ONE], "max_traces": 1},
        {"max_timestamp_millis": 1, "max_traces": 0},
        {"max_timestamp_millis": 2**62},
        {"request_ids": ["tr-1", *(f"tr-{number:x}" for number in range(1001))]},
    ],
)
def test_a_deletion_that_says_too_little_deletes_nothing(ask: Any, wrong: dict[str, Any]) -> None:
    """A mistake in a script would delete everything."""
    ask("POST", API, info())
    answer = ask("POST", f"{API}/delete-traces", {"experiment_id": "0", **wrong})
    assert answer.status == 400
    assert ask("GET", f"{API}/{ONE}").status == 200


def test_spans_are_not_taken_one_by_one(ask: Any) -> None:
    """MLflow's client sends spans as a file only when these very words are in the answer."""
    answer = ask("POST", "/v1/traces", b"\n\x00", content_type="application/x-protobuf")
    assert answer.status == 501
    assert "REST OTLP span logging is not supported" in answer.json["message"]
