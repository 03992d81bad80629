"""Models from files and folders, as they are, without any ML library.

Invariants:
    * Nothing is unpickled or executed; a pickle is recorded as bytes and marked.
    * Tensors are known by content, so another container or another split into shards of
      the same tensors is the same model; every other file counts with its bytes.
    * What cannot be read is recorded as it is, never guessed at.

Live objects are read by ``stemma.sdk.adapters``; this module reads what lies on disk.

Example:
    >>> capture_model_path(Path("model.safetensors")).family  # doctest: +SKIP
    'file:safetensors'
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Final

from stemma.catalog.capture.base import CapturedModel
from stemma.catalog.capture.ignore import list_folder, stamp_files
from stemma.catalog.capture.onnx_file import read_onnx
from stemma.catalog.capture.skops_file import read_skops
from stemma.domain.component import Signature
from stemma.domain.errors import InvalidInputError, NotFoundError
from stemma.domain.facts import Structure, Tensor
from stemma.store.formats.detect import FileFormat, detect_format
from stemma.store.formats.facts import TensorFact
from stemma.store.formats.tensors import read_tensor_digests

_JSON_LIMIT_BYTES: Final = 64 * 1024 * 1024
_LEARNED_TYPES: Final = ("float", "bfloat", "complex")


@dataclass(slots=True)
class _Found:
    """What the files said so far."""

    tensors: dict[str, dict[str, TensorFact]] = field(default_factory=dict)
    configuration: dict[str, Mapping[str, object]] = field(default_factory=dict)
    covered: list[str] = field(default_factory=list)
    signature: Signature = field(default_factory=Signature)


def capture_model_path(path: Path) -> CapturedModel:
    """Read a model file or folder as it is.

    Raises:
        NotFoundError: If there is nothing at ``path``.
        InvalidInputError: If it is empty, cannot be read, or holds names or links that a
            version may not hold.
    """
    try:
        real = path.resolve(strict=True)
        files = list_folder(real).files if real.is_dir() else {path.name: real}
        stamps = stamp_files(files)
        return _capture(path, files, stamps, beside=real if real.is_dir() else real.parent)
    except FileNotFoundError as error:
        raise NotFoundError(
            f"no model at {path}", code="model-not-found", hint=f"ls {path.parent}"
        ) from error
    except OSError as error:
        raise InvalidInputError(
            f"{path}: cannot be read: {error.strerror or error}",
            code="unreadable-model",
            hint=f"ls -l {path}",
        ) from error


def _capture(
    path: Path,
    files: Mapping[str, Path],
    stamps: Mapping[str, tuple[int, int]],
    *,
    beside: Path,
) -> CapturedModel:
    readable = {name: file for name, file in files.items() if not file.is_symlink()}
    if not readable:
        raise InvalidInputError(
            f"{path}: a model of no files", code="empty-model", hint="name the folder that has it"
        )
    formats = {name: detect_format(file) for name, file in readable.items()}
    found = _Found()
    for name, file in readable.items():
        _read_file(found, name, file, formats[name])
    facts = _joined(found.tensors)
    main = max(readable, key=lambda name: (name in found.covered, stamps[name][0], name))
    size_bytes = sum(stamps[name][0] for name in readable)
    tokens, special_tokens = _read_tokens(beside)
    return CapturedModel(
        files=files,
        loader="file",
        family=f"file:{formats[main].value}",
        summary=_summary(path, len(readable), size_bytes, len(facts)),
        parameter_count=sum(
            prod(fact.shape) for fact in facts.values() if fact.dtype.startswith(_LEARNED_TYPES)
        ),
        structure=Structure(
            tensors=tuple(
                Tensor(name=name, dtype=fact.dtype, shape=fact.shape)
                for name, fact in sorted(facts.items())
            )
        ),
        signature=found.signature,
        labels=_read_labels(beside),
        tokens=tokens,
        special_tokens=special_tokens,
        tensors={name: fact.digest for name, fact in sorted(facts.items())},
        configuration=_configuration(found.configuration),
        is_pickle=FileFormat.PICKLE in formats.values(),
        covered_files=tuple(sorted(found.covered)),
        stamps=stamps,
    )


def _read_file(found: _Found, name: str, file: Path, kind: FileFormat) -> None:
    """Take in one file's tensors; a file without readable ones counts with its bytes."""
    match kind:
        case FileFormat.SKOPS:
            content = read_skops(file)
        case FileFormat.ONNX:
            content = read_onnx(file)
        case _:
            facts = read_tensor_digests(file)
            if facts is not None:
                found.tensors[name] = facts
                found.covered.append(name)
            return
    if content is None:
        return
    found.tensors[name] = dict(content.tensors)
    found.configuration[name] = content.configuration
    found.signature = content.signature
    found.covered.append(name)


def _joined(tensors: Mapping[str, Mapping[str, TensorFact]]) -> dict[str, TensorFact]:
    """Join the files' tensors; names that several files use are told apart by file."""
    counts = Counter(name for facts in tensors.values() for name in facts)
    is_ambiguous = any(count > 1 for count in counts.values())
    return {
        f"{file}:{name}" if is_ambiguous else name: fact
        for file, facts in tensors.items()
        for name, fact in facts.items()
    }


def _configuration(found: Mapping[str, Mapping[str, object]]) -> Mapping[str, object]:
    """Return the only file's configuration as it is, so that its name does not count."""
    return next(iter(found.values())) if len(found) == 1 else found


def _summary(path: Path, file_count: int, size_bytes: int, tensor_count: int) -> str:
    files = path.name if file_count == 1 else f"{path.name}/ ({file_count} files)"
    noun = "tensor" if tensor_count == 1 else "tensors"
    tensors = f", {tensor_count} {noun}" if tensor_count else ""
    return f"{files}, {size_bytes} bytes{tensors}"


def _read_json(path: Path) -> dict[str, object]:
    """Return a JSON object; an empty one when there is none to read."""
    try:
        if path.stat().st_size > _JSON_LIMIT_BYTES:
            return {}
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _read_labels(folder: Path) -> tuple[str, ...]:
    """Return ``id2label`` of a ``config.json`` in index order."""
    table = _read_json(folder / "config.json").get("id2label")
    if not isinstance(table, dict):
        return ()
    try:
        indexed = sorted((int(index), str(label)) for index, label in table.items())
    except ValueError:
        return ()
    return tuple(label for _, label in indexed)


def _read_tokens(folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the vocabulary of a ``tokenizer.json`` in index order, and its special tokens."""
    table = _read_json(folder / "tokenizer.json")
    model = table.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    indexed: dict[int, str] = {}
    if isinstance(vocabulary, dict):
        indexed = {i: str(token) for token, i in vocabulary.items() if isinstance(i, int)}
    elif isinstance(vocabulary, list):
        indexed = {i: str(entry[0]) for i, entry in enumerate(vocabulary) if entry}
    added = table.get("added_tokens")
    entries = (
        [entry for entry in added if isinstance(entry, dict)] if isinstance(added, list) else []
    )
    for entry in entries:
        index = entry.get("id")
        if isinstance(index, int):
            indexed[index] = str(entry.get("content"))
    named = _read_json(folder / "special_tokens_map.json")
    special = {f"{name}={_token_text(value)}" for name, value in named.items()} or {
        f"special_{entry.get('id')}={entry.get('content')}"
        for entry in entries
        if entry.get("special")
    }
    return tuple(token for _, token in sorted(indexed.items())), tuple(sorted(special))


def _token_text(value: object) -> str:
    return str(value.get("content")) if isinstance(value, dict) else str(value)
