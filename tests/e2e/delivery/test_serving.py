"""The server of a project: started, asked, stopped, killed, and refused."""

from __future__ import annotations

import signal
import socket
from typing import Any

import pytest

pytestmark = pytest.mark.slow


def test_a_server_is_started_asked_extended_stopped_and_started_again(production: Any) -> None:
    """What was served would be lost at a restart, or a process left behind."""
    production.serve("prices@1.0.0", "--channel", "stable")
    assert production.predict(1, 2).json == {"predictions": [5.0]}
    assert production.predict(1, 2).headers["x-stemma-version"] == "1.0.0"
    url = f"{production.url}/v1/models/prices:predict"
    production.until(lambda: f"✓ {url}   → stable = 1.0.0\n" in production.said())

    refused = production.refused("serve", code=12)
    assert production.url in refused["message"]
    assert "stemma serve --stop" in refused["hint"]
    other = production.refused("serve", "prices@1.1.0", code=12)
    assert other["hint"].startswith("stemma rollout prices@1.1.0")

    added = production.stemma("serve", "calm@1.0.0")
    assert added.returncode == 0, added.stderr
    assert f"{production.url}/v1/models/calm:predict" in added.stdout
    assert production.predict(1, 2, model="calm").json == {"predictions": [5.0]}

    before = production.serving()
    assert before["server"]["is_running"]
    assert before["server"]["plane"] == "envoy"
    assert production.stemma("serve", "--stop").returncode == 0
    assert production.server.wait(timeout=10) == 0
    assert production.processes() == {}
    stopped = production.serving()
    assert not stopped["server"]["is_running"]

    production.serve(models=("prices", "calm"))
    after = production.serving()
    for name in ("prices", "calm"):
        kept = ("deployment", "configuration", "stable_channel")
        assert {key: after["models"][name][key] for key in kept} == {
            key: before["models"][name][key] for key in kept
        }


def test_status_reads_the_same_for_people_programs_and_pipes(shared: Any) -> None:
    """A person would miss what serves, or a script would have to guess columns."""
    human = shared.stemma("status", STEMMA_FORMAT="human").stdout
    assert f"{shared.url}/v1/models/prices:predict" in human
    assert "1 of 1 ready" in human
    piped = [line.split("\t") for line in shared.stemma("status").stdout.splitlines()]
    rows = [row for row in piped if row[2:3] in (["serving"], ["replicas"], ["server"])]
    assert [row[:4] for row in rows] == [
        ["prices", "1.0.0", "serving", "ready"],
        ["prices", "1.0.0", "replicas", "1 of 1 ready"],
        ["", "", "server", "running"],
    ]
    model = shared.ask("status")["serving"]["models"]["prices"]
    assert model["is_ready"]
    assert model["deployment"]["by"] == "ada"
    assert shared.http("GET", "/api/serving").json["models"][0]["stable_channel"] == "1.0.0"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_signal_ends_the_server_with_all_it_started(
    production: Any, number: signal.Signals, code: int
) -> None:
    """Ctrl-C would leave a data plane that still answers, and holds the port."""
    production.serve("prices@1.0.0")
    assert len(production.processes()) == 3
    production.server.send_signal(number)
    assert production.server.wait(timeout=20) == code, production.said()
    assert production.processes() == {}


def test_a_killed_server_leaves_users_served_and_its_successor_takes_over(served: Any) -> None:
    """Users would wait for a restart, or be served by processes nobody looks after."""
    before = served.slot_pid("prices-1.0.0-c1")
    served.kill_server()
    assert served.predict(1, 2).status == 200
    status = served.stemma("status").stdout
    assert "the server is gone, its data plane and model processes go on: stemma serve" in status
    served.serve()
    served.until(lambda: served.serving()["server"]["is_running"])
    assert served.slot_pid("prices-1.0.0-c1") == before
    served.kill_server()
    assert served.stemma("serve", "--stop").returncode == 0
    assert served.processes() == {}


