"""Source files reached from an entry point, and git."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stemma.catalog.capture.base import CapturedCode, GitFacts
from stemma.catalog.capture.code import RunningCode, capture_code
from stemma.catalog.capture.git import PATCH_LIMIT_BYTES, read_git, without_credentials


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return root


def git(root: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write(
        tmp_path / "project",
        {
            "train.py": "import os, helper\nfrom net.layers import Layer\nimport numpy\n",
            "helper.py": "def f():\n    import late\n",
            "late.py": "",
            "unused.py": "",
            "net/__init__.py": "from . import blocks\n",
            "net/layers.py": "from .blocks import B\nfrom ..sibling import nothing\n",
            "net/blocks.py": "",
            "net/unused.py": "",
            ".venv/pyvenv.cfg": "",
            ".venv/fake.py": "",
        },
    )


def test_local_imports_are_followed_and_nothing_else(project: Path) -> None:
    """A file the training needs would be missing from the version, or all of the disk in it."""
    code = capture_code(project / "train.py", project)
    assert list(code.files) == [
        "helper.py",
        "late.py",
        "net/__init__.py",
        "net/blocks.py",
        "net/layers.py",
        "train.py",
    ]
    assert code.entry_point == "train.py"
    assert code.git is None


def test_modules_imported_at_run_time_are_added(project: Path) -> None:
    """A plug-in loaded by name would be missing from the version."""
    outside = project.parent / "outside.py"
    outside.touch()
    loaded = [project / "unused.py", outside, project / ".venv/fake.py", Path(os.__file__)]
    code = capture_code(project / "train.py", project, loaded)
    assert "unused.py" in code.files
    assert not [name for name in code.files if "outside" in name or "fake" in name or "os" in name]


def test_installed_packages_are_never_captured(project: Path) -> None:
    """Every version would carry numpy's source."""
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    loaded = [Path(file) for file in files if file]
    code = capture_code(project / "train.py", project, loaded)
    assert all(file.is_relative_to(project) for file in code.files.values())


def test_a_link_out_of_the_project_is_not_followed(project: Path) -> None:
    """A secret outside of the project would be copied into the store."""
    secret = write(project.parent, {"secret.py": "KEY = 1"}) / "secret.py"
    (project / "late.py").unlink()
    (project / "late.py").symlink_to(secret)
    code = capture_code(project / "train.py", project)
    assert "late.py" not in code.files
    assert secret not in code.files.values()


def test_a_script_outside_of_the_project_counts_from_its_own_folder(tmp_path: Path) -> None:
    """Its name in the version would be an absolute path."""
    write(tmp_path, {"scripts/train.py": "import helper", "scripts/helper.py": "", "p/x.py": ""})
    code = capture_code(tmp_path / "scripts/train.py", tmp_path / "p")
    assert list(code.files) == ["helper.py", "train.py"]


def test_a_script_that_does_not_parse_is_captured_and_said(tmp_path: Path) -> None:
    """One odd file would make a whole recording fail."""
    (tmp_path / "train.py").write_bytes(b"print 'caf\xe9'")
    code = capture_code(tmp_path / "train.py", tmp_path)
    assert list(code.files) == ["train.py"]
    assert "not parsed" in code.notes[0]


def test_no_entry_point_and_a_missing_one_give_what_there_is(tmp_path: Path) -> None:
    """A notebook could not be recorded."""
    assert capture_code(None, tmp_path).files == {}
    missing = capture_code(tmp_path / "gone.py", tmp_path)
    assert missing.entry_point == ""
    assert "not found" in missing.notes[0]


@pytest.mark.slow
def test_git_facts_follow_the_work_tree(project: Path) -> None:
    """A version would name a commit that is not what was run."""
    git(project, "init", "-q", "-b", "main")
    before, notes = read_git(project)
    assert before == GitFacts(branch="main")
    assert "no commit yet" in notes[0]
    git(project, "remote", "add", "origin", "https://me:secret@example.org/a.git")
    git(project, "add", ".")
    git(project, "commit", "-q", "-m", "First")
    clean, _ = read_git(project)
    assert clean is not None
    assert clean.commit == git(project, "rev-parse", "HEAD").strip()
    assert (clean.branch, clean.is_dirty, clean.patch) == ("main", False, b"")
    assert clean.remote == "https://example.org/a.git"
    (project / "late.py").write_text("x = 1\n", encoding="utf-8")
    dirty, _ = read_git(project)
    assert dirty is not None
    assert dirty.is_dirty
    assert b"+x = 1" in dirty.patch
    git(project, "checkout", "-q", "--detach")
    detached, _ = read_git(project)
    assert detached is not None
    assert detached.branch == ""


@pytest.mark.slow
def test_a_source_file_that_git_does_not_hold_is_no_clean_commit(project: Path) -> None:
    """A version would claim that its script is in a commit which never held it."""
    git(project, "init", "--quiet")
    write(project, {".gitignore": "train.py\n"})
    git(project, "add", ".gitignore", "helper.py", "net")
    git(project, "commit", "--quiet", "--message", "without the script")
    ignored = capture_code(project / "train.py", project)
    assert ignored.git is not None
    assert ignored.git.is_dirty
    git(project, "add", "--force", "train.py", "late.py")
    git(project, "commit", "--quiet", "--message", "with everything it reaches")
    held = capture_code(project / "train.py", project)
    assert held.git is not None
    assert not held.git.is_dirty


