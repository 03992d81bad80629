"""Admits callers by token, where callers come from beyond this machine.

Invariants:
    * A request without a token that is enough for its route reaches no handler.
    * Comparing takes the same time whichever token comes nearest.
    * A token that was revoked or has expired allows nothing after ``AGE_SECONDS``.

Clients send a token as ``Authorization: Bearer TOKEN``, or as the password of Basic.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final, final

import anyio.to_thread

from stemma.db.engine import Database
from stemma.domain.access import Needs, Token, allows, token_digest
from stemma.domain.errors import DeniedError
from stemma.tracking.tokens import by_digest

AGE_SECONDS: Final = 1.0
"""How old the list of tokens may be that is looked at."""

_FREE: Final = frozenset({Needs.OPEN, Needs.SIGNED})


@final
class TokenGuard:
    """Reads tokens from the database, once a second at most."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        """Read nothing before the first caller comes."""
        self._database = database
        self._clock = clock
        self._known: dict[str, Token] = {}
        self._read_at = float("-inf")

    async def admit(self, headers: Mapping[str, str], needs: Needs) -> str:
        """Return the name of the caller's token; empty where none is needed.

        Raises:
            DeniedError: If the token is not enough (``role-too-low``), or there is none that
                counts (``no-token``).
        """
        if needs in _FREE:
            return ""
        token = self._find(_token_of(headers.get("authorization", "")), await self._tokens())
        if token is None:
            raise DeniedError(
                "this server asks for a token",
                code="no-token",
                hint="stemma token create NAME --role write; MLFLOW_TRACKING_TOKEN=…",
            )
        if not allows(token.role, needs):
            raise DeniedError(
                f"the token {token.name} has the role {token.role}; this needs {needs}",
                code="role-too-low",
                hint=f"stemma token create NAME --role {needs}",
            )
        return token.name

    async def _tokens(self) -> Mapping[str, Token]:
        if time.monotonic() - self._read_at > AGE_SECONDS:
            self._known = await anyio.to_thread.run_sync(self._read)
            self._read_at = time.monotonic()
        return self._known

    def _read(self) -> dict[str, Token]:
        with self._database.read() as connection:
            return by_digest(connection)

    def _find(self, text: str, known: Mapping[str, Token]) -> Token | None:
        shown, found = token_digest(text), None
        for digest, token in known.items():
            if hmac.compare_digest(digest, shown) and not token.is_expired(self._clock()):
                found = token
        return found


def _token_of(authorization: str) -> str:
    """Return the token in an ``Authorization`` header; empty when there is none."""
    scheme, _, value = authorization.partition(" ")
    match scheme.lower():
        case "bearer":
            return value.strip()
        case "basic":
            try:
                pair = base64.b64decode(value.strip(), validate=True).decode("utf-8")
            except (binascii.Error, UnicodeDecodeError):
                return ""
            return pair.partition(":")[2]
        case _:
            return ""
