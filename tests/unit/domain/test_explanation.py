"""The explanation page says what the program does."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from stemma.domain.profiles import PROFILES, Profile

PAGE = Path(__file__).parents[3] / "docs" / "explanation" / "semver-from-evidence.md"


def test_the_page_lists_every_threshold_of_every_profile() -> None:
    """Users would reckon with other numbers than the program."""
    row = re.compile(r"^\| `(\w+)` \| (\S+) \| (\S+) \| (\S+) \|$", re.MULTILINE)
    rows = row.findall(PAGE.read_text("utf-8"))
    written = {name: tuple(float(number) for number in numbers) for name, *numbers in rows}
    assert written == {
        field.name: tuple(
            float(getattr(PROFILES[name], field.name)) for name in ("strict", "default", "lenient")
        )
        for field in fields(Profile)
        if field.name != "name"
    }
