"""Datasets from files, folders and arrays."""

from __future__ import annotations

import io
import json
import os
import resource
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3

from stemma.catalog.capture.data import capture_dataset_arrays, capture_dataset_path, digest_rows
from stemma.domain.component import DatasetRole
from stemma.domain.errors import InvalidInputError, NotFoundError

CSV = "a,b,name,label\n1,2.5,x,0\n3,,y,1\n5,4.5,,0\n"


def csv_file(folder: Path, text: str, name: str = "d.csv") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def test_a_csv_has_schema_rows_and_statistics(tmp_path: Path) -> None:
    """The version page would show nothing about the training data."""
    found = capture_dataset_path("d", csv_file(tmp_path, CSV), preprocessing=["scaled"])
    assert (found.row_count, found.format, found.preprocessing) == (3, "csv", ("scaled",))
    assert [(c.name, c.dtype) for c in found.columns] == [
        ("a", "int64"),
        ("b", "float64"),
        ("name", "str"),
        ("label", "int64"),
    ]
    assert found.statistics["b"] == {
        "count": 2,
        "nulls": 1,
        "distinct": 2,
        "min": 2.5,
        "max": 4.5,
        "mean": 3.5,
        "std": 1.0,
    }
    assert found.statistics["name"] == {"count": 2, "nulls": 1, "distinct": 2, "longest": 1}


@pytest.mark.parametrize(
    "text",
    [
        CSV.replace("\n", "\r\n"),
        CSV.replace(",", ";"),
        CSV.replace(",", "\t"),
        "\ufeff" + CSV,
        CSV.replace("x", '"x"'),
    ],
)
def test_how_a_csv_is_written_does_not_count(tmp_path: Path, text: str) -> None:
    """Saving the same table from another program would be another dataset."""
    first = capture_dataset_path("d", csv_file(tmp_path, CSV, "1.csv"))
    second_file = tmp_path / "2.csv"
    second_file.write_bytes(text.encode())
    second = capture_dataset_path("d", second_file)
    assert first.canonical_digest == second.canonical_digest
    assert np.array_equal(first.row_digests, second.row_digests)


def test_one_changed_cell_is_another_dataset(tmp_path: Path) -> None:
    """Training on other data would be called the same."""
    first = capture_dataset_path("d", csv_file(tmp_path, CSV))
    second = capture_dataset_path("d", csv_file(tmp_path, CSV.replace("2.5", "2.6")))
    assert first.canonical_digest != second.canonical_digest


def test_separators_inside_cells_cannot_make_two_tables_equal(tmp_path: Path) -> None:
    """Two different tables would share an identity."""
    first = capture_dataset_path("d", csv_file(tmp_path, "a,b\n\x1fx,y\n", "1.csv"))
    second = capture_dataset_path("d", csv_file(tmp_path, "a,b\n,x\x1fy\n", "2.csv"))
    assert first.canonical_digest != second.canonical_digest


def test_a_row_has_one_digest_whatever_it_was_read_from(tmp_path: Path) -> None:
    """A golden row that was trained on would not be found among training rows of a CSV."""
    numbers = np.array([[1.0, 2.5], [-0.0, np.nan]])
    text = "a,b,label\n1,2.5,0\n0,,1\n"
    from_csv = capture_dataset_path("d", csv_file(tmp_path, text)).row_digests
    assert np.array_equal(from_csv, digest_rows(numbers))
    assert np.array_equal(digest_rows(numbers), digest_rows(numbers.astype(np.float32)))
    assert np.array_equal(digest_rows(numbers), digest_rows(np.asfortranarray(numbers)))
    assert np.array_equal(digest_rows(numbers), digest_rows(numbers.astype(object)))
    whole = np.array([[1, 2]])
    assert np.array_equal(digest_rows(whole), digest_rows(whole.astype(np.uint8)))
    assert np.array_equal(digest_rows(whole), digest_rows(whole.astype(">i4")))


def test_named_label_columns_are_not_inputs(tmp_path: Path) -> None:
    """A relabelled training row would escape the overlap check."""
    one = capture_dataset_path(
        "d", csv_file(tmp_path, "a,out\n1,5\n"), label_columns=["out"]
    ).row_digests
    two = capture_dataset_path(
        "d", csv_file(tmp_path, "a,out\n1,6\n"), label_columns=["out"]
    ).row_digests
    assert np.array_equal(one, two)


@pytest.mark.parametrize(
    ("text", "rows"), [("", 0), ("a,b\n", 0), ("1,2\n3,4\n", 2), ("a\n1\n\n2\n", 2)]
)
def test_small_and_headless_tables_are_read(tmp_path: Path, text: str, rows: int) -> None:
    """An empty file would crash the recording, or its first row would be lost."""
    assert capture_dataset_path("d", csv_file(tmp_path, text)).row_count == rows


