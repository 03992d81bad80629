"""A file, a folder or a tensor of a version is had without the rest of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stemma.testing.loose_objects import make_loose

pytestmark = pytest.mark.slow

_TRAIN = """\
import pathlib
import numpy as np
import stemma

numbers = np.random.default_rng(1)
files = pathlib.Path("rows")
(files / "deep").mkdir(parents=True)
for name in ("a.csv", "b.csv", "deep/c.csv", "deep/d.csv"):
    rows = numbers.integers(0, 9, (20_000, 2))
    np.savetxt(files / name, rows, fmt="%d", delimiter=",", header=name, comments="")
model = pathlib.Path("net")
model.mkdir()
weight = numbers.standard_normal((300, 400), dtype=np.float32)
np.savez(model / "weights.npz", weight=weight, bias=np.arange(5.0))
(model / "other.bin").write_bytes(numbers.bytes(300_000))
with stemma.run("parts") as run:
    run.data("rows", "rows")
    run.params(depth=3)
    run.metric("accuracy", 0.9)
    run.model("net")
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, prepared: Any) -> Any:
    """Return a project with parts 1.0.0 on a remote; nobody may change it."""
    base = tmp_path_factory.mktemp("parts")
    (base / "shared").mkdir()
    (base / "here").mkdir()
    place = replace(prepared, folder=base / "here")
    place.write("train.py", _TRAIN)
    for command in (
        ("init",),
        ("run", "--", "python", "train.py"),
        ("release", "parts"),
        ("remote", "add", "origin", str(base / "shared")),
        ("push",),
    ):
        answer = place.stemma(*command)
        assert answer.returncode == 0, answer.stdout + answer.stderr
    return place


@pytest.fixture
def there(made: Any, tmp_path: Path) -> Any:
    """Return an empty project that knows the remote."""
    place = replace(made, folder=tmp_path)
    assert place.stemma("init").returncode == 0
    shared = str(made.folder.parent / "shared")
    assert place.stemma("remote", "add", "origin", shared).returncode == 0
    return place


def _done(answer: Any, code: int = 0) -> dict[str, Any]:
    assert answer.returncode == code, answer.stdout + answer.stderr
    read: dict[str, Any] = json.loads(answer.stdout)
    return read


