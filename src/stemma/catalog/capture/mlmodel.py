"""Models that MLflow logged: what its ``MLmodel`` file and its requirements say, as plain values.

Invariants:
    * Nothing is imported, unpickled or executed; the files are text, bounded in size.
    * What cannot be read is left out, never guessed at.

The weights themselves are read by ``stemma.catalog.capture.artifact``.

Example:
    >>> read_mlmodel(b"flavors: {sklearn: {sklearn_version: 1.9.1}}").flavors
    ('sklearn',)
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from stemma.catalog.capture.base import CapturedEnvironment
from stemma.domain.component import ANY_SIZE, Package, Signature, ValueSpec

MLMODEL: Final = "MLmodel"
"""Name of the file that says what a folder holds."""

DESCRIBING_FILES: Final = (MLMODEL, "conda.yaml", "python_env.yaml", "requirements.txt")
"""Files that say what the model is and needs; they differ from run to run of the same training."""

SIZE_LIMIT_BYTES: Final = 4 * 1024 * 1024

_GENERAL: Final = "python_function"
_DTYPES: Final = {
    "boolean": "bool",
    "integer": "int32",
    "long": "int64",
    "float": "float32",
    "double": "float64",
    "string": "str",
    "binary": "bytes",
    "datetime": "datetime64[ns]",
}
_CLASS_KEYS: Final = ("model_class", "pipeline_model_type", "instance_type", "model_type")
_VOLATILE: Final = frozenset({"env", "code", "data", "python_version", "model_path"})
_PINNED: Final = re.compile(r"==([^*;,\s]+)$")
_COUNT_LIMIT: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class MlmodelFacts:
    """What an ``MLmodel`` file says.

    Attributes:
        flavors: Libraries that can read the model, sorted, without the general one.
        loader_module: Module of MLflow that loads it; may be empty.
        class_name: Qualified name of the model's class; empty when it is not said.
        signature: Inputs, outputs and methods.
        code_folder: Folder of the user's own modules beside it; empty when there is none.
        options: What each flavor says beyond paths, as JSON values.
        mlflow_version: MLflow that wrote it.
    """

    flavors: tuple[str, ...] = ()
    loader_module: str = ""
    class_name: str = ""
    signature: Signature = field(default_factory=Signature)
    code_folder: str = ""
    options: Mapping[str, object] = field(default_factory=dict)
    mlflow_version: str = ""

    @property
    def family(self) -> str:
        """What kind of model it is: its class, else the library it is of."""
        return self.class_name or next(iter(self.flavors), "") or self.loader_module or "mlflow"


def read_mlmodel(data: bytes) -> MlmodelFacts:
    """Read an ``MLmodel`` file; what is no such file says nothing."""
    found = _yaml(data)
    flavors = _table(found.get("flavors"))
    general = _table(flavors.get(_GENERAL))
    own = {name: _table(flavors[name]) for name in sorted(flavors) if name != _GENERAL}
    code = next((_text(table.get("code")) for table in (general, *own.values()) if table), "")
    return MlmodelFacts(
        flavors=tuple(own),
        loader_module=_text(general.get("loader_module")),
        class_name=next(
            (_text(table[key]) for table in own.values() for key in _CLASS_KEYS if key in table), ""
        ),
        signature=_signature(_table(found.get("signature"))),
        code_folder=code,
        options={name: _options(table) for name, table in own.items()},
        mlflow_version=_text(found.get("mlflow_version")),
    )


def read_requirements(requirements: bytes, python_env: bytes) -> CapturedEnvironment | None:
    """Read what a model needs from ``requirements.txt`` and ``python_env.yaml``.

    Returns ``None`` when neither says anything.
    """
    lines = [line.strip() for line in requirements.decode("utf-8", "replace").splitlines()]
    needs = [line for line in lines if line and not line.startswith("#")]
    python = _text(_yaml(python_env).get("python"))
    if not needs and not python:
        return None
    packages: dict[str, Package] = {}
    loose: list[str] = []
    for line in needs:
        package = _pinned(line)
        if package is None:
            loose.append(line)
        else:
            packages[package.name] = package
    notes = [f"{line}: not pinned to a version" for line in loose]
    return CapturedEnvironment(
        lock_text="".join(f"{line}\n" for line in sorted(needs)),
        requirements=tuple(sorted(needs)),
        packages=tuple(packages[name] for name in sorted(packages)),
        python=python,
        platform="",
        notes=tuple(notes),
    )


def _pinned(line: str) -> Package | None:
    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        return None
    match = _PINNED.fullmatch(str(requirement.specifier))
    if match is None:
        return None
    return Package(name=canonicalize_name(requirement.name), version=match.group(1))


def read_columns(schema: str) -> tuple[ValueSpec, ...]:
    """Read the columns of a dataset from the schema that a client logged with it."""
    found = _table(_json(schema))
    columns = found.get("mlflow_colspec")
    if columns is None:
        tensors = _table(found.get("mlflow_tensorspec"))
        columns = _json(_text(tensors.get("features")))
    return tuple(_specs(columns))


def read_row_count(profile: str) -> int:
    """Return how many rows a dataset has, as its profile says; -1 when it does not."""
    count = _table(_json(profile)).get("num_rows")
    return count if isinstance(count, int) and count >= 0 else -1


def _signature(table: Mapping[str, Any]) -> Signature:
    inputs = tuple(_specs(_json(_text(table.get("inputs")))))
    options = tuple(
        ValueSpec(name=spec.name, dtype=spec.dtype, shape=_shape(spec.shape), is_optional=True)
        for spec in _specs(_json(_text(table.get("params"))))
    )
    outputs = tuple(_specs(_json(_text(table.get("outputs"))), word="output"))
    has_names = all(not spec.name.startswith("input_") for spec in inputs)
    return Signature(
        inputs=(*inputs, *options),
        outputs=outputs,
        methods=("predict",),
        is_positional=bool(inputs) and not has_names,
    )


def _specs(columns: object, *, word: str = "input") -> Iterator[ValueSpec]:
    """Yield the columns or tensors of a schema; one without a name is called by its place."""
    if not isinstance(columns, list):
        return
    for at, column in enumerate(columns[:_COUNT_LIMIT]):
        table = _table(column)
        tensor = _table(table.get("tensor-spec"))
        kind = _text(tensor.get("dtype")) or _text(table.get("type"))
        shape = tensor.get("shape") if tensor else table.get("shape") or [ANY_SIZE]
        yield ValueSpec(
            name=_text(table.get("name")) or f"{word}_{at}",
            dtype=_DTYPES.get(kind, kind or "object"),
            shape=_shape(shape),
            is_optional=table.get("required") is False or table.get("optional") is True,
        )


def _shape(value: object) -> tuple[int, ...]:
    if not isinstance(value, list | tuple):
        return (ANY_SIZE,)
    return tuple(size if isinstance(size, int) else ANY_SIZE for size in value)


def _options(table: Mapping[str, Any]) -> dict[str, object]:
    """Return what a flavor says of the model, without paths and the interpreter."""
    return {
        key: value
        for key, value in sorted(table.items())
        if key not in _VOLATILE
        and not key.endswith("_version")
        and isinstance(value, str | int | bool | float)
    }


def _yaml(data: bytes) -> Mapping[str, Any]:
    if len(data) > SIZE_LIMIT_BYTES:
        return {}
    try:
        return _table(yaml.safe_load(data))
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}


def _json(text: str) -> object:
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
