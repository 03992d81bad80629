"""Open Inference Protocol v2 over HTTP: JSON and the binary tensor extension.

Invariants:
    * Binary data is counted against the declared shapes before anything is made of it.
    * Without requested outputs every output of the signature is answered, as the protocol says.
    * FP16 is taken as binary data only, as JSON has no such number; BF16 is refused, as numpy has
      no such type: torch models that use it take FP32.

Shared memory, model configuration, statistics and the repository are no part of this server.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from stemma.delivery.runtime.contract import OPEN_NAME, Contract
from stemma.delivery.runtime.http import Request, Response
from stemma.delivery.runtime.model import Inputs, ServedModel, ask
from stemma.delivery.runtime.spec import ProcessSpec
from stemma.delivery.runtime.values import DATATYPES, DTYPES, Wanted, cast, parse_flat, reshaped
from stemma.delivery.runtime.values import shaped as checked
from stemma.domain.errors import InvalidInputError

HEADER_LENGTH: Final = b"inference-header-content-length"
_LENGTH_BYTES: Final = 4
_COLUMN_RANK: Final = 2
_OCTETS: Final = b"application/octet-stream"


_NOTHING: Final = msgspec.Raw(b"")


class _Tensor(msgspec.Struct):
    """One input of a request."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = {}
    data: msgspec.Raw = _NOTHING


class _Requested(msgspec.Struct):
    """One requested output."""

    name: str
    parameters: dict[str, Any] = {}


class _Call(msgspec.Struct):
    """An inference request."""

    inputs: list[_Tensor]
    id: str = ""
    parameters: dict[str, Any] = {}
    outputs: list[_Requested] | None = None


_CALL: Final = msgspec.json.Decoder(_Call)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """The binary part of a body, read from the front."""

    data: memoryview

    def take(self, size: int) -> tuple[memoryview, _Part]:
        return self.data[:size], _Part(data=self.data[size:])


def infer(request: Request, spec: ProcessSpec, contract: Contract, model: ServedModel) -> Response:
    """Answer an inference request.

    Raises:
        InvalidInputError: If it does not fit the protocol or the signature.
        StemmaError: If the model raises.
    """
    call, binary = _read(request)
    inputs = _inputs(call, binary, contract)
    known = {output.name for output in model.outputs} | set(model.methods)
    requested = call.outputs or [_Requested(name=output.name) for output in model.outputs]
    for output in requested:
        if output.name not in known:
            raise InvalidInputError(
                f"there is no output {output.name[:100]!r}; there are {', '.join(sorted(known))}",
                code="unknown-output",
                hint=f"GET /v2/models/{spec.model} lists the outputs",
            )
        _refuse_memory(output.name, output.parameters)
    names = tuple(output.name for output in requested)
    arrays = ask(lambda: model.infer(inputs, names))
    return _answer(call, spec, list(zip(requested, arrays, strict=True)))


def metadata(spec: ProcessSpec, contract: Contract, model: ServedModel) -> dict[str, object]:
    """Describe the model as the protocol's model metadata."""
    return {
        "name": spec.model,
        "versions": [spec.version],
        "platform": f"stemma_{spec.loader}",
        "inputs": [
            {
                "name": wanted.name,
                "datatype": DATATYPES.get(wanted.dtype, "FP64"),
                "shape": list(wanted.shape),
            }
            for wanted in contract.wanted.values()
        ]
        or [{"name": OPEN_NAME, "datatype": "FP64", "shape": [-1, -1]}],
        "outputs": [
            {
                "name": output.name,
                "datatype": DATATYPES.get(output.dtype, "FP64"),
                "shape": list(output.shape),
            }
            for output in model.outputs
        ],
    }


