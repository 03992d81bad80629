"""Datasets from files, folders and arrays.

Invariants:
    * Identity is content: a table's cells, an array's values, a folder's file digests.
    * Nothing is unpickled; what cannot be read as rows is recorded as it is, with
      ``row_count`` -1 and no schema, and never guessed at.
    * Memory stays bounded for tables of any size.

This module does not store anything; see ``stemma.catalog.recording``.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import tokenize
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from stemma.catalog.capture.base import CapturedDataset
from stemma.catalog.capture.ignore import list_folder, stamp_files
from stemma.catalog.capture.rows import ColumnSummary, digest_rows
from stemma.catalog.capture.tables import (
    LABEL_NAMES,
    Table,
    UnreadableTableError,
    read_csv,
    read_jsonl,
    read_records,
)
from stemma.catalog.table_pins.formats import pinned_files
from stemma.catalog.table_pins.pin import is_pin
from stemma.domain.component import ANY_SIZE, DatasetRole, ValueSpec
from stemma.domain.errors import InvalidInputError, NotFoundError
from stemma.store.backends.files import translate_os_error
from stemma.store.hashing import hash_file

__all__ = ["capture_dataset_arrays", "capture_dataset_path", "digest_rows"]

_BLOCK_VALUES: Final = 1 << 20
_COLUMN_LIMIT: Final = 1_000
_JSON_LIMIT_BYTES: Final = 64 * 1024 * 1024
_SAMPLE_SUFFIXES: Final = frozenset(
    {".bmp", ".flac", ".gif", ".jpeg", ".jpg", ".mp3"}
    | {".ogg", ".png", ".tif", ".tiff", ".wav", ".webp"}
)
"""Files of these kinds are one row each: an image, a sound."""

_UNREADABLE: Final = (
    UnreadableTableError,
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,
    EOFError,
    ValueError,
    NotImplementedError,
    RuntimeError,
)
"""What numpy and zipfile raise for a file that is not what its name says, and ours."""
_BOMB_BYTES: Final = 256 << 20
_BOMB_RATIO: Final = 100
"""An archive that grows to more than both is not unpacked: the memory would not hold it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Content:
    """What was found in a file or folder."""

    format: str
    canonical_digest: str
    row_count: int = -1
    columns: tuple[ValueSpec, ...] = ()
    statistics: Mapping[str, object] = field(default_factory=dict)
    row_digests: NDArray[np.uint8] | None = None


def capture_dataset_path(
    name: str,
    path: Path,
    role: DatasetRole = DatasetRole.TRAINING,
    preprocessing: Sequence[str] = (),
    *,
    label_columns: Sequence[str] = (),
) -> CapturedDataset:
    """Read a dataset from a file or a folder.

    Args:
        name: Its name.
        path: CSV, TSV, JSON, JSON lines, npy, npz, parquet (with pyarrow), a pinned table
            (``NAME.table.json``), a folder, or any file.
        role: What it is used for.
        preprocessing: Steps in order.
        label_columns: Columns that are not inputs; without, ``label``, ``target``, ``class``
            and ``y`` are taken for labels.

    Raises:
        NotFoundError: If there is nothing at ``path``.
        InvalidInputError: If a folder holds names or links that a version may not hold, or a
            pinned table is not as it was.
    """
    files, stamps, content = _read(path, label_columns)
    return CapturedDataset(
        name=name,
        role=role,
        files=files,
        format=content.format,
        canonical_digest=content.canonical_digest,
        row_count=content.row_count,
        columns=content.columns,
        statistics=content.statistics,
        row_digests=content.row_digests,
        preprocessing=tuple(preprocessing),
        source=str(path),
        stamps=stamps,
    )


def _read(
    path: Path, label_columns: Sequence[str]
) -> tuple[dict[str, Path], dict[str, tuple[int, int]], _Content]:
    """Return files, their stamps from before they were read, and what they hold."""
    try:
        real = path.resolve(strict=True)
        if real.is_dir():
            listing = list_folder(real)
            stamps = stamp_files(listing.files)
            return listing.files, stamps, _read_folder(listing.files, listing.ignored_count)
        if is_pin(path):
            return _read_pin(path)
        files = {path.name: real}
        stamps = stamp_files(files)
        return files, stamps, _read_file(real, label_columns)
    except FileNotFoundError as error:
        raise NotFoundError(
            f"no dataset at {path}", code="dataset-not-found", hint=f"ls {path.parent}"
        ) from error
    except OSError as error:
        raise InvalidInputError(
            f"{path}: cannot be read: {error.strerror or error}",
            code="unreadable-dataset",
            hint=f"ls -l {path}",
        ) from error


