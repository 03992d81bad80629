"""Lets MLflow's clients load what Stemma recorded: its ``MLmodel`` file, beside the model.

Invariants:
    * The files of a version stay as they are; what is said of them stands among the artifacts of
      its run, and is the same whenever it is written.
    * Only models that MLflow can read without a pickle are said to be loadable.

Models that MLflow logged have an ``MLmodel`` file already; this is not for them.
"""

from __future__ import annotations

import json
from datetime import UTC
from typing import Final

import yaml

from stemma.catalog.capture.mlmodel import MLMODEL
from stemma.domain.artifact import Artifact
from stemma.domain.component import Signature
from stemma.domain.manifest import Manifest
from stemma.domain.registry import ModelVersion
from stemma.hub.local_parts import LocalParts
from stemma.tracking import artifact_queries
from stemma.tracking.artifacts import NATIVE_FOLDER

_SKOPS: Final = "model.skops"
_ID_LENGTH: Final = 32


def expose(parts: LocalParts, version: ModelVersion) -> None:
    """Write the ``MLmodel`` file of a release that Stemma recorded, once."""
    path = f"{NATIVE_FOLDER}/{MLMODEL}"
    if version.logged_model or version.manifest is None:
        return
    with parts.database.read() as connection:
        if artifact_queries.find(connection, version.run, path) is not None:
            return
    files = describe(parts.catalog.manifest(version.manifest))
    if not files:
        return
    now = parts.clock()
    with parts.writing():
        stored = {name: parts.objects.put_bytes(data) for name, data in files.items()}
        with parts.database.write() as connection:
            for name, file in stored.items():
                artifact = Artifact(
                    owner=version.run,
                    path=f"{NATIVE_FOLDER}/{name}",
                    file=file.digest,
                    size_bytes=file.size_bytes,
                )
                artifact_queries.upsert(connection, artifact, now)


def describe(manifest: Manifest) -> dict[str, bytes]:
    """Return what MLflow needs to know of a version, by file name; nothing if it cannot load it."""
    names = {file.path for file in manifest.artifact.files}
    networks = sorted(name for name in names if name.endswith(".onnx"))
    if MLMODEL in names or manifest.artifact.is_pickle:
        return {}
    if manifest.artifact.loader == "sklearn" and _SKOPS in names:
        flavor: dict[str, object] = {
            "pickled_model": _SKOPS,
            "serialization_format": "skops",
            "sklearn_version": _version_of(manifest, "scikit-learn"),
            "code": None,
        }
        general: dict[str, object] = {"model_path": _SKOPS, "predict_fn": "predict"}
    elif manifest.artifact.loader == "onnx" and len(networks) == 1:
        flavor = {
            "data": networks[0],
            "onnx_version": _version_of(manifest, "onnx"),
            "providers": ["CPUExecutionProvider"],
            "code": None,
        }
        general = {"data": networks[0]}
    else:
        return {}
    return _files(manifest, flavor, general)


def _files(
    manifest: Manifest, flavor: dict[str, object], general: dict[str, object]
) -> dict[str, bytes]:
    name = manifest.artifact.loader
    environment = manifest.environment
    general |= {
        "loader_module": f"mlflow.{name}",
        "python_version": environment.python,
        "env": {"virtualenv": "python_env.yaml"},
    }
    made_at = manifest.provenance.ended_at.astimezone(UTC)
    described: dict[str, object] = {
        "flavors": {"python_function": general, name: flavor},
        "model_uuid": manifest.artifact.identity.hex[:_ID_LENGTH],
        "utc_time_created": f"{made_at:%Y-%m-%d %H:%M:%S.%f}",
    }
    signature = _signature(manifest.architecture.signature)
    if signature:
        described["signature"] = signature
    needs = "".join(f"{package.name}=={package.version}\n" for package in environment.packages)
    python = {"python": environment.python, "dependencies": ["-r requirements.txt"]}
    return {
        MLMODEL: yaml.safe_dump(described).encode(),
        "requirements.txt": needs.encode(),
        "python_env.yaml": yaml.safe_dump(python).encode(),
    }


def _signature(signature: Signature) -> dict[str, str]:
    """Return the one tensor that goes in as MLflow writes it; nothing where there are several."""
    if len(signature.inputs) != 1:
        return {}
    (given,) = signature.inputs
    if given.dtype in {"str", "object", "bytes"} or not given.shape:
        return {}
    spec = {"dtype": given.dtype, "shape": list(given.shape)}
    return {"inputs": json.dumps([{"type": "tensor", "tensor-spec": spec}])}


def _version_of(manifest: Manifest, package: str) -> str:
    return next((p.version for p in manifest.environment.packages if p.name == package), "")
