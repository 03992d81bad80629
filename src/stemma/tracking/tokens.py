"""Verbs on tokens: who may call this server from beyond the machine.

Invariants:
    * A token's text is returned once and stored nowhere; its row holds a sha256.
    * Nothing here trusts a row that somebody changed by hand: rows carry digests.

It judges no request; see ``stemma.server.token_guard``.
"""

from __future__ import annotations

import re
import secrets
from typing import Final

from stemma.db.engine import Connection
from stemma.domain.access import RANDOM_BYTES, Token, make_token, token_digest
from stemma.domain.errors import ConflictError, InvalidInputError, NotFoundError
from stemma.tracking import token_queries as queries

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


def create(connection: Connection, token: Token) -> str:
    """Make a token and return its text, which nobody can read again.

    Raises:
        InvalidInputError: If it may not be named so.
        ConflictError: If there is one of that name.
    """
    if not _NAME.fullmatch(token.name):
        raise InvalidInputError(
            f"not a name of a token: {token.name[:80]!r}",
            code="bad-token-name",
            hint="use letters, digits, '.', '_', '@' and '-', at most 64",
        )
    if any(known.name == token.name for known in list_tokens(connection)):
        raise ConflictError(
            f"there is a token {token.name!r} already",
            code="token-exists",
            hint=f"stemma token revoke {token.name}",
        )
    text = make_token(secrets.token_bytes(RANDOM_BYTES))
    queries.put(connection, token, token_digest(text))
    return text


def list_tokens(connection: Connection) -> list[Token]:
    """Return every token, expired ones too, by name."""
    return list(queries.find_all(connection).values())


def by_digest(connection: Connection) -> dict[str, Token]:
    """Return every token by what is kept of it."""
    return queries.find_all(connection)


def revoke(connection: Connection, name: str) -> None:
    """Let a token allow nothing any more.

    Raises:
        NotFoundError: If there is none of that name.
    """
    if not queries.remove(connection, name):
        raise NotFoundError(
            f"no token {name[:80]!r}", code="token-not-found", hint="stemma token list"
        )
