"""What an adapter is: it reads a live model, answers with it, and loads it again.

Invariants:
    * An adapter reads the object it is given; it patches nothing and trains nothing.
    * Two equal models give equal tensor digests and equal configuration, whatever their files.
    * Loading never runs code that came with the files unless the caller says so.

This module does not choose an adapter; see ``stemma.sdk.adapters.registry``.
"""

from __future__ import annotations

import ast
import inspect
import json
import sys
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from stemma.catalog.capture.base import CapturedModel
from stemma.domain.component import ANY_SIZE, ValueSpec
from stemma.domain.errors import InvalidInputError

PICKLE_NAME: Final = "model.pkl"
_FOREIGN_FOLDERS: Final = tuple(
    Path(sysconfig.get_path(kind)).resolve()
    for kind in ("stdlib", "platstdlib", "purelib", "platlib")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureRequest:
    """What an adapter is asked to read.

    Attributes:
        model: The live object.
        folder: Empty folder for the model's files.
        sample: Inputs of the test set as the user gave them; ``None`` without a test set.
        interface: Methods the user declares as the contract; empty: every method there is.
        optimizer: torch optimizer, for its hyperparameters.
        is_pickle_allowed: ``unsafe_pickle=True``: write a pickle instead of a safe format.
        sources: Where the text that runs is kept, by resolved source file.
    """

    model: object
    folder: Path
    sample: object = None
    interface: tuple[str, ...] = ()
    optimizer: object = None
    is_pickle_allowed: bool = False
    sources: Mapping[Path, Path] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a model answered.

    Attributes:
        predictions: (n,) or (n, k) answers.
        scores: (n, k) float scores per class; ``None`` when the model has none.
        classes: Class names in the order of the columns of ``scores``.
        task: ``classification``, ``regression``, ``other``; empty: the adapter cannot tell.
    """

    predictions: NDArray[np.generic]
    scores: NDArray[np.floating] | None = None
    classes: tuple[str, ...] = ()
    task: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadRequest:
    """What an adapter is asked to load.

    Attributes:
        folder: Folder with the model's files, already verified.
        files: Their relative paths.
        code_folder: Folder with the captured source; ``None`` unless the caller trusts it.
        family: Class path of the model.
        entry_point: Path of the script that trained, in ``code_folder``; may be empty.
        into: Object that takes the state (torch); ``None`` when not given.
        trust: Type names that may be constructed although they are not scikit-learn's own.
    """

    folder: Path
    files: tuple[str, ...]
    code_folder: Path | None = None
    family: str = ""
    entry_point: str = ""
    into: object = None
    trust: tuple[str, ...] = ()


class ModelAdapter(Protocol):
    """Reads, asks and loads the models of one library."""

    @property
    def loader(self) -> str:
        """Name stored in the manifest, by which ``load`` finds this adapter again."""
        ...

    def accepts(self, model: object) -> bool:
        """Say whether this adapter reads ``model``."""
        ...

    def capture(self, request: CaptureRequest) -> CapturedModel:
        """Read the model and write its files."""
        ...

    def answer(self, model: object, inputs: object, labels: NDArray[np.generic] | None) -> Answers:
        """Ask the model; ``labels`` only tell the kind of answer that is expected."""
        ...

    def load(self, request: LoadRequest) -> object:
        """Return the native object."""
        ...


def array_digest(array: NDArray[Any]) -> str:
    """Return blake3 hex of an array's little-endian bytes in C order.

    Plain numbers digest as ``stemma.store.formats.tensors`` digests them in a file. Records are
    taken field by field, so padding is not read; text is taken as JSON, so width does not matter.
    """
    if array.dtype.names is not None:
        parts = [f"{name} {array_digest(array[name])}" for name in array.dtype.names]
        return blake3("\n".join(parts).encode()).hexdigest()
    if array.dtype.kind in "OUS":
        text = json.dumps([str(item) for item in array.ravel().tolist()], ensure_ascii=False)
        return blake3(text.encode("utf-8", errors="backslashreplace")).hexdigest()
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return blake3(little.tobytes()).hexdigest()


def class_path(kind: type) -> str:
    """Return the shortest public dotted path of a class, ``torch.nn.Linear``.

    A class of the script itself gets the script's name instead of ``__main__``.
    """
    parts = kind.__module__.split(".")
    for depth in range(1, len(parts) + 1):
        prefix = ".".join(parts[:depth])
        if getattr(sys.modules.get(prefix), kind.__qualname__, None) is kind:
            return f"{_public_module(prefix)}.{kind.__qualname__}"
    return f"{_public_module(kind.__module__)}.{kind.__qualname__}"


def _public_module(name: str) -> str:
    if name != "__main__":
        return name
    script = getattr(sys.modules["__main__"], "__file__", None)
    return Path(script).stem if script else name


def array_spec(name: str, array: NDArray[np.generic]) -> ValueSpec:
    """Describe a batch: the first dimension is of any size."""
    dtype = "str" if array.dtype.kind in "OUS" else array.dtype.name
    return ValueSpec(name=name, dtype=dtype, shape=(ANY_SIZE, *array.shape[1:]))


def check_interface(interface: Sequence[str], methods: Sequence[str], what: str) -> tuple[str, ...]:
    """Return the declared methods, or every method when none are declared.

    Raises:
        InvalidInputError: If a declared method does not exist.
    """
    missing = [method for method in interface if method not in methods]
    if missing:
        raise InvalidInputError(
            f"interface names {', '.join(missing)}, which {what} does not have",
            code="interface-missing",
            hint=f"it has {', '.join(methods) or 'none'}",
        )
    return tuple(interface) or tuple(methods)


def is_own_file(path: Path) -> bool:
    """Say whether a source file is the user's own, neither installed nor of the library."""
    file = path.resolve()
    if not file.is_file() or file.is_relative_to(Path(__file__).resolve().parents[2]):
        return False
    return not any(file.is_relative_to(folder) for folder in _FOREIGN_FOLDERS)


def defining_source(
    objects: Iterable[object], kept: Mapping[Path, Path]
) -> tuple[dict[str, str], tuple[Path, ...]]:
    """Return the source of the user's own classes and functions, and the files they stand in.

    Works for objects of the running script too. What has no source (made in an interactive
    session) is left out.

    Args:
        objects: Classes and functions.
        kept: Where the text that runs is kept, by file; ``inspect`` would read an edited one.
    """
    sources: dict[str, str] = {}
    modules: set[Path] = set()
    for item in objects:
        for part in _own_classes(item) if isinstance(item, type) else [item]:
            file = _own_file(part)
            if (
                file is None
            ):  # Asked first: parsing a library for its classes takes most of a second.
                continue
            try:
                text = _source_of(part, file, kept)
            except (OSError, TypeError):
                continue
            module = _public_module(getattr(part, "__module__", "") or "")
            sources[f"{module}.{getattr(part, '__qualname__', '')}"] = text
            if getattr(part, "__module__", "") != "__main__":
                modules.add(file)
    return dict(sorted(sources.items())), tuple(sorted(modules))


def _own_file(part: Any) -> Path | None:
    try:
        file = inspect.getsourcefile(part)
    except TypeError:
        return None
    return Path(file).resolve() if file is not None and is_own_file(Path(file)) else None


def _source_of(part: Any, file: Path, kept: Mapping[Path, Path]) -> str:
    copy = kept.get(file)
    if copy is None or file.read_bytes() == copy.read_bytes():
        return inspect.getsource(part)
    return _definition(copy.read_text(encoding="utf-8"), part.__qualname__)


def _definition(text: str, name: str) -> str:
    """Return the lines of a class or function in a text; empty when it is not there."""
    node: ast.AST = ast.parse(text)
    for part in name.split("."):
        if part != "<locals>":
            found = [item for item in ast.walk(node) if getattr(item, "name", None) == part]
            if not found:
                return ""
            node = found[-1]
    if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return ""
    first = min([node.lineno, *(item.lineno for item in node.decorator_list)])
    return "".join(text.splitlines(keepends=True)[first - 1 : node.end_lineno])


def _own_classes(kind: type) -> list[type]:
    return [base for base in kind.__mro__ if base is not object]
