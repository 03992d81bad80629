"""Data to stdout, the rest to stderr, in the asked format."""

from __future__ import annotations

import io
import json

import pytest

from stemma.cli.console import (
    Answer,
    Console,
    Format,
    ProgressMode,
    make_console,
    make_streams_safe,
    wants_colour,
)

ANSWER = Answer(
    payload={"version": "1.0.0"},
    card=["✓ done"],
    rows=[["1.0.0", "major"], ["1.0.1", "patch"]],
    header=("version", "level"),
    hints=["next: more"],
)


def test_json_is_alone_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    """A script that parses stdout would fail on a stray line."""
    Console(format=Format.JSON).show(ANSWER)
    out, err = capsys.readouterr()
    assert json.loads(out) == {"version": "1.0.0"}
    assert err == ""


def test_people_get_the_card_and_hints_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """Hints on stdout would end up in a pipe."""
    Console(format=Format.HUMAN).show(ANSWER)
    assert capsys.readouterr() == ("✓ done\n", "next: more\n")


def test_programs_get_tsv_without_header(capsys: pytest.CaptureFixture[str]) -> None:
    """A script would read the header as a version."""
    Console(format=Format.AGENT).show(ANSWER)
    assert capsys.readouterr().out == "1.0.0\tmajor\n1.0.1\tpatch\n"


def test_quiet_is_the_first_column(capsys: pytest.CaptureFixture[str]) -> None:
    """`for v in $(stemma log digits --format quiet)` would loop over words."""
    Console(format=Format.QUIET).show(ANSWER)
    assert capsys.readouterr() == ("1.0.0\n1.0.1\n", "")


def test_a_table_without_card_gets_its_header(capsys: pytest.CaptureFixture[str]) -> None:
    """People would not know what a column means."""
    Console(format=Format.HUMAN).show(Answer(payload=[], rows=ANSWER.rows, header=ANSWER.header))
    assert capsys.readouterr().out.splitlines()[0] == "version  level"


def test_an_empty_table_is_empty_on_stdout_and_a_sentence_on_stderr(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A pipe would read the sentence as a row."""
    Console(format=Format.AGENT).show(Answer(payload=[], card=["• nothing"], rows=[]))
    assert capsys.readouterr() == ("", "• nothing\n")


def test_colour_paints_the_mark_only(capsys: pytest.CaptureFixture[str]) -> None:
    """Without colour the answer must read the same."""
    Console(format=Format.HUMAN, has_colour=True).show(Answer(payload=0, card=["✗ no"]))
    assert capsys.readouterr().out == "\x1b[31m✗\x1b[0m no\n"


@pytest.mark.parametrize(
    ("choice", "environment", "is_tty", "expected"),
    [
        ("auto", {}, True, True),
        ("auto", {}, False, False),
        ("auto", {"NO_COLOR": "1"}, True, False),
        ("auto", {"NO_COLOR": "1", "FORCE_COLOR": "1"}, True, False),
        ("auto", {"NO_COLOR": ""}, True, True),
        ("auto", {"FORCE_COLOR": "1"}, False, True),
        ("auto", {"FORCE_COLOR": "0"}, False, False),
        ("auto", {"CLICOLOR_FORCE": "1"}, False, True),
        ("auto", {"CLICOLOR": "0"}, True, False),
        ("auto", {"TERM": "dumb"}, True, False),
        ("always", {"NO_COLOR": "1"}, False, True),
        ("never", {"FORCE_COLOR": "1"}, True, False),
    ],
)
def test_colour_follows_flag_then_environment_then_terminal(
    choice: str, environment: dict[str, str], *, is_tty: bool, expected: bool
) -> None:
    """Escape codes would stand in log files."""
    assert wants_colour(choice, environment, is_tty=is_tty) is expected


def test_a_pipe_gets_the_format_of_programs() -> None:
    """Tables in a pipe would be cut at a width nobody has."""
    assert make_console(format_name="auto").format in {Format.AGENT, Format.HUMAN}
    assert make_console(is_json=True).format is Format.JSON
    assert make_console(format_name="human", progress_name="none").progress is ProgressMode.NONE


def test_marks_have_an_ascii_spelling(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ASCII terminal would end the command with UnicodeEncodeError."""
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii"))
    make_streams_safe()
    Console(format=Format.HUMAN).show(Answer(payload=0, card=["✓ a → b ≥ 1 ü"]))
    assert raw.getvalue() == b"ok a -> b >= 1 \\u00fc\n"
