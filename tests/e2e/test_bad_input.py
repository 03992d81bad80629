"""Bad input to real commands: one clear line, the next command, and nothing changed."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stemma.testing.loose_objects import make_loose

pytestmark = pytest.mark.slow

_IS_ROOT = os.geteuid() == 0


# no project -------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", [["log"], ["run", "true"]])
def test_without_a_project_the_command_that_makes_one_is_named(
    place: Any, tmp_path: Path, verb: list[str]
) -> None:
    """A newcomer would not know what to type."""
    empty = tmp_path / "empty"
    empty.mkdir()
    error = place.refused(*verb, code=10, says=str(empty), hint="stemma init", cwd=empty)
    assert error["name"] == "no-project"
    assert not list(empty.iterdir())


def test_a_script_without_a_project_is_told_too(place: Any, tmp_path: Path) -> None:
    """Training would start, and be lost at its end."""
    text = 'import stemma\nwith stemma.run("toy"): print("trained")\n'
    script = place.write("script.py", text)
    answer = place.run(sys.executable, str(script), cwd=tmp_path)
    place.raised(answer, kind="NoProjectError", says=str(tmp_path), hint="stemma init")
    assert answer.stdout == ""


def test_init_over_a_file_says_what_is_in_the_way(place: Any, tmp_path: Path) -> None:
    """It would end as a fault of Stemma."""
    here = tmp_path / "here"
    here.mkdir()
    (here / ".stemma").write_text("mine")
    error = place.refused("init", code=12, says=str(here / ".stemma"), hint="ls -ld ", cwd=here)
    assert error["name"] == "in-the-way"


# names and refs ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "says", "hint"),
    [
        (["show", "tyo"], "no model tyo; did you mean toy?", "stemma log toy"),
        (["log", "toyy"], "no model toyy; did you mean toy?", "stemma log toy"),
        (["release", "tooy"], "did you mean toy?", "stemma release toy"),
        (["show", "toy@2.0.1"], "did you mean 2.0.0", "stemma log toy"),
        (["diff", "toy@1.0.0", "toy@9.9.9"], "no version toy@9.9.9", "stemma log toy"),
        (["show", "toy@stabel"], "did you mean stable?", "stemma show toy@stable"),
        (["checkout", "toy@^7"], "the newest is 2.0.0", "stemma log toy"),
        (["show", "toy@r-ffffffffff"], "r-ffffffffff", "stemma log --runs"),
        (["release", "toy", "--run", "r-ffffffffff"], "no run r-ffffffffff", "stemma log --runs"),
        (["show", "toy@sha256:ffff"], "sha256:ffff", "stemma log --runs"),
        (["checkout", "toy", "nope"], "holds no nope", "stemma checkout toy@1.0.0 --dry-run"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_does_not_exist_is_answered_with_what_does(
    place: Any, verb: list[str], says: str, hint: str
) -> None:
    """A typing error would cost a search."""
    place.refused(*verb, code=5, says=says, hint=hint)


@pytest.mark.parametrize("ref", ["@1", "toy@^^1", "Toy", "../toy"])
def test_what_is_no_ref_is_told_what_one_looks_like(place: Any, ref: str) -> None:
    """A path or a typing error would be looked up as a name."""
    place.refused("show", ref, code=2, says=ref.rpartition("@")[2] or ref, hint="")


def test_a_version_number_that_exists_is_never_given_again(place: Any) -> None:
    """Two models would share a number."""
    error = place.refused(
        "release",
        "toy@1.0.0",
        code=2,
        says="toy@1.0.0 is released and never changes",
        hint="stemma release toy@1.0.0 --channel stable",
    )
    assert error["name"] == "already-released"


def test_a_model_may_not_be_called_by_a_path(place: Any) -> None:
    """A name would lead out of its folder."""
    place.refused("run", "--name", "../x", "true", code=2, says="'../x'", hint="x would do")
    before = place.digest()
    answer = place.python('import stemma\nwith stemma.run("../x"): pass\n')
    place.raised(answer, kind="InvalidInputError", says="'../x'", hint="x would do")
    (place.folder / "script.py").unlink()
    assert place.digest() == before


# files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "."])
def test_a_path_outside_of_the_project_is_refused(place: Any, path: str) -> None:
    """A pointer would name what nobody else has."""
    error = place.refused("add", path, code=2, says="is not inside the project", hint="copy it to ")
    assert error["name"] == "outside-project"


@pytest.mark.parametrize("path", [".stemma/stemma.db", ".git", "data.csv.stemma"])
def test_what_is_gits_or_stemmas_own_is_not_tracked(place: Any, path: str) -> None:
    """The store would be stored in itself."""
    place.write("data.csv.stemma")
    (place.folder / ".git").mkdir()
    place.refused("add", path, code=2, says="is not tracked", hint="ls ")


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["A.txt", "a.txt"], "are one name where case or Unicode form is ignored"),
        (["\u00e9", "e\u0301"], "are one name where case or Unicode form is ignored"),
        (["a\nb"], "has a control character"),
        (["x" * 250 + "\udcff"], "is not valid UTF-8"),
    ],
    ids=["case", "unicode form", "line break", "bytes"],
)
def test_names_that_mean_another_file_elsewhere_are_refused(
    place: Any, names: list[str], says: str
) -> None:
    """On another machine one file would silently replace the other."""
    for name in names:
        place.write(f"data/{name}", name.encode("utf-8", "surrogateescape"))
    if len(list((place.folder / "data").iterdir())) < len(names):
        pytest.skip("this file system takes the names for one")
    place.refused("add", "data", code=2, says=says, hint="rename ")


@pytest.mark.parametrize("target", ["/etc/passwd", "../../secret", "../train.py"])
def test_links_that_leave_the_tree_are_refused(place: Any, target: str) -> None:
    """A version would hold, or a checkout write, what is not its own."""
    place.write("data/a.txt", "a")
    (place.folder / "data" / "link").symlink_to(target)
    place.refused("add", "data", code=2, says="may leave the tree", hint="copy the file in")


def test_what_is_no_file_is_refused_and_not_waited_for(place: Any) -> None:
    """A named pipe would hang for ever."""
    os.mkfifo(place.folder / "pipe")
    place.refused("add", "pipe", code=2, says="neither a file nor a link", hint="leave it out")


def test_a_dataset_may_not_be_called_by_a_path(place: Any) -> None:
    """Checking the version out would write outside of its folder."""
    text = (
        "import stemma\n"
        'with stemma.run("toy") as run:\n'
        '    run.data("../../evil", [[1.0], [2.0]])\n'
    )
    versions = place.versions()
    answer = place.python(text)
    place.raised(answer, kind="InvalidInputError", says="'../../evil'", hint="rename it")
    assert place.versions() == versions
    assert place.runs()[0].state.value == "failed"


def test_a_file_that_changes_while_it_is_captured_is_refused(place: Any) -> None:
    """Half of the old and half of the new would be kept as one."""
    text = (
        "import stemma\n"
        'with stemma.run("toy") as run:\n'
        '    run.data("train", "train.csv")\n'
        '    run.model("model.json")\n'
        '    open("train.csv", "a").write("3,4\\n")\n'
    )
    place.write("train.csv", "a,b\n1,2\n")
    answer = place.python(text)
    place.raised(
        answer, kind="ConflictError", says="train.csv changed while it was captured", hint="record"
    )
    assert place.runs()[0].state.value == "failed"


def test_a_file_that_grows_while_it_is_added_is_refused(place: Any) -> None:
    """Half of the old and half of the new would be tracked as one."""
    path = place.write("big.bin", os.urandom(16 << 20))
    grow = f"import time\nwhile True:\n open({str(path)!r}, 'ab').write(b'x')\n time.sleep(.002)"
    writer = subprocess.Popen([sys.executable, "-c", grow])
    try:
        answer = place.stemma("add", "big.bin")
    finally:
        writer.kill()
        writer.wait()
    assert answer.returncode == 12, answer.stderr
    assert "big.bin changed while it was captured" in answer.stderr
    assert answer.stderr.splitlines()[-1].startswith("hint: wait")
    assert not (place.folder / "big.bin.stemma").exists()


def test_checkout_never_overwrites(place: Any) -> None:
    """Somebody's work would be gone."""
    place.write("out/code/train.py", "mine")
    place.refused(
        *("checkout", "toy", "--to", "out"),
        code=12,
        says="train.py differs from the version; nothing was written",
        hint="stemma checkout toy --to OTHER-FOLDER",
    )
    place.refused("checkout", "toy", "--to", "train.py", code=12, says="train.py", hint="ls -ld ")


