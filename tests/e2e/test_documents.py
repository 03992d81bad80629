"""Runs the tutorial and the how-to pages as they are written, and compares what they show.

A page is a sequence of blocks.  A fenced block whose first line names a file
(``python title="train.py"``) is written to that file.  An HTML comment
``<!-- edit FILE: OLD => NEW -->`` edits it, as the prose around it asks the reader to.  A
``console`` block holds commands after ``$`` and what they print; ``…`` stands for
anything.  Ids, digests, times and user names are normalised on both sides.
A page whose first line is ``<!-- needs: MODULE … -->`` is skipped where one is missing.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

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

    def __init__(self, folder: Path) -> None:
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

    def _do(self, step: Step) -> None:
        result = subprocess.run(
            ["bash", "-c", f"(exit {self.exit_code}); {step.command}"],
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
        actual = [_normal(line) for line in result.stdout.splitlines() if line.strip()]
        assert _matches(expected, actual), (
            f"$ {step.command}\n--- the page says\n"
            + "\n".join(step.expected)
            + f"\n--- it printed (exit {result.returncode})\n{result.stdout}"
        )


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_does_what_it_says(page: Path, tmp_path: Path) -> None:
    """A newcomer who follows the page would be lost at the first difference."""
    text = page.read_text(encoding="utf-8")
    needs = NEEDS.search(text)
    for module in needs["modules"].split() if needs else []:
        pytest.importorskip(module, reason=f"{module} is an extra; `make test` installs it")
    folder = tmp_path / "project"
    folder.mkdir()
    Reader(folder).follow(text)


def test_there_are_pages_to_run() -> None:
    """The test above would pass on nothing."""
    assert any(page.stem == "five-minutes" for page in PAGES)
