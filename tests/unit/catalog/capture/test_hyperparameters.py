"""Hyperparameters as bytes, and parameter files."""

from __future__ import annotations

import enum
import json
from pathlib import Path

import numpy as np
import pytest

from stemma.catalog.capture.hyperparameters import encode_hyperparameters, read_params
from stemma.domain.errors import InvalidInputError, NotFoundError


class Kind(enum.Enum):
    """A choice."""

    FAST = "fast"


def test_equal_values_give_equal_bytes_whatever_the_order() -> None:
    """The same training would be recorded as changed."""
    first = encode_hyperparameters({"b": 1, "a": {3, 1, 2}}, {"z": 0.1})
    second = encode_hyperparameters({"a": {2, 3, 1}, "b": np.int64(1)}, {"z": np.float64(0.1)})
    assert first == second == b'{"defaulted":{"z":0.1},"passed":{"a":[1,2,3],"b":1}}'


def test_what_json_cannot_say_is_marked_and_has_no_address() -> None:
    """A memory address would make every run differ from the one before."""
    text = encode_hyperparameters(
        {"f": np.mean, "o": object(), "k": Kind.FAST, "p": Path("a/b"), "a": np.arange(2)}, {}
    ).decode()
    assert "0x" not in text
    passed = json.loads(text)["passed"]
    assert passed["f"]["repr"] == "numpy.mean"
    assert passed["o"]["type"] == "object"
    assert (passed["k"], passed["p"], passed["a"]) == ("fast", "a/b", [0, 1])


def test_nan_and_infinity_are_text() -> None:
    """The blob would not be JSON that other tools can read."""
    data = encode_hyperparameters({"a": float("nan"), "b": float("inf"), "c": -np.inf}, {})
    assert json.loads(data)["passed"] == {"a": "NaN", "b": "Infinity", "c": "-Infinity"}


def test_a_passed_value_is_not_a_default_as_well() -> None:
    """A parameter would be shown twice."""
    assert encode_hyperparameters({"C": 1}, {"C": 2}) == b'{"defaulted":{},"passed":{"C":1}}'


def test_a_value_that_contains_itself_is_refused() -> None:
    """The recording would end in a recursion error without a name."""
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(InvalidInputError, match="nest deeper"):
        encode_hyperparameters({"a": loop}, {})


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("p.yaml", "C: 0.5\nlayers: [1, 2]\n", {"C": 0.5, "layers": [1, 2]}),
        ("p.yml", "", {}),
        ("p.json", '{"C": 0.5}', {"C": 0.5}),
        ("p.json", "\ufeff{}", {}),
        ("p.toml", "C = 0.5\n[a]\nb = 1\n", {"C": 0.5, "a": {"b": 1}}),
    ],
)
def test_parameter_files_are_read(
    tmp_path: Path, name: str, text: str, expected: dict[str, object]
) -> None:
    """``--params`` would lose parameters."""
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    assert read_params(file) == expected


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("p.yaml", b"!!python/object/apply:os.system ['true']"),
        ("p.yaml", b"- a\n- b\n"),
        ("p.yaml", b"a: [1"),
        ("p.json", b"{"),
        ("p.json", b"[1]"),
        ("p.json", b"\xff\xfe\x00"),
        ("p.toml", b"a = "),
        ("p.ini", b"[a]"),
        ("deep.json", b"[" * 100_000),
    ],
)
def test_a_bad_parameter_file_is_named(tmp_path: Path, name: str, data: bytes) -> None:
    """The user would get a traceback, or worse, code from a file would run."""
    file = tmp_path / name
    file.write_bytes(data)
    with pytest.raises(InvalidInputError, match=name):
        read_params(file)


def test_a_missing_parameter_file_is_named(tmp_path: Path) -> None:
    """The run would be recorded without the parameters the user named."""
    with pytest.raises(NotFoundError, match=r"nope\.yaml"):
        read_params(tmp_path / "nope.yaml")