def test_ragged_rows_and_other_encodings_are_read(tmp_path: Path) -> None:
    """A file from a spreadsheet would be refused, or two files taken for one."""
    for name, byte in (("1.csv", b"\xe9"), ("2.csv", b"\xe8")):
        (tmp_path / name).write_bytes(b"a,b\nx,1,extra\ncaf" + byte + b"\n")
    found = [capture_dataset_path("d", tmp_path / name) for name in ("1.csv", "2.csv")]
    assert [f.row_count for f in found] == [2, 2]
    assert found[0].canonical_digest != found[1].canonical_digest


def test_a_table_that_is_none_is_recorded_as_it_is(tmp_path: Path) -> None:
    """A broken file would crash the recording, or its schema would be guessed."""
    bad = {
        "quote.csv": b'a,b\n"' + b"x" * 200_000,
        "a.jsonl": b'{"a": 1}\n[1]\n',
        "b.jsonl": b'{"a": 1}\n{"b": 1}\n',
        "c.json": b"{",
        "d.npz": b"PK\x03\x04 nonsense",
        "e.npy": b"\x93NUMPY",
        "f.parquet": b"PAR1",
        "g.bin": b"",
    }
    for name, data in bad.items():
        (tmp_path / name).write_bytes(data)
        found = capture_dataset_path("d", tmp_path / name)
        assert (found.row_count, found.columns, found.row_digests) == (-1, (), None), name
        assert found.format == name.split(".")[1]


def test_json_lines_and_json_lists_are_tables(tmp_path: Path) -> None:
    """JSON data would have no rows."""
    rows = [{"b": 1, "a": "x"}, {"a": None, "b": 2.5}]
    lines = tmp_path / "d.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    whole = tmp_path / "d.json"
    whole.write_text(json.dumps(rows), encoding="utf-8")
    first, second = capture_dataset_path("d", lines), capture_dataset_path("d", whole)
    assert first.row_count == second.row_count == 2
    assert first.canonical_digest == second.canonical_digest
    assert [c.name for c in first.columns] == ["a", "b"]


