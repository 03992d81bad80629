"""Where output goes: data to stdout, everything else to stderr, in the asked format.

Invariants:
    * stdout carries the answer and nothing else; JSON there is valid and alone.
    * Colour is never the only carrier of meaning, and is off unless a person reads.
    * Text survives any terminal encoding: marks have ASCII spellings.
"""

from __future__ import annotations

import codecs
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, TextIO

from stemma.cli import render
from stemma.domain.errors import InvalidInputError

_AGENT_VARIABLES: Final = ("AI_AGENT", "AGENT")
_GREEN, _RED, _YELLOW, _BOLD, _RESET = "\x1b[32m", "\x1b[31m", "\x1b[33m", "\x1b[1m", "\x1b[0m"
_MARK_COLOURS: Final = {render.DONE: _GREEN, render.REFUSED: _RED, render.NOTED: _YELLOW}
_ENCODING_HANDLER: Final = "stemma-marks"


class Format(Enum):
    """How answers are written."""

    AUTO = "auto"
    HUMAN = "human"
    AGENT = "agent"
    JSON = "json"
    QUIET = "quiet"


class ProgressMode(Enum):
    """How progress is written."""

    AUTO = "auto"
    BAR = "bar"
    LINES = "lines"
    JSON = "json"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a verb answers, in every form.

    Attributes:
        payload: JSON value for ``--json``.
        card: Lines for people.
        rows: The same as a table, without header; ``None``: the card serves programs as well.
        header: Names of the columns, shown to people above a ``card`` made from ``rows``.
        hints: What to do next; on stderr, for people only.
    """

    payload: object
    card: Sequence[str] = ()
    rows: Sequence[Sequence[str]] | None = None
    header: Sequence[str] = ()
    hints: Sequence[str] = field(default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """Both streams with the choices made for them.

    Attributes:
        format: Resolved format; never ``AUTO``.
        progress: Resolved progress mode; never ``AUTO``.
        has_colour: Whether stdout takes colour.
        has_error_colour: Whether stderr takes colour.
        is_interactive: Whether a person can be asked.
    """

    format: Format
    progress: ProgressMode = ProgressMode.NONE
    has_colour: bool = False
    has_error_colour: bool = False
    is_interactive: bool = False

    def show(self, answer: Answer) -> None:
        """Write an answer in this console's format."""
        match self.format:
            case Format.JSON:
                self.write_json(answer.payload)
            case Format.QUIET:
                self._write(_first_column(answer))
            case Format.AGENT if answer.rows is not None:
                self._write(render.tsv(answer.rows))
                # An empty table says nothing; the sentence for people goes beside it.
                for line in () if answer.rows else answer.card[:1]:
                    self.note(line)
                self._write_hints(answer)
            case Format.AGENT | Format.HUMAN | Format.AUTO:
                self._write([self._painted(line) for line in self._card(answer)])
                self._write_hints(answer)

    def _write_hints(self, answer: Answer) -> None:
        for hint in answer.hints:
            self.note(hint)

    def note(self, text: str) -> None:
        """Write a remark to stderr, unless a program reads or quiet was asked."""
        if self.format not in {Format.JSON, Format.QUIET}:
            sys.stdout.flush()
            print(text, file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        """Write a warning to stderr, always."""
        sys.stdout.flush()
        print(f"warning: {text}", file=sys.stderr, flush=True)

    def write_json(self, payload: object) -> None:
        """Write one JSON value, alone on stdout."""
        json.dump(payload, sys.stdout, ensure_ascii=False, indent=2, default=str)
        sys.stdout.write("\n")
        sys.stdout.flush()

    def say(self, line: str) -> None:
        """Write one line of an answer that comes bit by bit, to people and plain readers."""
        if self.format not in {Format.JSON, Format.QUIET}:
            self._write([self._painted(line)])

    def _card(self, answer: Answer) -> Sequence[str]:
        if answer.card or answer.rows is None:
            return answer.card
        width = os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else 0
        rows = [answer.header, *answer.rows] if answer.header and answer.rows else answer.rows
        return render.table(rows, width=width)

    def _painted(self, line: str) -> str:
        colour = _MARK_COLOURS.get(line[:1])
        return f"{colour}{line[:1]}{_RESET}{line[1:]}" if colour and self.has_colour else line

    def _write(self, lines: Sequence[str]) -> None:
        for line in lines:
            print(line)
        sys.stdout.flush()

    def show_failure(self, message: str, hint: str = "") -> None:
        """Write that something failed, beside an answer; JSON says it in the answer."""
        if self.format is not Format.JSON:
            self.show_error(message, hint)

    def show_error(self, message: str, hint: str = "") -> None:
        """Write an error for people: what, why, one command."""
        what, _, why = message.partition("\n")
        paint = (_RED + _BOLD, _RESET) if self.has_error_colour else ("", "")
        sys.stdout.flush()
        lines = [f"{paint[0]}error:{paint[1]} {what}"]
        lines += [f"  {line}" for line in why.splitlines()]
        if hint:
            lines.append(f"hint: {hint}")
        print("\n".join(lines), file=sys.stderr, flush=True)


def _first_column(answer: Answer) -> list[str]:
    if answer.rows is not None:
        return [render.clean(row[0]) for row in answer.rows if row]
    return []


def make_console(
    *,
    format_name: str = "",
    progress_name: str = "",
    colour: str = "auto",
    is_json: bool = False,
) -> Console:
    """Resolve ``auto`` by looking at the streams and the environment.

    Args:
        format_name: ``--format``; empty: ``STEMMA_FORMAT``, else ``auto``.
        progress_name: ``--progress``; empty: ``STEMMA_PROGRESS``, else ``auto``.
        colour: ``--color``: ``auto``, ``always`` or ``never``.
        is_json: ``--json`` was given.
    """
    environment = os.environ
    chosen = Format.JSON if is_json else _format(format_name, environment)
    mode = _progress(progress_name, chosen, environment)
    return Console(
        format=chosen,
        progress=mode,
        has_colour=wants_colour(colour, environment, is_tty=sys.stdout.isatty()),
        has_error_colour=wants_colour(colour, environment, is_tty=sys.stderr.isatty()),
        is_interactive=sys.stdin.isatty() and sys.stderr.isatty(),
    )


def check_variables(environment: Mapping[str, str] = os.environ) -> None:
    """Refuse a variable that names no format or progress mode, as a flag would be.

    Raises:
        InvalidInputError: If there is one.
    """
    choices: dict[str, type[Enum]] = {"STEMMA_FORMAT": Format, "STEMMA_PROGRESS": ProgressMode}
    for name, kind in choices.items():
        allowed = [item.value for item in kind]
        if environment.get(name, "") not in {"", *allowed}:
            raise InvalidInputError(
                f"{name} is {environment[name]!r}; it must be one of {', '.join(allowed)}",
                code="bad-setting",
                hint=f"unset {name}",
            )


def _format(name: str, environment: Mapping[str, str]) -> Format:
    asked = name or environment.get("STEMMA_FORMAT", "")
    chosen = Format(asked) if asked in {item.value for item in Format} else Format.AUTO
    if chosen is not Format.AUTO:
        return chosen
    is_agent = any(environment.get(variable) for variable in _AGENT_VARIABLES)
    return Format.HUMAN if sys.stdout.isatty() and not is_agent else Format.AGENT


def _progress(name: str, chosen: Format, environment: Mapping[str, str]) -> ProgressMode:
    asked = name or environment.get("STEMMA_PROGRESS", "")
    mode = ProgressMode(asked) if asked in {item.value for item in ProgressMode} else None
    if mode is not None and mode is not ProgressMode.AUTO:
        return mode
    if chosen is Format.QUIET:
        return ProgressMode.NONE
    is_plain = environment.get("TERM") == "dumb"
    return ProgressMode.BAR if sys.stderr.isatty() and not is_plain else ProgressMode.LINES


def wants_colour(choice: str, environment: Mapping[str, str], *, is_tty: bool) -> bool:
    """Whether a stream takes colour: flag, then NO_COLOR, then FORCE_COLOR, then the terminal."""
    if choice in {"always", "never"}:
        return choice == "always"
    if environment.get("NO_COLOR"):
        return False
    if environment.get("FORCE_COLOR", "0") not in {"", "0"}:
        return True
    if environment.get("CLICOLOR_FORCE", "0") not in {"", "0"}:
        return True
    return is_tty and environment.get("TERM") != "dumb" and environment.get("CLICOLOR") != "0"


def make_streams_safe() -> None:
    """Let no character that a terminal cannot show raise: our marks get their ASCII spelling."""
    codecs.register_error(_ENCODING_HANDLER, _spell)
    for stream in (sys.stdout, sys.stderr):
        _reconfigure(stream)


def _reconfigure(stream: TextIO) -> None:
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors=_ENCODING_HANDLER)


def _spell(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    spelled = "".join(
        render.ASCII.get(char) or f"\\u{ord(char):04x}"
        for char in error.object[error.start : error.end]
    )
    return spelled, error.end