def _read(request: Request) -> tuple[_Call, _Part]:
    """Split a body into its JSON and its binary part."""
    text = request.headers.get(HEADER_LENGTH)
    size = len(request.body)
    if text is not None:
        if not text.isdigit() or int(text) > size:
            raise InvalidInputError(
                f"Inference-Header-Content-Length is {text.decode('latin-1')[:40]!r} "
                f"of a body of {size} bytes",
                code="bad-header",
                hint="it is the length of the JSON part in bytes",
            )
        size = int(text)
    whole = memoryview(request.body)
    try:
        call = _CALL.decode(whole[:size])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InvalidInputError(
            f"the request cannot be read: {reason}",
            code="bad-body",
            hint='e.g. {"inputs": [{"name": "X", "shape": [1, 2], "datatype": "FP64", '
            '"data": [1, 2]}]}',
        ) from error
    return call, _Part(data=whole[size:])


def _inputs(call: _Call, binary: _Part, contract: Contract) -> Inputs:
    found: dict[str, NDArray[Any]] = {}
    for tensor in call.inputs:
        wanted = None if contract.is_open else contract.find(tensor.name)
        name = OPEN_NAME if wanted is None else wanted.name
        if name in found:
            raise InvalidInputError(
                f"input {tensor.name} is sent twice", code="duplicate-input", hint="send it once"
            )
        array, binary = _tensor(tensor, binary)
        found[name] = array if wanted is None else _fit(array, tensor, wanted)
    if binary.data.nbytes:
        raise InvalidInputError(
            f"{binary.data.nbytes} bytes follow the last tensor",
            code="size-mismatch",
            hint="binary_data_size says how many bytes belong to each input",
        )
    if contract.is_open and not found:
        raise InvalidInputError("missing input; sent none", code="missing-input")
    return contract.gather(found)


def _tensor(tensor: _Tensor, binary: _Part) -> tuple[NDArray[Any], _Part]:
    """Return a tensor as it was declared, and what follows it."""
    _refuse_memory(tensor.name, tensor.parameters)
    dtype = DTYPES.get(tensor.datatype, "")
    if dtype in {"", "bfloat16"}:
        raise InvalidInputError(
            f"input {tensor.name} is {tensor.datatype[:40]}, which this server does not take",
            code="unknown-datatype",
            hint=f"use {', '.join(name for name in DTYPES if name != 'BF16')}",
        )
    size = tensor.parameters.get("binary_data_size")
    if size is None:
        return _from_json(tensor, dtype), binary
    if not isinstance(size, int) or not 0 <= size <= binary.data.nbytes:
        raise InvalidInputError(
            f"input {tensor.name}: binary_data_size is {str(size)[:40]}; "
            f"{binary.data.nbytes} bytes are left",
            code="size-mismatch",
            hint="send Inference-Header-Content-Length and the tensors after the JSON",
        )
    data, rest = binary.take(size)
    flat = _texts(data, tensor.name) if dtype == "str" else _numbers(data, dtype, tensor)
    return reshaped(flat, tensor.shape, f"input {tensor.name}"), rest


def _from_json(tensor: _Tensor, dtype: str) -> NDArray[Any]:
    if tensor.data is _NOTHING:
        raise InvalidInputError(
            f"input {tensor.name} has neither data nor binary_data_size",
            code="missing-data",
            hint="send data as a JSON list",
        )
    if dtype == "float16":
        raise InvalidInputError(
            f"input {tensor.name} is FP16 in JSON, which has no such number",
            code="fp16-in-json",
            hint="send it as binary data, or as FP32",
        )
    return parse_flat(tensor.data, Wanted(name=tensor.name, dtype=dtype, shape=(-1,)), tensor.shape)


