"""What the store must survive, a few trials of each; whole runs: ``python -m benchmarks NAME``."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stemma.cli.dispatch import dispatch

ROOT = Path(__file__).parents[2]
_FUZZER = "tests/faults/fuzz_parsers.py"


def _ran(*arguments: str) -> str:
    """Run a script to its end without a failure; returns what it said."""
    trials = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert trials.returncode == 0, trials.stdout[-4000:] + trials.stderr[-4000:]
    return trials.stdout


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace kills at a system call")
def test_a_copy_that_is_killed_leaves_two_whole_sides() -> None:
    """A killed push would leave half a version, or a lock to remove by hand."""
    said = _ran("-m", "benchmarks.scenarios.store_crashes", "4", "11", "push")
    assert "places: {'push': " in said or "skipped" in said


@pytest.mark.slow
def test_a_flipped_bit_is_found_and_never_delivered_on_either_side() -> None:
    """Wrong weights would be pulled by everybody."""
    assert "failures: []" in _ran("-m", "benchmarks.scenarios.store_flips", "10")


@pytest.mark.slow
def test_a_damaged_move_of_a_channel_at_the_remote_is_mended_by_who_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everybody's pull would be refused for ever, and --repair say that all is well."""
    monkeypatch.setenv("STEMMA_MAY_USE_NETWORK", "false")
    here, there, remote = (tmp_path / name for name in ("here", "there", "remote"))
    for folder in (here, there):
        folder.mkdir()
        monkeypatch.chdir(folder)
        assert dispatch(["init"]) == 0
        assert dispatch(["remote", "add", "origin", str(remote)]) == 0
    monkeypatch.chdir(here)
    (here / "weights.bin").write_bytes(b"weights")
    trained = [sys.executable, "-m", "stemma.cli.main", "run", "--name", "toy"]
    subprocess.run([*trained, "--model", "weights.bin", "true"], check=True, capture_output=True)
    assert dispatch(["release", "toy", "--channel", "stable"]) == 0
    assert dispatch(["push"]) == 0
    (move,) = (path for path in (remote / "records/channel-move").rglob("*") if path.is_file())
    move.chmod(0o644)
    move.write_bytes(move.read_bytes().replace(b"stable", b"stabel"))
    assert dispatch(["push", "--repair"]) == 0
    monkeypatch.chdir(there)
    assert dispatch(["pull"]) == 0


@pytest.mark.slow
def test_writers_and_collections_that_are_killed_lose_nothing_acknowledged() -> None:
    """A colleague's crash would cost another's version."""
    assert "failures: []" in _ran("-m", "benchmarks.scenarios.killed_writers", "1")


@pytest.mark.slow
def test_no_parser_breaks_on_damaged_files(tmp_path: Path) -> None:
    """One odd byte in a model would end the command, or fill the memory."""
    said = _ran(_FUZZER, "all", "--seconds", "0.2", "--keep", str(tmp_path))
    assert said.count(" 0 findings") == len(said.splitlines())
