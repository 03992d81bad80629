"""Adding, pushing and fetching data beside git-lfs and DVC: many small files, and a large one.

``files``: 5,000 files of 20 KB, then ten of them changed.  ``large``: one file of 500 MB, then a
version with 2 % of it changed in place and 1,000 bytes inserted in its middle.  Every remote is a
folder on the same disk; the tools take turns at every stage.  What no compressor can shrink is
stored, so the size of the remote says what is shared between versions.

Tools are taken from PATH, those that are missing are left out.  Each adds and commits a pointer,
pushes, and fetches into a fresh clone; stemma with ``add``, ``push`` and ``pull``, and no release.
A part of the size may be given: ``python -m benchmarks.scenarios.files 0.1``.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from benchmarks.measure import write_result

_FILES = 5_000
_FILE_BYTES = 20_000
_LARGE_BYTES = 500_000_000
_CHANGED_SHARE = 0.02
_INSERTED_BYTES = 1_000
_STRETCH_BYTES = 100_000
_STAGES = ("add", "push", "fetch", "push again", "add change", "push change", "fetch change")


class _Tool(Protocol):
    """One program under measure, in a project and with a remote of its own."""

    remote: Path
    project: Path

    def add(self) -> None: ...
    def push(self) -> None: ...
    def fetch(self, target: Path) -> Path: ...


def run(share: float = 1.0) -> dict[str, object]:
    """Measure both sets with every tool that is there."""
    return {
        "files": _measure(lambda data: _make_files(data, share), _change_files),
        "large": _measure(lambda data: _make_large(data, share), _change_large),
        "share of the full size": share,
    }


def _measure(
    make: Callable[[Path], None], change: Callable[[Path], None]
) -> dict[str, dict[str, float]]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        tools = _tools(root)
        figures: dict[str, dict[str, float]] = {name: {} for name in tools}
        for tool in tools.values():
            make(tool.project / "data")
        for stage in _STAGES:
            for name, tool in tools.items():
                if stage == "add change":
                    change(tool.project / "data")
                target = root / f"{name}-{stage}".replace(" ", "-")
                started = time.perf_counter()
                data = _do(tool, stage, target)
                figures[name][f"{stage}, s"] = round(time.perf_counter() - started, 2)
                if data is not None:
                    _compare(tool.project / "data", data)
                    shutil.rmtree(target)
                elif stage.startswith("push"):
                    figures[name][f"remote after {stage}, MB"] = _megabytes(tool.remote)
        return figures


def _do(tool: _Tool, stage: str, target: Path) -> Path | None:
    if stage.startswith("add"):
        tool.add()
    elif stage.startswith("push"):
        tool.push()
    else:
        return tool.fetch(target)
    return None


def _tools(root: Path) -> dict[str, _Tool]:
    tools: dict[str, _Tool] = {"stemma": _Stemma(root)}
    if shutil.which("git-lfs"):
        tools["git-lfs"] = _GitLfs(root)
    if shutil.which("dvc"):
        tools["dvc"] = _Dvc(root)
    return tools


class _Base:
    """A project in a git repository, and where its remote is."""

    def __init__(self, root: Path, name: str) -> None:
        self.project = root / name / "project"
        self.remote = root / name / "remote"
        self.project.mkdir(parents=True)
        self.remote.mkdir()
        self._environment = os.environ | {
            "GIT_CONFIG_GLOBAL": str(root / "gitconfig"),
            "GIT_AUTHOR_NAME": "bench",
            "GIT_AUTHOR_EMAIL": "bench@localhost",
            "GIT_COMMITTER_NAME": "bench",
            "GIT_COMMITTER_EMAIL": "bench@localhost",
        }
        self.call("git", "init", "-q", "-b", "main")

    def call(self, *command: str, cwd: Path | None = None) -> None:
        """Run a command in the project; what it says is shown when it fails."""
        found = subprocess.run(
            command,
            cwd=cwd or self.project,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if found.returncode:
            sys.exit(f"{' '.join(command)}: {found.stdout[-2000:]}{found.stderr[-2000:]}")


class _Stemma(_Base):
    def __init__(self, root: Path) -> None:
        super().__init__(root, "stemma")
        self._stemma("init")
        self._stemma("remote", "add", "origin", str(self.remote))

    def _stemma(self, *arguments: str, cwd: Path | None = None) -> None:
        self.call(sys.executable, "-m", "stemma.cli.main", *arguments, cwd=cwd)

    def add(self) -> None:
        """Add, and commit the pointer."""
        self._stemma("add", "data")
        self.call("git", "add", "data.stemma", ".gitignore", "stemma.toml")
        self.call("git", "commit", "-q", "-m", "data")

    def push(self) -> None:
        """Push the files."""
        self._stemma("push")

    def fetch(self, target: Path) -> Path:
        """Clone and pull."""
        self.call("git", "clone", "-q", str(self.project), str(target))
        self._stemma("init", cwd=target)
        self._stemma("pull", cwd=target)
        return target / "data"


class _GitLfs(_Base):
    def __init__(self, root: Path) -> None:
        super().__init__(root, "git-lfs")
        self.call("git", "lfs", "install")
        self.call("git", "lfs", "track", "data/**")
        self.call("git", "init", "-q", "--bare", "-b", "main", cwd=self.remote)
        self.call("git", "remote", "add", "origin", f"file://{self.remote}")

    def add(self) -> None:
        """Add and commit."""
        self.call("git", "add", ".")
        self.call("git", "commit", "-q", "-m", "data")

    def push(self) -> None:
        """Push commits and files."""
        self.call("git", "push", "-q", "origin", "main")

    def fetch(self, target: Path) -> Path:
        """Clone."""
        self.call("git", "clone", "-q", f"file://{self.remote}", str(target))
        return target / "data"


class _Dvc(_Base):
    def __init__(self, root: Path) -> None:
        super().__init__(root, "dvc")
        self.call("dvc", "init", "-q")
        self.call("dvc", "config", "core.analytics", "false")
        self.call("dvc", "remote", "add", "-q", "-d", "origin", str(self.remote))

    def add(self) -> None:
        """Add, and commit the pointer."""
        self.call("dvc", "add", "-q", "data")
        self.call("git", "add", "data.dvc", ".gitignore", ".dvc")
        self.call("git", "commit", "-q", "-m", "data")

    def push(self) -> None:
        """Push the files."""
        self.call("dvc", "push", "-q")

    def fetch(self, target: Path) -> Path:
        """Clone and pull."""
        self.call("git", "clone", "-q", str(self.project), str(target))
        self.call("dvc", "pull", "-q", cwd=target)
        return target / "data"


def _make_files(data: Path, share: float) -> None:
    generator = random.Random(1)
    data.mkdir()
    for number in range(int(_FILES * share)):
        (data / f"{number:05d}.bin").write_bytes(generator.randbytes(_FILE_BYTES))


def _change_files(data: Path) -> None:
    for path in sorted(data.iterdir())[:10]:
        _rewrite(path, b"changed" + path.read_bytes()[7:])


def _make_large(data: Path, share: float) -> None:
    generator = random.Random(2)
    data.mkdir()
    with (data / "large.bin").open("wb") as stream:
        for _ in range(int(_LARGE_BYTES * share) // _STRETCH_BYTES):
            stream.write(generator.randbytes(_STRETCH_BYTES))


def _change_large(data: Path) -> None:
    generator = random.Random(3)
    path = data / "large.bin"
    changed = bytearray(path.read_bytes())
    stretches = len(changed) // _STRETCH_BYTES
    for number in generator.sample(range(stretches), max(int(stretches * _CHANGED_SHARE), 1)):
        at = number * _STRETCH_BYTES
        changed[at : at + _STRETCH_BYTES] = generator.randbytes(_STRETCH_BYTES)
    middle = len(changed) // 2
    changed[middle:middle] = generator.randbytes(_INSERTED_BYTES)
    _rewrite(path, bytes(changed))


def _rewrite(path: Path, data: bytes) -> None:
    """Write a file anew: DVC may have made it read-only, or a link to its cache."""
    path.unlink()
    path.write_bytes(data)


def _compare(expected: Path, found: Path) -> None:
    names: Sequence[str] = sorted(path.name for path in expected.iterdir())
    if names != sorted(path.name for path in found.iterdir()):
        sys.exit(f"{found} has other files than {expected}")
    for name in names:
        if (expected / name).read_bytes() != (found / name).read_bytes():
            sys.exit(f"{found / name} is not what was added")


def _megabytes(folder: Path) -> float:
    sizes = (path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return round(sum(sizes) / 1e6, 1)


if __name__ == "__main__":
    measured = run(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0)
    print(json.dumps(measured, indent=2), write_result("files", measured))
