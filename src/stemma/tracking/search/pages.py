"""Tokens of pages: where a page ended, and of which search it was.

Invariants:
    * A token is text for a URL: base64 of JSON with the keys of the last item, and a digest of
      them and of the search.  A token of another search, or a changed one, is refused.
    * What a token holds is used as values only; a token that was forged with a right digest
      asks for other rows of the same search, which its sender may ask for anyway.

It knows no tables.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import msgspec

from stemma.domain.errors import InvalidInputError
from stemma.tracking.search.values import Search

KeyValue: TypeAlias = str | int | float | None

_TOKEN_LENGTH_LIMIT: Final = 200_000
_INTEGER_LIMIT: Final = 2**63
_DIGEST_SIZE_BYTES: Final = 12


class _Token(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    digest: str
    phase: int
    values: list[str | int | float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Where a page ended.

    Attributes:
        phase: In which part of the order; see ``run_queries``.
        values: The keys of its last item, in that part.
    """

    phase: int = 0
    values: tuple[KeyValue, ...] = ()


def write_token(search: Search, scope: object, mark: Mark) -> str:
    """Return the token for the page after ``mark``.

    Args:
        search: The search, its own token aside.
        scope: What else tells it from others: what is searched, and where.
        mark: Where its page ended.
    """
    values = list(mark.values)
    token = _Token(_digest(search, scope, mark.phase, values), mark.phase, values)
    return base64.urlsafe_b64encode(msgspec.json.encode(token)).decode("ascii")


def read_token(search: Search, scope: object) -> Mark | None:
    """Return where the page before ended; ``None`` for the first page.

    Raises:
        InvalidInputError: If the token is not one of this search.
    """
    if not search.token:
        return None
    if len(search.token) > _TOKEN_LENGTH_LIMIT:
        raise _refused("it is too long")
    try:
        text = base64.b64decode(search.token.encode("ascii"), altchars=b"-_", validate=True)
        token = msgspec.json.decode(text, type=_Token)
    except (ValueError, binascii.Error, msgspec.MsgspecError, RecursionError) as error:
        raise _refused("it cannot be read") from error
    if token.digest != _digest(search, scope, token.phase, token.values):
        raise _refused("it is of another search, or was changed")
    return Mark(phase=token.phase, values=tuple(token.values))


def check_values(mark: Mark, kinds: Sequence[type]) -> None:
    """Check that a mark holds one value of each kind, or none where it may.

    Raises:
        InvalidInputError: If it does not.
    """
    is_fit = len(mark.values) == len(kinds) and all(
        value is None
        or (isinstance(value, kind) and not isinstance(value, bool))
        or (kind is float and isinstance(value, int))
        for value, kind in zip(mark.values, kinds, strict=True)
    )
    is_held = all(
        not (isinstance(value, int) and not -_INTEGER_LIMIT <= value < _INTEGER_LIMIT)
        and not (isinstance(value, str) and "\0" in value)
        for value in mark.values
    )
    if not (is_fit and is_held):
        raise _refused("it is of another search")


def check_page_size(search: Search, limit: int) -> None:
    """Check how many items are asked for.

    Raises:
        InvalidInputError: If they are none, or too many.
    """
    if not 1 <= search.page_size <= limit:
        raise InvalidInputError(
            f"a page of {search.page_size} items; it holds 1 to {limit}", code="bad-page"
        )


def _digest(search: Search, scope: object, phase: int, values: Sequence[Any]) -> str:
    asked = (search.filter, search.order, search.view.value, search.model)
    stated = (scope, asked, phase, values)
    return hashlib.sha256(msgspec.json.encode(stated)).hexdigest()[: 2 * _DIGEST_SIZE_BYTES]


def _refused(why: str) -> InvalidInputError:
    return InvalidInputError(
        f"not the token of a page: {why}",
        code="bad-page-token",
        hint="begin again without a token",
    )
