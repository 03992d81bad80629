"""``stemma doctor --repair``: what is damaged or lost comes back from wherever it still is."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stemma.hub.base import RepairReport
from stemma.server.wiring import examine_project, repair_project
from stemma.store.backends.local import LocalBackend

Completed = subprocess.CompletedProcess[str]
Stemma = Callable[..., Completed]
pytestmark = pytest.mark.slow

TRAIN = ["run", "--model", "model.json", "--data", "data.csv", "--", sys.executable, "train.py"]


@pytest.fixture(scope="module")
def released(
    stemma_in: Stemma,
    fill: Callable[[Path], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Make a project with two releases and a tracked file, pushed to a folder beside it."""
    folder = tmp_path_factory.mktemp("repair") / "project"
    folder.mkdir()
    project = fill(folder)
    (project / "data.csv").write_text("\n".join(f"{i},{i * 7919 % 1013}" for i in range(3000)))
    assert stemma_in(project, "add", "data.csv").returncode == 0
    assert stemma_in(project, *TRAIN).returncode == 0
    assert stemma_in(project, "release", "toy").returncode == 0
    script = project / "train.py"
    script.write_text(script.read_text() + "pathlib.Path('model.json').write_text('{}')\n")
    assert stemma_in(project, *TRAIN).returncode == 0
    assert stemma_in(project, "release", "toy", "--bump", "major").returncode == 0
    remote = project.parent / "remote"
    assert stemma_in(project, "push", "toy", str(remote)).returncode == 0
    return project


@pytest.fixture
def project(released: Path, tmp_path: Path) -> Path:
    """Return a copy that may be damaged, without a remote."""
    return shutil.copytree(released, tmp_path / "project", symlinks=True)


def _objects(project: Path) -> list[Path]:
    folder = project / ".stemma" / "objects"
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and path.stat().st_size > 0
        and path.relative_to(folder).parts[0] not in {"tmp", "trash"}
    )


def _harm(path: Path, how: str, dice: random.Random) -> None:
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    match how:
        case "flip":
            data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
            path.write_bytes(data)
        case "cut":
            path.write_bytes(data[: dice.randrange(len(data))])
        case _:
            path.unlink()


def _set_remote(project: Path, released: Path) -> None:
    settings = project / "stemma.toml"
    text = settings.read_text(encoding="utf-8") if settings.exists() else ""
    url = released.parent / "remote"
    settings.write_text(f'{text}\n[remote.origin]\nurl = "{url}"\n', encoding="utf-8")


def _assert_whole(project: Path, report: RepairReport) -> None:
    assert report.after.is_healthy, report
    assert examine_project(project).is_healthy


@pytest.mark.parametrize("how", ["flip", "cut", "remove"])
def test_a_remote_restores_whatever_was_harmed(project: Path, released: Path, how: str) -> None:
    """A disk that rots would take versions along that a remote still has."""
    _set_remote(project, released)
    dice = random.Random(how)
    for path in _objects(project):
        if dice.random() < 0.6:
            _harm(path, how, dice)
    assert not examine_project(project).is_healthy
    report = repair_project(project)
    _assert_whole(project, report)
    assert {item.source for item in report.restored} & {"origin"}


@pytest.mark.parametrize("how", ["flip", "cut", "remove"])
def test_files_of_the_working_tree_restore_without_a_remote(project: Path, how: str) -> None:
    """What lies unchanged beside the damage would be called lost."""
    dice = random.Random(how)
    harmed = [
        finding
        for path in _objects(project)
        if path.relative_to(project).parts[2] != "records"
        for finding in [_harm(path, how, dice)]
    ]
    assert harmed
    report = repair_project(project)
    tracked = {finding for finding in report.after.findings if "tracked data.csv" in finding.harms}
    assert not tracked
    assert {"data.csv"} <= {item.source for item in report.restored}
    assert not report.after.is_healthy, "the first version's artifact is nowhere else"