# git --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["absent", "broken", "no commit", "clean", "dirty"])
def test_a_run_is_recorded_whatever_git_says_and_says_so(place: Any, state: str) -> None:
    """A training would be lost for the state of a repository, or claim a commit it is not of."""
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    place.write(".gitignore", ".stemma\n")
    if state != "absent":
        place.run(*git, "init", "--quiet", ".")
    if state in {"clean", "dirty"}:
        place.run(*git, "add", "-A")
        place.run(*git, "commit", "--quiet", "-m", "first")
    if state == "dirty":
        with (place.folder / "train.py").open("a") as stream:
            stream.write("# not committed\n")
    if state == "broken":
        (place.folder / ".git" / "HEAD").unlink()
    answer = place.stemma("run", "--", sys.executable, "train.py")
    assert answer.returncode == 0, answer.stderr
    told = {
        "absent": "(not in git, captured whole)",
        "broken": "(not in git, captured whole)",
        "no commit": "(no commit yet, captured whole)",
        "clean": "(clean)",
        "dirty": "(uncommitted changes)",
    }[state]
    assert told in answer.stdout
    run = place.runs()[0].id
    back = place.stemma("checkout", f"toy@{run}", "--to", "back")
    assert back.returncode == 0, back.stderr
    trained = (place.folder / "train.py").read_bytes()
    assert (place.folder / "back/code/train.py").read_bytes() == trained


