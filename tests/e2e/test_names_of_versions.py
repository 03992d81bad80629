"""What names a version, which names are refused, and what a channel may point at."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = pytest.mark.slow

PRE = "toy@2.0.1-pre.1"


@pytest.fixture
def early(place: Any) -> Any:
    """Return the project with a pre-release after its two releases."""
    trained = place.run("python", "train.py", variables={"WEIGHT": "3"})
    assert trained.returncode == 0, trained.stderr
    released = place.stemma("release", "toy", "--pre", "--bump", "patch", "--reason", "to try")
    assert released.stdout.startswith("✓ toy 2.0.1-pre.1"), released.stderr
    return place


def _json(place: Any, *arguments: str, code: int = 0) -> Any:
    answer = place.stemma(*arguments, "--json")
    assert answer.returncode == code, answer.stdout
    return json.loads(answer.stdout)


def test_a_ref_without_its_second_half_releases_nothing(place: Any) -> None:
    """An empty shell variable after the @ would release whatever ran last."""
    place.run("python", "train.py", variables={"WEIGHT": "3"})
    place.refused("release", "toy@", code=2, says="not a ref: 'toy@'", hint="a ref reads like")


def test_a_pre_release_never_becomes_stable(early: Any) -> None:
    """A version whose gates failed would be served to everybody."""
    hint = "stemma release toy"
    says = "2.0.1-pre.1 is a pre-release, which may not become stable"
    early.refused("release", PRE, "--channel", "stable", code=12, says=says, hint=hint)
    trained = early.run("python", "train.py", variables={"WEIGHT": "4"})
    assert trained.returncode == 0
    early.refused(
        *("release", "toy", "--pre", "--channel", "stable"),
        code=12,
        says="a pre-release may not become stable",
        hint=hint,
    )
    moved = early.stemma("release", PRE, "--channel", "canary")
    assert moved.stdout == "✓ toy canary = 2.0.1-pre.1\n"


def test_a_channel_is_dropped_and_its_history_stays(place: Any) -> None:
    """A trial would stay a name for ever, or vanish with all it pointed at."""
    place.stemma("release", "toy@2.0.0", "--channel", "trial")
    drop = ("release", "toy", "--drop-channel", "trial", "--reason", "trial over")
    assert "would be removed" in place.stemma(*drop, "--dry-run").stdout
    assert place.stemma(*drop).stdout == "✓ toy trial removed\n"
    newest, first = _json(place, "log", "toy", "--channel", "trial")
    assert (newest["version"], newest["reason"], first["version"]) == ("", "trial over", "2.0.0")
    place.refused(*drop, code=5, says="toy has no channel trial", hint="stemma log toy")
    place.refused(
        *("release", "toy", "--drop-channel", "stabel"),
        code=5,
        says="did you mean stable?",
        hint="stemma",
    )
    for rest in (["--channel", "stable"], ["--pre"], ["--run", "r-00"], ["--bump", "major"]):
        answer = place.stemma("release", "toy", "--drop-channel", "stable", *rest)
        assert answer.returncode == 2, rest
    assert place.stemma("release", "toy@1.0.0", "--drop-channel", "stable").returncode == 2


def test_the_moves_of_an_unknown_channel_are_no_empty_list(place: Any) -> None:
    """A mistyped channel would read like one that was never used."""
    for rest in ([], ["--at", "2026-05-03"]):
        place.refused(
            *("log", "toy", "--channel", "stabel", *rest),
            code=5,
            says="toy has no channel stabel; did you mean stable?",
            hint="stemma log toy --channel stable",
        )
    place.refused(
        *("log", "toys", "--channel", "stable"),
        code=5,
        says="no model toys; did you mean toy?",
        hint="stemma log toy",
    )


def test_a_run_is_found_without_its_model(place: Any) -> None:
    """The id that a run printed would have to be joined with a model to be used."""
    newest = place.runs()[0].id
    assert _json(place, "show", newest)["manifest"]["provenance"]["run"] == newest
    assert _json(place, "diff", newest, "toy@2.0.0")["before"] == "toy@2.0.0"
    released = place.stemma("release", newest, "--dry-run")
    assert "toy 2.0.0 already is this" in released.stdout
    place.refused("show", "r-00000000", code=5, says="no run r-00000000", hint="stemma log --runs")


def test_check_before_the_first_release_looks_at_the_newest_run(place: Any) -> None:
    """Whether a first version may ship could be asked only by the id of its run."""
    script = (place.folder / "train.py").read_text().replace('"toy"', '"new"')
    assert place.python(script).returncode == 0
    newest = place.runs()[0].id
    checked = _json(place, "check", "new")
    assert (checked["label"], checked["passed"]) == (f"new@{newest}", True)
