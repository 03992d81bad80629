"""The specification of a model process: one JSON file, written by a slot, read by its processes.

Invariants:
    * ``decode_spec(encode_spec(spec)) == spec``.
    * A field this program does not know is refused, so that a process never runs with half of
      what was asked of it.
    * Environment variables are no part of it: they come from whoever starts the process.

This module opens no file; see ``read_spec`` in ``stemma.sdk.model_process``.

Example:
    >>> decode_spec(b"{}")
    Traceback (most recent call last):
    stemma.domain.errors.InvalidInputError: specification: Object missing required field `model`
"""

from __future__ import annotations

from typing import Final

import msgspec

from stemma.domain.component import Signature
from stemma.domain.errors import InvalidInputError

MAX_BODY_BYTES: Final = 128 * 1024 * 1024
"""Largest request body that is taken without other instructions."""


class ProcessSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a model process serves, and where.

    Attributes:
        model: Name of the model.
        version: SemVer text; sent with every response.
        manifest: sha256 of the manifest, as text.
        loader: Adapter that loads the artifact (``sklearn``, ``torch``, ``onnx``).
        family: Class path of the model.
        entry_point: Path of the training script in ``code_folder``; may be empty.
        files: Relative paths of the artifact's files.
        artifact_folder: Folder with these files.
        code_folder: Folder with the captured source; empty when there is none.
        golden: Path of ``golden.npz``; empty when the version has no golden set.
        task: ``classification``, ``regression`` or ``other``.
        tolerance: Largest difference of a regression's golden answer; 0: 1e-4 of the value.
        signature: What callers may send and get back.
        labels: Class labels in index order.
        methods: Methods that are served; empty: those of the signature.
        sockets: One Unix socket per replica, absolute.
        is_code_trusted: Code that came with the version may be imported.
        is_pickle: The artifact holds a pickle, which is never loaded.
        max_body_bytes: Largest request body.
        record_folder: Where sampled requests are written; empty: nowhere.
        cpus: CPUs the process may use; 0: not limited.
    """

    model: str
    version: str
    manifest: str
    loader: str
    artifact_folder: str
    signature: Signature
    sockets: tuple[str, ...]
    family: str = ""
    entry_point: str = ""
    files: tuple[str, ...] = ()
    code_folder: str = ""
    golden: str = ""
    task: str = "other"
    tolerance: float = 0.0
    labels: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    is_code_trusted: bool = False
    is_pickle: bool = False
    max_body_bytes: int = MAX_BODY_BYTES
    record_folder: str = ""
    cpus: int = 0


def encode_spec(spec: ProcessSpec) -> bytes:
    """Return the bytes of ``specification.json``."""
    return msgspec.json.format(msgspec.json.encode(spec), indent=2) + b"\n"


def decode_spec(data: bytes) -> ProcessSpec:
    """Read ``specification.json``.

    Raises:
        InvalidInputError: If it is no specification.
    """
    try:
        spec = msgspec.json.decode(data, type=ProcessSpec)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInputError(
            f"specification: {error}", code="bad-specification", hint="start the slot again"
        ) from error
    problem = _problem(spec)
    if problem:
        raise InvalidInputError(
            f"specification: {problem}", code="bad-specification", hint="start the slot again"
        )
    return spec


def _problem(spec: ProcessSpec) -> str:
    """Return what is wrong with the values, in words; empty when nothing is."""
    if not spec.model:
        return "model is empty"
    if not spec.sockets:
        return "sockets is empty: a slot has at least one replica"
    if spec.max_body_bytes < 1:
        return f"max_body_bytes is {spec.max_body_bytes}; it must be at least 1"
    if spec.tolerance < 0:
        return f"tolerance is {spec.tolerance}; it must not be negative"
    return ""
