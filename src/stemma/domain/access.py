"""Who may do what where callers have to say who they are: roles, needs, tokens.

Invariants:
    * A role allows all that a lower one does: read < write < admin.
    * A token is told once, when it is made; what is kept of it is its sha256.
    * A token that has expired allows nothing.

It draws no random number and reads no clock; both are passed in.

Example:
    >>> allows(Role.WRITE, Needs.READ), allows(Role.READ, Needs.WRITE)
    (True, False)
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from stemma.domain.errors import InvalidInputError

TOKEN_PREFIX: Final = "stemma_"  # noqa: S105 - what a token begins with, so that scanners find it
RANDOM_BYTES: Final = 32
_LONGEST: Final = timedelta(days=3650)
_UNITS: Final = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


class Role(StrEnum):
    """What the bearer of a token may do.

    Attributes:
        READ: See records and artifacts.
        WRITE: Log runs, register, upload and delete, too.
        ADMIN: All there is.
    """

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


class Needs(StrEnum):
    """What a route asks of its caller.

    Attributes:
        OPEN: Nothing; it tells nothing about anybody.
        SIGNED: Nothing but the address, which carries a signature that the handler checks.
        READ: See records and artifacts.
        WRITE: Change them.
        ADMIN: Change who may; no route does so far.
    """

    OPEN = "open"
    SIGNED = "signed"
    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


_RANK: Final = {Needs.READ: 1, Needs.WRITE: 2, Needs.ADMIN: 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What is known of a token.

    Attributes:
        name: Whose it is or what for; no two have the same.
        role: What its bearer may do.
        created_at: When it was made.
        created_by: Who made it.
        expires_at: From when on it allows nothing; ``None`` for never.
    """

    name: str
    role: Role
    created_at: datetime
    created_by: str
    expires_at: datetime | None = None

    def is_expired(self, now: datetime) -> bool:
        """Whether it allows nothing any more."""
        return self.expires_at is not None and now >= self.expires_at


def allows(role: Role, needs: Needs) -> bool:
    """Whether a role is enough for what a route asks."""
    return _RANK[Needs(role.value)] >= _RANK.get(needs, 0)


def make_token(random: bytes) -> str:
    """Return the token of 32 random bytes."""
    return TOKEN_PREFIX + urlsafe_b64encode(random).rstrip(b"=").decode("ascii")


def token_digest(token: str) -> str:
    """Return what is kept of a token: 256 random bits need no slow hash."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def parse_lifetime(text: str) -> timedelta:
    """Return how long ``30d``, ``12h`` or ``4w`` is.

    Raises:
        InvalidInputError: If it is none of those, or longer than ten years.
    """
    number, unit = text[:-1], text[-1:]
    is_number = number.isascii() and number.isdecimal() and len(number) <= len("87600")
    if is_number and unit in _UNITS:
        lifetime = int(number) * _UNITS[unit]
        if timedelta(0) < lifetime <= _LONGEST:
            return lifetime
    raise InvalidInputError(
        f"not a lifetime: {text[:40]!r}",
        code="bad-lifetime",
        hint="stemma token create NAME --expires 30d; h, d and w, at most ten years",
    )
