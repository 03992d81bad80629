"""Release, show, log, diff, check and checkout on one project with a few versions."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from stemma.catalog.yaml_text import from_yaml
from stemma.domain.digest import Algorithm
from stemma.domain.manifest import encode_manifest
from stemma.store.hashing import hash_bytes

Completed = CompletedProcess[str]
Stemma = Callable[..., Completed]
pytestmark = pytest.mark.slow

FILES = ["--model", "model.json", "--data", "data.csv", "--params", "params.yaml"]
TRAIN = ["run", "-q", *FILES, "--", sys.executable, "train.py"]


@dataclass(frozen=True)
class Shop:
    """A project and the command line in it."""

    folder: Path
    stemma_in: Stemma

    def __call__(self, *arguments: str, code: int = 0) -> Completed:
        """Run a verb, which must end with ``code``."""
        answer: Completed = self.stemma_in(self.folder, *arguments)
        assert answer.returncode == code, (arguments, answer.stdout, answer.stderr)
        return answer

    def json(self, *arguments: str, code: int = 0) -> Any:
        """Run a verb and read its JSON."""
        return json.loads(self(*arguments, "--json", code=code).stdout)


@pytest.fixture(scope="module")
def shop(
    stemma_in: Stemma, fill: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> Shop:
    """Make a project with 1.0.0-pre.1, 1.0.0, 1.0.1 (lowered) and 2.0.0 (raised)."""
    shop = Shop(fill(tmp_path_factory.mktemp("shop")), stemma_in)
    (shop.folder / "stemma.toml").write_text('[model.toy.gates]\naccuracy = ">= 0.9"\n')
    shop(*TRAIN)
    refused = shop("release", "toy", code=3)
    assert "✗ not released: 1 gate failed" in refused.stdout
    assert "accuracy" in refused.stdout
    assert "stemma release toy --pre" in refused.stderr
    early = shop("release", "toy", "--pre", "-m", "to try")
    assert early.stdout.startswith("✓ toy 1.0.0-pre.1")
    assert shop.json("log", "toy")[0]["version"] == "1.0.0-pre.1"
    (shop.folder / "stemma.toml").write_text("[model.toy]\n")
    final = shop("release", "toy", "--channel", "stable")
    assert final.stdout.startswith("✓ toy 1.0.0 "), "the final number follows the pre-release"

    script = shop.folder / "train.py"
    script.write_text(script.read_text() + "pathlib.Path('model.json').write_text('{}')\n")
    shop(*TRAIN)
    computed = shop.json("release", "toy", "--dry-run")["verdict"]["level"]
    assert computed != "patch"
    lower = shop("release", "toy", "--bump", "patch", code=2)
    assert "--reason" in lower.stderr
    assert len(shop.json("log", "toy")) == 2, "what is refused changes nothing"
    shop("release", "toy", "--bump", "patch", "--reason", "format only", "--channel", "stable")

    (shop.folder / "params.yaml").write_text("rate: 0.25\n")
    shop(*TRAIN)
    shop("release", "toy", "--bump", "major", "--reason", "partners were told")
    return shop


def test_numbers_follow_pre_releases_and_bumps(shop: Shop) -> None:
    """A lowered or raised number would not be the one that was asked for."""
    versions = [row["version"] for row in shop.json("log", "toy")]
    assert versions == ["2.0.0", "1.0.1", "1.0.0", "1.0.0-pre.1"]


def test_an_override_is_shown_with_its_reason(shop: Shop) -> None:
    """Nobody could find out later why a breaking change was called a patch."""
    shown = shop("show", "toy@1.0.1").stdout
    assert "format only" in shown
    release = shop.json("show", "toy@1.0.1")["release"]
    assert (release["level"], release["override_reason"]) == ("patch", "format only")
    assert shop.json("show", "toy@2.0.0")["release"]["level"] == "major"


def test_show_yaml_is_the_manifest(shop: Shop) -> None:
    """A manifest that is kept as YAML could not prove which version it is of."""
    digest = shop.json("show", "toy@1.0.0")["digest"]
    text = shop("show", "toy@1.0.0", "--yaml").stdout
    assert str(hash_bytes(encode_manifest(from_yaml(text)), Algorithm.SHA256)) == digest


def test_show_component_says_that_part_only(shop: Shop) -> None:
    """A script would have to search the values of one part in all of them."""
    found = shop.json("show", "toy@2.0.0", "--component", "hyperparameters")
    assert found["values"] == {"rate": 0.25}
    assert set(found) == {"hyperparameters", "values"}


def test_log_shows_runs_and_moves_of_a_channel(shop: Shop) -> None:
    """Which version was stable in May could not be found out."""
    runs = shop.json("log", "toy", "--runs")
    assert [run["state"] for run in runs] == ["finished"] * 3
    wanted = ("--filter", "status = 'FINISHED'", "--order", "start_time, run_id DESC", "-n", "1")
    assert shop.json("log", "toy", "--runs", *wanted) == [runs[-1]]
    assert "--runs" in shop("log", "toy", "--filter", "run_name = 'x'", code=2).stderr
    moves = shop.json("log", "toy", "--channel", "stable")
    assert [move["version"] for move in moves] == ["1.0.1", "1.0.0"]
    at = ["log", "toy", "--channel", "stable", "--at"]
    assert shop.json(*at, moves[1]["moved_at"])["version"] == "1.0.0"
    assert shop.json(*at, "2999-01-01")["version"] == "1.0.1"
    assert "toy stable = 1.0.1" in shop(*at, "2999-01-01", "--format", "human").stdout
    missing = shop(*at, "2001-01-01", code=5)
    assert "hint: stemma log toy --channel stable" in missing.stderr
    unknown = shop("log", "toy", "--channel", "stabel", code=5)
    assert "did you mean stable?" in unknown.stderr


def test_log_without_model_lists_models(shop: Shop) -> None:
    """Who comes to a project would not know what it holds."""
    name, newest, count, channels = shop("log").stdout.rstrip("\n").split("\t")
    assert (name, newest, count) == ("toy", "2.0.0", "4 releases")
    assert "stable=1.0.1" in channels.split()


def test_diff_answers_in_exit_code_markdown_and_patch(shop: Shop) -> None:
    """A review would have to compare by hand."""
    pair = ("diff", "toy@1.0.1", "toy@2.0.0")
    shop(*pair)
    shop(*pair, "--exit-code", code=3)
    shop(*pair, "--only", "artifact,data", "--exit-code")
    only = shop.json(*pair, "--only", "params")
    assert [part["component"] for part in only["components"]] == ["hyperparameters"]
    assert "rate" in only["components"][0]["summary"]
    shop("diff", "toy@1.0.1", "toy@stable", "--exit-code")
    markdown = shop(*pair, "--md").stdout
    assert markdown.startswith("### toy@1.0.1 → toy@2.0.0\n\n| component | | change |")
    patch = shop("diff", "toy@1.0.0", "toy@1.0.1", "--patch").stdout
    assert "+pathlib.Path('model.json').write_text('{}')" in patch


def test_check_answers_no_with_exit_3(shop: Shop) -> None:
    """A pipeline would ship what a gate refuses."""
    assert shop.json("check", "toy@2.0.0")["passed"]
    settings = shop.folder / "stemma.toml"
    settings.write_text(
        '[model.toy.gates]\naccuracy = ">= 0.9"\n[model.toy.metadata]\nowner="str"\n'
    )
    try:
        report = shop.json("check", "toy@2.0.0", code=3)
        assert not report["passed"]
        metadata = shop.json("check", "toy@2.0.0", "--metadata", code=3)
        assert len(metadata["results"]) < len(report["results"])
        assert shop("check", "toy", "--format", "human", code=3).stdout.startswith("✗ toy@1.0.1")
    finally:
        settings.write_text("[model.toy]\n")
    against = shop.json("check", "toy@2.0.0", "--against", "toy@1.0.1", "--with", "toy@1.0.0")
    assert against["against"]["changed"] == ["pipeline", "hyperparameters"]
    assert any(r["gate"] == "environment with toy@1.0.0" for r in against["results"])


def test_checkout_restores_parts_and_never_overwrites(shop: Shop, tmp_path: Path) -> None:
    """A checkout would destroy work that was never stored."""
    target = tmp_path / "out"
    to = ("--to", str(target))
    dry = shop.json("checkout", "toy@1.0.0", *to, "--dry-run")
    assert not target.exists()
    one = shop.json("checkout", "toy@1.0.0", "code/train.py", *to)
    assert one["files"] == ["code/train.py"]
    some = shop.json("checkout", "toy@1.0.0", "--only", "params,artifact", *to)
    assert sorted(some["files"]) == ["artifact/model.json", "params.json"]
    full = shop.json("checkout", "toy@1.0.0", *to)
    assert full["files"] == dry["files"]
    assert (target / "data" / "data" / "data.csv").read_bytes() == (
        shop.folder / "data.csv"
    ).read_bytes()
    assert shop.json("checkout", "toy@1.0.0", *to)["written"] == 0, "twice is the same as once"
    (target / "artifact" / "model.json").write_text("mine")
    (target / "params.json").write_text("mine")
    refused = shop("checkout", "toy@1.0.0", *to, code=12)
    assert "nothing was written" in refused.stderr
    assert "--force" in refused.stderr
    assert (target / "artifact" / "model.json").read_text() == "mine"
    shop("checkout", "toy@1.0.0", *to, "--force")
    assert (target / "artifact" / "model.json").read_text() == '{"weight": 1}'
    missing = shop("checkout", "toy@1.0.0", "code/nothing.py", *to, code=5)
    assert "--dry-run" in missing.stderr


def test_a_channel_moves_once(shop: Shop) -> None:
    """Repeating a command would write a second line of history."""
    move = ("release", "toy@1.0.0", "--channel", "canary")
    assert "would be 1.0.0" in shop(*move, "--dry-run").stdout
    assert shop.json(*move)["moved"]
    assert not shop.json(*move)["moved"]
    without = shop("release", "toy@1.0.0", code=2)
    assert "hint: stemma release toy@1.0.0 --channel stable" in without.stderr


def test_names_are_completed(shop: Shop) -> None:
    """Versions and channels would have to be typed by heart."""
    answer = shop.stemma_in(
        shop.folder,
        variables={
            "_STEMMA_COMPLETE": "bash_complete",
            "COMP_WORDS": "stemma show toy@1.0",
            "COMP_CWORD": "2",
        },
    )
    assert answer.stdout.splitlines() == [
        "plain,toy@1.0.1",
        "plain,toy@1.0.0",
        "plain,toy@1.0.0-pre.1",
    ]


@pytest.mark.parametrize(
    ("verb", "empty"),
    [
        (["log"], []),
        (["log", "--runs"], []),
        (["status"], {"models": {}, "tracked": {}, "serving": {}, "remotes": []}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_nothing_is_an_empty_json_value(
    stemma_here: Stemma, verb: list[str], empty: object
) -> None:
    """A script would have to treat an empty project apart."""
    answer: Completed = stemma_here(*verb, "--json")
    assert (answer.returncode, json.loads(answer.stdout)) == (0, empty)
    assert answer.stderr == ""


def test_nothing_to_collect_and_nothing_found_are_empty_lists(stemma_here: Stemma) -> None:
    """A script would have to treat an empty project apart."""
    assert json.loads(stemma_here("gc", "--dry-run", "--json").stdout)["removed"] == []
    assert json.loads(stemma_here("doctor", "--json").stdout)["findings"] == []
