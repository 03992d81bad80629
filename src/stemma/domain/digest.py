"""A digest: the algorithm and the hexadecimal value that identify bytes.

Invariants:
    * The text form is ``algorithm:hex``, lower case, of the algorithm's full length.
    * Two digests are equal only when algorithm and value are.

Hashing itself happens where the bytes are (``stemma.store.hashing``); this
module does no I/O.

Example:
    >>> Digest.parse("sha256:" + "0" * 64).algorithm
    <Algorithm.SHA256: 'sha256'>
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final, final

from typing_extensions import override

from stemma.domain.errors import InvalidInputError


class Algorithm(Enum):
    """Hash algorithms Stemma names content by."""

    BLAKE3 = "blake3"
    SHA256 = "sha256"
    MD5 = "md5"


_HEX_LENGTH: Final = {Algorithm.BLAKE3: 64, Algorithm.SHA256: 64, Algorithm.MD5: 32}
_HEX: Final = re.compile(r"[0-9a-f]+")
_SHORT_LENGTH: Final = 8


@final
class Digest:
    """The digest of some bytes; immutable, hashable, and ordered by its text form.

    Not a dataclass, so that msgspec hands it to the hooks of
    ``stemma.domain.canonical`` and it is written as text.

    Attributes:
        algorithm: Which hash function.
        hex: Its value in lower-case hexadecimal.
    """

    __slots__ = ("algorithm", "hex")

    algorithm: Algorithm
    hex: str

    def __init__(self, algorithm: Algorithm, hex_value: str) -> None:
        """Refuse a value that the algorithm cannot have.

        Raises:
            InvalidInputError: If ``hex_value`` is not lower-case hexadecimal of the right length.
        """
        if len(hex_value) != _HEX_LENGTH[algorithm] or not _HEX.fullmatch(hex_value):
            raise InvalidInputError(
                f"not a {algorithm.value} digest: {hex_value[:80]!r}",
                code="bad-digest",
                hint="a digest reads like sha256: followed by 64 hexadecimal digits",
            )
        object.__setattr__(self, "algorithm", algorithm)
        object.__setattr__(self, "hex", hex_value)

    @override
    def __setattr__(self, name: str, value: object) -> None:
        """Refuse: a digest never changes."""
        raise AttributeError(f"a digest is immutable: {name}")

    @override
    def __eq__(self, other: object) -> bool:
        """Equal when algorithm and value are."""
        if not isinstance(other, Digest):
            return NotImplemented
        return self.algorithm is other.algorithm and self.hex == other.hex

    def __lt__(self, other: Digest) -> bool:
        """Order by text form, so that sorted lists of digests are canonical."""
        return str(self) < str(other)

    @override
    def __hash__(self) -> int:
        """Hash by algorithm and value."""
        return hash((self.algorithm, self.hex))

    @override
    def __reduce__(self) -> tuple[type[Digest], tuple[Algorithm, str]]:
        """Copy and pickle through the constructor (worker processes of tests need it)."""
        return Digest, (self.algorithm, self.hex)

    @override
    def __repr__(self) -> str:
        """Return a form that can be read back."""
        return f"Digest.parse({str(self)!r})"

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read ``algorithm:hex``.

        Raises:
            InvalidInputError: If the algorithm is unknown or the value malformed.
        """
        name, separator, value = text.partition(":")
        if not separator or name not in {algorithm.value for algorithm in Algorithm}:
            raise InvalidInputError(
                f"not a digest: {text[:80]!r}",
                code="bad-digest",
                hint="a digest reads like sha256: followed by 64 hexadecimal digits",
            )
        return cls(Algorithm(name), value)

    @classmethod
    def blake3(cls, value: str) -> Digest:
        """Make a blake3 digest from its hexadecimal value."""
        return cls(Algorithm.BLAKE3, value)

    @classmethod
    def sha256(cls, value: str) -> Digest:
        """Make a sha256 digest from its hexadecimal value."""
        return cls(Algorithm.SHA256, value)

    @property
    def short(self) -> str:
        """The first eight hexadecimal digits, for people."""
        return self.hex[:_SHORT_LENGTH]

    @override
    def __str__(self) -> str:
        """Return ``algorithm:hex``."""
        return f"{self.algorithm.value}:{self.hex}"
