"""``docs/reference/settings.md`` against the program: every key is there, every example holds."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from stemma.domain.configuration import Configuration, parse_configuration
from stemma.domain.errors import InvalidInputError
from stemma.domain.policy import BUDGET_UNITS, METADATA_TYPES, PERSONAL_DATA, parse_policy
from stemma.domain.profiles import DEFAULT, PROFILES, Profile
from stemma.server.settings import Settings, load_settings

TEXT = (Path(__file__).parents[3] / "docs" / "reference" / "settings.md").read_text("utf-8")
ROW = re.compile(r"^\| `(\w+)` \| (.+?) \| .* \| `(.+)` \|$", re.MULTILINE)


def _section(start: str, end: str = "\0") -> list[tuple[str, str, str]]:
    return ROW.findall(TEXT[TEXT.index(start) :].partition(end)[0])


def test_every_setting_is_there_and_its_example_is_accepted(tmp_path: Path) -> None:
    """A setting nobody can find is a setting nobody uses."""
    rows = _section("## The project", "\n## ")
    assert [key for key, _, _ in rows] == [
        field.name
        for field in fields(Settings)
        if field.name not in {"models", "remotes", "origins"}
    ]
    (tmp_path / "stemma.toml").write_text("\n".join(example for _, _, example in rows))
    settings = load_settings(tmp_path, {})
    for key, _, _ in rows:
        assert settings.origins[key] == "stemma.toml"


def _allowed_policy_keys() -> set[str]:
    """Ask the program itself, which lists the keys it knows when it refuses one."""
    try:
        parse_policy({"no-such-key": 1}, "model.toy")
    except InvalidInputError as error:
        return set(re.findall(r"\w+", error.message.partition("allowed are ")[2]))
    raise AssertionError


def test_every_policy_key_is_there_and_its_example_is_accepted() -> None:
    """A promise that cannot be found cannot be made."""
    rows = _section("## A model's policy", "### `[model.NAME.serve]`")
    tables = set(re.findall(r"^### `\[model\.NAME\.(\w+)\]`", TEXT, re.MULTILINE))
    assert {key for key, _, _ in rows} | tables == _allowed_policy_keys()
    parse_policy(tomllib.loads("\n".join(example for _, _, example in rows)), "model.toy")
    for block in re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL):
        parse_policy(tomllib.loads(block)["model"]["digits"], "model.digits")
    for word in (*PERSONAL_DATA, *METADATA_TYPES, *PROFILES, *(f"_{u}" for u in BUDGET_UNITS)):
        assert f"`{word}`" in TEXT


def test_every_serve_key_is_there_with_its_default_and_its_example_is_accepted() -> None:
    """A model would be served with limits that nobody can find."""
    rows = _section("### `[model.NAME.serve]`", "### `[model.NAME.gates]`")
    with pytest.raises(InvalidInputError) as caught:
        parse_configuration({"no-such-key": 1}, "model.toy.serve")
    allowed = set(re.findall(r"\w+", caught.value.message.partition("allowed are ")[2]))
    assert {key for key, _, _ in rows} == allowed
    assert len(rows) == len(fields(Configuration))
    default = Configuration()
    for key, shown, example in rows:
        parse_policy({"serve": tomllib.loads(example)}, "model.toy")
        known = getattr(default, key, None)
        if isinstance(known, int):
            assert shown == f"`{known}`"


def test_every_threshold_is_there_with_its_default() -> None:
    """A threshold would be tuned from a wrong start."""
    rows = _section("### `[model.NAME.thresholds]`")
    assert [key for key, _, _ in rows] == [
        field.name for field in fields(Profile) if field.name != "name"
    ]
    for key, default, example in rows:
        assert default == f"`{getattr(DEFAULT, key)}`"
        parse_policy({"thresholds": tomllib.loads(example)}, "model.toy")
