"""Release numbers: SemVer 2.0.0 without build metadata, and ranges over them.

Invariants:
    * Numbers are ordered by SemVer 2.0.0 §11; ``SemVer.parse(str(v)) == v``.
    * A range names a pre-release only by naming its very number: ``^1`` never
      matches ``1.3.0-pre.1``; ``>=1.3.0-pre.1`` does.

This module does not choose a number; see ``stemma.domain.combine``.

Example:
    >>> str(SemVer.parse("1.1.0").bump(Level.PATCH))
    '1.1.1'
    >>> Range.parse("^1").matches(SemVer(1, 9, 0))
    True
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import total_ordering
from typing import Final

from typing_extensions import override

from stemma.domain.errors import InvalidInputError
from stemma.domain.verdict import Level

_NUMBER: Final = r"(?:0|[1-9][0-9]{0,17})"
_IDENTIFIER: Final = r"(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_VERSION: Final = re.compile(
    rf"v?({_NUMBER})\.({_NUMBER})\.({_NUMBER})(?:-({_IDENTIFIER}(?:\.{_IDENTIFIER})*))?"
)
_PARTIAL: Final = re.compile(rf"v?({_NUMBER})(?:\.({_NUMBER}|[xX*])(?:\.[xX*])?)?")
_WHOLE: Final = 3
_PRERELEASE_WORD: Final = "pre"
_LENGTH_LIMIT: Final = 128
_RANGE_HINT: Final = "a range reads like ^1, ~1.2, 1.x, >=1.4,<2 or 1.4.2"


@total_ordering
@dataclass(frozen=True, slots=True)
class SemVer:
    """A release number.

    Attributes:
        major: Raised when something breaks.
        minor: Raised when something is added and nothing breaks.
        patch: Raised when behaviour stays.
        prerelease: Dotted identifiers such as ``pre.1``; empty for a release.
    """

    major: int
    minor: int
    patch: int
    prerelease: str = ""

    def __post_init__(self) -> None:
        """Refuse what does not print as a SemVer number.

        Raises:
            InvalidInputError: If a part is negative or the pre-release malformed.
        """
        if not _VERSION.fullmatch(str(self)):
            raise InvalidInputError(
                f"not a version number: {str(self)!r}",
                code="bad-version",
                hint="a version number reads like 1.4.2 or 2.0.0-pre.1",
            )

    @classmethod
    def parse(cls, text: str) -> SemVer:
        """Read ``1.4.2`` or ``2.0.0-pre.1``; a leading ``v`` is allowed.

        Raises:
            InvalidInputError: If it is anything else.
        """
        match = _VERSION.fullmatch(text) if len(text) <= _LENGTH_LIMIT else None
        if match is None:
            raise InvalidInputError(
                f"not a version number: {text[:80]!r}",
                code="bad-version",
                hint="a version number reads like 1.4.2 or 2.0.0-pre.1",
            )
        major, minor, patch, prerelease = match.groups()
        return cls(int(major), int(minor), int(patch), prerelease or "")

    @property
    def core(self) -> SemVer:
        """The number without its pre-release."""
        return SemVer(self.major, self.minor, self.patch)

    @property
    def _precedence(self) -> tuple[int, int, int, bool, tuple[tuple[bool, int, str], ...]]:
        """The sort key of SemVer 2.0.0 §11: numbers before words, a release after its pre's."""
        identifiers = self.prerelease.split(".") if self.prerelease else []
        key = tuple(
            (False, int(part), "") if part.isdigit() else (True, 0, part) for part in identifiers
        )
        return (self.major, self.minor, self.patch, not self.prerelease, key)

    def __lt__(self, other: SemVer) -> bool:
        """Order by SemVer 2.0.0 §11."""
        return self._precedence < other._precedence

    def bump(self, level: Level) -> SemVer:
        """Return the next release number at ``level``; ``NONE`` returns this number.

        From a pre-release the number it prepares counts as not yet released, so
        ``2.0.0-pre.1`` bumped by ``PATCH`` is ``2.0.0``.
        """
        if level is Level.NONE:
            return self
        if self.prerelease and _prepares(self.core) >= level.rank:
            return self.core
        if level is Level.MAJOR:
            return SemVer(self.major + 1, 0, 0)
        if level is Level.MINOR:
            return SemVer(self.major, self.minor + 1, 0)
        return SemVer(self.major, self.minor, self.patch + 1)

    def next_prerelease(self, existing: Iterable[SemVer] = ()) -> SemVer:
        """Return this number's first free pre-release: ``2.0.0-pre.1``, then ``2.0.0-pre.2``."""
        counts = [0]
        for version in existing:
            word, _, count = version.prerelease.partition(".")
            if version.core == self.core and word == _PRERELEASE_WORD and count.isdigit():
                counts.append(int(count))
        return SemVer(self.major, self.minor, self.patch, f"{_PRERELEASE_WORD}.{max(counts) + 1}")

    @override
    def __str__(self) -> str:
        """Return ``1.4.2`` or ``2.0.0-pre.1``."""
        text = f"{self.major}.{self.minor}.{self.patch}"
        return f"{text}-{self.prerelease}" if self.prerelease else text


FIRST: Final = SemVer(1, 0, 0)
"""Number of a model's first release."""


