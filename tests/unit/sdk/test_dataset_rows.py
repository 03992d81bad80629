"""Rows, batches and files of datasets: what was written comes back, and memory stays bounded."""

from __future__ import annotations

import json
import os
import pickle
import tracemalloc
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import stemma
from stemma.catalog.pointers import Pointer, write_pointer
from stemma.domain.component import Dataset as Record
from stemma.domain.component import DatasetRole, ValueSpec
from stemma.domain.digest import Digest
from stemma.domain.errors import InvalidInputError, NotFoundError
from stemma.sdk.datasets import Dataset
from stemma.sdk.intake import take_dataset
from stemma.sdk.rows import RowSource, iterate_batches
from stemma.server.wiring import open_hub

TABLE = {"name": ["a", "b", None], "size": [1, 2, 3], "price": [0.5, None, 2.5]}
ROWS = [dict(zip(TABLE, row, strict=True)) for row in zip(*TABLE.values(), strict=True)]


def _track(path: Path) -> Dataset:
    """Do what ``stemma add`` does, and read it again from the store alone."""
    with closing(open_hub()) as hub, hub.writing():
        names = [path.name] if path.is_file() else None
        tree = hub.objects.put_tree(path if names is None else path.parent, names or _below(path))
    kind = "file" if path.is_file() else "folder"
    write_pointer(path, Pointer(kind=kind, size_bytes=tree.size_bytes, content=tree.digest))
    return stemma.data(path.name)


def _below(folder: Path) -> list[str]:
    found = (path for path in folder.rglob("*") if path.is_symlink() or path.is_file())
    return [path.relative_to(folder).as_posix() for path in found]


def _recorded(value: object, folder: Path) -> Dataset:
    """Store a dataset as ``run.data`` does; a whole run would take a second."""
    taken = take_dataset("d", value, "training", (), folder)
    with closing(open_hub()) as hub, hub.writing():
        [file] = taken.files.values()
        tree = hub.objects.put_tree(file.parent, [file.name])
    return Dataset(
        Record(
            name="d",
            role=DatasetRole.TRAINING,
            identity=Digest.blake3(taken.canonical_digest),
            content=tree.digest,
            format=taken.format,
            row_count=taken.row_count,
            columns=taken.columns,
        )
    )


def _write(path: Path) -> Path:
    match path.suffix:
        case ".csv":
            path.write_text("\ufeffname;size;price\na;1;0.5\nb;2;\nNA;3;2.5\n", encoding="utf-8")
        case ".tsv":
            path.write_text("name\tsize\tprice\n\na\t1\t0.5\nb\t2\n\t3\t2.5\n", encoding="utf-8")
        case ".jsonl":
            path.write_text("\n".join(json.dumps(row) for row in ROWS), encoding="utf-8")
        case ".json":
            path.write_text(json.dumps(ROWS), encoding="utf-8")
        case _:
            pq.write_table(pa.table(TABLE), path, row_group_size=2)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".json", ".parquet"])
def test_rows_and_batches_hold_what_was_written(suffix: str, project: Path) -> None:
    """A training would see text for numbers, or lose what is missing."""
    found = _track(_write(project / f"table{suffix}"))
    assert list(found.rows()) == ROWS
    first, second = found.batches(2)
    assert (first["size"].tolist(), second["size"].tolist()) == ([1, 2], [3])
    assert first["price"][0] == 0.5
    assert np.isnan(first["price"][1])
    assert found.to_pandas(columns=["size"])["size"].tolist() == [1, 2, 3]
    assert next(found.rows(columns=["size"])) == {"size": 1}
    assert list(next(found.batches(2, columns=["price"]))) == ["price"]
    for read in (found.rows, lambda columns: found.batches(1, columns)):
        with pytest.raises(NotFoundError, match="has no column prize; did you mean price"):
            next(read(["prize"]))
    for read in (found.to_pandas, found.to_arrow):
        with pytest.raises(NotFoundError, match="has no column prize; did you mean price"):
            read(["prize"])
    assert found.to_arrow()["size"].to_pylist() == [1, 2, 3]
    assert not (project / ".stemma" / "cache" / "trees").exists(), "it was written to the disk"


