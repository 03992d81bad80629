"""Chooses the adapter for a live model, or the one a version was recorded with.

Invariants:
    * A library is never imported to look at an object: its class tells which library made it.
    * A missing library is named with the extra that installs it.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from stemma.domain.errors import InvalidInputError
from stemma.sdk.adapters.base import ModelAdapter


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """One library: its adapter's name, the packages whose classes and files it reads."""

    loader: str
    packages: frozenset[str]
    suffixes: frozenset[str] = frozenset()


_ENTRIES: Final = (
    _Entry(
        loader="onnx", packages=frozenset({"onnx", "onnxruntime"}), suffixes=frozenset({".onnx"})
    ),
    _Entry(loader="torch", packages=frozenset({"torch"})),
    _Entry(loader="sklearn", packages=frozenset({"sklearn"})),
)


def find_adapter(model: object) -> ModelAdapter | None:
    """Return the adapter that reads ``model``; ``None`` when there is none.

    Raises:
        InvalidInputError: If there is one, but its library is not installed.
    """
    roots = {kind.__module__.partition(".")[0] for kind in type(model).__mro__}
    for entry in _ENTRIES:
        is_file = isinstance(model, str | Path) and Path(model).suffix in entry.suffixes
        if is_file or roots & entry.packages:
            adapter = adapter_named(entry.loader)
            if adapter.accepts(model):
                return adapter
    return None


def adapter_for(model: object) -> ModelAdapter:
    """Return the adapter that reads ``model``.

    Raises:
        InvalidInputError: If there is none, or its library is not installed.
    """
    adapter = find_adapter(model)
    if adapter is None:
        raise InvalidInputError(
            f"cannot read a model of type {type(model).__module__}.{type(model).__qualname__}",
            code="unknown-model-type",
            hint="pass a scikit-learn estimator, a torch module, an ONNX model or the path of a "
            "file; run.model(model, unsafe_pickle=True) keeps a pickle, which Stemma never loads",
        )
    return adapter


def adapter_named(loader: str) -> ModelAdapter:
    """Return the adapter with that name.

    Raises:
        InvalidInputError: If there is none, or its library is not installed.
    """
    if loader not in {entry.loader for entry in _ENTRIES}:
        raise InvalidInputError(f"no adapter is called {loader!r}", code="unknown-adapter")
    try:
        module = importlib.import_module(f"stemma.sdk.adapters.{loader}")
    except ModuleNotFoundError as error:
        raise InvalidInputError(
            f"models of {loader} need the package {error.name}, which is not installed",
            code="library-missing",
            hint=f"pip install 'stemma-ml[{loader}]'",
        ) from error
    return cast("ModelAdapter", module.ADAPTER)