def _numbers(data: memoryview, dtype: str, tensor: _Tensor) -> NDArray[Any]:
    kind = np.dtype(dtype).newbyteorder("<")
    count = math.prod(tensor.shape) if all(size >= 0 for size in tensor.shape) else -1
    if count * kind.itemsize != data.nbytes:
        raise InvalidInputError(
            f"input {tensor.name}: {data.nbytes} bytes were sent for {tensor.datatype} of shape "
            f"{str(tensor.shape)[:100]}",
            code="size-mismatch",
            hint=f"{tensor.datatype} has {kind.itemsize} bytes per value",
        )
    # A copy: the body is read-only, and libraries may want to write into their input.
    return np.frombuffer(data, dtype=kind).astype(dtype)


def _texts(data: memoryview, name: str) -> NDArray[Any]:
    """Read texts, each after its length of four bytes."""
    found: list[str] = []
    place = 0
    try:
        while place < data.nbytes:
            length = int.from_bytes(data[place : place + _LENGTH_BYTES], "little")
            start = place + _LENGTH_BYTES
            place = start + length
            if place > data.nbytes:
                raise ValueError(f"element {len(found)} has {length} bytes, which were not sent")  # noqa: TRY301 - one message for both
            found.append(str(data[start:place], "utf-8"))
    except ValueError as error:
        raise InvalidInputError(
            f"input {name} is no BYTES tensor of UTF-8 text: {error}",
            code="bad-bytes",
            hint="each element is its length in four bytes, little-endian, and its bytes",
        ) from error
    return np.array(found, dtype=np.object_)


def _fit(array: NDArray[Any], tensor: _Tensor, wanted: Wanted) -> NDArray[Any]:
    """Bring a tensor to what the model needs."""
    if len(wanted.shape) == 1 and array.ndim == _COLUMN_RANK and array.shape[1] == 1:
        array = array[:, 0]
    return cast(checked(array, wanted), DTYPES[tensor.datatype], wanted)


def _refuse_memory(name: str, parameters: dict[str, Any]) -> None:
    if "shared_memory_region" in parameters:
        raise InvalidInputError(
            f"{name} is in shared memory, which this server does not use",
            code="no-shared-memory",
            hint="send it as binary data",
        )


def _answer(
    call: _Call, spec: ProcessSpec, outputs: list[tuple[_Requested, NDArray[Any]]]
) -> Response:
    is_binary = call.parameters.get("binary_data_output") is True
    described = []
    parts: list[bytes] = []
    for requested, array in outputs:
        datatype = datatype_of(array)
        entry: dict[str, object] = {
            "name": requested.name,
            "datatype": datatype,
            "shape": list(array.shape),
        }
        if requested.parameters.get("binary_data", is_binary) is True:
            data = to_bytes(array, datatype)
            entry["parameters"] = {"binary_data_size": len(data)}
            parts.append(data)
        else:
            entry["data"] = to_list(array, datatype)
        described.append(entry)
    head = {"model_name": spec.model, "model_version": spec.version}
    if call.id:
        head["id"] = call.id
    text = msgspec.json.encode(head | {"outputs": described})
    if not parts:
        return Response(body=text)
    return Response(
        body=b"".join([text, *parts]),
        content_type=_OCTETS,
        headers=((HEADER_LENGTH, b"%d" % len(text)),),
    )


def datatype_of(array: NDArray[Any]) -> str:
    """Return the protocol's name of an array's type; what is no number is text."""
    return DATATYPES.get(array.dtype.name, "BYTES")


def to_list(array: NDArray[Any], datatype: str) -> list[Any]:
    """Return values in row-major order, for JSON; NaN becomes null there."""
    flat: list[Any] = array.reshape(-1).tolist()
    return [str(value) for value in flat] if datatype == "BYTES" else flat


def to_bytes(array: NDArray[Any], datatype: str) -> bytes:
    """Return binary tensor data."""
    if datatype == "BYTES":
        texts = [str(value).encode() for value in array.reshape(-1).tolist()]
        return b"".join(len(text).to_bytes(_LENGTH_BYTES, "little") + text for text in texts)
    if sys.byteorder == "little":
        return array.tobytes()
    return array.astype(array.dtype.newbyteorder("<")).tobytes()
