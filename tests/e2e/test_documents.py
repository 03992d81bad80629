"""Runs the tutorial and the how-to pages as they are written, and compares what they show.

A page is a sequence of blocks.  A fenced block whose first line names a file
(``python title="train.py"``) is written to that file.  An HTML comment
``<!-- edit FILE: OLD => NEW -->`` edits it, as the prose around it asks the reader to.  A
``console`` block holds commands after ``$`` and what they print; ``…`` stands for
anything.  Ids, digests, times and user names are normalised on both sides.
A command that ends in ``&`` goes on in the background: what the page shows must appear in
its output within a minute.  Pages say port 8700; each is followed with a port of its own.
A page whose first line is ``<!-- needs: MODULE … -->`` is skipped where one is missing.
On a few pages, which have every verb, ``stemma`` is started as a person would; on the
others it is run by a process that has loaded it already.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stemma.cli.verbs import GROUPS

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for folder in ("tutorials", "how-to")
    for path in (ROOT / "docs" / folder).glob("*.md")
    if "```console" in path.read_text(encoding="utf-8")
)
BLOCK = re.compile(
    r"^```(?P<kind>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<body>.*?)^```$"
    r"|^<!-- edit (?P<file>\S+): (?P<old>.*?) => (?P<new>.*?) -->$",
    re.MULTILINE | re.DOTALL,
)
NEEDS = re.compile(r"\A<!-- needs: (?P<modules>[\w ]+?) -->$", re.MULTILINE)
NORMAL = (
    (re.compile(r"r-[0-9a-f]{4,}"), "r-ID"),
    (re.compile(r"\b(sha256:|blake3:)?[0-9a-f]{8,64}\b"), "DIGEST"),
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?(\.\d+)?(Z|\+\d\d:\d\d)?"), "TIME"),
    (re.compile(r"\b(just now|\d+ (s|min|h|d) ago)\b"), "AGO"),
    (re.compile(r"\b\d+(\.\d+)? (B|KB|MB|GB)\b"), "SIZE"),
    (re.compile(r"\b\d+(\.\d+)? s\b"), "SECONDS"),
    (re.compile(r"\bpython 3\.\d+\.\d+"), "python 3.N"),
    (re.compile(r"\b\d+ packages\b"), "N packages"),
    (re.compile(r"[ \t]+"), " "),
)
USUAL_PORT = ":8700"
STARTED = {
    "five-minutes",
    "share-through-a-remote",
    "recover",
    "read-parts-of-a-version",
    "track-for-a-team",
}
"""The pages on which nothing stands in for ``stemma``."""
BACKGROUND_SECONDS = 60


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One command of a page and the lines it should print."""

    command: str
    expected: tuple[str, ...]


def _steps(body: str) -> Iterator[Step]:
    command, expected = "", list[str]()
    for line in body.splitlines():
        if line.startswith("$ "):
            if command:
                yield Step(command=command, expected=tuple(expected))
            command, expected = line[2:], []
        elif line.strip():
            expected.append(line)
    if command:
        yield Step(command=command, expected=tuple(expected))


def _normal(line: str) -> str:
    for pattern, replacement in NORMAL:
        line = pattern.sub(replacement, line)
    return line.strip()


def _matches(expected: list[str], actual: list[str]) -> bool:
    """Compare line by line; a line of ``…`` matches any number of lines."""
    if not expected:
        return not actual
    if expected[0] == "…":
        return any(_matches(expected[1:], actual[i:]) for i in range(len(actual) + 1))
    return (
        bool(actual)
        and _line_matches(expected[0], actual[0])
        and _matches(expected[1:], actual[1:])
    )


def _line_matches(expected: str, actual: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in expected.split("…"))
    return re.fullmatch(pattern, actual) is not None


