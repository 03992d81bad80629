"""What is sent: requests from recordings of production, from the user's file, or from golden rows.

A line of a request file is one JSON object, either a recorded request

    {"path": …, "content_type": …, "headers": {…}, "body_base64": …}

or simply a body: ``{"instances": …}`` goes to ``:predict``, ``{"inputs": [{"datatype": …}]}`` to
the Open Inference Protocol, any other ``inputs``, ``dataframe_split`` or ``dataframe_records`` to
``/invocations`` of the model.

Invariants:
    * A line that cannot be read is refused with its number; none is passed over silently.
    * A request that named a version is sent to the one on trial.
    * What only counts for one connection (``host``, ``content-length`` …) is not sent again.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import msgspec
import numpy as np
import numpy.typing as npt

from stemma.domain.errors import InvalidInputError, NotFoundError

_JSON: Final = "application/json"
_VERSION_IN_PATH: Final = re.compile(r"^(/v2/models/[^/]+)/versions/[^/]+")
_MODEL_IN_PATH: Final = re.compile(r"^/(?:v2/models|v1/models|models)/([^/:]+)")
_PER_CONNECTION: Final = frozenset(
    {"host", "connection", "content-length", "content-type", "transfer-encoding", "keep-alive"}
    | {"expect", "upgrade", "accept-encoding", "te", "x-request-id", "x-stemma-slot"}
)
_FRAMES: Final = frozenset({"dataframe_split", "dataframe_records", "inputs"})
_MOST_RECORDED: Final = 2_000
_DATATYPES: Final = {
    "bool": "BOOL",
    **{f"{kind}{bits}": f"{kind.upper()}{bits}" for kind in ("int", "uint") for bits in (8, 16)},
    **{f"{kind}{bits}": f"{kind.upper()}{bits}" for kind in ("int", "uint") for bits in (32, 64)},
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
}


class LoadRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request, ready to be sent; always a POST.

    Attributes:
        path: e.g. ``/v1/models/digits:predict``.
        body: Its bytes.
        content_type: Media type of the body.
        headers: Further headers.
    """

    path: str
    body: bytes
    content_type: str = _JSON
    headers: dict[str, str] = {}


class _Recorded(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    path: str
    body_base64: str
    content_type: str = _JSON
    headers: dict[str, str] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSet:
    """Requests to choose from in turn.

    Attributes:
        requests: In the order they are sent, again from the start when used up.
        source: ``recorded``, ``supplied`` or ``golden set``; empty when there are none.
    """

    requests: tuple[LoadRequest, ...] = ()
    source: str = ""


def read_request_file(path: Path, model: str) -> RequestSet:
    """Read a user's file of requests, one JSON object per line.

    Raises:
        NotFoundError: If there is no such file.
        InvalidInputError: If a line is none of the known forms, or there is no line.
    """
    requests = tuple(_read_lines(path, model))
    if not requests:
        raise InvalidInputError(
            f"{path} holds no request", code="no-requests", hint="one JSON object per line"
        )
    return RequestSet(requests=requests, source="supplied")


def read_recorded(folder: Path, model: str) -> RequestSet:
    """Read what was sampled from production, newest file first; empty when nothing was.

    Raises:
        InvalidInputError: If a recording is damaged.
    """
    try:
        found = [path for path in folder.iterdir() if path.suffix in {".json", ".jsonl"}]
    except FileNotFoundError:
        return RequestSet()
    requests: list[LoadRequest] = []
    for path in sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True):
        requests.extend(_read_lines(path, model))
        if len(requests) >= _MOST_RECORDED:
            break
    return RequestSet(
        requests=tuple(requests[:_MOST_RECORDED]), source="recorded" if requests else ""
    )


def requests_of_rows(inputs: Mapping[str, npt.NDArray[np.generic]], model: str) -> RequestSet:
    """Make one request per row of the golden inputs, in the Open Inference Protocol."""
    count = min((len(values) for values in inputs.values()), default=0)
    requests = tuple(
        _infer({name: values[row : row + 1] for name, values in inputs.items()}, model)
        for row in range(count)
    )
    return RequestSet(requests=requests, source="golden set" if requests else "")


def _infer(inputs: Mapping[str, npt.NDArray[np.generic]], model: str) -> LoadRequest:
    tensors = [
        {
            "name": name,
            "shape": list(values.shape),
            "datatype": _DATATYPES.get(values.dtype.name, "BYTES"),
            "data": values.ravel().tolist(),
        }
        for name, values in inputs.items()
    ]
    return LoadRequest(
        path=f"/v2/models/{model}/infer", body=json.dumps({"inputs": tensors}).encode()
    )


def _read_lines(path: Path, model: str) -> Iterable[LoadRequest]:
    try:
        text = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError(
            f"no file {path}", code="no-request-file", hint="one JSON object per line"
        ) from error
    except OSError as error:
        raise InvalidInputError(
            f"{path}: {error.strerror}", code="bad-request-file", hint=f"ls -l {path}"
        ) from error
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield read_request(line, model, f"{path}, line {number}")


def read_request(line: bytes, model: str, where: str) -> LoadRequest:
    """Read one line of a request file; ``where`` names it in errors.

    Raises:
        InvalidInputError: If it is none of the known forms.
    """
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _bad(where, f"is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise _bad(where, "is not a JSON object")
    fields = cast("dict[str, object]", value)
    if "path" in fields or "body_base64" in fields:
        return _recorded(line, model, where)
    if "instances" in fields:
        return LoadRequest(path=f"/v1/models/{model}:predict", body=line)
    if _is_open_inference(fields.get("inputs")):
        return LoadRequest(path=f"/v2/models/{model}/infer", body=line)
    if _FRAMES & fields.keys():
        return LoadRequest(path=f"/models/{model}/invocations", body=line)
    raise _bad(where, f"has none of the known fields but {', '.join(sorted(fields)) or 'nothing'}")


def _is_open_inference(inputs: object) -> bool:
    if not isinstance(inputs, list) or not inputs:
        return False
    tensors = cast("list[object]", inputs)
    return all(isinstance(item, dict) and "datatype" in item for item in tensors)


def _recorded(line: bytes, model: str, where: str) -> LoadRequest:
    try:
        found = msgspec.json.decode(line, type=_Recorded)
        body = base64.b64decode(found.body_base64, validate=True)
    except (msgspec.DecodeError, binascii.Error, ValueError) as error:
        raise _bad(where, f"is not a recorded request: {error}") from error
    named = _MODEL_IN_PATH.match(found.path)
    if named is not None and named.group(1) != model:
        raise _bad(where, f"is a request to model {named.group(1)}, not {model}")
    if not found.path.startswith("/"):
        raise _bad(where, f"has the path {found.path!r}, which does not begin with /")
    headers = {
        name.lower(): text
        for name, text in found.headers.items()
        if name.lower() not in _PER_CONNECTION
    }
    return LoadRequest(
        path=_VERSION_IN_PATH.sub(r"\1", found.path),
        body=body,
        content_type=found.content_type,
        headers=headers,
    )


def _bad(where: str, problem: str) -> InvalidInputError:
    return InvalidInputError(
        f"{where}: {problem}",
        code="bad-request-line",
        hint='e.g. {"instances": [[0.1, 0.2]]}, or a recorded request with path and body_base64',
    )
