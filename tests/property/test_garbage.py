"""Garbage in: whatever is read from outside ends in an error of ours, or in a value."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stemma.catalog.pointers import Pointer, encode_pointer, read_pointer
from stemma.catalog.yaml_text import from_yaml, to_yaml
from stemma.domain.canonical import decode
from stemma.domain.digest import Digest
from stemma.domain.errors import IntegrityError, InvalidInputError, StemmaError
from stemma.domain.manifest import Manifest, decode_manifest
from stemma.domain.names import check_channel_name, check_model_name
from stemma.domain.policy import parse_policy
from stemma.domain.ref import Ref
from stemma.domain.release import ChannelMove, Release
from stemma.domain.semver import Range, SemVer
from stemma.domain.threshold import Gate
from stemma.domain.tree import check_link, check_paths, decode_tree
from stemma.server.settings import load_settings
from stemma.store.frames import Chunk, decode_frame, decode_header, encode_frame
from stemma.store.hashing import blake3_raw, hash_bytes
from stemma.store.recipes import Recipe, decode_recipe, encode_recipe

MANY = settings(
    max_examples=300, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
VECTOR = Path(__file__).parents[1] / "vectors"

REF_LIKE = st.text("adigtsv0129.^~<>=*|, -@:r#\u00e9\n", max_size=40)
SCALAR = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**25), 10**25),
    st.floats(),
    st.text(max_size=12),
    st.datetimes(),
)
VALUE = st.recursive(
    SCALAR,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
_WORDS = (
    "interface positional outputs_open adapter_base gates metadata budgets profile thresholds "
    "golden_metric tolerance licence personal_data approvers expiry_days fix_set name_pattern "
    "reserved_names allow_pickle type required allowed pattern unit confidence latency_p99_ms "
    "accuracy recall[class=*]"
)
POLICY_KEYS = st.sampled_from(_WORDS.split())
POLICY = st.recursive(
    VALUE, lambda inner: st.dictionaries(POLICY_KEYS, inner, max_size=4), max_leaves=10
)


def _only_ours(read: Callable[..., object], *arguments: object) -> None:
    """Call it; anything but a value or an error of ours fails the test."""
    try:
        read(*arguments)
    except StemmaError as error:
        told = error
    else:
        return
    assert told.message
    assert told.code
    assert str(told) == told.message


@pytest.mark.parametrize(
    "read",
    [Ref.parse, SemVer.parse, Range.parse, Digest.parse, check_model_name, check_channel_name],
    ids=lambda read: read.__qualname__,
)
@MANY
@given(text=st.one_of(REF_LIKE, st.text(max_size=60)))
def test_text_is_a_name_or_an_error(read: Callable[[str], object], text: str) -> None:
    """A typing error would end in a traceback."""
    _only_ours(read, text)


@MANY
@given(key=st.text(max_size=20), text=st.one_of(st.text(max_size=30), st.text("<>=0.9eEnaif bt")))
def test_text_is_a_gate_or_an_error(key: str, text: str) -> None:
    """A gate that cannot be read would be a fault, or pass everything."""
    _only_ours(Gate.parse, key, text)


@pytest.mark.slow
@MANY
@given(table=st.dictionaries(st.one_of(POLICY_KEYS, st.text(max_size=8)), POLICY, max_size=5))
def test_a_table_is_a_policy_or_an_error(table: dict[str, object]) -> None:
    """A wrong value in stemma.toml would end in a traceback."""
    _only_ours(parse_policy, table, "model.digits")


@pytest.mark.slow
@MANY
@given(data=st.one_of(st.binary(max_size=200), st.text(max_size=120).map(str.encode)))
def test_a_settings_file_is_read_or_refused(data: bytes) -> None:
    """A file that an editor broke would end in a traceback."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "stemma.toml").write_bytes(data)
        _only_ours(load_settings, folder, {"XDG_CONFIG_HOME": name})


@MANY
@given(paths=st.lists(st.text(max_size=20), max_size=4), target=st.text(max_size=20))
def test_paths_are_names_in_a_tree_or_an_error(paths: list[str], target: str) -> None:
    """A strange file name would end in a traceback."""
    _only_ours(check_paths, paths)
    _only_ours(check_link, "a/b", target)


# records ----------------------------------------------------------------------------------------

DECODERS: list[Callable[[bytes], object]] = [
    decode_manifest,
    decode_tree,
    lambda data: decode(data, Release),
    lambda data: decode(data, ChannelMove),
]


@pytest.fixture(scope="module")
def manifest_bytes() -> bytes:
    """Return a real manifest's bytes."""
    return max((VECTOR / "manifest").glob("*.json"), key=lambda path: path.name).read_bytes()


@pytest.mark.parametrize("read", DECODERS)
@MANY
@given(data=st.binary(max_size=120))
def test_bytes_are_a_record_or_an_error(read: Callable[[bytes], object], data: bytes) -> None:
    """A damaged record would stop doctor."""
    _only_ours(read, data)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 50_000, "9" * 100_000, '"\\ud800"'])
@pytest.mark.parametrize("read", DECODERS)
def test_hostile_json_is_refused(read: Callable[[bytes], object], text: str) -> None:
    """Deep nesting would crash the process, a long number hang it."""
    with pytest.raises(StemmaError):
        read(text.encode())


@pytest.mark.slow
@MANY
@given(st.data())
def test_a_manifest_with_a_changed_byte_is_a_manifest_or_an_error(
    manifest_bytes: bytes, draw: Any
) -> None:
    """A flipped bit would stop doctor with a traceback."""
    data = bytearray(manifest_bytes)
    for _ in range(draw.draw(st.integers(1, 4))):
        position = draw.draw(st.integers(0, len(data) - 1))
        data[position] = draw.draw(st.integers(0, 255))
    cut = draw.draw(st.integers(0, len(data)))
    _only_ours(decode_manifest, bytes(data))
    _only_ours(decode_manifest, bytes(data[:cut]))


