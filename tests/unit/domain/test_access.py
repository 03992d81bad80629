"""Roles, needs, tokens and how long they count."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from stemma.domain.access import (
    Needs,
    Role,
    Token,
    allows,
    make_token,
    parse_lifetime,
    token_digest,
)
from stemma.domain.errors import InvalidInputError

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        (Role.READ, {Needs.OPEN, Needs.SIGNED, Needs.READ}),
        (Role.WRITE, {Needs.OPEN, Needs.SIGNED, Needs.READ, Needs.WRITE}),
        (Role.ADMIN, set(Needs)),
    ],
)
def test_a_role_allows_what_lower_ones_do(role: Role, allowed: set[Needs]) -> None:
    """A reader could write, or an administrator could not read."""
    assert {needs for needs in Needs if allows(role, needs)} == allowed


def test_a_token_is_long_and_what_is_kept_of_it_tells_nothing() -> None:
    """Whoever reads the database would be able to call."""
    token = make_token(bytes(range(32)))
    assert token.startswith("stemma_")
    assert len(token) == len("stemma_") + 43
    assert len(token_digest(token)) == 64
    assert token_digest(token) != token_digest(token[:-1])
    assert token_digest("\udcff"), "a header of any bytes has a digest"


def test_a_token_expires_at_its_moment() -> None:
    """A token for a month would count for ever."""
    token = Token(name="a", role=Role.READ, created_at=NOW, created_by="ada", expires_at=NOW)
    assert token.is_expired(NOW)
    assert not token.is_expired(NOW - timedelta(seconds=1))
    for_ever = Token(name="a", role=Role.READ, created_at=NOW, created_by="ada")
    assert not for_ever.is_expired(datetime.max.replace(tzinfo=UTC))


@pytest.mark.parametrize(
    ("text", "days"), [("12h", 0.5), ("30d", 30), ("4w", 28), ("3650d", 3650), ("1h", 1 / 24)]
)
def test_lifetimes_are_read(text: str, days: float) -> None:
    """A token would end on another day than was said."""
    assert parse_lifetime(text) == timedelta(days=days)


@pytest.mark.parametrize(
    "text", ["", "d", "0d", "-1d", "30", "30m", "3651d", "1.5d", "²d", "9" * 400 + "d", "d30"]
)
def test_other_lifetimes_are_refused(text: str) -> None:
    """A slip would make a token that counts for ever, or never."""
    with pytest.raises(InvalidInputError, match="not a lifetime"):
        parse_lifetime(text)