def _prepares(core: SemVer) -> int:
    """Return the rank of the level that a number with this core was raised by."""
    if core.patch:
        return Level.PATCH.rank
    return Level.MINOR.rank if core.minor else Level.MAJOR.rank


class Operator(Enum):
    """How a comparator compares."""

    EQUAL = "="
    LESS = "<"
    LESS_OR_EQUAL = "<="
    GREATER = ">"
    GREATER_OR_EQUAL = ">="


_COMPARE: Final[Mapping[Operator, Callable[[SemVer, SemVer], bool]]] = {
    Operator.EQUAL: operator.eq,
    Operator.LESS: operator.lt,
    Operator.LESS_OR_EQUAL: operator.le,
    Operator.GREATER: operator.gt,
    Operator.GREATER_OR_EQUAL: operator.ge,
}
_COMPARATOR: Final = re.compile(r"(>=|<=|>|<|=)\s*(.+)")


@dataclass(frozen=True, slots=True)
class Comparator:
    """One bound of a range.

    Attributes:
        operator: How it compares.
        version: What it compares with.
    """

    operator: Operator
    version: SemVer

    def matches(self, version: SemVer) -> bool:
        """Whether ``version`` is on the right side of this bound."""
        return _COMPARE[self.operator](version, self.version)


@dataclass(frozen=True, slots=True)
class Range:
    """A set of version numbers.

    Attributes:
        comparators: Bounds that all must hold.
        text: As the user wrote it; not part of equality.
    """

    comparators: tuple[Comparator, ...]
    text: str = field(compare=False)

    @classmethod
    def parse(cls, text: str) -> Range:
        """Read ``^1``, ``~1.2``, ``1.x``, ``>=1.4,<2`` or ``1.4.2``.

        Raises:
            InvalidInputError: If it is anything else.
        """
        if len(text) > _LENGTH_LIMIT:
            raise _bad_range(text)
        comparators: list[Comparator] = []
        for part in text.split(","):
            comparators.extend(_comparators(part.strip(), text))
        return cls(tuple(comparators), text)

    def matches(self, version: SemVer) -> bool:
        """Whether ``version`` is in the range; a pre-release only when its number is named."""
        if version.prerelease and not any(
            bound.version.prerelease and bound.version.core == version.core
            for bound in self.comparators
        ):
            return False
        return all(bound.matches(version) for bound in self.comparators)

    @override
    def __str__(self) -> str:
        """Return the range as it was written."""
        return self.text


def _bad_range(text: str) -> InvalidInputError:
    return InvalidInputError(
        f"not a version or range: {text[:80]!r}", code="bad-range", hint=_RANGE_HINT
    )


def _between(low: SemVer, high: SemVer) -> list[Comparator]:
    return [Comparator(Operator.GREATER_OR_EQUAL, low), Comparator(Operator.LESS, high)]


def _comparators(part: str, whole: str) -> list[Comparator]:
    if part == "*":
        return [Comparator(Operator.GREATER_OR_EQUAL, SemVer(0, 0, 0))]
    if part[:1] in {"^", "~"}:
        low, given = _lower(part[1:], whole)
        return _between(low, _caret(low, given) if part[0] == "^" else _tilde(low, given))
    if match := _COMPARATOR.fullmatch(part):
        return [_bound(Operator(match.group(1)), match.group(2), whole)]
    low, given = _lower(part, whole)
    if given == _WHOLE:
        return [Comparator(Operator.EQUAL, low)]
    return _between(low, _tilde(low, given))


def _bound(sign: Operator, text: str, whole: str) -> Comparator:
    """Read one bound; ``<=1.4`` and ``>1.4`` mean all of 1.4."""
    low, given = _lower(text, whole)
    if given == _WHOLE:
        return Comparator(sign, low)
    if sign is Operator.EQUAL:
        raise _bad_range(whole)
    if sign is Operator.GREATER:
        return Comparator(Operator.GREATER_OR_EQUAL, _tilde(low, given))
    if sign is Operator.LESS_OR_EQUAL:
        return Comparator(Operator.LESS, _tilde(low, given))
    return Comparator(sign, low)


def _lower(text: str, whole: str) -> tuple[SemVer, int]:
    """Return the lowest version ``text`` names and how many of its numbers were given."""
    if _VERSION.fullmatch(text):
        return SemVer.parse(text), _WHOLE
    match = _PARTIAL.fullmatch(text)
    if match is None:
        raise _bad_range(whole)
    major, minor = match.group(1), match.group(2)
    if minor is None or not minor.isdigit():
        return SemVer(int(major), 0, 0), 1
    return SemVer(int(major), int(minor), 0), 2


def _caret(low: SemVer, given: int) -> SemVer:
    """Return the first number that ``^`` leaves out: the leftmost non-zero part is kept."""
    if low.major or given == 1:
        return SemVer(low.major + 1, 0, 0)
    if low.minor or given < _WHOLE:
        return SemVer(0, low.minor + 1, 0)
    return SemVer(0, 0, low.patch + 1)


def _tilde(low: SemVer, given: int) -> SemVer:
    if given == 1:
        return SemVer(low.major + 1, 0, 0)
    return SemVer(low.major, low.minor + 1, 0)
