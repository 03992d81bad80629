"""Hyperparameters as the blob that is hashed, and parameter files as dictionaries.

Invariants:
    * Equal values give equal bytes: keys sorted, no white space, floats as ``repr`` gives them.
    * The bytes are strict JSON: NaN and infinities are the strings ``NaN``, ``Infinity``
      and ``-Infinity``; what JSON cannot say is ``{"repr": …, "type": …}``.
    * No memory address is ever in it, so two equal runs compare equal.

This module does not decide what was passed and what defaulted; adapters do.

Example:
    >>> encode_hyperparameters({"C": 0.5}, {"tol": 0.0001})
    b'{"defaulted":{"tol":0.0001},"passed":{"C":0.5}}'
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum
from pathlib import Path, PurePath
from typing import Final

import numpy as np
import yaml

from stemma.domain.errors import InvalidInputError, NotFoundError

_ADDRESS: Final = re.compile(r" at 0x[0-9A-Fa-f]+")
_DEPTH_LIMIT: Final = 50
_SIZE_LIMIT_BYTES: Final = 16 * 1024 * 1024


def encode_hyperparameters(passed: Mapping[str, object], defaulted: Mapping[str, object]) -> bytes:
    """Return the deterministic JSON of what was passed and what defaulted.

    A name in both counts as passed.

    Raises:
        InvalidInputError: If values nest deeper than 50 levels (or contain themselves).
    """
    remaining = {name: value for name, value in defaulted.items() if name not in passed}
    plain = {"passed": to_json_value(dict(passed)), "defaulted": to_json_value(remaining)}
    return json.dumps(
        plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True
    ).encode("utf-8", errors="backslashreplace")


def to_json_value(value: object, depth: int = 0) -> object:
    """Reduce any value to what strict JSON can say, marking what it cannot.

    Raises:
        InvalidInputError: If values nest deeper than 50 levels (or contain themselves).
    """
    if depth > _DEPTH_LIMIT:
        raise InvalidInputError(
            f"hyperparameters nest deeper than {_DEPTH_LIMIT} levels",
            code="hyperparameters-too-deep",
            hint="pass plain values; an object that contains itself cannot be recorded",
        )
    match value:
        case None | bool():
            return value
        case str() if not isinstance(value, Enum):
            return str(value)
        case int() if not isinstance(value, Enum):
            return int(value)
        case float() if not isinstance(value, Enum):
            return _float_value(float(value))
        case Mapping():
            return {str(key): to_json_value(item, depth + 1) for key, item in value.items()}
        case _:
            return _other_value(value, depth)


def _other_value(value: object, depth: int) -> object:
    if isinstance(value, Enum):
        return to_json_value(value.value, depth + 1)
    if isinstance(value, np.generic | np.ndarray):
        return to_json_value(value.tolist(), depth + 1)
    if isinstance(value, AbstractSet):
        items = [to_json_value(item, depth + 1) for item in value]
        return sorted(items, key=lambda item: json.dumps(item, sort_keys=True))
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return [to_json_value(item, depth + 1) for item in value]
    return _marked(value)


def _marked(value: object) -> object:
    """Return what JSON cannot say as text that two equal runs write alike."""
    if isinstance(value, PurePath):
        return value.as_posix()
    if isinstance(value, type) or callable(value):
        name = getattr(value, "__qualname__", type(value).__qualname__)
        module = getattr(value, "__module__", type(value).__module__)
        return {"repr": f"{module}.{name}", "type": type(value).__qualname__}
    return {"repr": _ADDRESS.sub("", repr(value)), "type": type(value).__qualname__}


def _float_value(value: float) -> object:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def read_params(path: Path) -> dict[str, object]:
    """Read a parameter file (``.yaml``, ``.yml``, ``.json``, ``.toml``) as a table.

    Raises:
        NotFoundError: If there is no such file.
        InvalidInputError: If it cannot be read as a table of names and values.
    """
    try:
        if not path.is_file() and path.exists():
            raise _bad_params(path, "it is not a file")  # a named pipe would be waited for
        if path.stat().st_size > _SIZE_LIMIT_BYTES:
            raise InvalidInputError(
                f"{path}: parameter files are at most {_SIZE_LIMIT_BYTES} bytes",
                code="bad-params-file",
                hint="track it as data: stemma add " + str(path),
            )
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise NotFoundError(
            f"no parameter file {path}", code="params-not-found", hint=f"ls {path.parent}"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise _bad_params(path, str(error)) from error
    try:
        value = _parse(path.suffix.lower(), text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _bad_params(path, " ".join(str(error).split())) from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _bad_params(path, f"holds a {type(value).__name__}, not names with values")
    return {str(key): item for key, item in value.items()}


def _parse(suffix: str, text: str) -> object:
    match suffix:
        case ".yaml" | ".yml":
            return yaml.safe_load(text)
        case ".json":
            return json.loads(text) if text.strip() else None
        case ".toml":
            return tomllib.loads(text)
        case _:
            raise ValueError(f"suffix {suffix!r} is none of .yaml .yml .json .toml")


def _bad_params(path: Path, reason: str) -> InvalidInputError:
    return InvalidInputError(
        f"{path}: not a parameter file: {reason}",
        code="bad-params-file",
        hint="write it like params.yaml: C: 0.5",
    )