@pytest.mark.parametrize(
    ("arguments", "code", "says", "hint"),
    [
        (["prices@9.9.9"], 5, "9.9.9", "stemma log prices"),
        (["nobody"], 5, "nobody", ""),
        (["raw"], 5, "no release", "stemma release raw"),
        (["pickled@1.0.0-pre.1"], 4, "pickle", "record it without unsafe_pickle"),
        (["plain@1.0.0"], 2, "plain files", "record the live model"),
        (["prices@1.0.0", "--host", "0.0.0.0"], 4, "0.0.0.0", "stemma token"),  # noqa: S104
        (["prices@1.0.0", "calm@7.0.0"], 5, "7.0.0", ""),
        (["prices@3.0.0-pre.1", "--channel", "stable"], 12, "pre-release", ""),
    ],
)
def test_what_cannot_be_served_is_refused_in_one_line(
    recorded: Any, arguments: list[str], code: int, says: str, hint: str
) -> None:
    """The user would wait for a server that never answers, or read a traceback."""
    error = recorded.refused("serve", *arguments, "--port", "1", code=code)
    assert says in error["message"]
    assert error["hint"].startswith(hint)
    assert recorded.processes() == {}
    assert not recorded.serving()["models"], "it was deployed all the same"


@pytest.mark.parametrize("plane", ["envoy", "builtin"])
def test_a_port_in_use_is_refused_and_nothing_is_left(production: Any, plane: str) -> None:
    """A server that never listens would look as if it ran."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        where = ("--port", str(port), "--plane", plane)
        error = production.refused("serve", "prices@1.0.0", *where, code=12)
    assert str(port) in error["message"]
    assert production.processes() == {}
    assert not production.serving()["models"], "it was deployed all the same"


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("replicas = 0", "replicas"),
        ("unknown = 1", "unknown"),
        ('memory_mib = "much"', "memory_mib"),
        ('[model.prices.serve.env]\nDB_PASSWORD = "x"', "DB_PASSWORD"),
        ('[model.prices.serve.env]\nSTEMMA_HOME = "x"', "STEMMA_HOME"),
        ('methods = ["nothing"]', "nothing"),
    ],
)
def test_a_wrong_serve_table_is_named_by_its_key(production: Any, table: str, says: str) -> None:
    """The user would look for the mistake in the wrong file."""
    production.write("stemma.toml", f"[model.prices.serve]\n{table}\n")
    error = production.refused("serve", "prices@1.0.0", "--port", "1", code=2)
    assert says in error["message"]
    assert production.processes() == {}


def test_without_envoy_it_says_so_or_serves_by_itself(production: Any) -> None:
    """Where no wheel exists nothing could be served."""
    hidden = production.folder / "hidden" / "envoy"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("", encoding="utf-8")
    path = str(hidden.parent)
    where = ("--plane", "envoy", "--port", "1")
    error = production.refused("serve", "prices@1.0.0", *where, code=5, PYTHONPATH=path)
    assert "no Envoy" in error["message"]
    assert "--plane builtin" in error["hint"]
    assert not production.serving()["models"], "it was deployed all the same"
    production.serve("prices@1.0.0", PYTHONPATH=path)
    assert production.predict(1, 2).json == {"predictions": [5.0]}
    assert production.serving()["server"]["plane"] == "builtin"
    production.server.send_signal(signal.SIGINT)
    assert production.server.wait(timeout=20) == 130
    assert production.processes() == {}


def test_withdrawing_ends_a_model_and_leaves_the_others(served: Any) -> None:
    """A model nobody wants any more would be served for ever, or take others with it."""
    assert served.stemma("serve", "calm@1.0.0").returncode == 0
    pid = served.slot_pid("calm-1.0.0-c1")
    assert served.stemma("serve", "calm", "--withdraw").returncode == 0
    served.until(lambda: served.predict(1, 2, model="calm").status == 404)
    served.until(lambda: pid not in served.processes())
    assert served.predict(1, 2).status == 200
    assert served.server.poll() is None
