"""The unmodified ``tritonclient[http]`` against a served model.

Wrong here: a team that has a client of the Open Inference Protocol would have to write another.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

pytestmark = [pytest.mark.interop, pytest.mark.slow]


@pytest.fixture
def client(served: Any) -> Iterator[triton.InferenceServerClient]:
    """A client of the served model."""
    print(f"tritonclient {version('tritonclient')}")  # noqa: T201 - which client was driven
    with triton.InferenceServerClient(served.address) as made:
        yield made


def _input(rows: np.ndarray, *, is_binary: bool, datatype: str = "FP64") -> triton.InferInput:
    made = triton.InferInput("X", list(rows.shape), datatype)
    made.set_data_from_numpy(rows, binary_data=is_binary)
    return made


def test_health_and_metadata_are_understood(client: triton.InferenceServerClient) -> None:
    """Without them a client does not even ask."""
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits")
    assert client.is_model_ready("digits", "1.2.0")
    assert not client.is_model_ready("digits", "9.9.9")
    assert not client.is_model_ready("other")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    found = client.get_model_metadata("digits")
    assert found["versions"] == ["1.2.0"]
    assert found["inputs"] == [{"name": "X", "datatype": "FP64", "shape": [-1, 64]}]
    assert [output["name"] for output in found["outputs"]] == ["prediction", "probabilities"]


@pytest.mark.parametrize("sends_binary", [True, False])
@pytest.mark.parametrize("gets_binary", [True, False])
def test_tensors_travel_as_json_and_as_bytes(
    client: triton.InferenceServerClient, served: Any, *, sends_binary: bool, gets_binary: bool
) -> None:
    """Each of the four ways must give the model's own answers."""
    outputs = [
        triton.InferRequestedOutput(name, binary_data=gets_binary)
        for name in ("prediction", "probabilities")
    ]
    answer = client.infer(
        "digits", [_input(served.rows, is_binary=sends_binary)], outputs=outputs, request_id="r1"
    )
    assert answer.get_response()["id"] == "r1"
    assert answer.get_response()["model_version"] == "1.2.0"
    assert np.array_equal(answer.as_numpy("prediction"), served.labels)
    np.testing.assert_allclose(answer.as_numpy("probabilities"), served.scores)


def test_without_requested_outputs_all_are_answered(
    client: triton.InferenceServerClient, served: Any
) -> None:
    """So the protocol has it; the client then asks for all of them as bytes."""
    answer = client.infer("digits", [_input(served.rows, is_binary=True)])
    assert np.array_equal(answer.as_numpy("prediction"), served.labels)
    np.testing.assert_allclose(answer.as_numpy("probabilities"), served.scores)


def test_smaller_floats_are_taken(client: triton.InferenceServerClient, served: Any) -> None:
    """Most clients work in FP32; nothing is lost on the way to FP64."""
    for dtype, datatype in ((np.float32, "FP32"), (np.float16, "FP16")):
        rows = served.rows.astype(dtype)
        answer = client.infer("digits", [_input(rows, is_binary=True, datatype=datatype)])
        assert np.array_equal(answer.as_numpy("prediction"), served.labels)


@pytest.mark.parametrize(
    ("shape", "datatype", "said"),
    [
        ((2, 63), np.float64, r"X has shape \[2, 63\], needs FP64 \[-1, 64\]"),
        ((64,), np.float64, r"X has shape \[64\], needs FP64 \[-1, 64\]"),
        ((1, 64), np.object_, r"X is BYTES, needs FP64 \[-1, 64\]"),
    ],
)
def test_a_wrong_tensor_is_named(
    client: triton.InferenceServerClient, shape: tuple[int, ...], datatype: Any, said: str
) -> None:
    """The message must say which input, what was sent and what is needed."""
    rows = np.full(shape, "a" if datatype is np.object_ else 0, dtype=datatype)
    name = "BYTES" if datatype is np.object_ else "FP64"
    with pytest.raises(InferenceServerException, match=said):
        client.infer("digits", [_input(rows, is_binary=True, datatype=name)])


def test_what_is_not_offered_is_said_clearly(client: triton.InferenceServerClient) -> None:
    """Triton's own extensions are no part of the protocol."""
    for call in (
        lambda: client.get_model_config("digits"),
        lambda: client.get_inference_statistics("digits"),
        client.get_model_repository_index,
    ):
        with pytest.raises(InferenceServerException, match="nothing is served at"):
            call()
