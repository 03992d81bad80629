"""Bad files to the real commands: stored as they are with a reason, or refused in one line.

The commands run in this process, so that the whole table takes seconds.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import resource
import shutil
import socket
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from stemma.cli.dispatch import dispatch
from stemma.domain.digest import Digest
from stemma.server.wiring import open_hub

pytestmark = pytest.mark.slow

MIB = 1 << 20
Stemma = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make one project for all; no test leaves a reference behind."""
    root = tmp_path_factory.mktemp("bad-files")
    with contextlib.chdir(root):
        assert dispatch(["init"]) == 0
        assert dispatch(["remote", "add", "origin", str(root.parent / "remote")]) == 0
    return root


@pytest.fixture
def stemma(
    project: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> Iterator[Stemma]:
    """Return what runs ``stemma`` here, and gives back its exit code, stdout and stderr."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(project)

    def run(*arguments: str) -> tuple[int, str, str]:
        # A training runs in a process of its own and needs real streams.
        with (
            (project.parent / "out").open("w+") as out,
            (project.parent / "err").open("w+") as err,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = dispatch(arguments)
            for stream in (out, err):
                stream.flush()
                stream.seek(0)
            return code, out.read(), err.read()

    yield run
    for path in project.iterdir():
        if path.name not in {".stemma", "stemma.toml"}:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _stored(project: Path, digest: str) -> dict[str, bytes]:
    """Return the bytes of every file of a tree, by path."""
    with closing(open_hub(project)) as hub:
        tree = next(entry for entry in [hub.objects.read_tree(_digest(digest))])
        return {
            entry.path: hub.objects.read_bytes(entry.digest)
            for entry in tree.entries
            if entry.digest is not None
        }


def _digest(text: str) -> Digest:
    return Digest.parse(text)


# files that lie ---------------------------------------------------------------------------------


def _safetensors(header: bytes, claimed: int = -1) -> bytes:
    return struct.pack("<Q", len(header) if claimed < 0 else claimed) + header + bytes(16_000)


def _entries(*pairs: tuple[str, int, int]) -> bytes:
    shown = [
        f'"{name}":{{"dtype":"F32","shape":[{(end - start) // 4}],"data_offsets":[{start},{end}]}}'
        for name, start, end in pairs
    ]
    return ("{" + ",".join(shown) + "}").encode()


def _zip(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _nested(depth: int) -> bytes:
    data = _zip({"bomb.npy": bytes(64 * MIB)}, zipfile.ZIP_DEFLATED)
    for _ in range(depth):
        data = _zip({"inner.npz": data})
    return data


_ELSEWHERE = (
    b"\x08\x80\x40\x10\x01\x42\x01w\x6a\x1c\x0a\x08location\x12\x10../../etc/passwd\x70\x01"
)
_EXTERNAL = b"\x08\x08\x3a" + bytes([len(_ELSEWHERE) + 2]) + b"\x2a" + bytes([len(_ELSEWHERE)])
_LIARS = {
    "long.safetensors": (_safetensors(_entries(("w", 0, 8000)), 1 << 40), "points past its end"),
    "huge.safetensors": (_safetensors(_entries(("w", 0, 8000)), (1 << 64) - 1), "past its end"),
    "outside.safetensors": (_safetensors(_entries(("w", 12_000, 20_000))), "outside the file"),
    "overlap.safetensors": (
        _safetensors(_entries(("w", 0, 8000), ("v", 4000, 12_000))),
        "overlaps",
    ),
    "twice.safetensors": (
        _safetensors(_entries(("w", 0, 8000), ("w", 8000, 16_000))),
        "two tensors are named 'w'",
    ),
    "bomb.npz": (_zip({"w.npy": bytes(200 * MIB)}, zipfile.ZIP_DEFLATED), ""),
    "nested.npz": (_nested(6), ""),
    "cut.npz": (_zip({"w.npy": bytes(9000)})[:5000], "no directory"),
    "absurd.gguf": (b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 1 << 60) + bytes(99), "it claims"),
    "short.onnx": (b"\x08\x08\x3a\xff\xff\xff\xff\x7f" + bytes(99), "points past its end"),
    "external.onnx": (_EXTERNAL + _ELSEWHERE, "are not followed"),
    "broken.parquet": (b"PAR1" + bytes(99) + struct.pack("<I", 1 << 30) + b"PAR1", "its footer"),
    "cut.parquet": (b"PAR1" + bytes(99), "no footer"),
}


def test_files_that_lie_are_stored_bit_for_bit_with_the_reason(
    stemma: Stemma, project: Path
) -> None:
    """A damaged model would end in a traceback, or be kept without a word."""
    for name, (data, reason) in _LIARS.items():
        (project / name).write_bytes(data)
        tracemalloc.start()
        code, out, err = stemma("add", name)
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert code == 0, err
        assert peak_bytes < 64 * MIB
        warnings = [line for line in err.splitlines() if line.startswith("warning: ")]
        assert [reason in line and name in line for line in warnings] == [True] * bool(reason), err
        (project / f"{name}.stemma").unlink()
    (project / "all").mkdir()
    for name in _LIARS:
        (project / name).rename(project / "all" / name)
    code, out, err = stemma("add", "all", "--json")
    (told,) = json.loads(out)
    assert (code, err) == (0, "")
    assert len(told["warnings"]) == sum(bool(reason) for _, reason in _LIARS.values())
    assert _stored(project, told["content"]) == {name: data for name, (data, _) in _LIARS.items()}


def test_many_warnings_do_not_hide_the_answer(stemma: Stemma, project: Path) -> None:
    """A thousand broken files would scroll the screen away."""
    (project / "many").mkdir()
    for number in range(9):
        (project / "many" / f"{number}.safetensors").write_bytes(_LIARS["long.safetensors"][0])
    _, _, err = stemma("add", "many")
    assert err.count("well-formed safetensors") == 5
    assert err.splitlines()[-1] == "warning: and 4 more; --json shows all"


def test_a_model_that_lies_is_recorded_pushed_and_brought_back(
    stemma: Stemma, project: Path
) -> None:
    """A broken checkpoint could be trained but not kept, or would come back changed."""
    data = _LIARS["overlap.safetensors"][0]
    (project / "model.safetensors").write_bytes(data)
    code, _, err = stemma("run", "--name", "liar", "--model", "model.safetensors", "true")
    assert code == 0, err
    assert "warning: model.safetensors: taken as opaque bytes" in err
    assert stemma("release", "liar")[0] == 0
    code, _, err = stemma("push")
    assert (code, err) == (0, "")
    code, _, err = stemma("checkout", "liar", "--to", "back")
    assert code == 0, err
    assert (project / "back" / "artifact" / "model.safetensors").read_bytes() == data


# odd files and folders --------------------------------------------------------------------------


def test_empty_files_and_folders_come_back(stemma: Stemma, project: Path) -> None:
    """An empty file, of which there are many in data sets, could not be tracked."""
    (project / "none").mkdir()
    (project / "empty.bin").write_bytes(b"")
    (project / "some").mkdir()
    (project / "some" / "__init__.py").write_bytes(b"")
    code, out, err = stemma("add", "none", "empty.bin", "some", "--json")
    assert code == 0, err
    trees = [_stored(project, item["content"]) for item in json.loads(out)]
    assert trees == [{}, {"empty.bin": b""}, {"__init__.py": b""}]


def test_a_sparse_file_takes_neither_memory_nor_room(stemma: Stemma, project: Path) -> None:
    """A disk image with holes would fill the store, or the machine's memory."""
    with (project / "sparse.img").open("wb") as stream:
        stream.truncate(128 * MIB)
        stream.seek(50 * MIB)
        stream.write(b"in the middle")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    code, out, err = stemma("add", "sparse.img", "--json")
    assert code == 0, err
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 128 << 10
    assert time.process_time() - began < 20
    (told,) = json.loads(out)
    assert told["new_bytes"] < MIB
    (data,) = _stored(project, told["content"]).values()
    assert len(data) == 128 * MIB
    assert data.strip(b"\0") == b"in the middle"


def test_links_inside_and_names_of_one_file_are_kept(stemma: Stemma, project: Path) -> None:
    """Dangling links, links to themselves and hard links are legal, and would be lost."""
    folder = project / "links"
    folder.mkdir()
    (folder / "a").write_text("one")
    (folder / "b").hardlink_to(folder / "a")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "loop").symlink_to("loop")
    (folder / "ring-1").symlink_to("ring-2")
    (folder / "ring-2").symlink_to("ring-1")
    code, out, err = stemma("add", "links", "--json")
    assert code == 0, err
    (told,) = json.loads(out)
    assert (told["file_count"], told["size_bytes"]) == (6, 6)
    back = project / "back"
    with closing(open_hub(project)) as hub:
        hub.objects.export_tree(_digest(told["content"]), back)
    assert {path.name: str(path.readlink()) for path in back.iterdir() if path.is_symlink()} == {
        "dangling": "nowhere",
        "loop": "loop",
        "ring-1": "ring-2",
        "ring-2": "ring-1",
    }