def test_a_recorded_table_has_the_types_of_its_schema(project: Path, tmp_path: Path) -> None:
    """Rows of a version would differ from rows of the file it was trained on."""
    found = _recorded(str(_write(project / "table.csv")), tmp_path)
    assert list(found.rows()) == ROWS


def test_a_table_without_a_header_has_numbered_columns(project: Path) -> None:
    """The first row would be taken for names, and be missing from the training."""
    (project / "table.csv").write_text("1,2\n3,4\n", encoding="utf-8")
    found = _track(project / "table.csv")
    assert list(found.rows()) == [{"c0": 1, "c1": 2}, {"c0": 3, "c1": 4}]
    assert found.to_pandas().to_numpy().tolist() == [[1, 2], [3, 4]]


def test_arrays_come_row_by_row(project: Path, tmp_path: Path) -> None:
    """Images would have to be loaded all at once."""
    images = np.arange(5 * 4 * 3, dtype=np.float32).reshape(5, 4, 3)
    found = _recorded((images, np.arange(5)), tmp_path)
    rows = list(found.rows())
    assert [row["labels"] for row in rows] == [0, 1, 2, 3, 4]
    assert np.array_equal(np.stack([row["features"] for row in rows]), images)
    sizes = [len(batch["features"]) for batch in found.batches(2)]
    assert sizes == [2, 2, 1]


def test_a_frame_comes_back_column_by_column(project: Path, tmp_path: Path) -> None:
    """Columns of several kinds are stored as text; that must not be seen."""
    frame = pd.DataFrame({"town": ["x", "y"], "rooms": [3, 4], "is_new": [True, False]})
    found = _recorded((frame, ["cheap", "dear"]), tmp_path)
    assert list(found.rows()) == [
        {"town": "x", "rooms": 3, "is_new": True, "label": "cheap"},
        {"town": "y", "rooms": 4, "is_new": False, "label": "dear"},
    ]
    assert found.to_pandas()["rooms"].dtype == np.int64


@pytest.mark.parametrize("form", ["npy", "plain", "compressed", "fortran"])
def test_arrays_of_any_writing_are_read(form: str, project: Path) -> None:
    """Numpy writes one array in four ways."""
    array = np.arange(60.0).reshape(12, 5)
    path = project / ("a.npy" if form == "npy" else "a.npz")
    match form:
        case "npy":
            np.save(path, array)
        case "plain":
            np.savez(path, features=array)
        case "compressed":
            np.savez_compressed(path, features=array, labels=np.arange(12))
        case _:
            np.savez(path, features=np.asfortranarray(array))
    found = _track(path)
    parts = [batch["features"] for batch in found.batches(5)]
    assert [len(part) for part in parts] == [5, 5, 2]
    assert np.array_equal(np.concatenate(parts), array)
    assert np.array_equal(found.arrays()["features"], array)


def test_large_tables_take_little_memory(tmp_path: Path) -> None:
    """A table larger than the memory could not be trained on."""
    path = tmp_path / "a.npz"
    np.savez(path, features=np.random.default_rng(1).normal(size=(40_000, 50)))
    # The store's own cache is bounded too, but larger than a file of a quick test.
    source = RowSource(name="a", format="npz", open=lambda: path.open("rb"), columns=tuple)
    tracemalloc.start()
    count = sum(len(batch["features"]) for batch in iterate_batches(source, 1000))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 40_000
    assert peak_bytes < 4 << 20, "16 MB of rows were held"


