"""Wrong here: a process starts with other settings than its slot wrote."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stemma.delivery.runtime.spec import ProcessSpec, decode_spec, encode_spec
from stemma.domain.component import Signature, ValueSpec
from stemma.domain.errors import InvalidInputError

_SPEC = ProcessSpec(
    model="digits",
    version="1.0.0",
    manifest="sha256:" + "0" * 64,
    loader="sklearn",
    artifact_folder="/versions/a/artifact",
    signature=Signature(
        inputs=(ValueSpec(name="X", dtype="float64", shape=(-1, 64)),), methods=("predict",)
    ),
    sockets=("/run/a.sock",),
)


def test_a_specification_is_read_as_it_was_written() -> None:
    """A field lost on the way would serve a model with settings nobody asked for."""
    assert decode_spec(encode_spec(_SPEC)) == _SPEC


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": ""}, "model is empty"),
        ({"sockets": []}, "at least one replica"),
        ({"max_body_bytes": 0}, "must be at least 1"),
        ({"max_body_bytes": "many"}, "max_body_bytes"),
        ({"tolerance": -1}, "must not be negative"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, Any], said: str) -> None:
    """A slot that cannot start must say which of its settings is wrong."""
    data = json.loads(encode_spec(_SPEC)) | change
    with pytest.raises(InvalidInputError, match=said):
        decode_spec(json.dumps(data).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b'{"model": "digits"}'])
def test_what_is_no_specification_is_refused(data: bytes) -> None:
    """A torn file must give one clear line, not a traceback."""
    with pytest.raises(InvalidInputError, match="specification"):
        decode_spec(data)
