"""Verbs on tokens, in this process."""

from __future__ import annotations

from datetime import timedelta

from typing_extensions import override

from stemma.domain.access import Role, Token
from stemma.hub.local_parts import LocalParts
from stemma.hub.tokens import TokenVerbs
from stemma.tracking import tokens


class LocalTokens(TokenVerbs):
    """Tokens of one project."""

    _parts: LocalParts

    @override
    def create_token(self, name: str, role: Role, lifetime: timedelta | None) -> tuple[Token, str]:
        now = self._parts.clock()
        token = Token(
            name=name,
            role=role,
            created_at=now,
            created_by=self._parts.user,
            expires_at=now + lifetime if lifetime is not None else None,
        )
        with self._parts.database.write() as connection:
            return token, tokens.create(connection, token)

    @override
    def list_tokens(self) -> list[Token]:
        with self._parts.database.read() as connection:
            return tokens.list_tokens(connection)

    @override
    def revoke_token(self, name: str) -> None:
        with self._parts.database.write() as connection:
            tokens.revoke(connection, name)