# refused ----------------------------------------------------------------------------------------


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made, contextlib.chdir(path.parent):
        made.bind(path.name)


def _device(path: Path) -> None:
    try:
        os.mknod(path, 0o020666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root may make a device")


def _outside(path: Path) -> None:
    path.symlink_to("/etc/hostname")


def _climbing(path: Path) -> None:
    path.symlink_to("../stemma.toml")


def _same_but_for_case(path: Path) -> None:
    path.write_text("a")
    path.with_name(path.name.upper()).write_text("b")
    if len(list(path.parent.iterdir())) == 1:
        pytest.skip("this file system takes the names for one")


def _no_text(path: Path) -> None:
    Path(os.fsdecode(bytes(path) + b"\xff")).write_text("a")


def _deep(path: Path) -> None:
    with contextlib.chdir(path.parent):
        for _ in range(45):
            Path("n" * 220).mkdir()
            os.chdir("n" * 220)
        Path("file").write_text("a")


_REFUSED = [_pipe, _socket, _device, _outside, _climbing, _same_but_for_case, _no_text, _deep]


def _insist_on_refusal(project: Path, stemma: Stemma, *arguments: str, code: int = 2) -> None:
    """Insist on one line and one hint, no fault of Stemma, and nothing changed."""
    objects = _objects(project)
    answer, out, err = stemma(*arguments)
    lines = err.splitlines()
    assert answer == code, err
    assert out == ""
    assert [line.partition(":")[0] for line in lines] == ["error", "hint"], err
    assert all(len(line) < 1500 for line in lines)
    assert "a fault in stemma" not in err
    answer, out, err = stemma(arguments[0], "--json", *arguments[1:])
    told = json.loads(out)
    assert (answer, told["code"], told["retryable"], err) == (code, code, False, "")
    assert (told["message"], told["hint"]) == (lines[0][7:], lines[1][6:])
    assert _objects(project) == objects
    assert not list(project.glob("?*.stemma"))


def _objects(project: Path) -> set[Path]:
    found = (project / ".stemma" / "objects").rglob("*")
    return {path for path in found if path.is_file() and "tmp" not in path.parts}


@pytest.mark.parametrize("make", _REFUSED, ids=lambda make: make.__name__.strip("_"))
def test_a_folder_that_holds_what_no_version_may_is_refused(
    stemma: Stemma, project: Path, make: Callable[[Path], None]
) -> None:
    """A pipe would be waited for, a link followed, a name lost on another machine."""
    (project / "folder").mkdir()
    make(project / "folder" / "x")
    _insist_on_refusal(project, stemma, "add", "folder")
    for option in (["--model", "folder"], ["--model", "stemma.toml", "--data", "d=folder"]):
        code, _, err = stemma("run", "--name", "toy", *option, "true")
        assert code == 2, err
        assert [line.partition(":")[0] for line in err.splitlines()] == ["error", "hint"], err


@pytest.mark.parametrize("make", [_pipe, _socket, _device], ids=["pipe", "socket", "device"])
@pytest.mark.parametrize("option", ["--model", "--data", "--params"])
def test_a_run_does_not_wait_for_what_is_no_file(
    stemma: Stemma, project: Path, make: Callable[[Path], None], option: str
) -> None:
    """A finished training would hang for ever in front of a named pipe."""
    make(project / "x")
    named = ["--model", "stemma.toml"] if option != "--model" else []
    code, _, err = stemma("run", "--name", "toy", *named, option, "x", "true")
    assert code == 2, err
    assert [line.partition(":")[0] for line in err.splitlines()] == ["error", "hint"], err
    _insist_on_refusal(project, stemma, "add", "x")


def test_a_name_of_ten_thousand_characters_is_refused_in_a_line_one_can_read(
    stemma: Stemma, project: Path
) -> None:
    """The disk would be blamed, and the screen be full of letters."""
    _insist_on_refusal(project, stemma, "add", "x" * 10_000)
    code, _, err = stemma("run", "--name", "toy", "--model", "x" * 10_000, "true")
    assert code == 2, err
    assert len(err) < 3000


def test_a_file_that_becomes_a_folder_while_the_training_runs_is_told(
    stemma: Stemma, project: Path
) -> None:
    """Whatever was there before would be recorded as what was trained."""
    (project / "model.bin").write_text("a")
    swap = "rm model.bin && mkdir model.bin"
    code, _, err = stemma("run", "--name", "toy", "--model", "model.bin", "sh", "-c", swap)
    assert code == 2, err
    assert "a model of no files" in err


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv takes root's privilege away")
@pytest.mark.parametrize("path", ["secret.bin", "secret"])
@pytest.mark.usefixtures("stemma")
def test_what_may_not_be_read_is_named(project: Path, path: str) -> None:
    """A version would lack a file, or the user look for a fault of Stemma."""
    (project / "secret").mkdir()
    for name in ("secret.bin", "secret/x"):
        (project / name).write_text("a")
        (project / name).chmod(0)
    taken = "-dac_override,-dac_read_search"
    command = ["setpriv", f"--bounding-set={taken}", f"--inh-caps={taken}"] * (os.geteuid() == 0)
    for arguments in (["add", path], ["run", "--name", "toy", "--model", path, "true"]):
        answer = subprocess.run(
            [*command, sys.executable, "-m", "stemma.cli.main", *arguments],
            cwd=project,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        if "setpriv" in answer.stderr:
            pytest.skip(answer.stderr)
        lines = answer.stderr.splitlines()
        assert [line.partition(":")[0] for line in lines] == ["error", "hint"], answer.stderr
        assert "secret" in lines[0]
        assert re.search("[Pp]ermission|not readable", answer.stderr)
        assert answer.returncode in {2, 4}
    assert not list(project.glob("?*.stemma"))