def _files(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


def _only_remote_is_gone(place: Any) -> None:
    assert place.stemma("remote", "remove", "origin").returncode == 0


def test_one_file_is_pulled_and_checked_out_without_the_rest(made: Any, there: Any) -> None:
    """One would have to fetch gigabytes for a file of kilobytes."""
    path = "artifact/weights.npz"
    would = _done(there.stemma("pull", "parts@1.0.0", "--only", path, "--dry-run", "--json"))
    pulled = _done(there.stemma("pull", "parts@1.0.0", "--only", path, "--json"))
    (version,) = pulled["versions"]
    size_bytes = (made.folder / "net" / "weights.npz").stat().st_size
    assert version["file_bytes"] == size_bytes
    assert 0 < would["versions"][0]["copied_bytes"] <= version["copied_bytes"]
    _only_remote_is_gone(there)
    restored = _done(there.stemma("checkout", "parts@1.0.0", "--only", path, "--to", "o", "--json"))
    assert restored["files"] == [path]
    assert _files(there.folder / "o") == [path]
    stored = (there.folder / "o" / path).read_bytes()
    assert stored == (made.folder / "net" / "weights.npz").read_bytes()


def test_what_was_pulled_in_part_is_healthy_and_survives_collection(there: Any) -> None:
    """Doctor would call it lost, or a collection would take it."""
    for path in ("data/rows/deep/c.csv", "artifact/weights.npz", "code/train.py"):
        _done(there.stemma("pull", "parts@1.0.0", "--only", path, "--json"))
    told = there.stemma("doctor")
    assert told.returncode == 0, told.stdout + told.stderr
    assert there.stemma("gc", "--yes", "--grace", "0", "--empty-trash").returncode == 0
    assert there.stemma("doctor").returncode == 0
    _only_remote_is_gone(there)
    for path in ("data/rows/deep/c.csv", "artifact/weights.npz", "code/train.py"):
        _done(there.stemma("checkout", "parts@1.0.0", path, "--to", "o", "--json"))
    assert _files(there.folder / "o") == [
        "artifact/weights.npz",
        "code/train.py",
        "data/rows/deep/c.csv",
    ]


def test_a_tensor_is_read_where_only_its_file_is_here(there: Any) -> None:
    """The file would have been pulled for nothing."""
    _done(there.stemma("pull", "parts@1.0.0", "--only", "artifact/weights.npz", "--json"))
    _only_remote_is_gone(there)
    asked = ("--tensor", "weights.npz:weight", "--to", "weight.npy", "--json")
    assert _done(there.stemma("checkout", "parts@1.0.0", *asked))["shape"] == [300, 400]


def test_damage_to_what_is_here_in_part_is_the_version_s_damage(there: Any) -> None:
    """Doctor would say that nothing needs it."""
    _done(there.stemma("pull", "parts@1.0.0", "--only", "data/rows/a.csv", "--json"))
    objects = there.folder / ".stemma" / "objects"
    make_loose(objects)
    large = max((objects / "frames").rglob("*"), key=lambda path: path.stat().st_size)
    large.chmod(0o644)
    large.write_bytes(large.read_bytes()[:-1] + b"x")
    told = _done(there.stemma("doctor", "--json"), code=3)
    assert any("dataset rows" in harm for it in told["findings"] for harm in it["harms"])


def test_a_folder_that_is_here_in_part_is_not_given_out_as_whole(there: Any) -> None:
    """Training would go on with half of its data, and nobody would know."""
    _done(there.stemma("pull", "parts@1.0.0", "--only", "data/rows/deep/c.csv", "--json"))
    folder = "data/rows/deep"
    there.refused(
        "checkout",
        "parts@1.0.0",
        "--only",
        folder,
        code=5,
        says=f"parts@1.0.0 is here in part: {folder} stayed on the remote",
        hint=f"stemma pull parts@1.0.0 --only {folder}",
    )
    _done(there.stemma("pull", "parts@1.0.0", "--only", folder, "--json"))
    restored = _done(there.stemma("checkout", "parts@1.0.0", "--only", folder, "--json"))
    assert restored["files"] == [f"{folder}/c.csv", f"{folder}/d.csv"]
    there.refused(
        "checkout",
        "parts@1.0.0",
        "--to",
        "all",
        code=5,
        says="code, data, artifact, params stayed on the remote",
        hint="stemma pull parts@1.0.0 --only code,data,artifact,params",
    )
    _done(there.stemma("pull", "parts@1.0.0", "--only", "code,data,artifact,params", "--json"))
    _done(there.stemma("checkout", "parts@1.0.0", "--to", "all", "--json"))
    assert there.stemma("doctor").returncode == 0


def test_files_that_make_up_a_tree_one_by_one_are_the_tree(there: Any) -> None:
    """A version that is here whole would be told to be here in part."""
    for path in ("data/rows/a.csv", "data/rows/b.csv", "data/rows/deep"):
        _done(there.stemma("pull", "parts@1.0.0", "--only", path, "--json"))
    _only_remote_is_gone(there)
    restored = _done(there.stemma("checkout", "parts@1.0.0", "--only", "data", "--json"))
    assert len(restored["files"]) == 4
    assert json.loads((there.folder / ".stemma" / "portions.json").read_bytes()) == {}
    assert there.stemma("doctor").returncode == 0


def test_status_says_what_is_not_here_and_how_to_get_it(there: Any) -> None:
    """Whoever pulled a part would find out at the next checkout."""
    _done(there.stemma("pull", "parts@1.0.0", "--only", "artifact,environment", "--json"))
    shown = there.stemma("status")
    assert shown.returncode == 0, shown.stderr
    assert "here in part" in shown.stdout
    assert "stemma pull parts@1.0.0" in shown.stdout
    (left,) = _done(there.stemma("status", "--json"))["left_elsewhere"]
    assert left["ref"] == "parts@1.0.0"
    assert left["missing"] == ["code", "data", "params"]
    _done(there.stemma("pull", "--json"))
    assert "here in part" not in there.stemma("status").stdout
    assert "left_elsewhere" not in _done(there.stemma("status", "--json"))


def test_a_path_that_is_not_in_the_version_is_refused_with_the_nearest(there: Any) -> None:
    """A slip of the pen would pull nothing, or everything, without a word."""
    told = _done(
        there.stemma("pull", "parts@1.0.0", "--only", "artifact/weight.npz", "--json"), code=1
    )
    (refused,) = told["refused"]
    assert refused["code"] == "path-not-found"
    assert "artifact/weights.npz" in refused["detail"]
    there.refused(
        "pull", "--only", "weights.npz", code=2, says="is no component", hint="stemma pull"
    )


def test_tensors_are_listed_for_people_and_programs(made: Any) -> None:
    """Nobody could tell what there is to be read."""
    shown = made.stemma("show", "parts@1.0.0", "--tensors")
    assert shown.returncode == 0, shown.stderr
    assert "weight" in shown.stdout
    assert "300×400" in shown.stdout
    told = _done(made.stemma("show", "parts@1.0.0", "--tensors", "--json"))
    found = {it["name"]: it for it in told}
    assert found["weight"]["shape"] == [300, 400]
    assert found["weight"]["dtype"] == "float32"
    assert found["bias"]["file"] == "weights.npz"


def test_a_tensor_is_written_and_nothing_is_overwritten(made: Any, tmp_path: Path) -> None:
    """The wrong numbers, or somebody's file lost."""
    target = tmp_path / "new" / "weight.npy"
    asked = ("checkout", "parts@1.0.0", "--tensor", "weight", "--to", str(target))
    shown = made.stemma(*asked)
    assert shown.returncode == 0, shown.stderr
    assert "300×400" in shown.stdout
    with np.load(made.folder / "net" / "weights.npz") as archive:
        np.testing.assert_array_equal(np.load(target), archive["weight"])
    told = _done(made.stemma(*asked, "--json"))
    assert (told["shape"], told["dtype"]) == ([300, 400], "float32")
    target.write_text("mine")
    made.refused(*asked, code=12, says="exists and differs", hint="stemma checkout")
    assert target.read_text() == "mine"
    _done(made.stemma(*asked, "--force", "--json"))
    assert np.load(target).shape == (300, 400)
    made.refused(
        "checkout",
        "parts@1.0.0",
        "--tensor",
        "wieght",
        code=5,
        says="has no tensor wieght; did you mean weight?",
        hint="stemma show parts@1.0.0 --tensors",
    )


def test_the_command_that_an_error_about_absence_names_helps(made: Any, there: Any) -> None:
    """The way out that is shown would lead nowhere."""
    _done(there.stemma("pull", "parts@1.0.0", "--only", "environment", "--json"))
    _only_remote_is_gone(there)
    error = there.refused(
        "checkout",
        "parts@1.0.0",
        "--tensor",
        "weight",
        code=5,
        says="is not in this project",
        hint="stemma remote add origin",
    )
    assert error["name"] == "contents-not-here"
    shared = str(made.folder.parent / "shared")
    assert there.stemma("remote", "add", "origin", shared).returncode == 0
    asked = ("--tensor", "weight", "--to", "weight.npy", "--json")
    _done(there.stemma("checkout", "parts@1.0.0", *asked))
    refused = there.stemma("checkout", "parts@1.0.0", "--only", "data/rows/a.csv", "--json")
    words = _done(refused, code=5)["hint"].split()
    _done(there.stemma(*words[1:], "--json"))
    _done(there.stemma("checkout", "parts@1.0.0", "--only", "data/rows/a.csv", "--json"))


def test_a_version_without_its_code_and_parameters_is_shown_and_compared(there: Any) -> None:
    """What everybody knows of a version would be hidden behind an error about a file."""
    _done(there.stemma("pull", "parts@1.0.0", "--only", "artifact", "--json"))
    shown = there.stemma("show", "parts@1.0.0")
    assert shown.returncode == 0, shown.stderr
    assert "1 passed, 0 defaulted; values not here" in shown.stdout
    rest = "stemma pull parts@1.0.0 --only code,data,params,environment"
    assert rest in shown.stdout
    assert "code" in _done(there.stemma("show", "parts@1.0.0", "--json"))["missing"]
    asked = ("show", "parts@1.0.0", "--component", "hyperparameters")
    assert "values" not in _done(there.stemma(*asked, "--json"))
    assert rest in there.stemma(*asked).stderr
    told = _done(there.stemma("diff", "parts@1.0.0", "parts@1.0.0", "--json"))
    assert all(component["is_same"] for component in told["components"])
