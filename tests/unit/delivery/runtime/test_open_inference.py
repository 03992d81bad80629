"""Wrong here: a client of the Open Inference Protocol gets other numbers than the model's."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stemma.domain.component import ValueSpec

INFER = "/v2/models/digits/infer"
LENGTH = "inference-header-content-length"
_PREDICTION = [{"name": "prediction"}]


def _call(**changes: Any) -> dict[str, Any]:
    tensor = {"name": "X", "shape": [2, 2], "datatype": "FP64", "data": [1.0, 2, 3, 4.5]}
    return {"inputs": [tensor | changes], "outputs": _PREDICTION}


def _binary(call: dict[str, Any], *parts: bytes) -> tuple[bytes, dict[str, str]]:
    """Return body and headers of the binary extension."""
    text = json.dumps(call).encode()
    return text + b"".join(parts), {LENGTH: str(len(text))}


def test_data_may_be_nested_or_flat(make_asker: Callable[..., Any]) -> None:
    """The protocol allows both."""
    for data in ([1, 2, 3, 4.5], [[1, 2], [3, 4.5]]):
        reply = make_asker().post(INFER, _call(data=data) | {"id": "r-1"})
        assert reply.json == {
            "model_name": "digits",
            "model_version": "1.2.0",
            "id": "r-1",
            "outputs": [
                {"name": "prediction", "datatype": "FP64", "shape": [2], "data": [3.0, 7.5]}
            ],
        }


@pytest.mark.parametrize(
    "datatype", ["INT8", "INT16", "INT32", "UINT8", "UINT16", "UINT32", "FP16", "FP32", "FP64"]
)
def test_every_number_that_fits_is_taken_as_bytes(
    make_asker: Callable[..., Any], datatype: str
) -> None:
    """Nothing is lost on the way to FP64."""
    kind = datatype.replace("UINT", "u").replace("INT", "i").replace("FP", "f")
    array = np.array([[1, 2], [3, 4]], dtype=f"<{kind[0]}{int(kind[1:]) // 8}")
    size = {"binary_data_size": array.nbytes}
    call = _call(datatype=datatype, parameters=size)
    del call["inputs"][0]["data"]
    reply = make_asker().post(INFER, *_binary(call, array.tobytes()))
    assert reply.json["outputs"][0]["data"] == [3.0, 7.0]


def test_outputs_come_as_bytes_when_asked_for(make_asker: Callable[..., Any]) -> None:
    """All of them, or one by one."""
    call = _call() | {"parameters": {"binary_data_output": True}}
    call["outputs"] = [
        {"name": "probabilities"},
        {"name": "prediction", "parameters": {"binary_data": False}},
    ]
    reply = make_asker().post(INFER, call)
    length = int(reply.headers[LENGTH])
    scores, prediction = json.loads(reply.body[:length])["outputs"]
    assert scores["parameters"] == {"binary_data_size": 32}
    assert prediction["data"] == [3.0, 7.5]
    assert struct.unpack("<4d", reply.body[length:]) == (3.0, -3.0, 7.5, -7.5)


def test_text_travels_as_json_and_as_bytes(make_asker: Callable[..., Any]) -> None:
    """Each element stands after its length."""
    asker = make_asker(inputs=(ValueSpec(name="text", dtype="str", shape=(-1,)),))
    data = b"".join(len(t).to_bytes(4, "little") + t for t in (b"a", "ä".encode()))
    tensor = {"name": "text", "shape": [2, 1], "datatype": "BYTES"}
    as_json = {"inputs": [tensor | {"data": ["a", "ä"]}], "outputs": _PREDICTION}
    size = {"parameters": {"binary_data_size": len(data)}}
    as_bytes = _binary({"inputs": [tensor | size], "outputs": _PREDICTION}, data)
    assert asker.post(INFER, as_json).json["outputs"][0]["data"] == [1.0, 1.0]
    assert asker.post(INFER, *as_bytes).json["outputs"][0]["data"] == [1.0, 1.0]
    torn = _binary({"inputs": [tensor | {"parameters": {"binary_data_size": 5}}]}, data[:4] + b"a")
    assert "1 values were sent for shape [2, 1]" in asker.post(INFER, *torn).error
    lying = b"\xff\xff\xff\x7f" + b"a"
    bad = _binary({"inputs": [tensor | {"parameters": {"binary_data_size": 5}}]}, lying)
    assert "element 0 has 2147483647 bytes, which were not sent" in asker.post(INFER, *bad).error


def test_a_table_is_sent_as_one_tensor_per_column(make_asker: Callable[..., Any]) -> None:
    """Columns may be [n] or [n, 1]."""
    inputs = [
        {"name": "age", "shape": [2], "datatype": "INT32", "data": [30, 31]},
        {"name": "city", "shape": [2, 1], "datatype": "BYTES", "data": ["Wien", "Graz"]},
        {"name": "income", "shape": [2, 1], "datatype": "FP64", "data": [[1.5], [2.0]]},
    ]
    asker = make_asker(is_table=True)
    reply = asker.post(INFER, {"inputs": inputs, "outputs": _PREDICTION})
    assert reply.json["outputs"][0]["data"] == [35.5, 37.0]
    missing = asker.post(INFER, {"inputs": inputs[:1]}).error
    assert "missing inputs city (BYTES [-1]), income (FP64 [-1])" in missing
    twice = asker.post(INFER, {"inputs": [inputs[0], inputs[0]]})
    assert "age is sent twice" in twice.error


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "Y"}, "no input 'Y'; needed are X"),
        ({"shape": [4]}, "X has shape [4], needs FP64 [-1, 2]"),
        ({"shape": [1, 4]}, "X has shape [1, 4], needs FP64 [-1, 2]"),
        ({"shape": [3, 2]}, "4 values were sent for shape [3, 2]"),
        ({"shape": [10**18, 10**18]}, "4 values were sent for shape"),
        ({"shape": [2**63, 2]}, "4 values were sent for shape"),
        ({"shape": [-2, -2]}, "4 values were sent for shape [-2, -2]"),
        ({"shape": [0, 2], "data": []}, "X has no rows"),
        ({"shape": [1] * 5000}, "4 values were sent for shape"),
        ({"datatype": "BYTES", "data": ["a"] * 4}, "X is BYTES, needs FP64 [-1, 2]"),
        ({"datatype": "BF16"}, "X is BF16, which this server does not take"),
        ({"datatype": "FP16"}, "X is FP16 in JSON"),
        ({"datatype": "FLOAT"}, "X is FLOAT, which this server does not take"),
        ({"datatype": "INT8", "data": [1, 2, 3, 300]}, "X holds a number that does not fit"),
        ({"data": ["1", 2, 3, 4]}, "X[0] is str, needs FP64"),
        ({"data": None}, "X is null, needs FP64"),
        ({"parameters": {"binary_data_size": 32}}, "binary_data_size is 32; 0 bytes are left"),
        ({"parameters": {"binary_data_size": -1}}, "binary_data_size is -1"),
        ({"parameters": {"shared_memory_region": "r"}}, "X is in shared memory"),
    ],
)
def test_a_wrong_tensor_is_named(
    make_asker: Callable[..., Any], changes: dict[str, Any], said: str
) -> None:
    """Input, what was sent and what is needed stand in the message; nothing is allocated."""
    reply = make_asker().post(INFER, _call(**changes))
    assert reply.status == 400
    assert said in reply.error


@pytest.mark.parametrize(
    ("shape", "data", "said"),
    [
        ([10**12, 2], b"\0" * 32, "32 bytes were sent for FP64 of shape"),
        ([2, 2], b"\0" * 31, "binary_data_size is 32; 31 bytes are left"),
        ([2, 2], b"\0" * 40, "8 bytes follow the last tensor"),
    ],
)
def test_bytes_and_shape_belong_together(
    make_asker: Callable[..., Any], shape: list[int], data: bytes, said: str
) -> None:
    """A declared shape must not make the server allocate."""
    call = {"inputs": [{"name": "X", "shape": shape, "datatype": "FP64"}]}
    call["inputs"][0]["parameters"] = {"binary_data_size": 32}
    reply = make_asker().post(INFER, *_binary(call, data))
    assert reply.status == 400
    assert said in reply.error


@pytest.mark.parametrize("length", ["-1", "x", "999999"])
def test_a_wrong_header_length_is_named(make_asker: Callable[..., Any], length: str) -> None:
    """The JSON cannot be found without it."""
    reply = make_asker().post(INFER, _call(), {LENGTH: length})
    assert reply.status == 400
    assert "Inference-Header-Content-Length" in reply.error


def test_an_unknown_output_and_an_encoding_are_named(make_asker: Callable[..., Any]) -> None:
    """The message lists what there is."""
    reply = make_asker().post(INFER, _call() | {"outputs": [{"name": "scores"}]})
    assert (reply.status, "no output 'scores'" in reply.error) == (400, True)
    reply = make_asker().post(INFER, _call(), {"content-encoding": "gzip"})
    assert (reply.status, "'gzip' is not taken" in reply.error) == (400, True)


def test_a_float_beyond_the_models_type_is_refused(make_asker: Callable[..., Any]) -> None:
    """It would silently become infinity."""
    asker = make_asker(inputs=(ValueSpec(name="X", dtype="float32", shape=(-1, 2)),))
    reply = asker.post("/v1/models/digits:predict", {"instances": [[1e300, 2]]})
    assert reply.status == 400
    assert "does not fit, needs FP32" in reply.error
