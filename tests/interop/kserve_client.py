"""Drives kserve's own client; runs in the environment of ``kserve.lock``, not in ours.

``python kserve_client.py ADDRESS`` reads rows as JSON from stdin and writes what each way of
asking answered as one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import sys
from importlib.metadata import version
from typing import Any

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput


async def ask(address: str, rows: np.ndarray) -> dict[str, Any]:
    """Ask in every way the client knows."""
    found: dict[str, Any] = {"kserve": version("kserve")}
    client = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
    found["live"] = await client.is_server_live(address)
    found["ready"] = await client.is_server_ready(address)
    found["model_ready"] = await client.is_model_ready(address, "digits")
    for is_binary in (False, True):
        tensor = InferInput("X", list(rows.shape), "FP64")
        tensor.set_data_from_numpy(rows, binary_data=is_binary)
        outputs = [
            RequestedOutput(name, {"binary_data": is_binary})
            for name in ("prediction", "probabilities")
        ]
        request = InferRequest(model_name="digits", infer_inputs=[tensor], request_outputs=outputs)
        answer = await client.infer(address, request, model_name="digits")
        found["binary" if is_binary else "json"] = {
            output.name: output.as_numpy().tolist() for output in answer.outputs
        }
    await client.close()
    first = InferenceRESTClient(RESTConfig(protocol="v1", retries=0))
    found["v1_model_ready"] = await first.is_model_ready(address, "digits")
    found["v1"] = await first.infer(address, {"instances": rows.tolist()}, model_name="digits")
    await first.close()
    return found


if __name__ == "__main__":
    given = np.asarray(json.load(sys.stdin))
    print(json.dumps(asyncio.run(ask(sys.argv[1], given))))  # noqa: T201 - its answer
