"""The filter language of MLflow's clients: comparisons that are joined by ``AND``.

``metrics.`val loss` < 0.3 AND params.lr = '0.1' AND tags.team IS NOT NULL``

Invariants:
    * What it returns is plain values; a text that is none of this language is an
      ``InvalidInputError`` that names the place in it.
    * Lengths and counts are bounded, and nothing nests, so a text costs what its length costs.
    * A quote inside quotes is written twice.  A key without quotes may hold letters, digits
      and ``_ . - / :``; the first dot ends the entity.

It knows the forms only.  Which entities and attributes there are, and what each may be compared
with, say the ``fields`` of what is searched.

Example:
    >>> parse_filter("metrics.loss < 0.5")[0].value
    0.5
    >>> parse_order("params.lr desc, start_time")[0].is_ascending
    False
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias, final

from stemma.domain.errors import InvalidInputError

FilterValue: TypeAlias = str | int | float | tuple[str, ...] | None

FILTER_LENGTH_LIMIT: Final = 100_000
TEXT_LENGTH_LIMIT: Final = 10_000
CLAUSES_LIMIT: Final = 50
LIST_LIMIT: Final = 2_000
ORDER_LIMIT: Final = 8

_NUMBER_LENGTH_LIMIT: Final = 64
_NAMED_LENGTH: Final = 40
_LARGEST_INTEGER: Final = 2**63 - 1


class Comparison(Enum):
    """How a value is compared."""

    EQUAL = "="
    UNEQUAL = "!="
    LESS = "<"
    AT_MOST = "<="
    GREATER = ">"
    AT_LEAST = ">="
    LIKE = "LIKE"
    ILIKE = "ILIKE"
    IN = "IN"
    NOT_IN = "NOT IN"
    IS_NULL = "IS NULL"
    IS_NOT_NULL = "IS NOT NULL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identifier:
    """What is compared or ordered by.

    Attributes:
        entity: As written, such as ``metrics``; empty for a bare attribute.
        key: The name within the entity.
        position: Where it stands in the text, from 0.
    """

    entity: str
    key: str
    position: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """One comparison.

    Attributes:
        identifier: What is compared.
        comparison: How.
        value: With what; ``None`` for ``IS NULL`` and ``IS NOT NULL``.
    """

    identifier: Identifier
    comparison: Comparison
    value: FilterValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One key of an order.

    Attributes:
        identifier: What is ordered by.
        is_ascending: Least first.
    """

    identifier: Identifier
    is_ascending: bool


class _Kind(Enum):
    WORD = "a name"
    QUOTED = "a quoted name"  # backticks: always a name
    TEXT = "a quoted text"  # quotes: a value, or a name where one is due
    NUMBER = "a number"
    OPERATOR = "a comparison"
    COMMA = "','"
    OPEN = "'('"
    CLOSE = "')'"
    DOT = "'.'"
    END = "the end"


@dataclass(frozen=True, slots=True)
class _Token:
    kind: _Kind
    text: str
    position: int
    is_after_space: bool


_TOKEN: Final = re.compile(
    r"""
    (?P<NUMBER>[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?(?![\w.]))
    |(?P<WORD>\w[\w./:-]*)
    |`(?P<QUOTED>(?:[^`]|``)*)`
    |'(?P<SINGLE>(?:[^']|'')*)'
    |"(?P<DOUBLE>(?:[^"]|"")*)"
    |(?P<OPERATOR>!=|<>|<=|>=|==|=|<|>)
    |(?P<COMMA>,)|(?P<OPEN>\()|(?P<CLOSE>\))|(?P<DOT>\.)
    """,
    re.VERBOSE,
)
_SPACE: Final = re.compile(r"\s*")
_QUOTES: Final = {"QUOTED": "`", "SINGLE": "'", "DOUBLE": '"'}
_OPERATORS: Final = {item.value: item for item in Comparison} | {"<>": Comparison.UNEQUAL}


def parse_filter(text: str) -> tuple[Clause, ...]:
    """Return the comparisons of a filter; none of an empty one.

    Raises:
        InvalidInputError: If it is not of this language.
    """
    parser = _Parser(text, "filter")
    clauses: list[Clause] = []
    while not parser.is_at(_Kind.END):
        if clauses:
            parser.take_and()
        if len(clauses) == CLAUSES_LIMIT:
            raise parser.refuse(f"more than {CLAUSES_LIMIT} comparisons")
        clauses.append(parser.clause())
    return tuple(clauses)


