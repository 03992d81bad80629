"""Makes ``golden.npz`` of a version from its golden set and its recorded answers.

Invariants:
    * The rows are those the answers were recorded for: their digests are compared.
    * A golden set of any size is read row by row, never whole.
    * Every answer that occurs is asked for before one is asked for twice.

A golden set that is not stored as arrays (of another tool) has no golden request.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stemma.catalog.capture.rows import digest_rows
from stemma.delivery.runtime.golden import write_golden
from stemma.domain.component import Dataset, DatasetRole
from stemma.domain.errors import IntegrityError
from stemma.domain.manifest import GoldenSet, Manifest
from stemma.store.objects import ObjectStore

GOLDEN_ROWS: Final = 8
"""Most rows of a golden request."""

_LOOKED_AT: Final = 10_000
_FEATURES: Final = "features"
_LABELS: Final = "labels"
_LOCAL_HEADER_BYTES: Final = 30
_MATRIX: Final = 2


def make_golden(objects: ObjectStore, manifest: Manifest, target: Path) -> bool:
    """Write ``target``, the golden request of a version.

    Args:
        objects: Where the golden set and the answers are stored.
        manifest: The version.
        target: The file; its folder exists.

    Returns:
        Whether there is one: false for a version without a golden set, or when the golden set
        is not stored as arrays.

    Raises:
        IntegrityError: If what is stored is damaged, or rows and answers do not belong together.
    """
    golden = manifest.evidence.golden
    dataset = _dataset(manifest, golden)
    if golden is None or dataset is None or not golden.row_count:
        return False
    digests, predictions = _answers(objects, golden)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".golden-") as folder:
        entry = objects.read_tree(dataset.content).entries[0]
        if entry.digest is None:
            return False
        file = Path(folder) / "data.npz"
        objects.export_file(entry.digest, file)
        features = _map_features(file, golden)
        chosen = _choose(features, predictions)
        rows = np.array(features[chosen])
    if not np.array_equal(digest_rows(rows), digests[chosen]):
        raise _not_belonging(golden)
    write_golden(target, _columns(rows, dataset), predictions[chosen])
    return True


def _dataset(manifest: Manifest, golden: GoldenSet | None) -> Dataset | None:
    """Return the golden set when it is stored as one file of arrays."""
    if golden is None:
        return None
    return next(
        (
            dataset
            for dataset in manifest.datasets.datasets
            if dataset.name == golden.dataset
            and dataset.role is DatasetRole.TEST
            and dataset.format == "npz"
        ),
        None,
    )


def _answers(
    objects: ObjectStore, golden: GoldenSet
) -> tuple[NDArray[np.uint8], NDArray[np.generic]]:
    data = objects.read_bytes(golden.predictions)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return archive["row_digest"], archive["prediction"]
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise _not_belonging(golden) from error


def _map_features(file: Path, golden: GoldenSet) -> NDArray[np.generic]:
    """Map the array of inputs inside an archive that is not compressed.

    Raises:
        IntegrityError: If the archive holds no such array.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            member = archive.getinfo(f"{_FEATURES}.npy")
        with file.open("rb") as stream:
            stream.seek(member.header_offset)
            header = stream.read(_LOCAL_HEADER_BYTES)
            # Zip local file header: lengths of name and extra field at 26 and 28.
            stream.seek(
                int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), 1
            )
            version = np.lib.format.read_magic(stream)
            read = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, is_fortran, dtype = read(stream)
            offset = stream.tell()
        order: Any = "F" if is_fortran else "C"
        return np.memmap(file, dtype=dtype, mode="r", offset=offset, shape=shape, order=order)
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise _not_belonging(golden) from error


def _choose(features: NDArray[Any], predictions: NDArray[Any]) -> NDArray[np.intp]:
    """Choose rows: one of each answer first, then from the beginning.

    Rows with empty cells come last: an empty text stands for a missing value, and the model was
    asked with whatever the caller's table had there.
    """
    count = min(len(features), len(predictions), _LOOKED_AT)
    if not count:
        return np.zeros(0, dtype=np.intp)
    _, firsts = np.unique(predictions[:count], return_index=True)
    is_repeated = np.ones(count, dtype=bool)
    is_repeated[firsts] = False
    has_gap = np.zeros(count, dtype=bool)
    if features.dtype.kind == "U":
        has_gap = (features[:count].reshape(count, -1) == "").any(axis=1)
    order = np.lexsort((np.arange(count), is_repeated, has_gap))
    return np.sort(order[:GOLDEN_ROWS])


def _columns(rows: NDArray[Any], dataset: Dataset) -> dict[str, NDArray[np.generic]]:
    """Return the columns with the types they had; one array when they had no names."""
    specs = [spec for spec in dataset.columns if spec.name not in {_FEATURES, _LABELS}]
    if rows.ndim != _MATRIX or len(specs) != rows.shape[1]:
        return {"": rows}
    return {spec.name: _typed(rows[:, index], spec.dtype) for index, spec in enumerate(specs)}


def _typed(column: NDArray[Any], dtype: str) -> NDArray[np.generic]:
    """Read text cells back as what the schema says they were."""
    if dtype == "str":
        return column.astype(np.str_)
    if column.dtype.kind == "U" and dtype == "bool":
        return np.asarray(column == "True")
    if column.dtype.kind == "U":
        column = np.where(column == "", "nan", column).astype(np.float64)
    return column.astype(dtype)


def _not_belonging(golden: GoldenSet) -> IntegrityError:
    return IntegrityError(
        f"the answers {golden.predictions} were not recorded for the rows of {golden.dataset}",
        code="golden-does-not-belong",
        hint="stemma doctor",
    )
