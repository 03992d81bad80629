"""What a run without SDK says of itself."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from stemma.cli.recording import find_script, interpreter_note, parse_data
from stemma.domain.component import DatasetRole
from stemma.domain.errors import InvalidInputError


@pytest.mark.parametrize("wrapper", ["bash", "uv", "make", "./train"])
def test_a_wrapper_is_told_to_hide_the_interpreter(wrapper: str) -> None:
    """Packages of another environment would be recorded as those that trained the model."""
    assert "cannot be seen" in interpreter_note([wrapper, "train.sh"])


def test_our_own_interpreter_needs_no_note() -> None:
    """Every run would carry a warning that means nothing."""
    assert interpreter_note([sys.executable, "train.py"]) == ""


def test_another_interpreter_is_named(tmp_path: Path) -> None:
    """Packages of another environment would be recorded as those that trained the model."""
    other = tmp_path / "python3"
    other.symlink_to(sys.executable)
    assert str(other) in interpreter_note([str(other), "train.py"])


@pytest.mark.parametrize(
    ("text", "name", "role", "path"),
    [
        ("data/train.csv", "train", DatasetRole.TRAINING, "data/train.csv"),
        ("test:data/t.csv", "t", DatasetRole.TEST, "data/t.csv"),
        ("validation:v=data/t.csv", "v", DatasetRole.VALIDATION, "data/t.csv"),
        ("a/b=c.csv", "b=c", DatasetRole.TRAINING, "a/b=c.csv"),
    ],
)
def test_data_options_are_read(text: str, name: str, role: DatasetRole, path: str) -> None:
    """Test data would be recorded as training data."""
    spec = parse_data(text)
    assert (spec.name, spec.role, spec.path) == (name, role, Path(path))


def test_a_data_option_without_path_is_refused() -> None:
    """A typo would record the whole folder."""
    with pytest.raises(InvalidInputError, match="names no path"):
        parse_data("test:")


def test_the_script_is_found_behind_a_wrapper(tmp_path: Path) -> None:
    """The pipeline would have no code."""
    script = tmp_path / "train.py"
    script.touch()
    assert find_script(["uv", "run", str(script)]) == script
    assert find_script(["make", "train"]) is None
