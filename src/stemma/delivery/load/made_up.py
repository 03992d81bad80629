"""Requests made up from what a served model says it takes, for want of real ones.

They have the right names, types and shapes and random values: good for traffic in a
demonstration, no evidence of how a version answers users.
"""

from __future__ import annotations

import http.client
import json
import random
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from stemma.delivery.load.requests import LoadRequest, RequestSet
from stemma.domain.errors import UnavailableError

_COUNT: Final = 32
_TIMEOUT_SECONDS: Final = 10.0
_OK: Final = 200
_VALUES: Final[tuple[tuple[str, Callable[[random.Random], object]], ...]] = (
    ("BOOL", lambda generator: generator.random() < 0.5),  # noqa: PLR2004 - a coin
    ("BYTES", lambda generator: generator.choice("abc")),
    ("INT", lambda generator: generator.randrange(10)),
    ("UINT", lambda generator: generator.randrange(10)),
    ("", lambda generator: round(generator.random(), 4)),
)
"""How a value of a datatype is made, by the beginning of its name."""


def make_up_requests(url: str, model: str, seed: int) -> RequestSet:
    """Ask the server at ``url`` what the model takes, and make requests of one row.

    Raises:
        UnavailableError: If it does not answer, or does not serve the model.
    """
    metadata = _ask(url, f"/v2/models/{model}")
    generator = random.Random(seed)  # noqa: S311 - values of a demonstration
    requests = tuple(
        LoadRequest(
            path=f"/v2/models/{model}/infer",
            body=json.dumps(
                {"inputs": [_tensor(tensor, generator) for tensor in metadata["inputs"]]}
            ).encode(),
        )
        for _ in range(_COUNT)
    )
    return RequestSet(requests=requests, source="made up")


def _tensor(tensor: Mapping[str, Any], generator: random.Random) -> dict[str, Any]:
    shape = [max(1, size) for size in tensor["shape"]]
    count = 1
    for size in shape:
        count *= size
    datatype = str(tensor["datatype"])
    make = next(make for name, make in _VALUES if datatype.startswith(name))
    data = [make(generator) for _ in range(count)]
    return {"name": tensor["name"], "shape": shape, "datatype": datatype, "data": data}


def _ask(url: str, path: str) -> Any:
    where = urlsplit(url)
    connection = http.client.HTTPConnection(
        where.hostname or "127.0.0.1", where.port or 80, timeout=_TIMEOUT_SECONDS
    )
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise UnavailableError(
            f"{url} does not answer: {error}", code="no-server", hint="stemma serve"
        ) from error
    finally:
        connection.close()
    try:
        found = json.loads(body)
    except ValueError:
        found = {}
    if answer.status != _OK or "inputs" not in found:
        raise UnavailableError(
            f"{url}{path} answers {answer.status}: what the model takes is not known",
            code="no-model-metadata",
            hint="name a file of requests",
        )
    return found