def _read_pin(path: Path) -> tuple[dict[str, Path], dict[str, tuple[int, int]], _Content]:
    """A table is known by its snapshot; its rows are read by whoever trains, not here."""
    pinned, rows = pinned_files(path)
    files = {path.name: path.resolve(), **rows}
    content = _Content(
        format=pinned.format,
        canonical_digest=pinned.canonical_digest,
        row_count=pinned.row_count,
        columns=tuple(
            ValueSpec(name=column.name, dtype=column.type, shape=(ANY_SIZE,))
            for column in pinned.columns
        ),
    )
    return files, stamp_files(files), content


def _read_file(path: Path, label_columns: Sequence[str]) -> _Content:
    try:
        return _parse_file(path, label_columns)
    except _UNREADABLE:
        # Recorded as it is: a file that only looks like a table is still the user's data.
        return _opaque(path)


def _parse_file(path: Path, label_columns: Sequence[str]) -> _Content:
    content: _Content
    match path.suffix.lower():
        case ".csv":
            content = _table("csv", read_csv(path, label_columns))
        case ".tsv" | ".tab":
            content = _table("tsv", read_csv(path, label_columns, delimiter="\t"))
        case ".jsonl" | ".ndjson":
            content = _table("jsonl", read_jsonl(path, label_columns))
        case ".json":
            content = _read_json(path, label_columns)
        case ".npy" | ".npz":
            content = _read_numpy(path, label_columns)
        case ".parquet" if importlib.util.find_spec("pyarrow") is not None:
            content = _read_parquet(path)
        case _:
            content = _opaque(path)
    return content


def _opaque(path: Path) -> _Content:
    return _Content(
        format=path.suffix.lower().lstrip(".") or "opaque", canonical_digest=hash_file(path).hex
    )


def _table(format_name: str, table: Table) -> _Content:
    return _Content(
        format=format_name,
        canonical_digest=table.canonical_digest,
        row_count=table.row_count,
        columns=table.columns,
        statistics=table.statistics,
        row_digests=table.row_digests,
    )


def _read_json(path: Path, label_columns: Sequence[str]) -> _Content:
    if path.stat().st_size > _JSON_LIMIT_BYTES:
        return _opaque(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except RecursionError:
        return _opaque(path)
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return _table("json", read_records(value, label_columns))
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    return _Content(format="json", canonical_digest=blake3(canonical).hexdigest())


def _read_folder(files: Mapping[str, Path], ignored_count: int) -> _Content:
    """A folder is known by its file digests; when every file is one sample, files are rows."""
    hasher = blake3()
    digests: list[bytes] = []
    for name, path in files.items():
        data = str(path.readlink()) if path.is_symlink() else hash_file(path).hex
        digests.append(bytes.fromhex(data)[:16] if not path.is_symlink() else b"")
        hasher.update(json.dumps([name, data], ensure_ascii=True).encode() + b"\n")
    suffixes = Counter(Path(name).suffix.lower() for name in files)
    folders = Counter(name.split("/")[0] for name in files if "/" in name)
    are_samples = bool(files) and set(suffixes) <= _SAMPLE_SUFFIXES and b"" not in digests
    return _Content(
        format="folder",
        canonical_digest=hasher.hexdigest(),
        row_count=len(files) if are_samples else -1,
        statistics={
            "files": len(files),
            "folders": dict(sorted(folders.items())[:_COLUMN_LIMIT]),
            "ignored": ignored_count,
            "suffixes": dict(sorted(suffixes.items())[:_COLUMN_LIMIT]),
        },
        row_digests=np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 16)
        if are_samples
        else None,
    )


