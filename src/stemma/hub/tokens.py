"""The verbs on tokens: who may call a server of this project from beyond the machine."""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol

from stemma.domain.access import Role, Token


class TokenVerbs(Protocol):
    """Make, list and revoke tokens."""

    def create_token(self, name: str, role: Role, lifetime: timedelta | None) -> tuple[Token, str]:
        """Make a token; returns what is known of it, and its text, which is told only now.

        Raises:
            InvalidInputError: If it may not be named so.
            ConflictError: If there is one of that name (``token-exists``).
        """
        ...

    def list_tokens(self) -> list[Token]:
        """Return every token by name, expired ones too."""
        ...

    def revoke_token(self, name: str) -> None:
        """Let a token allow nothing any more.

        Raises:
            NotFoundError: If there is none of that name.
        """
        ...