# damage -----------------------------------------------------------------------------------------


def _largest(place: Any, family: str) -> Path:
    make_loose(place.folder / ".stemma" / "objects")
    found = (place.folder / ".stemma" / "objects" / family).rglob("*")
    return max((path for path in found if path.is_file()), key=lambda path: path.stat().st_size)


@pytest.mark.parametrize(
    ("family", "harm"),
    [
        ("frames", "flip"),
        ("frames", "cut"),
        ("frames", "remove"),
        ("recipes", "empty"),
        ("recipes", "remove"),
        ("trees", "flip"),
        ("trees", "remove"),
        ("records/manifest", "cut"),
    ],
)
def test_a_damaged_object_is_found_and_never_delivered(place: Any, family: str, harm: str) -> None:
    """Wrong weights would go to production."""
    path = _largest(place, family)
    data = bytearray(path.read_bytes())
    path.chmod(0o644)
    if harm == "flip":
        data[len(data) // 2] ^= 4
    path.write_bytes({"cut": data[:-3], "empty": b""}.get(harm, bytes(data)))
    if harm == "remove":
        path.unlink()
    report = place.stemma("doctor", "--json")
    assert report.returncode == 3, report.stdout
    assert json.loads(report.stdout)["healthy"] is False
    for version, weight in (("1.0.0", 1.0), ("2.0.0", 2.0)):
        answer = place.stemma("checkout", f"toy@{version}", "--to", version)
        if answer.returncode == 0:  # it needs nothing of what was damaged
            model = json.loads((place.folder / version / "artifact" / "model.json").read_bytes())
            assert model == {"weight": weight}
            continue
        assert answer.returncode in {1, 5}
        assert [line.partition(":")[0] for line in answer.stderr.splitlines()] == ["error", "hint"]
        assert answer.stderr.splitlines()[-1].startswith("hint: stemma doctor")


@pytest.mark.parametrize("harm", ["flip", "empty", "text", "remove"])
def test_a_damaged_database_is_refused_and_made_again(place: Any, harm: str) -> None:
    """Versions would be lost, or wrong rows believed."""
    versions = place.versions()
    path = place.folder / ".stemma" / "stemma.db"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes({"empty": b"", "text": b"hello\n"}.get(harm, bytes(data)))
    if harm == "remove":
        path.unlink()
    for verb in (["log", "toy"], ["release", "toy"], ["gc", "--yes"]):
        answer = place.stemma(*verb, "--json")
        error = json.loads(answer.stdout)
        assert answer.returncode == error["code"]
        assert error["code"] in {1, 5}
        assert error["hint"] == "stemma doctor --rebuild"
        assert "stemma.db" in error["message"]
    found = place.stemma("doctor", "--json")
    assert found.returncode == 3, found.stdout
    assert place.stemma("doctor", "--rebuild").returncode == 0
    assert place.versions() == versions
    assert place.stemma("doctor").returncode == 0


# the disk ---------------------------------------------------------------------------------------


@contextmanager
def _mounted(folder: Path, *options: str) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    made = subprocess.run(["mount", *options, str(folder)], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(not _IS_ROOT, reason="only root may mount")
def test_a_full_disk_is_told_and_loses_nothing(place: Any, tmp_path: Path) -> None:
    """An error of SQLite would be shown, and a half version kept."""
    small = tmp_path / "small"
    versions = place.versions()
    with _mounted(small, "-t", "tmpfs", "-o", "size=1m", "tmpfs"):
        subprocess.run(["cp", "-a", f"{place.folder}/.", str(small)], check=True)
        full = replace(place, folder=small)
        subprocess.run(
            ["dd", "if=/dev/zero", f"of={small}/filler"], stderr=subprocess.DEVNULL, check=False
        )
        for verb in (["log", "toy"], ["release", "toy@2.0.0", "--channel", "stable"]):
            error = full.refused(*verb, code=75, says="no space left", hint="df -h")
            assert error["retryable"] is True
        trained = full.run(sys.executable, "train.py")
        full.raised(trained, kind="UnavailableError", says="no space left", hint="df -h")
        (small / "filler").unlink()
        full.write("big.bin", os.urandom(400_000))
        answer = full.stemma("add", "big.bin", "--json")
        assert json.loads(answer.stdout)["code"] == 75
        assert not (small / "big.bin.stemma").exists()
        (small / "big.bin").unlink()
        assert full.versions() == versions
        assert full.stemma("doctor").returncode == 0


def test_a_limit_on_file_sizes_is_told_as_no_room(place: Any) -> None:
    """`ulimit -f` would end as a fault, and half an object be kept."""
    place.write("big.bin", os.urandom(3 << 20))
    versions = place.versions()
    limited = f"ulimit -f 512; exec {sys.executable} -m stemma.cli.main add big.bin --json"
    answer = place.run("/bin/sh", "-c", limited)
    error = json.loads(answer.stdout)
    assert (answer.returncode, error["name"]) == (75, "disk-full")
    assert not (place.folder / "big.bin.stemma").exists()
    assert place.versions() == versions
    assert place.stemma("doctor").returncode == 0


@pytest.mark.skipif(not _IS_ROOT, reason="only root may mount")
def test_a_read_only_folder_can_be_read_and_is_never_written(place: Any, tmp_path: Path) -> None:
    """A shared or archived project could not even be looked at."""
    archive = tmp_path / "archive"
    with _mounted(archive, "--bind", str(place.folder)):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(archive)], check=True)
        shared = replace(place, folder=archive)
        for verb in (["show", "toy"], ["status"], ["doctor"]):
            answer = shared.stemma(*verb, "--json")
            assert answer.returncode == 0, answer.stdout
        back = shared.stemma("checkout", "toy", "--to", str(tmp_path / "back"))
        assert back.returncode == 0, back.stderr
        for verb in (
            ["release", "toy@2.0.0", "--channel", "stable"],
            ["run", "--name", "toy", "--model", "model.json", "true"],
            ["add", "train.py"],
            ["checkout", "toy"],
            ["doctor", "--rebuild"],
        ):
            error = shared.refused(*verb, code=4, says="", hint="")
            assert error["name"] == "read-only"
        trained = shared.run(sys.executable, "train.py")
        shared.raised(trained, kind="DeniedError", says="cannot be written", hint="give yourself")