def _read_numpy(path: Path, label_columns: Sequence[str]) -> _Content:
    """Read ``.npy`` (mapped, never whole) or ``.npz``; objects are refused by numpy."""
    if path.suffix.lower() == ".npy":
        arrays = {"features": np.lib.format.open_memmap(path, mode="r")}
    else:
        # Opened here, for numpy leaves its own file open when the archive is malformed.
        _refuse_bomb(path)
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in sorted(archive.files)}
        if not all(isinstance(array, np.ndarray) for array in arrays.values()):
            raise UnreadableTableError(f"{path} holds a member that is no array")
    wanted = frozenset(label_columns) or LABEL_NAMES
    inputs = {name: array for name, array in arrays.items() if name not in wanted}
    lengths = {array.shape[:1] for array in arrays.values()}
    is_tabular = len(lengths) == 1 and () not in lengths and bool(inputs)
    features = next(iter(inputs.values())) if is_tabular and len(inputs) == 1 else None
    return _Content(
        format=path.suffix.lower().lstrip("."),
        canonical_digest=_digest_arrays(arrays),
        row_count=next(iter(lengths))[0] if is_tabular else -1,
        columns=tuple(_array_spec(name, array) for name, array in arrays.items()),
        statistics=_array_statistics(arrays, ()),
        row_digests=digest_rows(features) if features is not None else None,
    )