def test_files_of_a_folder_are_opened_one_by_one(project: Path) -> None:
    """One picture of a folder would cost all of them."""
    (project / "images" / "cats").mkdir(parents=True)
    (project / "images" / "cats" / "1.txt").write_bytes(bytes(range(256)) * 1000)
    (project / "images" / "best.txt").symlink_to("cats/1.txt")
    found = _track(project / "images")
    listed = [(file.path, file.size_bytes) for file in found.files()]
    assert listed == [("best.txt", 256_000), ("cats/1.txt", 256_000)]
    with found.open("best.txt") as stream:
        assert not stream.writable()
        stream.seek(-3, os.SEEK_END)
        assert stream.read() == b"\xfd\xfe\xff"
        stream.seek(256_000 // 2)
        assert stream.read(4) == bytes(range(4))
    with pytest.raises(InvalidInputError, match="has 2 files"):
        found.open()
    with pytest.raises(NotFoundError, match=r"no file cats/2\.txt; did you mean cats/1\.txt"):
        found.open("cats/2.txt")
    with pytest.raises(InvalidInputError, match="is folder: it has no rows"):
        next(found.rows())


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.jsonl", b'{"a": 1}\n[2]\n', "line 2 is not an object"),
        ("a.json", b'{"a": 1}', "it is no list of objects"),
        ("a.npz", b"PK no zip", "it holds no arrays"),
        ("a.npy", b"no numpy", "it holds no arrays"),
        ("a.csv", b'a,b\n1,"' + b"x" * 200_000, "field larger than field limit"),
        ("a.parquet", b"PAR1 nothing", "cannot be read as parquet"),
    ],
)
def test_a_malformed_file_is_said_to_be_one(
    name: str, data: bytes, reason: str, project: Path
) -> None:
    """Whoever trains on a broken file would get a trace of a library."""
    (project / name).write_bytes(data)
    found = _track(project / name)
    with pytest.raises(InvalidInputError, match=reason) as failure:
        list(found.rows())
    assert failure.value.code == "not-a-table"
    with pytest.raises(InvalidInputError, match=reason):
        list(found.batches())
    with pytest.raises(InvalidInputError, match="batches of 0 rows"):
        next(found.batches(0))


def test_a_pinned_table_says_where_its_rows_are(project: Path) -> None:
    """The text of a pin would be taken for the rows of a table."""
    (project / "sales.table.json").write_text('{"snapshot": "3"}', encoding="utf-8")
    with closing(open_hub()) as hub, hub.writing():
        tree = hub.objects.put_tree(project, ["sales.table.json"])
    found = Dataset(
        Record(
            name="sales",
            role=DatasetRole.TRAINING,
            identity=tree.digest,
            content=tree.digest,
            format="lance",
            columns=(ValueSpec(name="price", dtype="double", shape=(-1,)),),
        )
    )
    for read in (found.to_pandas, found.to_arrow, lambda: _drain(found.rows())):
        with pytest.raises(InvalidInputError, match="a table of format lance") as failure:
            read()
        assert "sales.table.json" in failure.value.hint
    with found.open() as stream:
        assert json.load(stream) == {"snapshot": "3"}


def _drain(rows: Iterable[Any]) -> None:
    for _ in rows:
        pass


def test_a_dataset_reaches_other_processes(project: Path) -> None:
    """Workers that load data would each need the name of the dataset."""
    found = _track(_write(project / "table.csv"))
    with found.open() as stream:
        begin = stream.read(3)
    copied = pickle.loads(pickle.dumps(found))  # noqa: S301 - of our own making
    assert list(copied.rows()) == ROWS
    child = os.fork()
    if child == 0:
        os._exit(0 if list(found.rows()) == ROWS else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert begin == b"\xef\xbb\xbf"


def test_an_open_file_outlives_its_dataset(project: Path) -> None:
    """A file that a function returns would be closed under the caller's hands."""
    (project / "a.bin").write_bytes(bytes(3 << 20))
    stream = _track(project / "a.bin").open()
    with stream:
        assert len(stream.read()) == 3 << 20
