"""Text for people: tables, sizes, times and short names, as pure functions.

Invariants:
    * Every function returns text without colour; colour is added by ``stemma.cli.console``.
    * Meaning never rests on colour or alignment: TSV says the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

DONE: Final = "✓"
NOTED: Final = "•"
REFUSED: Final = "✗"

_SIZE_UNITS: Final = ("bytes", "KB", "MB", "GB", "TB")
_SIZE_STEP: Final = 1000
_SMALL: Final = 10
_MINUTE_SECONDS: Final = 60
_HOUR_SECONDS: Final = 3600
_DAY_SECONDS: Final = 86400
_MONTH_DAYS: Final = 30
_YEAR_DAYS: Final = 365
_RUN_LENGTH: Final = 8

ASCII: Final = {
    "✓": "ok",
    "✗": "x",
    "•": "*",
    "→": "->",
    "≤": "<=",
    "≥": ">=",
    "≠": "!=",
    "…": "...",
    "×": "x",
    "·": "-",
    "–": "-",
    "−": "-",
    "—": "-",
    "█": "#",
    "░": ".",
}
"""What stands for our own marks on a terminal that knows only ASCII."""


def size(size_bytes: int) -> str:
    """Write a size in decimal units, ``30 KB``, ``1.4 GB``."""
    value = float(size_bytes)
    for unit in _SIZE_UNITS:
        if abs(value) < _SIZE_STEP or unit == _SIZE_UNITS[-1]:
            digits = 0 if unit == "bytes" or abs(value) >= _SMALL else 1
            return f"{value:,.{digits}f} {unit}"
        value /= _SIZE_STEP
    return ""


def count(number: int, noun: str, plural: str = "") -> str:
    """Write ``1 row`` or ``1,257 rows``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def duration(seconds: float) -> str:
    """Write ``0.4 s``, ``12 s``, ``3:05`` or ``2:03:00``."""
    if seconds < _SMALL:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _MINUTE_SECONDS:
        return f"{whole} s"
    hours, rest = divmod(whole, _HOUR_SECONDS)
    minutes, left = divmod(rest, _MINUTE_SECONDS)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def ago(moment: datetime, now: datetime) -> str:
    """Write how long ago ``moment`` was: ``just now``, ``5 minutes ago``, ``3 days ago``."""
    seconds = (now - moment).total_seconds()
    if seconds < _MINUTE_SECONDS:
        return "just now"
    if seconds < _HOUR_SECONDS:
        return f"{count(int(seconds // _MINUTE_SECONDS), 'minute')} ago"
    if seconds < _DAY_SECONDS:
        return f"{count(int(seconds // _HOUR_SECONDS), 'hour')} ago"
    days = int(seconds // _DAY_SECONDS)
    if days < _MONTH_DAYS:
        return f"{count(days, 'day')} ago"
    if days < _YEAR_DAYS:
        return f"{count(days // _MONTH_DAYS, 'month')} ago"
    return f"{count(days // _YEAR_DAYS, 'year')} ago"


def short_run(run: str) -> str:
    """Return the run id as people read it, ``r-081cc8``."""
    return run[:_RUN_LENGTH]


def clean(text: str) -> str:
    """Make text safe for one cell: no tabs, line breaks or terminal control characters."""
    return "".join(
        " " if char in "\t\r\n\v\f" else char
        for char in text
        if char.isprintable() or char in "\t\r\n\v\f"
    )


def table(rows: Iterable[Sequence[str]], *, indent: int = 0, width: int = 0) -> list[str]:
    """Align rows in columns two blanks apart; the last column is cut at ``width`` when given."""
    cells = [[clean(cell) for cell in row] for row in rows]
    if not cells:
        return []
    columns = max(len(row) for row in cells)
    widths = [
        max((len(row[index]) for row in cells if index < len(row)), default=0)
        for index in range(columns)
    ]
    lines: list[str] = []
    for row in cells:
        padded = [cell.ljust(widths[index]) for index, cell in enumerate(row[:-1])]
        line = " " * indent + "  ".join([*padded, *row[-1:]]).rstrip()
        lines.append(line if not width or len(line) <= width else line[: width - 1] + "…")
    return lines


def tsv(rows: Iterable[Sequence[str]]) -> list[str]:
    """Write rows as tab-separated values; nothing is cut."""
    return ["\t".join(clean(cell) for cell in row) for row in rows]


def labelled(pairs: Iterable[tuple[str, str]], *, width: int = 12, indent: int = 2) -> list[str]:
    """Align labelled lines: the text starts ``width`` after the indent, or past the longest."""
    known = [(clean(label), clean(text)) for label, text in pairs]
    wide = max([width, *(len(label) + 2 for label, _ in known)])
    return [" " * indent + f"{label:<{wide}}{text}".rstrip() for label, text in known]
