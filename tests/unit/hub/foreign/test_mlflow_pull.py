"""Importing from a server that fails, lies, keeps files elsewhere, or changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stemma.domain.errors import (
    DeniedError,
    InvalidInputError,
    StemmaError,
    UnavailableError,
)
from stemma.hub.foreign.mlflow_address import parse_mlflow_address
from stemma.hub.foreign.mlflow_client import ATTEMPTS, MlflowClient
from stemma.hub.foreign.mlflow_wire import Experiments
from stemma.tracking import artifacts, imports, registry, run_log

if TYPE_CHECKING:
    from stemma.hub.local_parts import LocalParts

RUN = "r-" + "7" * 32
TOKEN = {"MLFLOW_TRACKING_TOKEN": "s3cret"}
ROOT = f"3/{'7' * 32}/artifacts"


def _info(server: Any) -> dict[str, Any]:
    return dict(server.answers["runs/search"]["runs"][0]["info"])


def _files(parts: LocalParts) -> dict[str, bytes]:
    with parts.database.read() as connection:
        found = list(artifacts.list_below(connection, RUN))
    return {file.path: parts.objects.read_bytes(file.file) for file in found}


@pytest.mark.slow
def test_a_second_import_asks_for_no_points_and_no_files(
    parts: LocalParts, server: Any, pull: Any
) -> None:
    """A large server would be read anew each time."""
    first, asked = pull(), len(server.asked)
    assert first.copied == {"experiment": 1, "run": 1}
    assert _files(parts) == {"notes.txt": b"hello"}
    second = pull()
    assert (second.copied, second.file_count) == ({}, 0)
    assert len(server.asked) - asked == second.request_count == 4
    assert server.count("get-history") == 1


@pytest.mark.slow
def test_what_changed_is_asked_for_and_nothing_is_fetched_twice(
    parts: LocalParts, server: Any, pull: Any
) -> None:
    """A new tag would be lost, or cost all files of the run again."""
    pull()
    run = server.answers["runs/search"]["runs"][0]
    run["data"]["tags"] = [{"key": "team", "value": "sales"}]
    server.files[f"{ROOT}/more.txt"] = b"more"
    assert pull().file_count == 1
    assert _files(parts) == {"notes.txt": b"hello", "more.txt": b"more"}
    with parts.database.read() as connection:
        assert run_log.run_data(connection, RUN).tags["team"] == "sales"


@pytest.mark.slow
def test_a_run_that_goes_on_is_looked_at_every_time(
    parts: LocalParts, server: Any, pull: Any
) -> None:
    """A checkpoint that was written over with one of the same size would stay the old one."""
    run = server.answers["runs/search"]["runs"][0]
    run["info"] |= {"status": "RUNNING", "end_time": 0}
    pull()
    server.files[f"{ROOT}/notes.txt"] = b"HELLO"
    pull()
    assert _files(parts) == {"notes.txt": b"HELLO"}


@pytest.mark.slow
def test_what_was_cut_off_goes_on_without_the_files_that_are_here(
    parts: LocalParts, server: Any, pull: Any
) -> None:
    """An import over a bad line would begin anew each time."""
    data = server.files[f"{ROOT}/notes.txt"]
    server.listed[ROOT] = [
        {"path": "notes.txt", "file_size": 5},
        {"path": "z.txt", "file_size": 1},
    ]
    first = pull()
    assert [(item.what, item.code) for item in first.left] == [(f"run {RUN}", "not-found-there")]
    server.files[f"{ROOT}/z.txt"] = b"z"
    assert pull().is_whole
    assert _files(parts) == {"notes.txt": data, "z.txt": b"z"}


@pytest.mark.parametrize("name", ["..", "a\\b", "c:x", "%2e%2e", "", "a\nb"])
def test_no_path_of_the_server_is_trusted(
    parts: LocalParts, server: Any, pull: Any, name: str
) -> None:
    """A server could make somebody's download write outside of its folder."""
    server.listed[ROOT] = [{"path": name, "file_size": 5}]
    outcome = pull()
    assert [item.code for item in outcome.left] == ["bad-artifact-path"]
    assert _files(parts) == {}


@pytest.mark.parametrize(
    "uri",
    ["s3://bucket/3/run", "file:///tmp/mlruns/3", "mlflow-artifacts://other:5000/3/run/artifacts"],
)
def test_artifacts_elsewhere_are_named_each_time_and_never_opened(
    server: Any, pull: Any, uri: str
) -> None:
    """Files would be missing and nobody told; or the server would choose what we read."""
    server.answers["runs/search"]["runs"][0]["info"]["artifact_uri"] = uri
    server.answers["artifacts/list"] = {"files": [{"path": "notes.txt", "file_size": 5}]}
    for _ in range(2):
        outcome = pull()
        assert outcome.is_whole
        assert [(it.what, it.code) for it in outcome.left] == [
            (f"run {RUN}", "artifacts-elsewhere")
        ]
        assert uri in outcome.left[0].detail
    assert server.count("mlflow-artifacts/artifacts") == 0