def test_what_is_nowhere_else_is_named_and_exits_3(stemma_in: Stemma, project: Path) -> None:
    """Somebody would believe that all is well again."""
    for path in _objects(project):
        _harm(path, "flip", random.Random(1))
    answer = stemma_in(project, "doctor", "--repair", "--json")
    assert answer.returncode == 3, answer.stderr
    told = json.loads(answer.stdout)
    assert told["healthy"] is False
    assert told["after"]["findings"]


def test_the_trash_restores_first(stemma_in: Stemma, project: Path) -> None:
    """A version whose objects somebody moved to the trash would be fetched over the network."""
    backend = LocalBackend(project / ".stemma" / "objects")
    keys = [stat.key for stat in backend.list() if not stat.key.startswith("records/")]
    backend.trash.take(keys, datetime.now(UTC))
    assert stemma_in(project, "doctor").returncode == 3
    human = stemma_in(project, "doctor", "--repair", "--format", "human")
    assert human.returncode == 0, human.stdout
    assert "the trash" in human.stdout
    assert stemma_in(project, "doctor").returncode == 0


def test_rows_are_made_again_too(stemma_in: Stemma, project: Path) -> None:
    """Objects would be whole and nothing would find them."""
    for file in (project / ".stemma").glob("stemma.db*"):
        file.unlink()
    answer = stemma_in(project, "doctor", "--repair", "--json")
    assert answer.returncode == 0, answer.stdout
    restored = json.loads(answer.stdout)["restored"]
    assert restored == [{"what": "stemma.db", "source": "the records"}]


def test_litter_that_is_damaged_goes_to_the_trash(stemma_in: Stemma, project: Path) -> None:
    """Doctor would exit 3 for ever because of something that nobody needs."""
    before = set(_objects(project))
    (project / "other.csv").write_text("nobody needs this\n" * 9000)
    assert stemma_in(project, "add", "other.csv").returncode == 0
    (project / "other.csv").unlink()
    (project / "other.csv.stemma").unlink()
    for path in set(_objects(project)) - before:
        _harm(path, "flip", random.Random(2))
    assert stemma_in(project, "doctor").returncode == 3
    report = repair_project(project)
    _assert_whole(project, report)
    assert report.set_aside


def test_a_remote_that_is_away_is_told_and_passed_over(project: Path, released: Path) -> None:
    """One dead remote would keep what lies at hand from being used."""
    _set_remote(project, released.parent / "no" / "where")
    for path in _objects(project):
        if path.relative_to(project).parts[2] == "frames":
            _harm(path, "remove", random.Random(3))
    report = repair_project(project)
    assert any("origin" in note for note in report.notes)
    assert "data.csv" in {item.source for item in report.restored}


def test_what_was_left_on_the_remote_is_no_loss(
    stemma_in: Stemma, released: Path, tmp_path: Path
) -> None:
    """Doctor would exit 3 in every project that holds a part, and real loss would go unseen."""
    assert stemma_in(tmp_path, "init").returncode == 0
    remote = str(released.parent / "remote")
    pulled = stemma_in(tmp_path, "pull", "toy@2.0.0", remote, "--only", "artifact")
    assert pulled.returncode == 0, pulled.stderr
    told = stemma_in(tmp_path, "doctor", "--format", "human")
    assert told.returncode == 0, told.stdout
    assert "contents-elsewhere" in told.stdout
    tree = next((tmp_path / ".stemma" / "objects").glob("trees/*/*"), None)
    if tree is not None:
        kept = tree.read_bytes()
        tree.unlink()
        assert stemma_in(tmp_path, "doctor").returncode == 3
        tree.write_bytes(kept)
    assert stemma_in(tmp_path, "pull", "toy", remote).returncode == 0
    whole = stemma_in(tmp_path, "doctor", "--format", "human")
    assert whole.returncode == 0
    assert "contents-elsewhere" not in whole.stdout
