"""Canonical bytes: the same value gives the same bytes, for ever."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemma.domain.canonical import decode, encode, from_plain, timestamp, to_plain
from stemma.domain.digest import Digest
from stemma.domain.errors import InvalidInputError
from stemma.domain.manifest import Manifest, decode_manifest
from stemma.domain.tree import decode_tree

VECTORS = Path(__file__).parents[2] / "vectors" / "manifest"
SCALARS = st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    name: str
    digest: Digest
    colour: Colour
    made_at: datetime
    note: str | None = None
    tags: tuple[str, ...] = ()


RECORD = Record(
    name="é",
    digest=Digest.sha256("0" * 64),
    colour=Colour.RED,
    made_at=datetime(2026, 5, 3, 12, tzinfo=UTC),
)


def test_a_record_has_exactly_these_bytes() -> None:
    """Every identity ever given out would change."""
    assert encode(RECORD) == (
        b'{"colour":"red","digest":"sha256:' + b"0" * 64 + b'",'
        b'"made_at":"2026-05-03T12:00:00.000000Z","name":"\xc3\xa9","tags":[]}'
    )
    assert decode(encode(RECORD), Record) == RECORD


@given(VALUES)
def test_what_is_written_reads_back(value: object) -> None:
    """A record would change by being stored."""
    assert json.loads(encode(value)) == value
    assert encode(json.loads(encode(value))) == encode(value)


@given(st.dictionaries(st.text(max_size=4), SCALARS, max_size=6))
def test_the_order_of_keys_does_not_matter(value: dict[str, object]) -> None:
    """Two equal versions would get two identities."""
    reversed_value = dict(reversed(list(value.items())))
    assert encode(value) == encode(reversed_value)
    keys = [key for key, _ in json.loads(encode(value), object_pairs_hook=list)]
    assert keys == sorted(keys)


def test_keys_are_sorted_by_code_point() -> None:
    """Another implementation would compute other bytes."""
    assert encode({"b": 1, "B": 1, "é": 1, "z": 1, "😀": 1, "\uffee": 1}) == (
        '{"B":1,"b":1,"z":1,"é":1,"\uffee":1,"😀":1}'.encode()
    )


@pytest.mark.parametrize("value", [1.5, {"a": 1.0}, [float("nan")], {"a": {"b": [1e300]}}])
def test_floats_are_refused_with_their_place(value: object) -> None:
    """An identity would depend on how a library prints numbers."""
    with pytest.raises(InvalidInputError, match="float has no canonical form") as caught:
        encode(value)
    assert caught.value.code == "not-canonical"


def test_the_place_of_a_float_is_named() -> None:
    """The user would have to search for it."""
    with pytest.raises(InvalidInputError, match=r"\.a\.b\[1\]: float"):
        encode({"a": {"b": [1, 2.0]}})


def test_none_inside_an_object_is_left_out_and_elsewhere_refused() -> None:
    """A field added later would change every old identity."""
    assert encode({"a": None, "b": 1}) == b'{"b":1}'
    with pytest.raises(InvalidInputError, match="NoneType"):
        encode([None])


def test_moments_are_written_in_utc_with_microseconds() -> None:
    """The same moment in two time zones would be two records."""
    moment = datetime(2026, 5, 3, 12, 0, 0, 1, tzinfo=UTC)
    assert timestamp(moment) == "2026-05-03T12:00:00.000001Z"
    assert timestamp(moment.astimezone(timezone(timedelta(hours=2)))) == timestamp(moment)
    with pytest.raises(InvalidInputError, match="without a time zone"):
        timestamp(moment.replace(tzinfo=None))


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b'{"name":1}', b"\xff", encode(RECORD).replace(b"sha256", b"sha1")]
)
def test_what_is_no_record_is_refused(data: bytes) -> None:
    """A damaged record would be half read."""
    with pytest.raises(InvalidInputError, match="not a release record") as caught:
        decode(data, Record, what="release record")
    assert caught.value.code == "bad-release-record"


def test_builtins_are_read_as_a_record() -> None:
    """YAML could not be read."""
    assert from_plain(to_plain(RECORD), Record) == RECORD
    with pytest.raises(InvalidInputError, match="not a record"):
        from_plain({"name": 1}, Record)


def test_an_unknown_field_written_by_hand_is_refused_with_its_place() -> None:
    """A misspelt field would vanish without a word."""
    manifest = decode_manifest((VECTORS / "full.json").read_bytes())
    plain = json.loads(encode(manifest))
    plain["datasets"]["datasets"][1]["columns"][0]["dtypes"] = "x"
    with pytest.raises(
        InvalidInputError, match=r"field datasets\.datasets\[1\]\.columns\[0\]\.dtypes"
    ):
        from_plain(plain, Manifest)
    assert from_plain({"note": None, **json.loads(encode(RECORD))}, Record) == RECORD


def test_a_type_without_canonical_form_is_refused() -> None:
    """A stray object would be written as its repr, or crash the command."""
    with pytest.raises(InvalidInputError, match="object has no canonical form"):
        encode({"a": object()})


def test_text_that_is_not_unicode_is_refused() -> None:
    """A file name of undecodable bytes would crash the command."""
    with pytest.raises(InvalidInputError, match="not Unicode"):
        encode({"path": "caf\udce9.txt"})


def test_a_record_type_nobody_taught_to_read_is_a_programming_error() -> None:
    """A record with an unknown type would be half read."""
    with pytest.raises(NotImplementedError, match="complex"):
        from_plain("x", complex)


def test_a_digest_that_is_no_text_is_refused_as_one_of_our_errors() -> None:
    """A tree with a number for a digest ended doctor with a traceback."""
    tree = b'{"entries":[{"digest":5,"kind":"file","path":"a","size_bytes":5}]}'
    with pytest.raises(InvalidInputError, match="must be a text, not int"):
        decode_tree(tree)
