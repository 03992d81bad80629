"""``stemma.settings``: the values given with ``stemma run --set name=value``.

Example:
    >>> stemma.settings.get("C", 1.0)  # doctest: +SKIP
    0.5
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import Final

from typing_extensions import override

from stemma.domain.errors import InvalidInputError

VARIABLE: Final = "STEMMA_SET"


class Overrides(Mapping[str, object]):
    """Values set on the command line, read-only; knows which of them a script asked for.

    Attributes:
        used: Names that were read.
    """

    def __init__(self, values: Mapping[str, object]) -> None:
        """Hold the values."""
        self._values = dict(values)
        self.used: set[str] = set()

    @override
    def __getitem__(self, name: str) -> object:
        """Return the value set for ``name``."""
        value = self._values[name]
        self.used.add(name)
        return value

    @override
    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self._values)

    @override
    def __len__(self) -> int:
        """Count the names."""
        return len(self._values)

    @override
    def __repr__(self) -> str:
        """Show the values."""
        return f"Settings({self._values!r})"


def read_overrides(environment: Mapping[str, str]) -> Overrides:
    """Read ``STEMMA_SET``.

    Raises:
        InvalidInputError: If it is not a JSON object.
    """
    text = environment.get(VARIABLE) or "{}"
    try:
        values = json.loads(text)
    except ValueError as error:
        raise InvalidInputError(
            f"{VARIABLE} is not JSON: {text[:80]!r}", code="bad-overrides", hint=f"unset {VARIABLE}"
        ) from error
    if not isinstance(values, dict):
        raise InvalidInputError(
            f"{VARIABLE} is not a JSON object: {text[:80]!r}",
            code="bad-overrides",
            hint=f"unset {VARIABLE}",
        )
    return Overrides(values)


settings: Final = read_overrides(os.environ)
