"""Datasets by path, by version and by name: what comes back is what was recorded."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Ridge

import stemma
from stemma.catalog.pointers import Pointer, write_pointer
from stemma.domain.digest import Digest
from stemma.domain.errors import InvalidInputError, NotFoundError
from stemma.sdk.intake import take_dataset
from stemma.server.wiring import open_hub

pytestmark = [
    pytest.mark.slow,
    # There is no network here, and uv's cache may be empty.
    pytest.mark.filterwarnings("ignore:no hash"),
]


def _track(path: Path) -> None:
    """Do what ``stemma add`` does."""
    with closing(open_hub()) as hub, hub.writing():
        names = [path.name] if path.is_file() else [file.name for file in path.iterdir()]
        tree = hub.objects.put_tree(path if path.is_dir() else path.parent, names)
        hub.track(path.relative_to(hub.project_root).as_posix(), tree.digest)
    kind = "file" if path.is_file() else "folder"
    write_pointer(path, Pointer(kind=kind, size_bytes=tree.size_bytes, content=tree.digest))


@pytest.fixture
def table(project: Path) -> Path:
    """A tracked table, edited since."""
    path = project / "data" / "train.csv"
    path.parent.mkdir()
    path.write_text("a,b\n1,2\n3,4\n", encoding="utf-8")
    _track(path)
    path.write_text("edited", encoding="utf-8")
    return path


@pytest.mark.parametrize("ref", ["data/train.csv", "data/train.csv.stemma", "train.csv"])
def test_a_tracked_file_is_read_from_the_store(
    ref: str, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training would read a file that was edited since it was added, or is not there."""
    if "/" not in ref:
        monkeypatch.chdir(table.parent)
    table.unlink()
    found = stemma.data(ref)
    assert (found.name, found.row_count, found.source) == (
        "train.csv",
        2,
        ref.removesuffix(".stemma"),
    )
    assert found.path().read_text(encoding="utf-8") == "a,b\n1,2\n3,4\n"
    assert found.to_pandas().shape == (2, 2)
    found.path().write_text("changed in the cache", encoding="utf-8")
    assert found.path().read_text(encoding="utf-8") == "a,b\n1,2\n3,4\n"


def test_a_tracked_path_is_found_from_a_folder_below_the_project(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same script would fail when it is started in another folder."""
    (table.parent / "scripts").mkdir()
    monkeypatch.chdir(table.parent / "scripts")
    assert stemma.data("data/train.csv").row_count == 2


def test_a_tracked_folder_comes_back_as_a_folder(project: Path) -> None:
    """Images could be added but not trained on."""
    folder = project / "images"
    folder.mkdir()
    (folder / "a.txt").write_text("a", encoding="utf-8")
    _track(folder)
    found = stemma.data("images")
    assert "folder" in repr(found)
    assert (found.path() / "a.txt").read_text(encoding="utf-8") == "a"


def test_a_tracked_file_is_recorded_under_the_path_the_user_gave(
    table: Path, tmp_path: Path
) -> None:
    """A version would say that its data came from Stemma's cache."""
    captured = take_dataset("train", stemma.data("data/train.csv"), "training", (), tmp_path)
    assert captured.source == "data/train.csv"
    assert captured.row_count == 2


def test_content_that_is_not_in_the_store_is_said(project: Path) -> None:
    """An empty folder would be trained on."""
    nowhere = Digest.blake3("0" * 64)
    write_pointer(project / "gone.csv", Pointer(kind="file", size_bytes=4, content=nowhere))
    with pytest.raises(NotFoundError, match=r"gone\.csv is not in this project"):
        stemma.data("gone.csv")


def test_a_name_that_nothing_has_names_what_is_near(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A typing error would read as missing data."""
    with stemma.run("line") as run:
        run.data("rows", np.array([[0.0], [1.0]]))
        run.model(Ridge().fit([[0.0], [1.0]], [0.0, 1.0]))
    assert stemma.data("rows").row_count == 2
    with pytest.raises(NotFoundError, match="no dataset is called row"):
        stemma.data("row")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InvalidInputError, match="needs pyarrow, which is not installed") as failure:
        stemma.data("rows").to_arrow()
    assert failure.value.hint == "pip install pyarrow"


def test_one_of_several_training_sets_must_be_named(project: Path) -> None:
    """Which of two a script trains on would be chance."""
    features = np.array([[0.0], [1.0]])
    with stemma.run("line") as run:
        run.data("one", (features, ["a", "b"]))
        run.data("two", features.reshape(2, 1, 1))
        run.data("three", features.reshape(2, 1, 1, 1) > 0, role="validation")
        run.model(Ridge().fit(features, [0.0, 1.0]))
    ref = f"line@{run.id}"
    with pytest.raises(InvalidInputError, match="has 2 training datasets"):
        stemma.data(ref)
    with pytest.raises(NotFoundError, match="no dataset four"):
        stemma.data(ref, "four")
    one = stemma.data(ref, "one")
    assert (one.role, len(one.identity) > 32) == ("training", True)
    assert list(one.to_pandas()["label"]) == ["a", "b"]
    with pytest.raises(InvalidInputError, match="has 3 dimensions: no table"):
        stemma.data(ref, "two").to_pandas()


@pytest.mark.parametrize(
    ("name", "text", "shape"),
    [
        ("t.tsv", "a\tb\n1\t2\n", (1, 2)),
        ("t.json", '[{"a": 1}, {"a": 2}]', (2, 1)),
        ("t.jsonl", '{"a": 1}\n{"a": 2}\n', (2, 1)),
    ],
)
def test_every_text_table_comes_back_as_a_frame(
    name: str, text: str, shape: tuple[int, int], project: Path
) -> None:
    """A format that can be recorded could not be used."""
    (project / name).write_text(text, encoding="utf-8")
    _track(project / name)
    found = stemma.data(name)
    assert found.to_pandas().shape == shape
    with pytest.raises(InvalidInputError, match="not arrays"):
        found.arrays()


def test_what_has_no_rows_is_no_frame_and_arrays_are(project: Path) -> None:
    """A picture would be read as a table."""
    (project / "a.bin").write_bytes(b"x")
    np.save(project / "a.npy", np.eye(3))
    _track(project / "a.bin")
    _track(project / "a.npy")
    with pytest.raises(InvalidInputError, match="it has no rows to show as a table"):
        stemma.data("a.bin").to_pandas()
    assert stemma.data("a.npy").arrays()["features"].shape == (3, 3)
