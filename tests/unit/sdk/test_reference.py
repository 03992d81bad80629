"""``docs/reference/sdk.md`` against the package: every public name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import stemma
from stemma.sdk.datasets import Dataset
from stemma.sdk.plan import Sweep, Training
from stemma.sdk.run import Run
from stemma.sdk.runs import RunTable
from stemma.sdk.versions import Version

REFERENCE = (Path(__file__).parents[3] / "docs" / "reference" / "sdk.md").read_text(
    encoding="utf-8"
)

ATTRIBUTE = re.compile(r"^        (\w+):", re.MULTILINE)


def _members(kind: type) -> list[str]:
    """Public methods, properties, and documented attributes."""
    attributes = ATTRIBUTE.findall((kind.__doc__ or "").partition("Attributes:")[2])
    return sorted({*attributes, *(name for name in vars(kind) if not name.startswith("_"))})


@pytest.mark.parametrize("name", stemma.__all__)
def test_every_name_of_the_package_is_described(name: str) -> None:
    """A reader would not find a name that the package offers."""
    assert f"`stemma.{name}`" in REFERENCE


@pytest.mark.parametrize(
    ("owner", "kind"),
    [
        ("run", Run),
        ("version", Version),
        ("dataset", Dataset),
        ("train", Training),
        ("sweep(…)", Sweep),
        ("runs", RunTable),
    ],
)
def test_every_member_is_described(owner: str, kind: type) -> None:
    """A reader would not find a method that an object has."""
    members = _members(kind)
    missing = [name for name in members if f"`{owner}.{name}" not in REFERENCE]
    assert members
    assert not missing