@pytest.mark.slow
@MANY
@given(st.data())
def test_a_manifest_in_yaml_with_a_changed_letter_is_read_or_refused(
    manifest_bytes: bytes, draw: Any
) -> None:
    """A person's typing error would end in a traceback of the YAML library."""
    text = to_yaml(decode_manifest(manifest_bytes))
    position = draw.draw(st.integers(0, len(text)))
    change = draw.draw(st.text("&*!|>%@`{}[],:#?-'\"\\\t\n 0a\u0000\ud7ff", max_size=4))
    _only_ours(from_yaml, text[:position] + change + text[position + len(change) :])


@MANY
@given(text=st.one_of(st.text(max_size=80), st.text("&*!|>%@{}[],:#?-'\" \n0a", max_size=80)))
def test_text_is_a_manifest_in_yaml_or_an_error(text: str) -> None:
    """Anchors, tags and half documents would end in a traceback."""
    with contextlib.suppress(InvalidInputError):
        assert isinstance(from_yaml(text), Manifest)


@pytest.mark.parametrize(
    "text",
    ["a: &a [*a]", "[" * 5000, "- " * 5000, "{a: " * 3000, "!!python/name:os.system", "? " * 3000],
    ids=["cycle", "brackets", "dashes", "braces", "tag", "questions"],
)
def test_hostile_yaml_is_refused(text: str) -> None:
    """A billion laughs would fill the memory, deep nesting the stack."""
    with pytest.raises(InvalidInputError):
        from_yaml(text)


# files of the store -----------------------------------------------------------------------------

BODY = b"some bytes of a chunk " * 40
CHUNK = Chunk(blake3_raw(BODY), len(BODY))
FRAME = encode_frame([CHUNK], BODY)
DIGEST = hash_bytes(BODY)
RECIPE = encode_recipe(
    Recipe(
        digest=DIGEST,
        sha256=Digest.sha256("0" * 64),
        size_bytes=len(BODY),
        table=CHUNK.digest + len(BODY).to_bytes(4, "little"),
    )
)


def _changed(data: bytes, draw: Any) -> bytes:
    """Change, cut or lengthen bytes; never the same bytes."""
    changed = bytearray(data)
    position = draw.draw(st.integers(0, len(data) - 1))
    changed[position] ^= draw.draw(st.integers(1, 255))
    cut = draw.draw(st.integers(0, len(data) - 1))
    more = data + draw.draw(st.binary(min_size=1, max_size=8))
    return draw.draw(st.sampled_from([bytes(changed), data[:cut], more]))


@MANY
@given(st.data())
def test_a_changed_recipe_is_always_refused(draw: Any) -> None:
    """A file would be put together wrongly."""
    assert decode_recipe(RECIPE, DIGEST).size_bytes == len(BODY)
    with pytest.raises(IntegrityError):
        decode_recipe(_changed(RECIPE, draw), DIGEST)


@MANY
@given(data=st.binary(max_size=300))
def test_a_sealed_recipe_of_garbage_is_refused(data: bytes) -> None:
    """Bytes whose digest is right would be believed."""
    with pytest.raises(IntegrityError):
        decode_recipe(data + blake3_raw(data), DIGEST)


@MANY
@given(st.data())
def test_a_changed_frame_is_refused_or_keeps_its_header(draw: Any) -> None:
    """Decompression would crash, hang or fill the memory."""
    data = _changed(FRAME, draw)
    _only_ours(decode_header, data, "frames/x")
    try:
        header, body = decode_frame(data, "frames/x")
    except IntegrityError:
        return
    assert header.chunks == (CHUNK,)
    assert len(body) == len(BODY)


@MANY
@given(data=st.binary(max_size=200))
def test_a_frame_with_a_sealed_header_of_garbage_is_refused(data: bytes) -> None:
    """A header whose digest is right would be believed."""
    _only_ours(decode_frame, data + blake3_raw(data), "frames/x")


@pytest.mark.slow
@MANY
@given(st.data())
def test_a_changed_pointer_is_always_refused(draw: Any) -> None:
    """Git would merge, or an editor change, a pointer to other data."""
    pointer = Pointer(kind="file", size_bytes=9, content=DIGEST, sha256=Digest.sha256("0" * 64))
    good = encode_pointer(pointer)
    data = _changed(good, draw)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "a.csv.stemma"
        path.write_bytes(data)
        with pytest.raises((IntegrityError, InvalidInputError)):
            read_pointer(path)


@pytest.mark.slow
@MANY
@given(body=st.one_of(st.binary(max_size=120), st.text(max_size=80).map(str.encode)))
def test_a_pointer_of_garbage_with_its_checksum_is_refused(body: bytes) -> None:
    """Somebody who can compute a checksum would end doctor."""
    text = body + b"\n" + f'checksum = "{hash_bytes(body + chr(10).encode())}"\n'.encode()
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "a.csv.stemma"
        path.write_bytes(text)
        _only_ours(read_pointer, path)


def test_the_bytes_that_are_changed_above_are_good() -> None:
    """The tests above would refuse everything, and prove nothing."""
    header, body = decode_frame(FRAME, "frames/x")
    assert (header.chunks, body) == ((CHUNK,), BODY)
    recipe = decode_recipe(RECIPE, DIGEST)
    assert encode_recipe(replace(recipe)) == RECIPE
