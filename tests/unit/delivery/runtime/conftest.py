"""A small model and a way to ask its application without a server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stemma.delivery.runtime.application import Application
from stemma.delivery.runtime.model import Inputs, Ready
from stemma.delivery.runtime.recorder import Recorder
from stemma.delivery.runtime.spec import ProcessSpec
from stemma.domain.component import Signature, ValueSpec


class Sums:
    """Answers the sum of each row; text counts by its length, ``fail`` raises."""

    methods = ("predict", "predict_proba")
    outputs = (
        ValueSpec(name="prediction", dtype="float64", shape=(-1,)),
        ValueSpec(name="probabilities", dtype="float64", shape=(-1, 2)),
    )

    def __init__(self) -> None:
        """Remember what was asked."""
        self.asked: list[Inputs] = []

    def answer(self, inputs: Inputs, method: str) -> NDArray[Any]:
        """Add up."""
        self.asked.append(inputs)
        total = np.zeros(len(next(iter(inputs.values()))))
        for array in inputs.values():
            if array.dtype == object:
                if "fail" in array.tolist():
                    raise RuntimeError("cannot\nadd text")
                total += [len(text or "") for text in array]
            else:
                total += np.nan_to_num(array.reshape(len(array), -1)).sum(axis=1)
        return np.stack([total, -total], axis=1) if method == "predict_proba" else total

    def infer(self, inputs: Inputs, names: tuple[str, ...]) -> list[NDArray[Any]]:
        """Answer each output."""
        known = {"prediction": "predict", "probabilities": "predict_proba"}
        return [self.answer(inputs, known.get(name, name)) for name in names]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """What went wrong, in any protocol's form."""
        found = self.json
        return str(found.get("error") or found.get("message"))


class Asker:
    """Asks an application as a server would."""

    def __init__(self, application: Application) -> None:
        """Ask ``application``."""
        self.application = application
        self.parts_read = 0

    async def send(
        self,
        method: str,
        path: str,
        parts: Iterable[bytes] = (b"",),
        headers: dict[str, str] | None = None,
    ) -> Reply:
        """Send one request, its body in parts."""
        waiting = list(parts)
        sent: list[dict[str, Any]] = []
        self.parts_read = 0

        async def receive() -> dict[str, Any]:
            self.parts_read += 1
            part = waiting.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(waiting)}

        async def take(message: Any) -> None:
            sent.append(message)

        plain, _, query = path.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": plain,
            "query_string": query.encode(),
            "headers": [(k.lower().encode(), v.encode()) for k, v in (headers or {}).items()],
        }
        await self.application(scope, receive, take)
        return Reply(
            status=sent[0]["status"],
            headers={k.decode(): v.decode() for k, v in sent[0]["headers"]},
            body=sent[1]["body"],
        )

    def get(self, path: str) -> Reply:
        """GET."""
        return asyncio.run(self.send("GET", path))

    def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Reply:
        """POST JSON, or bytes as they are."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return asyncio.run(self.send("POST", path, [data], headers))


_TABLE = (("city", "str"), ("age", "int64"), ("income", "float64"))


@pytest.fixture
def make_asker() -> Callable[..., Asker]:
    """Make an application: of an array ``X`` of two numbers, or of a table of three columns."""

    def make(
        *,
        is_table: bool = False,
        is_ready: bool = True,
        recorder: Recorder | None = None,
        inputs: tuple[ValueSpec, ...] | None = None,
        **options: Any,
    ) -> Asker:
        columns = tuple(ValueSpec(name=n, dtype=d, shape=(-1,)) for n, d in _TABLE)
        matrix = (ValueSpec(name="X", dtype="float64", shape=(-1, 2)),)
        chosen = inputs if inputs is not None else columns if is_table else matrix
        spec = ProcessSpec(
            model="digits",
            version="1.2.0",
            manifest="sha256:" + "0" * 64,
            loader="sklearn",
            artifact_folder="/nowhere",
            signature=Signature(inputs=chosen, methods=("predict", "predict_proba")),
            sockets=("/nowhere/0.sock",),
            **options,
        )
        application = Application(spec, recorder)
        if is_ready:
            application.become_ready(Ready(model=Sums(), is_quick=True))
        return Asker(application)

    return make