def _refuse_bomb(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        size_bytes = sum(member.file_size for member in archive.infolist())
    if size_bytes > max(_BOMB_BYTES, _BOMB_RATIO * path.stat().st_size):
        raise UnreadableTableError(f"{path} would unpack to {size_bytes} bytes")


def _read_parquet(path: Path) -> _Content:
    """Read schema and row count; the identity is the file's bytes, for parquet is written once."""
    parquet: Any = importlib.import_module("pyarrow.parquet")
    with parquet.ParquetFile(path) as file:
        return _Content(
            format="parquet",
            canonical_digest=hash_file(path).hex,
            row_count=int(file.metadata.num_rows),
            columns=tuple(
                ValueSpec(name=column.name, dtype=str(column.type), shape=(ANY_SIZE,))
                for column in file.schema_arrow
            ),
        )


def capture_dataset_arrays(  # noqa: PLR0913 -- seven independent facts, named at every call
    name: str,
    features: NDArray[np.generic],
    labels: NDArray[np.generic] | None = None,
    *,
    work_folder: Path,
    role: DatasetRole = DatasetRole.TRAINING,
    column_names: Sequence[str] = (),
    preprocessing: Sequence[str] = (),
) -> CapturedDataset:
    """Read a dataset from arrays; writes a deterministic ``npz`` into ``work_folder``.

    Args:
        name: Its name, which also makes the file's name.
        features: Inputs, first dimension rows; objects become numbers, else text.
        labels: Right answers, one per row.
        work_folder: Where the ``npz`` is written (exists).
        role: What it is used for.
        column_names: Names of the columns of two-dimensional features.
        preprocessing: Steps in order.

    Raises:
        InvalidInputError: If rows, labels and column names do not belong together.
    """
    inputs = _plain_array(features)
    arrays = {"features": inputs} | ({} if labels is None else {"labels": _plain_array(labels)})
    _check_arrays(name, arrays, column_names)
    file = work_folder / f"{role.value}-{blake3(name.encode()).hexdigest(length=8)}.npz"
    write_npz(file, arrays)
    return CapturedDataset(
        name=name,
        role=role,
        files={"data.npz": file},
        format="npz",
        canonical_digest=_digest_arrays(arrays),
        row_count=len(inputs),
        columns=_array_columns(arrays, column_names),
        statistics=_array_statistics(arrays, column_names),
        row_digests=digest_rows(inputs),
        preprocessing=tuple(preprocessing),
    )


def _array_columns(
    arrays: Mapping[str, NDArray[np.generic]], column_names: Sequence[str]
) -> tuple[ValueSpec, ...]:
    """Return one value per named column, else one for all of the features; labels last."""
    specs = {name: _array_spec(name, array) for name, array in arrays.items()}
    features = specs.pop("features")
    named = tuple(
        ValueSpec(name=name, dtype=features.dtype, shape=(ANY_SIZE,)) for name in column_names
    )
    return (*(named or (features,)), *specs.values())


def _check_arrays(
    name: str, arrays: Mapping[str, NDArray[np.generic]], column_names: Sequence[str]
) -> None:
    features = arrays["features"]
    if features.ndim == 0:
        raise InvalidInputError(
            f"dataset {name}: features need a rows dimension, got a single value",
            code="bad-dataset",
            hint="pass an array of shape (rows, columns)",
        )
    for other in arrays.values():
        if other.shape[:1] != features.shape[:1]:
            raise InvalidInputError(
                f"dataset {name}: {len(features)} rows but labels of shape {other.shape}",
                code="bad-dataset",
                hint="pass one label per row",
            )
    width = features.shape[1] if features.ndim > 1 else 1
    if column_names and len(column_names) != width:
        raise InvalidInputError(
            f"dataset {name}: {len(column_names)} column names for {width} columns",
            code="bad-dataset",
            hint="name each column once",
        )


def _plain_array(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return little-endian values of a plain type; objects become numbers or text."""
    array = np.asarray(values)
    if array.dtype.kind == "O":
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError):
            array = np.array(["" if v is None else str(v) for v in array.ravel().tolist()]).reshape(
                array.shape
            )
    elif array.dtype.kind not in "biufcUSmM":
        array = np.array([str(v) for v in array.ravel().tolist()]).reshape(array.shape)
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def write_npz(path: Path, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Write a file whose bytes depend on nothing but the arrays' names and values.

    Raises:
        UnavailableError: If there is no room (``disk-full``).
        DeniedError: If the file may not be written.
    """
    try:
        with path.open("wb") as stream:
            write_npz_to(stream, arrays)
    except OSError as error:
        raise translate_os_error(error, f"write {path}") from error


def write_npz_to(stream: IO[bytes], arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Write arrays as ``npz``: sorted by name, not compressed, without the time of day."""
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name in sorted(arrays):
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            with archive.open(member, "w", force_zip64=True) as target:
                array = np.ascontiguousarray(arrays[name])
                np.lib.format.write_array(target, array, allow_pickle=False)


def _digest_arrays(arrays: Mapping[str, NDArray[np.generic]]) -> str:
    """Digest names, types, shapes and little-endian C-order bytes, block by block."""
    hasher = blake3()
    for name in sorted(arrays):
        array = arrays[name]
        kind = array.dtype.newbyteorder("<")
        hasher.update(json.dumps([name, kind.str, list(array.shape)]).encode() + b"\n")
        for block in _blocks(array):
            hasher.update(np.ascontiguousarray(block, dtype=kind).tobytes())
    return hasher.hexdigest()


def _blocks(array: NDArray[np.generic]) -> list[NDArray[np.generic]]:
    if array.ndim == 0 or array.size <= _BLOCK_VALUES:
        return [array]
    step = max(1, _BLOCK_VALUES // max(1, array.size // len(array)))
    return [array[start : start + step] for start in range(0, len(array), step)]


def _array_spec(name: str, array: NDArray[np.generic]) -> ValueSpec:
    shape = (ANY_SIZE, *array.shape[1:]) if array.ndim else ()
    return ValueSpec(name=name, dtype=array.dtype.name, shape=shape)


def _array_statistics(
    arrays: Mapping[str, NDArray[np.generic]], column_names: Sequence[str]
) -> dict[str, object]:
    """Statistics per column of two-dimensional arrays, else of the whole array."""
    answer: dict[str, object] = {}
    for name, array in arrays.items():
        has_columns = array.ndim == 2 and array.shape[1] <= _COLUMN_LIMIT  # noqa: PLR2004 -- rows × columns
        if not has_columns:
            answer[name] = _summary(name, array)
            continue
        for i in range(array.shape[1]):
            column = column_names[i] if i < len(column_names) else f"{name}[{i}]"
            answer[column] = _summary(column, array[:, i])
    return answer


def _summary(name: str, array: NDArray[np.generic]) -> dict[str, object]:
    summary = ColumnSummary(name=name)
    for block in _blocks(array):
        if array.dtype.kind in "biuf":
            summary.add_numbers(np.ravel(block))
        elif array.dtype.kind in "US":
            summary.add_texts([str(value) for value in np.ravel(block).tolist()])
        else:
            return {"count": int(array.size)}
    return summary.as_json()