def test_numpy_objects_are_never_unpickled(tmp_path: Path) -> None:
    """Recording a dataset would run code that is in it."""
    np.save(tmp_path / "o.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert capture_dataset_path("d", tmp_path / "o.npy").row_count == -1


def test_arrays_and_their_file_are_deterministic(tmp_path: Path) -> None:
    """The same arrays would be stored twice and compare as changed."""
    features, labels = np.arange(12.0).reshape(4, 3), np.array(["a", "b", "a", "b"])
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        found.append(capture_dataset_arrays("d", features, labels, work_folder=tmp_path / name))
    first, second = found
    assert first.files["data.npz"].read_bytes() == second.files["data.npz"].read_bytes()
    assert first.canonical_digest == second.canonical_digest
    assert [(c.name, c.shape) for c in first.columns] == [("features", (-1, 3)), ("labels", (-1,))]
    read = capture_dataset_path("d", first.files["data.npz"])
    assert read.canonical_digest == first.canonical_digest
    assert np.array_equal(read.row_digests, first.row_digests)


def test_nan_infinity_objects_and_text_in_arrays_are_recorded(tmp_path: Path) -> None:
    """One missing value would lose the run."""
    strange = np.array([[np.nan, np.inf], [-np.inf, 1.0]])
    found = capture_dataset_arrays("d", strange, work_folder=tmp_path, column_names=["a", "b"])
    assert found.statistics["a"] == {"count": 1, "nulls": 1, "distinct": 1}
    json.dumps(found.statistics, allow_nan=False)
    mixed = np.array([["x", 1.0], [None, 2]], dtype=object)
    assert capture_dataset_arrays("d", mixed, work_folder=tmp_path).row_count == 2
    empty = capture_dataset_arrays("d", np.zeros((0, 3)), np.zeros(0), work_folder=tmp_path)
    assert empty.row_count == 0
    image = capture_dataset_arrays("d", np.zeros((2, 4, 4), np.uint8), work_folder=tmp_path)
    assert image.columns[0].shape == (-1, 4, 4)


@pytest.mark.parametrize(
    ("features", "labels", "names"),
    [
        (np.float64(3.0), None, ()),
        (np.zeros((3, 2)), np.zeros(2), ()),
        (np.zeros((3, 2)), None, ("a",)),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(
    tmp_path: Path, features: np.ndarray, labels: np.ndarray | None, names: tuple[str, ...]
) -> None:
    """Labels would be stored beside other rows than theirs."""
    with pytest.raises(InvalidInputError, match="dataset d"):
        capture_dataset_arrays("d", features, labels, work_folder=tmp_path, column_names=names)


def test_a_folder_counts_suffixes_and_classes(tmp_path: Path) -> None:
    """A folder of images would be an opaque lump."""
    for name in ("cat/1.png", "cat/2.png", "dog/1.png"):
        (tmp_path / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / name).write_bytes(name.encode())
    found = capture_dataset_path("d", tmp_path / "d", DatasetRole.TEST)
    assert (found.format, found.row_count) == ("folder", 3)
    assert found.statistics["folders"] == {"cat": 2, "dog": 1}
    assert found.statistics["suffixes"] == {".png": 3}
    assert found.row_digests is not None
    (tmp_path / "d/notes.txt").write_text("x", encoding="utf-8")
    assert capture_dataset_path("d", tmp_path / "d").row_count == -1


def test_ignore_files_inside_a_folder_count_the_deepest_last(tmp_path: Path) -> None:
    """Scratch files would be versioned with the data."""
    root = tmp_path / "d"
    files = {
        ".stemmaignore": "*.tmp\ncache/\n",
        "sub/.gitignore": "!keep.tmp\n",
        "a.csv": "1",
        "b.tmp": "1",
        "cache/x": "1",
        "sub/keep.tmp": "1",
        "sub/drop.tmp": "1",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    found = capture_dataset_path("d", root)
    assert sorted(found.files) == [".stemmaignore", "a.csv", "sub/keep.tmp"]
    assert found.statistics["ignored"] == 3


def test_a_link_inside_is_kept_and_one_that_leaves_is_refused(tmp_path: Path) -> None:
    """A link would bring a file from outside into the store, or break on another machine."""
    root = tmp_path / "d"
    root.mkdir()
    (root / "a").write_text("1", encoding="utf-8")
    (root / "inside").symlink_to("a")
    assert set(capture_dataset_path("d", root).files) == {"a", "inside"}
    (root / "out").symlink_to("/etc/hostname")
    with pytest.raises(InvalidInputError, match="'out'") as caught:
        capture_dataset_path("d", root)
    assert caught.value.code == "link-leaves-tree"


@pytest.mark.parametrize("name", [b"caf\xe9", b"a\\b", b"a\nb"])
def test_names_that_do_not_travel_are_refused_by_name(tmp_path: Path, name: bytes) -> None:
    """A version could not be checked out on another system."""
    with open(os.path.join(os.fsencode(tmp_path), name), "wb"):  # noqa: PTH118, PTH123 -- bytes
        pass
    with pytest.raises(InvalidInputError) as caught:
        capture_dataset_path("d", tmp_path)
    assert caught.value.code == "bad-path"


def test_names_that_collide_by_case_are_refused(tmp_path: Path) -> None:
    """One of two files would vanish on a file system that ignores case."""
    for name in ("a.csv", "A.csv"):
        (tmp_path / name).touch()
    with pytest.raises(InvalidInputError, match="one name"):
        capture_dataset_path("d", tmp_path)


def test_a_pipe_in_a_folder_is_refused(tmp_path: Path) -> None:
    """Recording would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidInputError, match="pipe"):
        capture_dataset_path("d", tmp_path)


def test_a_missing_dataset_is_named(tmp_path: Path) -> None:
    """The user would not know which path was wrong."""
    with pytest.raises(NotFoundError, match=r"nope\.csv"):
        capture_dataset_path("d", tmp_path / "nope.csv")


@pytest.mark.slow
def test_a_large_csv_is_read_in_bounded_memory(tmp_path: Path) -> None:
    """A dataset larger than memory could not be recorded."""
    file = tmp_path / "big.csv"
    line = ",".join(["0.123456789"] * 40) + "\n"
    with file.open("w", encoding="utf-8") as stream:
        stream.write(",".join(f"c{i}x" for i in range(40)) + "\n")
        for _ in range(60):
            stream.write(line * 1000)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert capture_dataset_path("d", file).row_count == 60_000
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
    assert sys.platform != "linux" or grown_kib * 1024 < max(file.stat().st_size, 24 << 20)


def _archive(member: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w.npy", member)
    return buffer.getvalue()


def _deflated(member: bytes) -> bytes:
    """Return a compressed archive with a damaged byte in its member."""
    data = bytearray(_archive(member))
    data[40] ^= 0xFF
    return bytes(data)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cut.npy", b"\x93NUMPY\x01\x00\x30\x00{'descr': '<f4', 'shape': ((3,\n" + b" " * 17),
        ("cut.npz", _deflated(b"\x93NUMPY\x01\x00" + bytes(3000))),
        ("bomb.npz", _deflated(bytes(300 << 20))),
        ("zip.npy", _deflated(b"\x93NUMPY\x01\x00" + bytes(3000))),
        ("text.npz", _archive(b"a,b\n1,2\n")),
    ],
)
def test_broken_arrays_are_recorded_as_they_are(tmp_path: Path, name: str, content: bytes) -> None:
    """A training whose data cannot be read as rows would not be recorded at all."""
    path = tmp_path / name
    path.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    captured = capture_dataset_path("d", path)
    assert (captured.row_count, captured.columns) == (-1, ())
    assert captured.canonical_digest == blake3(content).hexdigest()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10
