"""Asks a served version its golden request, the way a user's request would go.

Invariants:
    * An answer counts only when it came from the version that was meant.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from stemma.delivery.layout import ServeLayout
from stemma.delivery.load.requests import LoadRequest, requests_of_rows
from stemma.delivery.runtime.golden import agrees, read_golden
from stemma.delivery.slots.base import SlotSpec
from stemma.domain.errors import StemmaError
from stemma.domain.manifest import Manifest

SLOT_HEADER: Final = "x-stemma-slot"
VERSION_HEADER: Final = "x-stemma-version"
_TIMEOUT_SECONDS: Final = 10.0
_OK: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenQuestion:
    """Sends golden requests to a data plane.

    Attributes:
        address: Host and port of the data plane.
        layout: Where versions are materialised.
        load_manifest: From a manifest's digest to the manifest.
    """

    address: tuple[str, int]
    layout: ServeLayout
    load_manifest: Callable[[str], Manifest]

    def ask(self, spec: SlotSpec, slot: str) -> str:
        """Ask every golden row; returns what is wrong, empty when nothing is.

        Args:
            spec: The version that is to answer.
            slot: Slot to reach by its header; empty: wherever users are sent.
        """
        headers = {SLOT_HEADER: slot} if slot else {}
        path = self.layout.version(spec.manifest) / "golden.npz"
        try:
            if not path.is_file():
                return self._ask_ready(spec, headers)
            return self._ask_rows(spec, path, headers)
        except (OSError, http.client.HTTPException) as error:
            return f"the golden request was not answered: {error}"
        except StemmaError as error:
            return error.message

    def _ask_ready(self, spec: SlotSpec, headers: dict[str, str]) -> str:
        status, version, _ = self._send("GET", f"/v2/models/{spec.model}/ready", None, headers)
        return _wrong_sender(spec, status, version)

    def _ask_rows(self, spec: SlotSpec, path: Path, headers: dict[str, str]) -> str:
        manifest = self.load_manifest(spec.manifest)
        golden = read_golden(path)
        inputs = golden.fitted_to(manifest.architecture.signature)
        task = manifest.evidence.golden.task if manifest.evidence.golden else "other"
        for row, request in enumerate(requests_of_rows(inputs, spec.model).requests):
            status, version, body = self._send("POST", request.path, request, headers)
            wrong = _wrong_sender(spec, status, version)
            if wrong:
                return wrong
            answered = _first_output(body)
            # Text of several values per row is compared by the process itself at its start.
            is_plain = answered.size == 1
            if is_plain and not agrees(golden.predictions[row : row + 1], answered, task, 0.0):
                return f"golden row {row} is answered with {answered.tolist()}"
        return ""

    def _send(
        self, method: str, path: str, request: LoadRequest | None, headers: dict[str, str]
    ) -> tuple[int, str, bytes]:
        connection = http.client.HTTPConnection(*self.address, timeout=_TIMEOUT_SECONDS)
        try:
            if request is not None:
                headers = {**headers, "content-type": request.content_type, **request.headers}
            connection.request(method, path, None if request is None else request.body, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheader(VERSION_HEADER) or "", answer.read()
        finally:
            connection.close()


def _wrong_sender(spec: SlotSpec, status: int, version: str) -> str:
    if status != _OK:
        return f"the golden request is answered with status {status}"
    if version != spec.version:
        return f"the golden request is answered by {version or 'nobody'}, not by {spec.version}"
    return ""


def _first_output(body: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    try:
        return np.asarray(json.loads(body)["outputs"][0]["data"])
    except (ValueError, KeyError, IndexError, TypeError):
        return np.asarray([])
