"""Manifests as YAML: the same value, whatever its strings look like."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from stemma.catalog.yaml_text import from_yaml, to_yaml
from stemma.domain.canonical import to_plain
from stemma.domain.errors import InvalidInputError
from stemma.domain.manifest import Manifest, decode_manifest

VECTORS = Path(__file__).parents[2] / "vectors" / "manifest"
AWKWARD = ["no", "Yes", "on", "y", "~", "null", "NULL", "", " ", "1", "-1", "0x1f", "1e3", ".5"]
AWKWARD += ["1.0", ".inf", "nan", "2026-05-03", "12:30:45", "true", "False", "a: b", "a #b", "- a"]
AWKWARD += [
    "a\nb",
    "\t",
    "\x85",
    "\u2028",
    "'",
    '"',
    "[a]",
    "{a}",
    "&a",
    "*a",
    "!a",
    "|",
    ">",
    "%a",
]
AWKWARD += ["@a", "`a", "a:", ":a", "=", "<<", "---", "...", "1_000", "0b1", "\ufeff", "😀", "\\n"]


def minimal(metadata: dict[str, str | bool | int | list[str]] | None = None) -> Manifest:
    manifest = decode_manifest((VECTORS / "minimal.json").read_bytes())
    return replace(manifest, metadata=metadata or {})


@pytest.mark.parametrize("name", ["minimal", "full"])
def test_yaml_and_json_of_the_vectors_are_the_same_manifest(name: str) -> None:
    """A manifest edited as YAML would come back as another version."""
    manifest = decode_manifest((VECTORS / f"{name}.json").read_bytes())
    text = (VECTORS / f"{name}.yaml").read_text(encoding="utf-8")
    assert from_yaml(text) == manifest
    assert to_yaml(manifest) == text


@pytest.mark.parametrize("text", AWKWARD)
def test_text_that_looks_like_something_else_stays_text(text: str) -> None:
    """The owner ``no`` would become false, the release ``1.0`` a number."""
    manifest = minimal({"owner": text, text or "empty": "x", "list": [text, text]})
    assert from_yaml(to_yaml(manifest)) == manifest


@pytest.mark.parametrize("text", AWKWARD)
def test_other_yaml_readers_see_the_same_text(text: str) -> None:
    """A manifest read by another tool would say something else."""
    manifest = minimal({"owner": text, "is_public": True, "size": 8})
    assert yaml.safe_load(to_yaml(manifest)) == to_plain(manifest)


@pytest.mark.slow
@given(
    st.dictionaries(
        st.text(max_size=6),
        st.text(max_size=12)
        | st.booleans()
        | st.integers(min_value=-(10**17), max_value=10**17)
        | st.lists(st.text(max_size=6), max_size=3),
        max_size=4,
    )
)
def test_any_metadata_survives(metadata: dict[str, str | bool | int | list[str]]) -> None:
    """Some string nobody thought of would be changed."""
    manifest = minimal(metadata)
    assert from_yaml(to_yaml(manifest)) == manifest


def test_plain_scalars_written_by_hand_are_text() -> None:
    """A person would have to know YAML's implicit types."""
    text = to_yaml(minimal()).replace(
        "metadata: {}", "metadata: {a: no, b: 2026-05-03, c: 1e3, d: ~, e: true, f: 8, g: trueish}"
    )
    assert from_yaml(text).metadata == {
        "a": "no",
        "b": "2026-05-03",
        "c": "1e3",
        "d": "~",
        "e": True,
        "f": 8,
        "g": "trueish",
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is empty"),
        ("a: 1\na: 2", "the key 'a' occurs twice (line 2, column 1)"),
        ("a: &x [1]\nb: *x", "anchors and aliases are not allowed"),
        ("a: *x", "anchors and aliases are not allowed"),
        ("a: !!python/object:os.system x", "the tag"),
        ("a: !!float 1.5", "the tag"),
        ("a: !!int x", "the tag"),
        ("a: !!bool x", "the tag"),
        ("a: !!set {x}", "the tag"),
        ("a: !mine [1]", "the tag"),
        ("? [a]\n: b", "a key must be text"),
        ("[" * 40 + "]" * 40, "nested deeper than 32"),
        ("a: [", "line 1"),
        ("a: 1\n---\nb: 2", "document"),
        ("a: \x00", "special characters are not allowed"),
        ("x" * (16 * 1024 * 1024 + 1), "longer than"),
        ("a: 1", "not a manifest"),
        ("just text", "not a manifest"),
    ],
    ids=lambda value: value[:24],
)
def test_what_can_surprise_is_refused(text: str, reason: str) -> None:
    """A hostile or careless file would be half read, or use up the memory."""
    with pytest.raises(InvalidInputError) as caught:
        from_yaml(text)
    assert reason in caught.value.message
    assert caught.value.code == "bad-manifest"


def test_json_values_can_be_shown_too() -> None:
    """``show --component hyperparameters`` could not print a learning rate."""
    values = {"C": 0.9, "solver": "no", "class_weight": None, "hidden": [64, 64]}
    assert yaml.safe_load(to_yaml(values)) == values