def parse_order(text: str) -> tuple[Order, ...]:
    """Return the keys of an order that are joined by commas; none of an empty text.

    Raises:
        InvalidInputError: If they are not of this language.
    """
    parser = _Parser(text, "order")
    keys: list[Order] = []
    while not parser.is_at(_Kind.END):
        if keys:
            parser.take(_Kind.COMMA)
        if len(keys) == ORDER_LIMIT:
            raise parser.refuse(f"more than {ORDER_LIMIT} keys")
        keys.append(parser.order())
    return tuple(keys)


@final
class _Parser:
    """Takes one token after the other."""

    def __init__(self, text: str, what: str) -> None:
        self._text = text
        self._what = what
        if len(text) > FILTER_LENGTH_LIMIT:
            raise InvalidInputError(
                f"the {what} has {len(text)} characters; at most {FILTER_LENGTH_LIMIT} are taken",
                code=f"bad-{what}",
            )
        self._check_storable()
        self._end = 0
        self._token = self._scan(0)

    def is_at(self, kind: _Kind) -> bool:
        """Whether such a token comes next."""
        return self._token.kind is kind

    def refuse(self, problem: str) -> InvalidInputError:
        """Return the error for what comes next."""
        return self._refuse_at(self._token.position, problem)

    def _refuse_at(self, position: int, problem: str) -> InvalidInputError:
        is_end = position >= len(self._text)
        place = "its end" if is_end else f"character {position + 1}"
        rest = "" if is_end else f", where it reads {_shown(self._text[position:])}"
        return InvalidInputError(
            f"{self._what}: {problem}, at {place}{rest}",
            code=f"bad-{self._what}",
            hint="write it like: metrics.accuracy > 0.9 and params.lr = '0.1'"
            if self._what == "filter"
            else "write it like: metrics.accuracy DESC",
        )

    def take(self, kind: _Kind) -> _Token:
        """Return the next token, which must be of that kind."""
        if not self.is_at(kind):
            raise self.refuse(f"{kind.value} is expected")
        token = self._token
        self._token = self._scan(self._end)
        return token

    def take_and(self) -> None:
        """Take the word that joins comparisons."""
        if not self._is_word("AND"):
            raise self.refuse("only AND joins comparisons; AND is expected")
        self.take(_Kind.WORD)

    def clause(self) -> Clause:
        """Take one comparison."""
        if self.is_at(_Kind.OPEN):
            raise self.refuse("comparisons are not grouped; a name is expected")
        identifier = self._identifier()
        comparison = self._comparison()
        return Clause(
            identifier=identifier, comparison=comparison, value=self._value_of(comparison)
        )

    def order(self) -> Order:
        """Take one key of an order."""
        identifier = self._identifier()
        is_ascending = True
        if self.is_at(_Kind.WORD):
            if not (self._is_word("ASC") or self._is_word("DESC")):
                raise self.refuse("ASC or DESC is expected")
            is_ascending = self.take(_Kind.WORD).text.upper() == "ASC"
        return Order(identifier=identifier, is_ascending=is_ascending)

    def _identifier(self) -> Identifier:
        """Take ``key``, ``entity.key``, or either with quotes."""
        first = self._name("a name such as metrics.loss is expected")
        entity, key = "", first.text
        if first.kind is _Kind.WORD and "." in first.text:
            entity, _, key = first.text.partition(".")
            if not key:  # entity."key"
                key = self._joined_name().text
        elif self.is_at(_Kind.DOT) and not self._token.is_after_space:
            self.take(_Kind.DOT)
            entity, key = first.text, self._joined_name().text
        if not key:
            raise self.refuse("a key is expected")
        return Identifier(entity=entity, key=key, position=first.position)

    def _joined_name(self) -> _Token:
        if self._token.is_after_space:
            raise self.refuse("a key is expected right after the dot")
        return self._name("a key is expected")

    def _name(self, problem: str) -> _Token:
        if self._token.kind not in {_Kind.WORD, _Kind.QUOTED, _Kind.TEXT, _Kind.NUMBER}:
            raise self.refuse(problem)
        return self.take(self._token.kind)

    def _comparison(self) -> Comparison:
        if self.is_at(_Kind.OPERATOR):
            if self._token.text == "==":
                raise self.refuse("a single = is expected")
            return _OPERATORS[self.take(_Kind.OPERATOR).text]
        for word in ("LIKE", "ILIKE", "IN"):
            if self._skip_word(word):
                return Comparison(word)
        if self._skip_word("NOT"):
            if not self._skip_word("IN"):
                raise self.refuse("IN is expected after NOT")
            return Comparison.NOT_IN
        if self._skip_word("IS"):
            is_not = self._skip_word("NOT")
            if not self._skip_word("NULL"):
                raise self.refuse("NULL is expected after IS")
            return Comparison.IS_NOT_NULL if is_not else Comparison.IS_NULL
        raise self.refuse("a comparison such as =, !=, <, >, LIKE, IN or IS NULL is expected")

    def _value_of(self, comparison: Comparison) -> FilterValue:
        if comparison in {Comparison.IS_NULL, Comparison.IS_NOT_NULL}:
            return None
        if comparison in {Comparison.IN, Comparison.NOT_IN}:
            return self._list()
        if self.is_at(_Kind.NUMBER):
            return self._number()
        if self.is_at(_Kind.OPEN):
            raise self.refuse("a list is compared by IN; a value is expected")
        if not self.is_at(_Kind.TEXT):
            raise self.refuse("a number or a text in quotes is expected")
        return self.take(_Kind.TEXT).text

    def _list(self) -> tuple[str, ...]:
        self.take(_Kind.OPEN)
        items = [self.take(_Kind.TEXT).text]
        while self.is_at(_Kind.COMMA):
            self.take(_Kind.COMMA)
            if self.is_at(_Kind.CLOSE):  # ('one',)
                break
            if len(items) == LIST_LIMIT:
                raise self.refuse(f"more than {LIST_LIMIT} texts in a list")
            items.append(self.take(_Kind.TEXT).text)
        self.take(_Kind.CLOSE)
        return tuple(items)

    def _number(self) -> int | float:
        text = self._token.text
        if len(text) > _NUMBER_LENGTH_LIMIT:
            raise self.refuse("a shorter number is expected")
        self.take(_Kind.NUMBER)
        if not text.lstrip("+-").isdecimal():
            return float(text)
        number = int(text)
        return number if abs(number) <= _LARGEST_INTEGER else float(number)

    def _is_word(self, word: str) -> bool:
        return self.is_at(_Kind.WORD) and self._token.text.upper() == word

    def _skip_word(self, word: str) -> bool:
        is_there = self._is_word(word)
        if is_there:
            self.take(_Kind.WORD)
        return is_there

    def _scan(self, start: int) -> _Token:
        """Read the token that begins at ``start`` or after the space there."""
        space = _SPACE.match(self._text, start)
        begin = start if space is None else space.end()
        self._end = begin
        if begin == len(self._text):
            return _Token(_Kind.END, "", begin, is_after_space=True)
        match = _TOKEN.match(self._text, begin)
        if match is None or match.lastgroup is None:
            is_open = self._text[begin] in _QUOTES.values()
            raise self._refuse_at(
                begin, "a quote is not closed" if is_open else "an unknown character"
            )
        self._end = match.end()
        group, text = match.lastgroup, match[match.lastgroup]
        if group in _QUOTES:
            text = text.replace(_QUOTES[group] * 2, _QUOTES[group])
        if len(text) > TEXT_LENGTH_LIMIT:
            raise self._refuse_at(begin, f"a text of more than {TEXT_LENGTH_LIMIT} characters")
        kind = _Kind.TEXT if group in {"SINGLE", "DOUBLE"} else _Kind[group]
        return _Token(kind, text, begin, is_after_space=begin > start)

    def _check_storable(self) -> None:
        """Refuse what no text of a row can hold."""
        position = self._text.find("\0")
        if position < 0:
            try:
                self._text.encode("utf-8")
            except UnicodeEncodeError as error:
                position = error.start
        if position >= 0:
            raise self._refuse_at(position, "a character that no text may hold")


def _shown(text: str) -> str:
    return repr(text[:_NAMED_LENGTH])
