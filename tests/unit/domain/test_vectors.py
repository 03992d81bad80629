"""Golden vectors: records whose bytes and digests never change again."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from stemma.domain import canonical
from stemma.domain.delivery_records import ConfigurationRecord, DeploymentRecord
from stemma.domain.errors import InvalidInputError
from stemma.domain.manifest import (
    Manifest,
    decode_manifest,
    encode_manifest,
    pretty_manifest,
)
from stemma.domain.release import ChannelMove, Release

VECTORS = Path(__file__).parents[2] / "vectors"
KINDS: dict[str, type[object]] = {
    "manifest": Manifest,
    "release": Release,
    "channel-move": ChannelMove,
    "configuration": ConfigurationRecord,
    "deployment": DeploymentRecord,
}
PATHS = sorted(path for kind in KINDS for path in (VECTORS / kind).glob("*.json"))


@pytest.mark.parametrize("path", PATHS, ids=[f"{path.parent.name}-{path.stem}" for path in PATHS])
def test_a_record_has_the_bytes_and_the_digest_it_always_had(path: Path) -> None:
    """Every identity ever given out would change, and old stores would not verify."""
    data = path.read_bytes()
    record = canonical.decode(data, KINDS[path.parent.name])
    assert canonical.encode(record) == data
    assert hashlib.sha256(data).hexdigest() == path.with_suffix(".sha256").read_text().strip()


def test_every_kind_of_record_has_vectors() -> None:
    """A format would be free to drift."""
    assert {path.parent.name for path in PATHS} == set(KINDS)


def full() -> Manifest:
    return decode_manifest((VECTORS / "manifest" / "full.json").read_bytes())


def test_the_readable_form_is_the_same_record() -> None:
    """``show --json`` would differ from what is stored."""
    manifest = full()
    assert decode_manifest(pretty_manifest(manifest).encode()) == manifest
    assert pretty_manifest(manifest) != encode_manifest(manifest).decode()


def test_a_manifest_answers_by_name() -> None:
    """Comparisons and gates would look at the wrong component."""
    manifest = full()
    assert list(manifest.identities) == [
        "architecture",
        "datasets",
        "pipeline",
        "hyperparameters",
        "artifact",
        "environment",
    ]
    found = manifest.metric("recall[class=8]")
    assert found is not None
    assert found.sample_size == 52
    assert manifest.metric("recall") is None


def test_another_schema_is_refused() -> None:
    """A newer program's manifest would be half understood."""
    data = encode_manifest(full()).replace(b"stemma.manifest/1", b"stemma.manifest/2")
    with pytest.raises(InvalidInputError) as caught:
        decode_manifest(data)
    assert "stemma.manifest/2" in caught.value.message


@pytest.mark.parametrize("kind", ["release", "channel-move", "configuration", "deployment"])
def test_another_schema_of_a_record_is_refused(kind: str) -> None:
    """A newer program's record would be half understood."""
    data = (VECTORS / kind / "first.json").read_bytes()
    newer = data.replace(f"stemma.{kind}/1".encode(), f"stemma.{kind}/2".encode())
    assert newer != data
    with pytest.raises(InvalidInputError):
        canonical.decode(newer, KINDS[kind])


@pytest.mark.parametrize("cut", [0, 1, 100, 2000, -1])
def test_a_truncated_manifest_is_refused(cut: int) -> None:
    """A half-written manifest would be delivered."""
    with pytest.raises(InvalidInputError, match="not a manifest"):
        decode_manifest(encode_manifest(full())[:cut])
