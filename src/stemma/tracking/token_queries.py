"""All the SQL of tokens.

Invariants:
    * Every row that is returned matched its digest.
    * A function takes the connection of its caller's transaction and opens none.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import Connection, bindparam, delete, insert, select

from stemma.db.rows import check_all, seal
from stemma.db.tracking_tables import tokens
from stemma.domain.access import Role, Token

_ALL: Final = select(tokens).order_by(tokens.c.name)
_INSERT: Final = insert(tokens)
_DELETE: Final = delete(tokens).where(tokens.c.name == bindparam("which"))


def put(connection: Connection, token: Token, digest: str) -> None:
    """Add a token."""
    expires_at = token.expires_at.isoformat() if token.expires_at else None
    values = {
        "digest": digest,
        "name": token.name,
        "role": token.role.value,
        "created_at": token.created_at.isoformat(),
        "created_by": token.created_by,
        "expires_at": expires_at,
    }
    connection.execute(_INSERT, seal(tokens, values))


def find_all(connection: Connection) -> dict[str, Token]:
    """Return every token by its digest, in the order of names."""
    return {
        row.digest: Token(
            name=row.name,
            role=Role(row.role),
            created_at=datetime.fromisoformat(row.created_at),
            created_by=row.created_by,
            expires_at=datetime.fromisoformat(row.expires_at) if row.expires_at else None,
        )
        for row in check_all(tokens, connection.execute(_ALL))
    }


def remove(connection: Connection, name: str) -> bool:
    """Remove a token, and say whether there was one."""
    return connection.execute(_DELETE, {"which": name}).rowcount > 0
