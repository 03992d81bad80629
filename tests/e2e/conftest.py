"""Commands in a project, made once and copied, and what must hold when one is refused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from stemma.domain.run import RunRecord
from stemma.server.wiring import open_hub

_SCRIPT = """\
import json, os, pathlib
import numpy as np
import stemma

X, y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
with stemma.run("toy") as run:
    weight = float(os.environ.get("WEIGHT", "1"))
    model = os.environ.get("MODEL", "model.json")
    pathlib.Path(model).write_text(json.dumps({"weight": weight}))
    run.data("toy-train", (X, y))
    run.params(weight=weight)
    run.metric("accuracy", 0.9)
    run.model(model)
"""
_ERROR_KEYS = {"code", "name", "message", "hint", "retryable"}
_FLEETING = {"store.lock", "stemma.db-wal", "stemma.db-shm"}


_HARMLESS = {"PYTHONWARNINGS", "PYTHONUNBUFFERED", "PYTHONHASHSEED", "LANG", "LC_ALL", "LC_CTYPE"}
"""What the environment may tell Python as it starts, if the command is to be loaded already."""

_STAND_IN = """\
#!{python} -IS
import json, os, socket, sys
arguments = sys.argv[1:]
if arguments[:1] == ["serve"]:  # may be in the background, and is told to stop by its process id
    os.execv({python!r}, [{python!r}, "-m", "stemma.cli.main", *arguments])
order = {{"arguments": arguments, "cwd": os.getcwd(), "environment": dict(os.environ)}}
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect({place!r})
    text = json.dumps(order).encode() + b"\\n"
    connection.sendall(text[socket.send_fds(connection, [text], [0, 1, 2]):])
    answers = connection.makefile("rb")
    answers.readline()
    sys.exit(int(answers.readline()))
