"""Help is complete: every verb has examples and stands in the reference."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import click
import pytest

from stemma.cli.exit_codes import ExitCode
from stemma.cli.framework import Verb, app
from stemma.cli.topics import topics
from stemma.cli.verbs import GROUPS, HABITS, HIDDEN, all_verbs, suggest_verb
from stemma.cli.version import VERSION

ROOT = Path(__file__).parents[3]
REFERENCE = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
VERBS = [name for group in GROUPS.values() for name in group]


def _verb(name: str) -> Verb:
    command = app.get_command(click.Context(app), name)
    assert isinstance(command, Verb)
    return command


@pytest.mark.parametrize("name", [*VERBS, *HIDDEN])
def test_every_verb_has_three_examples_and_a_sentence(name: str) -> None:
    """A newcomer would have to guess how a verb is called."""
    command = _verb(name)
    assert len(command.examples) >= 3
    assert command.help


@pytest.mark.parametrize("name", VERBS)
def test_examples_name_options_that_exist(name: str) -> None:
    """An example copied from help would be refused."""
    known = {
        option
        for verb in VERBS
        for param in _verb(verb).get_params(click.Context(_verb(verb)))
        for option in param.opts
    }
    for _, line in _verb(name).examples:
        for option in re.findall(r"(?<= )--[a-z-]+", line):
            assert option in known, line


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_and_option_is_in_the_reference(name: str) -> None:
    """A user would find an option in no document."""
    section = REFERENCE.split(f"### stemma {name}\n")[1].split("\n## ")[0].split("\n### ")[0]
    for param in _verb(name).params:
        if isinstance(param, click.Option):
            for option in param.opts:
                assert f"`{option}`" in section, option
    for _, line in _verb(name).examples:
        assert line in section


@pytest.mark.parametrize("option", ["--json", "--format", "--progress", "--color", "--help"])
def test_every_verb_takes_the_common_options(option: str) -> None:
    """A script would have to know which verbs speak JSON."""
    for name in VERBS:
        params = _verb(name).get_params(click.Context(_verb(name)))
        assert any(option in param.opts for param in params), name
    assert f"`{option}" in REFERENCE


def test_every_exit_code_is_in_the_reference() -> None:
    """A script's author would meet an unknown number."""
    for code in ExitCode:
        assert f"| {int(code)} |" in REFERENCE


def test_topics_are_those_that_help_names() -> None:
    """Help would name a topic that does not exist."""
    assert list(topics()) == ["refs", "gates", "exit-codes", "environment"]


def test_habits_lead_to_verbs_that_exist() -> None:
    """Did-you-mean would propose a verb that does not exist."""
    assert {meant.split()[0] for meant in HABITS.values()} <= set(all_verbs())
    assert not set(HABITS) & set(all_verbs())


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("commit", "release"),
        ("undo", "rollback"),
        ("deploy", "rollout"),
        ("promote", "rollout promote"),
        ("validate", "check"),
        ("relaese", "release"),
        ("statsu", "status"),
        ("histroy", "log"),
        ("qqqq", ""),
    ],
)
def test_a_wrong_word_leads_to_the_verb_that_was_meant(word: str, meant: str) -> None:
    """People from other tools would have to read the whole help."""
    assert suggest_verb(word) == meant


def test_the_version_is_the_distributions() -> None:
    """`stemma --version` would name another version than the one installed."""
    assert metadata.version("stemma-ml") == VERSION
