"""What ``stemma status`` says about the working tree, on real projects."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Completed = subprocess.CompletedProcess[str]
Stemma = Callable[..., Completed]
pytestmark = pytest.mark.slow

TRAIN = ["run", "--model", "model.json", "--", sys.executable, "train.py"]


def _status(stemma: Stemma) -> dict[str, Any]:
    answer: Completed = stemma("status", "--json")
    assert answer.returncode == 0, answer.stderr
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def _human(stemma: Stemma) -> Completed:
    answer: Completed = stemma("status", "--format", "human")
    assert answer.returncode == 0, answer.stderr
    return answer


def test_an_empty_project_names_the_next_command(stemma: Stemma, project: Path) -> None:
    """A newcomer would see an empty screen."""
    answer = _human(stemma)
    assert answer.stdout == "no models yet\n"
    assert answer.stderr == "  next: stemma run -- python train.py\n"
    assert _status(stemma) == {"models": {}, "tracked": {}, "serving": {}, "remotes": []}


def test_the_way_from_a_run_to_a_release_is_told(stemma: Stemma, project: Path) -> None:
    """A good run would be forgotten, or the same one trained twice."""
    assert stemma(*TRAIN).returncode == 0
    run = _status(stemma)["models"]["toy"]["unreleased_run"]
    human = _human(stemma).stdout
    assert f"run              {run[:8]} not released: stemma release toy" in human
    assert "stemma run needed" not in human

    assert stemma("release", "toy", "--channel", "stable").returncode == 0
    human = _human(stemma).stdout
    assert human.startswith("toy   1.0.0   stable = 1.0.0\n")
    assert "not released" not in human

    (project / "train.py").write_text((project / "train.py").read_text() + "# more\n")
    found = _status(stemma)["models"]["toy"]
    assert found["components"]["pipeline"] == {"state": "changed", "detail": "train.py changed"}
    assert found["needs_run"]
    assert "stemma run needed: stemma run -- python train.py" in _human(stemma).stdout

    assert stemma(*TRAIN).returncode == 0
    found = _status(stemma)["models"]["toy"]
    assert found["components"]["pipeline"]["state"] == "changed"
    assert found["unreleased_run"] == found["newest_run"]
    assert not found["needs_run"], "the newest run holds the tree as it is"


def test_a_run_equal_to_the_release_is_not_offered(stemma: Stemma, project: Path) -> None:
    """`status` would ask for a release that `release` then refuses to make."""
    assert stemma(*TRAIN).returncode == 0
    assert stemma("release", "toy").returncode == 0
    assert stemma(*TRAIN).returncode == 0
    found = _status(stemma)["models"]["toy"]
    assert found["newest_run"] != found["run"]
    assert found["unreleased_run"] == ""


def test_a_failed_run_is_named_with_its_reason(stemma: Stemma, project: Path) -> None:
    """Who comes back in the morning would not see that the training died."""
    crash = ["run", "--name", "toy", "--", sys.executable, "-c", "raise SystemExit(7)"]
    assert stemma(*crash).returncode == 1
    human = _human(stemma).stdout
    assert human.startswith("toy   (no release yet)\n  run")
    assert "failed: exit code 7   (stemma log toy --runs)" in human
    found = _status(stemma)["models"]["toy"]
    assert (found["newest_run_state"], found["failure"]) == ("failed", "exit code 7")


def test_a_pointer_that_git_brings_is_noticed(stemma: Stemma, project: Path) -> None:
    """Data of a colleague that changed would go unnoticed."""
    assert stemma("add", "data.csv").returncode == 0
    assert _status(stemma)["tracked"]["data.csv"]["state"] == "same"
    old = (project / "data.csv").read_bytes()
    kept = (project / "data.csv.stemma").read_bytes()
    (project / "data.csv").write_text("x,y\n5,6\n")
    assert stemma("add", "data.csv").returncode == 0
    assert _status(stemma)["tracked"]["data.csv"]["state"] == "same"
    (project / "data.csv.stemma").write_bytes(kept)  # as `git pull` would
    answer = _human(stemma)
    assert "data.csv         changed  data.csv changed" in answer.stdout
    assert answer.stderr.splitlines()[1:] == [
        "  next: stemma add data.csv, or stemma pull data.csv if git brought a newer pointer"
    ]
    (project / "data.csv").write_bytes(old)
    assert _status(stemma)["tracked"]["data.csv"]["state"] == "same"
    shutil.copy(project / "data.csv.stemma", project / "other.csv.stemma")
    assert _status(stemma)["tracked"]["other.csv"]["state"] == "missing"
    assert "  next: stemma pull other.csv" in _human(stemma).stderr


def test_a_head_of_another_build_is_rewritten(stemma: Stemma, project: Path) -> None:
    """After an upgrade every `status` would fail."""
    assert stemma(*TRAIN).returncode == 0
    before = _status(stemma)
    head = project / ".stemma" / "cache" / "head.json"
    for text in ("", "{}", '0000\n{"schema": "stemma.head/1"}'):
        head.write_text(text)
        assert _status(stemma) == before
        assert head.read_text() != text


def test_a_pointer_whose_content_is_elsewhere_is_named(
    stemma: Stemma, project: Path, stemma_in: Stemma, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """After `git pull` missing data would look as if nobody tracked it."""
    colleague = tmp_path_factory.mktemp("colleague")
    assert stemma_in(colleague, "init").returncode == 0
    (colleague / "images.csv").write_text("a\n")
    assert stemma_in(colleague, "add", "images.csv").returncode == 0
    assert _status(stemma)["tracked"] == {}
    shutil.copy(colleague / "images.csv.stemma", project / "images.csv.stemma")
    (project / "broken.csv.stemma").write_text("not a pointer\n")
    tracked = _status(stemma)["tracked"]
    assert tracked["images.csv"] == {
        "state": "unreadable",
        "detail": "its content is not in this project's store",
    }
    assert "its checksum does not match" in tracked["broken.csv"]["detail"]
    hints = _human(stemma).stderr
    assert "next: stemma pull images.csv" in hints
    assert "next: copy broken.csv here, then: stemma add broken.csv" in hints