"""
"""A program that has a loaded ``stemma`` run the command."""


class Commands:
    """Runs ``stemma`` to its end; most of the time a command takes is loading, done here once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loaded: dict[tuple[str, ...], tuple[subprocess.Popen[bytes], str]] = {}

    def run(
        self,
        *arguments: str,
        cwd: Path,
        env: Mapping[str, str],
        timeout: float = 120,
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a process of its own, as ``subprocess.run`` would with ``options``."""
        if options or not self._early(env) <= _HARMLESS:
            return subprocess.run(
                [sys.executable, "-m", "stemma.cli.main", *arguments],
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=timeout,
                **options,
            )
        order = {"arguments": arguments, "cwd": str(cwd), "environment": dict(env)}
        with (
            tempfile.TemporaryFile("w+", encoding="utf-8") as out,
            tempfile.TemporaryFile("w+", encoding="utf-8") as err,
        ):
            files = [os.open(os.devnull, os.O_RDONLY), out.fileno(), err.fileno()]
            try:
                code = self._order(self._place(env), order, files, timeout)
            finally:
                os.close(files[0])
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(["stemma", *arguments], code, out.read(), err.read())

    def stand_in(self, env: Mapping[str, str]) -> Path:
        """Return a folder with a ``stemma`` that has it run by one that is loaded, if it may be."""
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        if self._early(env) <= _HARMLESS:
            program = folder / "stemma"
            program.write_text(_STAND_IN.format(python=sys.executable, place=self._place(env)))
            program.chmod(0o755)
        return folder

    @staticmethod
    def _early(env: Mapping[str, str]) -> set[str]:
        return {name for name in env if name.startswith(("PYTHON", "LC_", "LANG", "LD_"))}

    def _place(self, env: Mapping[str, str]) -> str:
        """Return where a loaded ``stemma`` with these settings of Python takes orders."""
        kind = tuple(f"{name}={env[name]}" for name in sorted(self._early(env)))
        if kind not in self._loaded:
            place = str(self._folder / f"{len(self._loaded)}.socket")
            script = str(Path(__file__).with_name("command_server.py"))
            process = subprocess.Popen(
                [sys.executable, script, place, str(os.getpid())], cwd=self._folder, env=env
            )
            end = time.monotonic() + 60
            while not Path(place).exists():
                assert process.poll() is None, "it did not load"
                assert time.monotonic() < end
                time.sleep(0.02)
            self._loaded[kind] = process, place
        return self._loaded[kind][1]

    @staticmethod
    def _order(place: str, order: object, files: list[int], timeout: float) -> int:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout)
            connection.connect(place)
            text = json.dumps(order).encode() + b"\n"
            sent = socket.send_fds(connection, [text], files)
            connection.sendall(text[sent:])
            with connection.makefile("rb") as answers:
                pid = int(answers.readline())
                try:
                    return int(answers.readline())
                except TimeoutError:
                    os.kill(pid, signal.SIGKILL)
                    raise subprocess.TimeoutExpired(str(order), timeout) from None

    def end(self) -> None:
        """End what was loaded."""
        for process, _ in self._loaded.values():
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def commands() -> Iterator[Commands]:
    """Keep ``stemma`` loaded for every command that tests run to its end."""
    with tempfile.TemporaryDirectory(prefix="stemma-") as folder:
        made = Commands(Path(folder))
        yield made
        made.end()


@dataclass(frozen=True, kw_only=True)
class Place:
    """A project folder, and commands in it."""

    folder: Path
    commands: Any
    variables: Mapping[str, str] = field(default_factory=dict)

    def run(self, *command: str, variables: Mapping[str, str] | None = None, **options: Any) -> Any:
        """Run any command in the folder."""
        return subprocess.run(
            command,
            cwd=options.pop("cwd", self.folder),
            env={**self.variables, **(variables or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            **options,
        )

    def stemma(self, *arguments: str, **options: Any) -> Any:
        """Run ``stemma``."""
        cwd = options.pop("cwd", self.folder)
        env = {**self.variables, **(options.pop("variables", None) or {})}
        return self.commands.run(*arguments, cwd=cwd, env=env, **options)

    def python(self, text: str, *arguments: str, **options: Any) -> Any:
        """Run a script that uses the SDK."""
        (self.folder / "script.py").write_text(text, encoding="utf-8")
        return self.run(sys.executable, "script.py", *arguments, **options)

    def write(self, name: str, text: str | bytes = "") -> Path:
        """Write a file."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def runs(self) -> list[RunRecord]:
        """Return every run, newest first; read in this process, which takes no second."""
        with closing(open_hub(self.folder)) as hub:
            return hub.list_runs()

    def versions(self) -> list[str]:
        """Return every release number of toy, newest first."""
        with closing(open_hub(self.folder)) as hub:
            return [row.version for row in hub.log("toy")]

    def digest(self) -> dict[str, str]:
        """Return a digest of every file that matters, and where every link points."""
        found = {}
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder).as_posix()
            if path.name in _FLEETING or name.startswith((".stemma/cache", ".stemma/objects/tmp")):
                continue
            if path.is_symlink():
                found[name] = str(path.readlink())
            elif path.is_file():
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found

    def refused(self, *arguments: str, code: int, says: str, hint: str, **options: Any) -> Any:
        """Run a command twice, for a person and for a program; insist on one clear refusal.

        Returns:
            The error as JSON.
        """
        before = self.digest()
        shown = self.stemma(*arguments, **options)
        told = self.stemma(arguments[0], "--json", *arguments[1:], **options)
        assert self.digest() == before, "it changed something"
        assert (shown.returncode, told.returncode) == (code, code), shown.stderr + told.stdout
        error: dict[str, Any] = json.loads(told.stdout)
        assert set(error) == _ERROR_KEYS
        assert error["code"] == code
        assert told.stderr == ""
        assert shown.stdout == ""
        assert shown.stderr == f"error: {error['message']}\nhint: {error['hint']}\n"
        assert says in error["message"]
        assert error["hint"].startswith(hint), error["hint"]
        return error

    def raised(self, answer: Any, *, kind: str, says: str, hint: str) -> None:
        """Insist that a script ended in one of our errors with its next step."""
        assert answer.returncode == 1, answer.stdout + answer.stderr
        *_, last, told = answer.stderr.rstrip("\n").splitlines()
        assert last.startswith(f"stemma.domain.errors.{kind}: "), answer.stderr
        assert says in last
        assert told.startswith(f"hint: {hint}"), told


@pytest.fixture(scope="session")
def variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the whole environment of a command: an empty home, no network, no terminal."""
    return {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path_factory.mktemp("home")),
        "STEMMA_USER": "ada",
        "STEMMA_MAY_USE_NETWORK": "false",
        "STEMMA_PROGRESS": "none",
        "PYTHONWARNINGS": "ignore",
    }


@pytest.fixture(scope="session")
def prepared(
    tmp_path_factory: pytest.TempPathFactory, variables: dict[str, str], commands: Any
) -> Place:
    """Make a project with toy 1.0.0 on stable and toy 2.0.0; nobody may change it."""
    folder = tmp_path_factory.mktemp("prepared")
    place = Place(folder=folder, commands=commands, variables=variables)
    place.write("train.py", _SCRIPT)
    place.write("stemma.toml", "[model.toy]\n")
    assert place.stemma("init").returncode == 0
    for weight, options in (("1", ["--channel", "stable"]), ("2", [])):
        trained = place.run(sys.executable, "train.py", variables={"WEIGHT": weight})
        assert trained.returncode == 0, trained.stderr
        released = place.stemma("release", "toy", *options)
        assert released.returncode == 0, released.stderr
    return place


@pytest.fixture
def place(prepared: Place, tmp_path: Path) -> Place:
    """Copy the project for one test."""
    folder = tmp_path / "project"
    shutil.copytree(prepared.folder, folder, symlinks=True)
    return Place(folder=folder, commands=prepared.commands, variables=prepared.variables)