def test_a_huge_patch_is_left_out_and_said(project: Path) -> None:
    """An edited data file in git would blow up every version."""
    git(project, "init", "-q")
    git(project, "add", ".")
    git(project, "commit", "-q", "-m", "First")
    (project / "late.py").write_text("x\n" * (PATCH_LIMIT_BYTES // 2), encoding="utf-8")
    facts, notes = read_git(project)
    assert facts is not None
    assert facts.is_dirty
    assert facts.patch == b""
    assert "patch left out" in notes[0]


@pytest.mark.slow
def test_programs_named_by_the_repository_are_not_run(project: Path) -> None:
    """Recording inside a hostile clone would run its programs."""
    git(project, "init", "-q")
    git(project, "add", ".")
    git(project, "commit", "-q", "-m", "First")
    trap = project / "trap.sh"
    trap.write_text(f"#!/bin/sh\ntouch {project}/caught\n", encoding="utf-8")
    trap.chmod(0o755)
    for key in ("core.fsmonitor", "diff.external"):
        git(project, "config", key, str(trap))
    (project / "late.py").write_text("x = 1\n", encoding="utf-8")
    facts, _ = read_git(project)
    assert facts is not None
    assert facts.patch
    assert not (project / "caught").exists()


def test_without_the_git_program_code_is_captured_whole(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container image without git could not record."""
    monkeypatch.setenv("PATH", "")
    code = capture_code(project / "train.py", project)
    assert code.git is None
    assert len(code.files) == 6


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://u:p@example.org:8443/a.git?token=x#y", "https://example.org:8443/a.git"),
        ("https://token@example.org/a", "https://example.org/a"),
        ("ssh://git:pw@example.org/a", "ssh://git@example.org/a"),
        ("git@example.org:a.git", "git@example.org:a.git"),
        ("/srv/a.git", "/srv/a.git"),
        ("https://u:p@[::1]/a", "https://[::1]/a"),
        ("https://u:p@host:notaport/a", ""),
    ],
)
def test_credentials_never_stay_in_a_remote(url: str, expected: str) -> None:
    """A token would be published with every version."""
    assert without_credentials(url) == expected


def texts(code: CapturedCode) -> dict[str, str]:
    return {name: path.read_text(encoding="utf-8") for name, path in code.texts.items()}


def test_a_file_edited_during_the_run_is_recorded_as_it_ran(project: Path, tmp_path: Path) -> None:
    """A version would hold a script that never made it."""
    ran = (project / "train.py").read_text(encoding="utf-8")
    running = RunningCode(project / "train.py", project, tmp_path / "kept")
    write(project, {"train.py": "edited", "helper.py": "import unused"})
    (project / "late.py").unlink()
    code = running.finish()
    assert texts(code)["train.py"] == ran
    assert "late.py" in code.texts
    assert "unused.py" not in code.files
    assert code.entry_point == "train.py"
    assert code.notes == (
        "helper.py, late.py, train.py changed during the run: recorded as at its start",
    )


def test_an_untouched_run_has_nothing_to_say(project: Path, tmp_path: Path) -> None:
    """Every run would warn."""
    (project / "train.py").chmod(0o755)
    running = RunningCode(project / "train.py", project, tmp_path / "kept")
    code = running.finish([project / "helper.py"])
    assert code.notes == ()
    assert list(code.files) == list(capture_code(project / "train.py", project).files)
    assert code.texts["train.py"].stat().st_mode & 0o111


def test_a_module_imported_during_the_run_is_added_as_it_is_then(
    project: Path, tmp_path: Path
) -> None:
    """A plug-in loaded by name, or edited before its import, would be recorded wrongly."""
    running = RunningCode(project / "train.py", project, tmp_path / "kept")
    write(project, {"unused.py": "import net.unused", "late.py": "x = 2"})
    code = running.finish([project / "unused.py", project / "late.py"])
    assert {"unused.py", "net/unused.py"} <= set(code.files)
    assert texts(code)["late.py"] == "x = 2"
    assert code.notes == ("late.py changed during the run: recorded as at its end: imported late",)


def test_a_huge_file_and_too_many_are_left_out_and_said(tmp_path: Path) -> None:
    """One generated module would blow up every version."""
    with (tmp_path / "huge.py").open("wb") as stream:
        stream.truncate(17 * 1024 * 1024)
    write(tmp_path, {"train.py": "import huge"})
    code = capture_code(tmp_path / "train.py", tmp_path)
    assert list(code.files) == ["train.py"]
    assert "huge.py: over" in code.notes[0]


def test_a_file_that_vanished_or_cannot_be_read_is_said(project: Path, tmp_path: Path) -> None:
    """A recording would fail over a file that the training no longer needs."""

    def read(file: Path) -> bytes:
        if file.name == "late.py":
            raise FileNotFoundError
        return file.read_bytes()

    running = RunningCode(project / "train.py", project, tmp_path / "kept", read=read)
    code = running.finish()
    assert code.texts["late.py"] == project / "late.py"
    assert code.notes == ()
