"""Versions known by name only: what is read comes from the remote, and no more than that."""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

import stemma
from stemma.domain.errors import IntegrityError, NotFoundError
from stemma.hub.remotes import TransferRequest
from stemma.server.wiring import init_project, open_hub
from stemma.testing.loose_objects import make_loose

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:no hash"),
]

WEIGHTS: dict[str, Any] = {
    name: np.random.default_rng(number).normal(size=(400, 500)).astype(np.float32)
    for number, name in enumerate(["first", "second", "third"])
}


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds net 1.0.0; recorded once, for that takes long."""
    root = tmp_path_factory.mktemp("far")
    shared = root / "shared"
    shared.mkdir()
    (root / "project").mkdir()
    init_project(root / "project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root / "project")
        _alone(patch)
        save_file(WEIGHTS, "model.safetensors")
        with stemma.run("net") as run:
            run.data("rows", (np.arange(40.0).reshape(20, 2), np.arange(20) % 2))
            run.data("wide", _wide("wide.parquet"))
            run.model("model.safetensors")
        run.release()
        Path("t.jsonl").write_text('{"a": 1}\n{"a": 2}\n', encoding="utf-8")
        _command("stemma add t.jsonl")
        shutil.copy("t.jsonl.stemma", root)
        _command(f"stemma remote add origin {shared}")
        _command("stemma push")
    shutil.rmtree(root / "project")
    make_loose(shared)
    return shared


def _wide(name: str) -> str:
    """Write a table of 40 columns, 19 MB in all."""
    table = pa.table({f"c{number}": column for number, column in enumerate(_columns())})
    pq.write_table(table, name, compression="none", use_dictionary=False)
    return name


def _columns() -> NDArray[np.float64]:
    return np.random.default_rng(7).normal(size=(40, 60_000))


def _alone(patch: pytest.MonkeyPatch) -> None:
    patch.setenv("STEMMA_MAY_USE_NETWORK", "false")
    for name in ("STEMMA_PROJECT", "STEMMA_COMMAND", "STEMMA_SET", "RANK", "LOCAL_RANK"):
        patch.delenv(name, raising=False)


@pytest.fixture
def names_only(remote: Path, project: Path) -> Path:
    """A project that knows net 1.0.0 by name, and the remote."""
    with closing(open_hub()) as hub:
        hub.add_remote("origin", str(remote))
        hub.pull(TransferRequest(only=("hyperparameters",)))
    return project


def _frames() -> dict[str, int]:
    """Return the sizes of the frames that are here."""
    with closing(open_hub()) as hub:
        return {stat.key: stat.size_bytes for stat in hub.objects.backend.list("frames/")}


def test_one_tensor_is_fetched_and_no_more(names_only: Path) -> None:
    """Whoever looks at one layer would wait for a whole model."""
    before = _frames()
    version = stemma.get("net@1.0.0")
    assert {info.name for info in version.tensors()} == set(WEIGHTS)
    headers = _frames()
    assert np.array_equal(version.tensor("second"), WEIGHTS["second"])
    fetched = _frames()
    assert len(headers) - len(before) <= 1
    assert len(fetched) - len(headers) == 1
    assert sum(fetched.values()) - sum(headers.values()) <= WEIGHTS["second"].nbytes
    assert np.array_equal(stemma.get("net@1.0.0").tensor("second"), WEIGHTS["second"])
    assert _frames() == fetched
    # What came stays usable beside the rest, and a file that is here in part is no damage.
    assert np.array_equal(version.tensor("first"), WEIGHTS["first"])
    with closing(open_hub()) as hub:
        assert hub.pull(TransferRequest(ref="net@1.0.0")).refused == ()
    assert (version.path() / "model.safetensors").is_file()


def test_what_was_collected_is_fetched_again(names_only: Path) -> None:
    """A training that reads tensor by tensor would end when the store is tidied beside it."""
    version = stemma.get("net@1.0.0")
    version.tensor("second")
    with closing(open_hub()) as hub:
        fetched = [stat.key for stat in hub.objects.backend.list("frames/")]
        hub.collect_garbage(is_dry_run=False, grace_seconds=0, is_final=True)
        kept = [stat.key for stat in hub.objects.backend.list("frames/")]
    assert len(kept) < len(fetched)
    assert np.array_equal(version.tensor("third"), WEIGHTS["third"])
    assert np.array_equal(version.tensor("second"), WEIGHTS["second"])
    assert {info.name for info in version.tensors()} == set(WEIGHTS)


def test_a_damaged_frame_of_a_remote_is_refused(names_only: Path, remote: Path) -> None:
    """A weight that was flipped on a shared disk would be trained on."""
    files = {path: path.read_bytes() for path in remote.rglob("*") if path.is_file()}
    large = [path for path, data in files.items() if len(data) > WEIGHTS["first"].nbytes // 2]
    assert len(large) >= len(WEIGHTS)
    try:
        for path in large:
            data = bytearray(files[path])
            data[len(data) // 2] ^= 1
            path.chmod(0o644)
            path.write_bytes(bytes(data))
        before = _frames()
        version = stemma.get("net@1.0.0")
        with pytest.raises(IntegrityError):
            version.tensor("first")
        assert len(_frames()) - len(before) <= 1, "damage was stored"
        for path in large:
            path.unlink()
        with pytest.raises(IntegrityError, match="origin does not hold"):
            stemma.get("net@1.0.0").tensor("first")
    finally:
        for path in large:
            path.write_bytes(files[path])
    assert np.array_equal(version.tensor("first"), WEIGHTS["first"])


def test_without_a_remote_the_error_says_how_to_have_one(names_only: Path, remote: Path) -> None:
    """A version that is known by name only would end in a trace."""
    with closing(open_hub()) as hub:
        hub.remove_remote("origin")
    with pytest.raises(
        NotFoundError, match=r"model\.safetensors of net@1\.0\.0 .*by name only"
    ) as at:
        stemma.get("net@1.0.0").tensor("first")
    assert at.value.code == "contents-not-here"
    assert at.value.hint == "stemma remote add origin s3://BUCKET/PREFIX"
    _command(at.value.hint.replace("s3://BUCKET/PREFIX", str(remote)))
    assert np.array_equal(stemma.get("net@1.0.0").tensor("first"), WEIGHTS["first"])


def test_of_several_remotes_the_error_names_one(names_only: Path, remote: Path) -> None:
    """Nothing would say which remote was asked, and that it can be chosen."""
    with closing(open_hub()) as hub:
        hub.remove_remote("origin")
        hub.add_remote("east", str(remote))
        hub.add_remote("west", str(remote))
    with pytest.raises(NotFoundError, match="there are east, west") as failure:
        stemma.get("net@1.0.0").tensor("first")
    assert failure.value.hint == "stemma pull net@1.0.0 east --only artifact/model.safetensors"
    _command(failure.value.hint)
    assert np.array_equal(stemma.get("net@1.0.0").tensor("first"), WEIGHTS["first"])
    with pytest.raises(NotFoundError, match=r"rows of net@1\.0\.0 is not in this") as failure:
        stemma.data("net@1.0.0", "rows").arrays()
    assert failure.value.hint == "stemma pull net@1.0.0 east --only data/rows"
    _command(failure.value.hint)
    assert stemma.data("net@1.0.0", "rows").arrays()["features"].shape == (20, 2)


def test_one_column_of_a_table_is_fetched_and_no_more(names_only: Path) -> None:
    """Whoever trains on three columns of a wide table would wait for all of it."""
    before = sum(_frames().values())
    dataset = stemma.data("net@1.0.0", "wide")
    [file] = dataset.files()
    assert (file.path, file.size_bytes > 16 << 20) == ("wide.parquet", True)
    assert sum(_frames().values()) == before, "naming files fetched some"
    with pq.ParquetFile(dataset.open("wide.parquet")) as table:
        column = table.read(columns=["c17"])["c17"].to_numpy()
    fetched_bytes = sum(_frames().values()) - before
    expected = _columns()[17]
    assert np.array_equal(column, expected)
    assert fetched_bytes < file.size_bytes / 5
    assert dataset.to_pandas(columns=["c17"]).shape == (60_000, 1)
    assert sum(_frames().values()) == before + fetched_bytes
    assert next(dataset.rows(columns=["c17"])) == {"c17": expected[0]}
    assert sum(_frames().values()) == before + fetched_bytes
    assert next(dataset.rows())["c17"] == expected[0]


def test_whole_contents_come_when_they_are_asked_for(names_only: Path, remote: Path) -> None:
    """A version that can be listed could not be loaded before somebody learnt of `pull`."""
    assert stemma.data("net@1.0.0", "rows").path().is_file()
    folder = stemma.get("net@1.0.0").path()
    shutil.rmtree(names_only / ".stemma" / "cache")
    with closing(open_hub()) as hub:
        hub.remove_remote("origin")
        wanted = hub.resolve("net@1.0.0").manifest.artifact
        assert hub.objects.read_tree(wanted.content).entries[0].digest == wanted.files[0].digest
    assert stemma.get("net@1.0.0").path() == folder
    with pytest.raises(NotFoundError, match=r"wide of net@1\.0\.0 is not in this project"):
        stemma.data("net@1.0.0", "wide").path()


def test_tracked_data_is_read_from_the_remote(names_only: Path, remote: Path) -> None:
    """In a fresh clone there are pointers alone; a training there would not start."""
    shutil.copy(remote.parent / "t.jsonl.stemma", names_only)
    found = stemma.data("t.jsonl")
    assert list(found.rows()) == [{"a": 1}, {"a": 2}]
    assert found.path().name == "t.jsonl"


def _command(line: str) -> None:
    program, *arguments = line.split()
    assert program == "stemma"
    subprocess.run([sys.executable, "-m", "stemma.cli.main", *arguments], check=True)
