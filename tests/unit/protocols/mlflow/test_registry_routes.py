"""Registered models and their versions over the protocol, beside the catalog's releases."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from stemma.catalog.releasing import ReleaseRequest

API = "/api/2.0/mlflow"


def call(project: Any, method: str, path: str, status: int = 200, /, **fields: Any) -> Any:
    """Send a message, insist on the status, and return the answer."""
    url, body = f"{API}/{path}", fields
    if method == "GET":
        pairs = [
            f"{name}={quote(str(value), safe='')}"
            for name, values in fields.items()
            for value in (values if isinstance(values, list) else [values])
        ]
        answer = project.ask("GET", f"{url}?{'&'.join(pairs)}")
    else:
        answer = project.ask(method, url, body)
    assert answer.status == status, answer.body
    return answer.json


def version(project: Any, number: str = "1", name: str = "Clf") -> Any:
    """Return a version."""
    return call(project, "GET", "model-versions/get", name=name, version=number)["model_version"]


def by_alias(project: Any, alias: str, status: int = 200, name: str = "Clf") -> Any:
    """Return what an alias names."""
    answer = call(project, "GET", "registered-models/alias", status, name=name, alias=alias)
    return answer["model_version"] if status == 200 else answer


def set_alias(project: Any, alias: str, number: str, status: int = 200) -> Any:
    """Let an alias name a version."""
    fields = {"name": "Clf", "alias": alias, "version": number}
    return call(project, "POST", "registered-models/alias", status, **fields)


def test_a_registered_model_lives_its_life(project: Any) -> None:
    """A client could not find, tag, rename or remove what it registered."""
    tags = [{"key": "team", "value": "risk"}]
    made = call(
        project, "POST", "registered-models/create", name="Clf", tags=tags, description="d"
    )["registered_model"]
    assert (made["name"], made["tags"], made["description"]) == ("Clf", tags, "d")
    again = call(project, "POST", "registered-models/create", 400, name="Clf")
    assert again["error_code"] == "RESOURCE_ALREADY_EXISTS"
    clash = call(project, "POST", "registered-models/create", 409, name="clf")
    assert clash["error_code"] == "RESOURCE_CONFLICT"
    call(project, "PATCH", "registered-models/update", name="Clf", description="new")
    call(project, "POST", "registered-models/set-tag", name="Clf", key="a", value="b")
    call(project, "DELETE", "registered-models/delete-tag", name="Clf", key="team")
    found = call(project, "GET", "registered-models/get", name="Clf")["registered_model"]
    assert (found["description"], found["tags"]) == ("new", [{"key": "a", "value": "b"}])
    project.register("xgboost")
    set_alias(project, "champion", "1")
    for name in ("", "..", "a/b", "a\0", "1.0"):
        set_alias(project, name, "1", 400)
    call(project, "POST", "registered-models/rename", name="Clf", new_name="Churn")
    found = call(project, "GET", "registered-models/get", name="Churn")["registered_model"]
    assert found["aliases"] == [{"alias": "champion", "version": "1"}]
    assert [one["version"] for one in found["latest_versions"]] == ["1"]
    call(project, "DELETE", "registered-models/delete", name="Churn")
    gone = call(project, "GET", "registered-models/get", 404, name="Churn")
    assert gone["error_code"] == "RESOURCE_DOES_NOT_EXIST"
    assert project.hub.parts.catalog.channels("churn") == {}


def test_versions_are_described_tagged_and_hidden_but_never_changed(project: Any) -> None:
    """A version somebody relies on would become other files."""
    run = project.register("xgboost")
    project.register("xgboost")
    call(project, "PATCH", "model-versions/update", name="Clf", version="1", description="first")
    changed = call(
        project,
        "PATCH",
        "model-versions/update",
        409,
        name="Clf",
        version="1",
        source="models:/m-1",
    )
    assert changed["error_code"] == "RESOURCE_CONFLICT"
    call(project, "POST", "model-versions/set-tag", name="Clf", version="1", key="a", value="b")
    call(project, "POST", "model-versions/set-tag", name="Clf", version="1", key="c", value="d")
    call(project, "DELETE", "model-versions/delete-tag", name="Clf", version="1", key="c")
    found = version(project)
    assert (found["run_id"], found["description"], found["status"]) == (run, "first", "READY")
    assert (found["tags"], found["current_stage"]) == ([{"key": "a", "value": "b"}], "None")
    uri = call(project, "GET", "model-versions/get-download-uri", name="Clf", version="1")
    assert uri["artifact_uri"] == f"mlflow-artifacts:/0/models/{found['model_id']}/artifacts"
    set_alias(project, "trial", "2")
    call(project, "DELETE", "model-versions/delete", name="Clf", version="2")
    call(project, "GET", "model-versions/get", 404, name="Clf", version="2")
    assert by_alias(project, "trial", 400)["error_code"] == "INVALID_PARAMETER_VALUE"
    call(project, "GET", "model-versions/get", 400, name="Clf", version="x")


@pytest.mark.parametrize(
    "source", ["file:///etc/passwd", "http://host/x", "local:/x", "dbfs:/x", "/etc", ""]
)
def test_no_other_place_is_registered(project: Any, source: str) -> None:
    """The server would read a file or an address for a stranger."""
    call(project, "POST", "registered-models/create", name="Clf")
    run = project.ask.make_run()
    fields = {"name": "Clf", "source": source, "run_id": run}
    refused = call(project, "POST", "model-versions/create", 400, **fields)
    assert refused["error_code"] == "INVALID_PARAMETER_VALUE"


def test_releases_are_found_by_number_range_stage_and_alias(project: Any) -> None:
    """models:/clf@^1.4 or models:/clf/1.4.2 could not be loaded."""
    project.register("onnx", lr="0.1")
    set_alias(project, "Champion_A", "1")
    assert by_alias(project, "champion-a")["aliases"] == ["champion-a"]
    assert by_alias(project, "latest")["version"] == "1"
    refused = set_alias(project, "stable", "1", 409)
    assert "stemma release clf" in refused["message"]
    production = {"name": "Clf", "version": "1", "stage": "Production"}
    call(project, "POST", "model-versions/transition-stage", 409, **production)
    outcome = project.hub.release(ReleaseRequest(model="clf", channel="stable"))
    assert (outcome.version, version(project)["semver"]) == ("1.0.0", "1.0.0")
    project.register("xgboost")
    project.hub.release(ReleaseRequest(model="clf"))
    for alias in ("1.0.0", "^1", ">=1.0,<2", "~1.0", "stable", "champion-a"):
        assert by_alias(project, alias)["version"] == "1", alias
    assert by_alias(project, "*")["version"] == version(project, "2")["version"]
    assert version(project, "1.0.0")["aliases"] == ["champion-a", "stable"]
    assert by_alias(project, "^7", 404)["error_code"] == "RESOURCE_DOES_NOT_EXIST"
    call(project, "DELETE", "registered-models/alias", name="Clf", alias="champion-a")
    call(project, "DELETE", "registered-models/alias", name="Clf", alias="champion-a")
    by_alias(project, "champion-a", 400)


def test_a_stage_or_what_stands_for_one_names_versions(project: Any) -> None:
    """models:/clf/1.4.2 could not be loaded, and production would be something else than stable."""

    def latest(*stages: str, status: int = 200) -> Any:
        fields = {"name": "Clf", "stages": list(stages)}
        answer = call(project, "GET", "registered-models/get-latest-versions", status, **fields)
        return [one["version"] for one in answer.get("model_versions", [])]

    for folder in ("onnx", "xgboost"):
        project.register(folder)
        channel = "stable" if folder == "onnx" else ""
        project.hub.release(ReleaseRequest(model="clf", channel=channel))
    assert latest("1.0.0") == latest("stable") == latest("^1") == ["1"]
    assert latest() == latest("None") == ["2"]
    assert latest("nowhere", status=400) == []
    production = {"name": "Clf", "version": "2", "stage": "production"}
    call(project, "POST", "model-versions/transition-stage", **production)
    assert (latest("Production"), by_alias(project, "stable")["version"]) == (["2"], "2")
    moves = project.hub.channel_history("clf", "stable")
    assert [move.version for move in moves] == ["2.0.0", "1.0.0"]
    for path in ("model-versions/delete", "registered-models/delete"):
        call(project, "DELETE", path, 409, name="Clf", version="1")


def test_registered_models_and_versions_are_searched(project: Any) -> None:
    """A client would page through everything, or see nothing."""
    project.register("xgboost", "A")
    project.register("xgboost", "A")
    project.register("xgboost", "B")
    page = call(project, "GET", "registered-models/search", max_results=1, order_by="name ASC")
    assert [one["name"] for one in page["registered_models"]] == ["A"]
    assert [one["version"] for one in page["registered_models"][0]["latest_versions"]] == ["2"]
    token = page["next_page_token"]
    page = call(
        project,
        "GET",
        "registered-models/search",
        max_results=1,
        order_by="name ASC",
        page_token=token,
    )
    assert [one["name"] for one in page["registered_models"]] == ["B"]
    found = call(project, "GET", "model-versions/search", filter="name = 'A'")["model_versions"]
    assert sorted(one["version"] for one in found) == ["1", "2"]