# two at once ------------------------------------------------------------------------------------


@contextmanager
def _held(place: Any, mode: int) -> Iterator[None]:
    """Hold the store's lock as another command does."""
    with (place.folder / ".stemma" / "store.lock").open("a") as stream:
        fcntl.flock(stream, mode)
        yield


_IMPATIENT = {"STEMMA_LOCK_TIMEOUT_SECONDS": "0"}


def test_collecting_waits_for_whoever_writes_and_names_it(place: Any) -> None:
    """What a training is storing would be collected."""
    with _held(place, fcntl.LOCK_SH):
        error = place.refused(
            *("gc", "--yes", "--grace", "0"),
            code=11,
            says=f"is in use by process {os.getpid()}",
            hint="wait for it to end",
            variables=_IMPATIENT,
        )
    assert error["name"] == "locked"


@pytest.mark.parametrize(
    "verb", [["add", "train.py"], ["release", "toy@2.0.0", "--channel", "stable"]]
)
def test_writing_waits_for_the_collection_and_names_it(place: Any, verb: list[str]) -> None:
    """A version would name what is being removed."""
    with _held(place, fcntl.LOCK_EX):
        place.refused(
            *verb,
            code=11,
            says=f"is in use by process {os.getpid()}",
            hint="wait for it to end",
            variables=_IMPATIENT,
        )
        assert place.stemma("log", "toy", variables=_IMPATIENT).returncode == 0


def test_two_releases_at_once_give_one_number_once(place: Any) -> None:
    """One number would stand for two releases."""
    assert place.run(sys.executable, "train.py", variables={"WEIGHT": "3"}).returncode == 0
    command = [sys.executable, "-m", "stemma.cli.main", "release", "toy", "--json"]
    both = [
        subprocess.Popen(
            command, cwd=place.folder, env=place.variables, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    answers = [json.loads(process.communicate(timeout=120)[0]) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(answer["status"] for answer in answers) == ["released", "unchanged"]
    numbers = place.versions()
    assert len(numbers) == len(set(numbers)) == 3


def test_collecting_beside_trainings_loses_nothing(place: Any) -> None:
    """A training's files would be collected while it stores them."""
    train = [sys.executable, "train.py"]
    collect = [sys.executable, "-m", "stemma.cli.main", "gc", "--yes", "--grace", "0"]
    jobs = [
        subprocess.Popen(
            command,
            cwd=place.folder,
            env={**place.variables, "WEIGHT": str(number), "MODEL": f"model-{number}.json"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for number, command in enumerate([train, collect, train, collect])
    ]
    for job in jobs:
        _, stderr = job.communicate(timeout=120)
        assert job.returncode == 0, stderr
    assert place.stemma("doctor").returncode == 0
    assert [run.state.value for run in place.runs()] == ["finished"] * 4
