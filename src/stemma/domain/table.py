"""A settings table read key by key: typed, and nothing in it is ignored.

Invariants:
    * Every error names the dotted key, what is allowed there and, for an unknown
      key, what was probably meant.
    * ``close`` refuses every key that nothing has asked for.

Example:
    >>> table = Table({"expiry_days": 14}, "model.digits")
    >>> table.whole("expiry_days", 7)
    14
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Final

from stemma.domain.errors import InvalidInputError

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")


class Table:
    """One table of a settings file.

    Attributes:
        where: Its dotted name, e.g. ``model.digits``.
    """

    def __init__(self, values: object, where: str) -> None:
        """Refuse what is not a table.

        Raises:
            InvalidInputError: If ``values`` is not a mapping with text keys.
        """
        self.where = where
        if not isinstance(values, Mapping):
            raise wrong_type(where, "a table", values)
        self._values: dict[str, object] = {str(key): value for key, value in values.items()}
        self._known: list[str] = []

    def dotted(self, key: str) -> str:
        """Return the dotted name of ``key``, quoted where TOML needs it."""
        return f"{self.where}.{key}" if _BARE_KEY.fullmatch(key) else f'{self.where}."{key}"'

    @property
    def names(self) -> list[str]:
        """The keys as written."""
        return list(self._values)

    @property
    def values(self) -> Mapping[str, object]:
        """Everything as written, for a reader of its own."""
        return self._values

    def value(self, key: str) -> object:
        """Return the value of ``key`` as it is, ``None`` when absent."""
        self._known.append(key)
        return self._values.get(key)

    def text(self, key: str, default: str = "", *, allowed: tuple[str, ...] = ()) -> str:
        """Return a string, one of ``allowed`` when these are given."""
        value = self.value(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise wrong_type(self.dotted(key), "a string", value)
        if allowed and value not in allowed:
            raise not_allowed(self.dotted(key), value, allowed)
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """Return a boolean."""
        value = self.value(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise wrong_type(self.dotted(key), "true or false", value)
        return value

    def whole(self, key: str, default: int) -> int:
        """Return an integer of at least 1."""
        value = self.value(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise wrong_type(self.dotted(key), "a whole number of at least 1", value)
        return value

    def number(self, key: str, default: float) -> float:
        """Return a number that is neither negative nor infinite."""
        value = self.value(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise wrong_type(self.dotted(key), "a number", value)
        if not 0 <= value < float("inf"):
            raise wrong_type(self.dotted(key), "a number of at least 0", value)
        return float(value)

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of strings."""
        value = self.value(key)
        if value is None:
            return ()
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise wrong_type(self.dotted(key), "a list of strings", value)
        return tuple(str(item) for item in value)

    def pattern(self, key: str) -> str:
        """Return a regular expression."""
        value = self.text(key)
        try:
            re.compile(value)
        except re.error as error:
            raise InvalidInputError(
                f"{self.dotted(key)}: {value!r} is not a regular expression: {error}",
                code="bad-setting",
                hint='e.g. "[a-z]+-[0-9]+"',
            ) from error
        return value

    def table(self, key: str) -> Table:
        """Return a nested table; empty when absent."""
        value = self.value(key)
        return Table({} if value is None else value, self.dotted(key))

    def close(self) -> None:
        """Refuse keys that nothing asked for.

        Raises:
            InvalidInputError: If there is one.
        """
        for key in self._values:
            if key not in self._known:
                raise unknown_key(self.dotted(key), key, self._known)


def unknown_key(dotted: str, key: str, known: list[str]) -> InvalidInputError:
    """Return the error for a key that does not exist, with what was probably meant."""
    meant = difflib.get_close_matches(key, known, n=1)
    return InvalidInputError(
        f"{dotted}: no such setting; allowed are {', '.join(sorted(known))}",
        code="unknown-setting",
        hint=f"did you mean {meant[0]}?" if meant else "see docs/reference/settings.md",
    )


def not_allowed(dotted: str, value: str, allowed: tuple[str, ...]) -> InvalidInputError:
    """Return the error for a word that is not one of ``allowed``."""
    meant = difflib.get_close_matches(value, allowed, n=1)
    return InvalidInputError(
        f"{dotted}: {value!r} is not one of {', '.join(allowed)}",
        code="bad-setting",
        hint=f"did you mean {meant[0]}?" if meant else f"e.g. {allowed[0]}",
    )


def wrong_type(dotted: str, expected: str, value: object) -> InvalidInputError:
    """Return the error for a value of another type."""
    return InvalidInputError(
        f"{dotted}: expected {expected}, found {str(value)[:60]!r} ({type(value).__name__})",
        code="bad-setting",
        hint=f"write {expected} in stemma.toml",
    )