@pytest.mark.slow
def test_a_run_that_was_deleted_here_stays_deleted(
    parts: LocalParts, server: Any, pull: Any
) -> None:
    """An import would bring back what somebody removed on purpose."""
    pull()
    with parts.database.write() as connection:
        run_log.delete(connection, RUN, parts.clock())
    server.answers["runs/search"]["runs"][0]["data"]["tags"] = []
    assert [item.code for item in pull().left] == ["deleted-here"]
    with parts.database.read() as connection:
        assert imports.is_deleted(connection, RUN)


@pytest.mark.slow
def test_a_version_waits_until_its_files_are_here(
    parts: LocalParts, server: Any, pull: Any
) -> None:
    """A version would be here with nothing behind it, or never come when its run does."""
    source = f"mlflow-artifacts:/{ROOT}/model"
    model = {"name": "Churn (EU)", "aliases": [{"alias": "stable", "version": "2"}]}
    version = {"name": "Churn (EU)", "version": "2", "source": source, "run_id": "7" * 32}
    server.answers["registered-models/search"] = {"registered_models": [model]}
    server.answers["model-versions/search"] = {"model_versions": [version]}
    runs = server.answers["runs/search"].pop("runs")
    assert [item.code for item in pull().left] == ["bad-source", "version-not-found"]
    runs[0]["data"]["metrics"][0]["key"] = "recall[class=0]"
    server.answers["runs/search"]["runs"] = runs
    assert [item.code for item in pull().left] == ["unreleased-on-stable"]
    with parts.database.read() as connection:
        assert registry.get_version(connection, "Churn (EU)", 2).run == RUN
        assert run_log.run_data(connection, RUN).metrics[0].name == "recall/class:0"


def test_a_dry_run_writes_nothing(parts: LocalParts, server: Any, pull: Any) -> None:
    """Looking would change what is looked at."""
    outcome = pull(is_dry_run=True)
    assert outcome.copied == {"run": 1}
    with parts.database.read() as connection:
        assert imports.run_tags(connection, [RUN]) == {}
    assert server.count("get-history") == 0


class TestClient:
    def _ask(self, server: Any, **environment: str) -> Experiments:
        client = MlflowClient(server.address, environment, sleep=lambda _: None)
        try:
            return client.post("experiments/search", {}, Experiments)
        finally:
            client.close()

    def test_a_server_that_is_busy_is_asked_again(self, server: Any) -> None:
        """One bad moment would end an import of hours."""
        server.failures = [503, 429, 500]
        assert self._ask(server).experiments[0].name == "churn"

    def test_a_server_that_fails_for_good_is_asked_a_bounded_number_of_times(
        self, server: Any
    ) -> None:
        """A command would never come back."""
        server.failures = [503] * 99
        with pytest.raises(UnavailableError, match="HTTP 503"):
            self._ask(server)
        assert len(server.asked) == ATTEMPTS

    def test_no_redirect_is_followed(self, server: Any) -> None:
        """A token would be carried to whatever address a server names."""
        server.failures = [302]
        with pytest.raises(InvalidInputError, match="302"):
            self._ask(server, **TOKEN)
        assert len(server.asked) == 1

    def test_credentials_are_sent_as_mlflow_does(self, server: Any) -> None:
        """A server behind a login would refuse an import that its own client is let in for."""
        self._ask(server, **TOKEN)
        both = {"MLFLOW_TRACKING_USERNAME": "ann", "MLFLOW_TRACKING_PASSWORD": "pw"}
        self._ask(server, **(TOKEN | both))
        sent = [headers["authorization"] for _, _, headers in server.asked]
        assert sent == ["Bearer s3cret", "Basic YW5uOnB3"]

    def test_a_refusal_names_the_variables(self, server: Any) -> None:
        """A person would not know how to be let in."""
        server.failures = [401]
        with pytest.raises(DeniedError) as caught:
            self._ask(server)
        assert "MLFLOW_TRACKING_TOKEN" in caught.value.hint

    def test_an_answer_that_is_no_mlflow_is_told(self, server: Any) -> None:
        """Another program on that port would end in a traceback."""
        server.answers["experiments/search"] = ["hello"]
        with pytest.raises(InvalidInputError) as caught:
            self._ask(server)
        assert caught.value.code == "not-mlflow"


@pytest.mark.parametrize(
    ("text", "server", "experiment", "model"),
    [
        ("mlflow://h:1", "mlflow://h:1", "", ""),
        ("mlflow://h/a%20b/c", "mlflow://h:5000", "a b/c", ""),
        ("mlflow+https://h/models:/clf", "mlflow+https://h:443", "", "clf"),
        ("mlflow://[::1]:5/", "mlflow://[::1]:5", "", ""),
    ],
)
def test_addresses_are_read(text: str, server: str, experiment: str, model: str) -> None:
    """An import would take another experiment than the one that was named."""
    address = parse_mlflow_address(text)
    assert (address.server, address.experiment, address.model) == (server, experiment, model)


@pytest.mark.parametrize(
    "text",
    ["mlflow://", "mlflow://u:p@h/", "mlflow://h/?x", "mlflow://h:x/", "mlflow://h/models:/"],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    """A secret would end up in tags, or a typing error in an empty import."""
    with pytest.raises(StemmaError) as caught:
        parse_mlflow_address(text)
    assert caught.value.code == "bad-address"
