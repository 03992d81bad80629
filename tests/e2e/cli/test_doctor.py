"""What ``stemma doctor`` says of damaged and missing objects, and that its advice helps."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stemma.server.wiring import examine_project, repair_project
from stemma.testing.loose_objects import make_loose

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
    """Make a project with two releases and a tracked file; tests leave it as it was."""
    project = fill(tmp_path_factory.mktemp("released"))
    assert stemma_in(project, "add", "data.csv").returncode == 0
    assert stemma_in(project, *TRAIN).returncode == 0
    assert stemma_in(project, "release", "toy").returncode == 0
    script = project / "train.py"
    script.write_text(script.read_text() + "pathlib.Path('model.json').write_text('{}')\n")
    assert stemma_in(project, *TRAIN).returncode == 0
    assert stemma_in(project, "release", "toy", "--bump", "major").returncode == 0
    return project


def _objects(project: Path, family: str) -> list[Path]:
    make_loose(project / ".stemma" / "objects")
    folder = project / ".stemma" / "objects" / family
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def test_a_healthy_project_counts_what_was_checked(stemma_in: Stemma, released: Path) -> None:
    """`no problems` could mean that nothing was looked at."""
    everything = [
        path
        for family in ("frames", "recipes", "trees", "records")
        for path in _objects(released, family)
    ]
    human: Completed = stemma_in(released, "doctor", "--format", "human")
    rows = examine_project(released).checked["rows"]
    assert human.stdout == (f"✓ no problems in {len(everything)} objects, {rows} rows, 1 pointer\n")


def test_damaged_frames_say_what_they_harm(stemma_in: Stemma, released: Path) -> None:
    """The user would not know whether the version in production can still be loaded."""
    sound = {path: path.read_bytes() for path in _objects(released, "frames")}
    for path in sound:
        _flip(path)
    answer: Completed = stemma_in(released, "doctor", "--json")
    human: Completed = stemma_in(released, "doctor", "--format", "human")
    for path, data in sound.items():
        path.write_bytes(data)
    findings = json.loads(answer.stdout)["findings"]
    assert answer.returncode == human.returncode == 3
    assert {finding["kind"] for finding in findings} == {"frame-damaged"}
    for finding in findings:
        assert finding["parts"], "files are told below their frame"
        assert finding["fix"]
    harms = {harm for finding in findings for harm in finding["harms"]}
    assert "tracked data.csv" in harms
    assert "toy 2.0.0, 1.0.0: dataset data" in harms
    assert "toy 2.0.0: code, pipeline, artifact" in harms
    assert "    harms toy 2.0.0" in human.stdout
    assert "    - file blake3:" in human.stdout
    assert (
        "    fix: stemma doctor --repair   (where it finds none: copy .stemma/objects/frames/"
        in human.stdout
    )
    told = [line for line in human.stdout.splitlines() if "fix:" not in line]
    assert not any(re.search("[0-9a-f]{32}", line) for line in told), "digests are cut for people"
    assert re.search("[0-9a-f]{64}", json.dumps(findings[0]["parts"])), "and whole for programs"
    assert examine_project(released).is_healthy


def test_tracked_data_is_stored_anew_as_doctor_says(stemma_in: Stemma, project: Path) -> None:
    """The advice would leave the damage where it is."""
    assert stemma_in(project, "add", "data.csv").returncode == 0
    for family in ("frames", "recipes", "trees"):
        (path,) = _objects(project, family)
        _flip(path)
        (finding,) = examine_project(project).findings
        assert finding.harms == ("tracked data.csv",), family
        assert finding.fix == "stemma doctor --repair"
        assert repair_project(project).after.is_healthy, family


@pytest.mark.parametrize("family", ["trees", "recipes", "frames", "records/manifest"])
def test_what_is_gone_is_missed(released: Path, family: str) -> None:
    """A deleted object would be noticed at the next checkout only."""
    for path in _objects(released, family):
        data = path.read_bytes()
        path.unlink()
        report = examine_project(released)
        path.write_bytes(data)
        assert not report.is_healthy, path
        assert any(finding.harms for finding in report.findings), path
        assert all(finding.fix for finding in report.findings), path


def test_a_damaged_manifest_is_told_once_with_its_release(released: Path) -> None:
    """One flipped bit would read like two problems, and nobody would see in which version."""
    harms = set()
    for path in _objects(released, "records/manifest"):
        sound = path.read_bytes()
        _flip(path)
        findings = [f for f in examine_project(released).findings if f.kind == "record-damaged"]
        path.write_bytes(sound)
        assert len(findings) == 1
        harms |= set(findings[0].harms)
    assert harms == {"toy 1.0.0: manifest", "toy 2.0.0: manifest"}


def test_damage_that_harms_nothing_says_so(stemma_in: Stemma, project: Path) -> None:
    """A leftover would look like a lost version."""
    assert stemma_in(project, "add", "data.csv").returncode == 0
    (stale,) = _objects(project, "recipes")
    (project / "data.csv").write_text("other\n")
    assert stemma_in(project, "add", "data.csv").returncode == 0
    _flip(stale)
    (finding,) = examine_project(project).findings
    assert finding.harms == ()
    assert finding.fix == "stemma doctor --repair   (nothing recorded needs it)"
    assert repair_project(project).after.is_healthy


def test_a_rebuild_is_told_in_words_of_the_user(stemma_in: Stemma, released: Path) -> None:
    """Names of tables mean nothing to the one whose versions were in danger."""
    human: Completed = stemma_in(released, "doctor", "--rebuild", "--format", "human")
    made = json.loads(stemma_in(released, "doctor", "--rebuild", "--json").stdout)
    assert human.stdout.startswith("✓ database made again: ")
    for words in ("2 runs", "2 versions", "2 releases", "0 channel moves", " chunks"):
        assert words in human.stdout
    assert "_" not in human.stdout
    assert made["channel_moves"] == 0
