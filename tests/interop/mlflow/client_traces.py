"""Traces of an application: nested spans, what they were asked and answered, tags, deletion."""

from __future__ import annotations

import contextlib
import sys
import time

import mlflow
from mlflow.entities import SpanType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

client = MlflowClient()
experiment = mlflow.set_experiment("traces")


@mlflow.trace(span_type=SpanType.RETRIEVER)
def retrieve(question: str) -> list[str]:
    """Find documents."""
    return [f"{question} 1", "é"]


@mlflow.trace(attributes={"depth": 1})
def answer(question: str) -> dict[str, object]:
    """Answer with documents."""
    mlflow.update_current_trace(tags={"team": "search"}, client_request_id="ticket-7")
    found = retrieve(question)
    with mlflow.start_span("rank") as span:
        span.set_inputs({"documents": found})
        span.set_outputs(found[::-1])
    return {"documents": found, "count": len(found)}


@mlflow.trace
def fail() -> None:
    """Break."""
    raise ValueError("no index")


answer("what?")
first = mlflow.get_last_active_trace_id()
mlflow.flush_trace_async_logging()
assert first is not None
trace = mlflow.get_trace(first)
assert trace is not None
assert [span.name for span in trace.data.spans] == ["answer", "retrieve", "rank"]
root, found, rank = trace.data.spans
assert (root.parent_id, found.parent_id, rank.parent_id) == (None, root.span_id, root.span_id)
assert root.inputs == {"question": "what?"}
assert root.outputs == {"documents": ["what? 1", "é"], "count": 2}
assert root.get_attribute("depth") == 1
assert (found.span_type, rank.inputs) == (SpanType.RETRIEVER, {"documents": ["what? 1", "é"]})
info = trace.info
assert (info.state.value, info.experiment_id) == ("OK", experiment.experiment_id)
assert info.client_request_id == "ticket-7"
assert info.tags["team"] == "search"
assert info.tags["mlflow.traceName"] == "answer"
assert "what?" in (info.request_preview or "")
assert "count" in (info.response_preview or "")
assert info.execution_duration is not None
assert abs(info.request_time / 1000 - time.time()) < 600

with mlflow.start_run() as run:
    answer("in a run?")
with contextlib.suppress(ValueError):
    fail()
mlflow.flush_trace_async_logging()

everything = mlflow.search_traces(return_type="list")
assert [one.info.state.value for one in everything] == ["ERROR", "OK", "OK"], everything
assert everything[2].info.trace_id == first
assert everything[0].data.spans[0].events[0].name == "exception"
frame = mlflow.search_traces(filter_string="tags.team = 'search'", order_by=["timestamp_ms ASC"])
assert next(iter(frame["trace_id"])) == first
assert len(frame) == 2
[of_run] = mlflow.search_traces(run_id=run.info.run_id, return_type="list")
assert of_run.data.spans[0].inputs == {"question": "in a run?"}
for condition, count in (
    ("attributes.status = 'ERROR'", 1),
    ("trace.name = 'answer' AND status = 'OK'", 2),
    (f"request_metadata.mlflow.sourceRun = '{run.info.run_id}'", 1),
    (f"timestamp_ms > {info.request_time}", 2),
    ("execution_time_ms >= 0", 3),
    ("attributes.client_request_id = 'none'", 0),
):
    assert len(mlflow.search_traces(filter_string=condition, return_type="list")) == count, (
        condition
    )
page = client.search_traces(locations=[experiment.experiment_id], max_results=2)
rest = client.search_traces(
    locations=[experiment.experiment_id], max_results=2, page_token=page.token
)
assert [len(page), len(rest), rest.token] == [2, 1, None]
refusals = []
try:
    mlflow.search_traces(filter_string="attributes.mood = 'good'")
except MlflowException as error:
    refusals.append(error.error_code)
assert refusals == ["INVALID_PARAMETER_VALUE"]

client.set_trace_tag(first, "reviewed", "yes")
client.set_trace_tag(first, "team", "core")
assert mlflow.get_trace(first).info.tags["team"] == "core"
client.delete_trace_tag(first, "reviewed")
assert "reviewed" not in mlflow.get_trace(first).info.tags
client.link_traces_to_run([first], run.info.run_id)
assert len(mlflow.search_traces(run_id=run.info.run_id, return_type="list")) == 2

number = experiment.experiment_id
assert client.delete_traces(number, trace_ids=[first]) == 1
assert mlflow.get_trace(first) is None
latest = int(time.time() * 1000) + 1000
assert client.delete_traces(number, max_timestamp_millis=latest, max_traces=1) == 1
assert client.delete_traces(number, max_timestamp_millis=latest) == 1
assert mlflow.search_traces(return_type="list") == []
sys.stdout.write(f"{first}\n")