class Reader:
    """Follows a page in a folder of its own, as a person would."""

    def __init__(self, folder: Path, commands: Any = None) -> None:
        """With ``commands``, ``stemma`` is one that has been loaded."""
        self.folder = folder
        self.exit_code = 0
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("STEMMA_")},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "XDG_CONFIG_HOME": str(folder.parent),
            "STEMMA_FORMAT": "human",
            "STEMMA_USER": "ada",
            "PYTHONHASHSEED": "0",
            "EXAMPLES": str(ROOT / "examples"),
        }
        self.port = _free_port()
        self.environment["STEMMA_SERVE_PORT"] = str(self.port)
        if commands is not None:
            loaded = commands.stand_in(self.environment)
            self.environment["PATH"] = f"{loaded}{os.pathsep}{self.environment['PATH']}"
        self.background: list[subprocess.Popen[bytes]] = []

    def leave(self) -> None:
        """End what the page left running."""
        for process in self.background:
            process.terminate()
        for process in self.background:
            process.wait(timeout=60)

    def follow(self, page: str) -> None:
        for match in BLOCK.finditer(page):
            if match["file"]:
                self._edit(match["file"], match["old"], match["new"])
            elif match["title"]:
                path = self.folder / match["title"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(match["body"], encoding="utf-8")
            elif match["kind"] == "console":
                for step in _steps(match["body"]):
                    self._do(step)

    def _edit(self, name: str, old: str, new: str) -> None:
        path = self.folder / name
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{name} does not hold {old!r}"
        path.write_text(text.replace(old, new), encoding="utf-8")

    def _start(self, step: Step) -> None:
        """Start a command in the background, and wait until it has said what the page shows."""
        log = self.folder.parent / f"background-{len(self.background)}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {step.command.removesuffix('&')}"],
                cwd=self.folder,
                env=self.environment,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        self.background.append(process)
        expected = [_normal(line) for line in step.expected]
        end = time.monotonic() + BACKGROUND_SECONDS
        while True:
            said = self._with_usual_port(log.read_text(encoding="utf-8"))
            if _matches(expected, [_normal(line) for line in said.splitlines() if line.strip()]):
                return
            assert time.monotonic() < end, f"$ {step.command}\n--- it printed\n{said}"
            time.sleep(0.1)

    def _with_usual_port(self, text: str) -> str:
        return text.replace(f":{self.port}", USUAL_PORT)

    def _do(self, step: Step) -> None:
        if step.command.endswith("&"):
            self._start(step)
            return
        command = step.command.replace(USUAL_PORT, f":{self.port}")
        result = subprocess.run(
            ["bash", "-c", f"(exit {self.exit_code}); {command}"],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=240,
            check=False,
        )
        self.exit_code = result.returncode
        expected = [_normal(line) for line in step.expected]
        said = self._with_usual_port(result.stdout)
        actual = [_normal(line) for line in said.splitlines() if line.strip()]
        assert _matches(expected, actual), (
            f"$ {step.command}\n--- the page says\n"
            + "\n".join(step.expected)
            + f"\n--- it printed (exit {result.returncode})\n{result.stdout}"
        )


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_does_what_it_says(page: Path, tmp_path: Path, commands: Any) -> None:
    """A newcomer who follows the page would be lost at the first difference."""
    text = page.read_text(encoding="utf-8")
    needs = NEEDS.search(text)
    for module in needs["modules"].split() if needs else []:
        pytest.importorskip(module, reason=f"{module} is an extra; `make test` installs it")
    folder = tmp_path / "project"
    folder.mkdir()
    reader = Reader(folder, None if page.stem in STARTED else commands)
    try:
        reader.follow(text)
    finally:
        reader.leave()


def test_there_are_pages_to_run_and_every_verb_is_started_on_one() -> None:
    """The test above would pass on nothing, or on a ``stemma`` that nobody could start."""
    pages = [page.read_text(encoding="utf-8") for page in PAGES if page.stem in STARTED]
    commands = re.findall(r"^\$ .*", "\n".join(pages), re.MULTILINE)
    verbs = {verb for group in GROUPS.values() for verb in group}
    assert verbs <= set(re.findall(r"\bstemma (\w+)", "\n".join(commands)))
