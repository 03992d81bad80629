"""Refs: how people name a version, ``digits@1.1.0``, ``digits@^1``, ``digits@stable``.

Invariants:
    * ``Ref.parse(str(ref)) == ref``.
    * What a ref means by its form never depends on what exists.

This module does not resolve a ref; see ``stemma.catalog.resolve``.

Example:
    >>> Ref.parse("digits@r-7f3c")
    Ref(model='digits', selector=RunPrefix(prefix='r-7f3c'))
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from typing_extensions import override

from stemma.domain.errors import InvalidInputError
from stemma.domain.names import BARE_RUN, check_channel_name, check_model_name
from stemma.domain.semver import Range, SemVer

REF_HINT: Final = (
    "a ref reads like digits, digits@1.1.0, digits@^1, digits@stable, "
    "digits@r-7f3c or digits@sha256:ab12"
)
_RUN: Final = re.compile(r"r-[0-9a-f]{1,64}")
_MANIFEST: Final = re.compile(r"sha256:([0-9a-f]{4,64})")
_EXACT: Final = re.compile(r"v?[0-9]+\.[0-9]+\.[0-9]+(?:-.*)?")
_SUGGESTION_COUNT: Final = 3


@dataclass(frozen=True, slots=True)
class Newest:
    """No selector: the channel ``stable``, else the newest release."""

    @override
    def __str__(self) -> str:
        """Return nothing: it is written by leaving it out."""
        return ""


@dataclass(frozen=True, slots=True)
class ExactVersion:
    """One release number.

    Attributes:
        version: The number.
    """

    version: SemVer

    @override
    def __str__(self) -> str:
        """Return the number."""
        return str(self.version)


@dataclass(frozen=True, slots=True)
class VersionRange:
    """The newest release inside a range.

    Attributes:
        range: The range.
    """

    range: Range

    @override
    def __str__(self) -> str:
        """Return the range as written."""
        return str(self.range)


@dataclass(frozen=True, slots=True)
class ChannelName:
    """Where a channel points.

    Attributes:
        channel: Its name.
    """

    channel: str

    @override
    def __str__(self) -> str:
        """Return the name."""
        return self.channel


@dataclass(frozen=True, slots=True)
class RunPrefix:
    """The one run whose id begins so.

    Attributes:
        prefix: ``r-`` and hexadecimal digits.
    """

    prefix: str

    @override
    def __str__(self) -> str:
        """Return the prefix."""
        return self.prefix


@dataclass(frozen=True, slots=True)
class ManifestPrefix:
    """The one manifest whose sha256 begins so.

    Attributes:
        hex_prefix: At least four hexadecimal digits.
    """

    hex_prefix: str

    @override
    def __str__(self) -> str:
        """Return the prefix with its algorithm."""
        return f"sha256:{self.hex_prefix}"


Selector = Newest | ExactVersion | VersionRange | ChannelName | RunPrefix | ManifestPrefix


@dataclass(frozen=True, slots=True)
class Ref:
    """A model and which of its versions.

    Attributes:
        model: Name of the model.
        selector: Which version.
    """

    model: str
    selector: Selector

    @classmethod
    def parse(cls, text: str) -> Ref:
        """Read a ref.

        Raises:
            InvalidInputError: If it is not one; the hint shows what one looks like.
        """
        name, separator, selector = text.strip().partition("@")
        if not name or (separator and not selector):
            raise InvalidInputError(f"not a ref: {text[:80]!r}", code="bad-ref", hint=REF_HINT)
        if not separator and _EXACT.fullmatch(name):
            raise InvalidInputError(
                f"{name} names no model",
                code="bad-ref",
                hint=f"put the model before it: digits@{name}",
            )
        model = check_model_name(name)
        return cls(model, parse_selector(selector) if separator else Newest())

    @override
    def __str__(self) -> str:
        """Return the ref as it can be read back."""
        selector = str(self.selector)
        return f"{self.model}@{selector}" if selector else self.model


def parse_selector(text: str) -> Selector:
    """Read what stands after the ``@``.

    Raises:
        InvalidInputError: If it is none of the forms.
    """
    try:
        return _parse_selector(text)
    except InvalidInputError as error:
        raise InvalidInputError(
            f"not a ref: …@{text[:80]}: {error.message}", code="bad-ref", hint=REF_HINT
        ) from error


def _parse_selector(text: str) -> Selector:
    if _RUN.fullmatch(text):
        return RunPrefix(text)
    if text.startswith("sha256:"):
        match = _MANIFEST.fullmatch(text)
        if match is None:
            raise InvalidInputError("after sha256: come 4 to 64 digits of 0-9a-f")
        return ManifestPrefix(match.group(1))
    if _EXACT.fullmatch(text):
        return ExactVersion(SemVer.parse(text))
    if text[:1] in {"^", "~", ">", "<", "=", "*"} or text[:1].isdigit():
        return VersionRange(Range.parse(text))
    return ChannelName(check_channel_name(text))


def is_bare_run(text: str) -> bool:
    """Return whether ``text`` is a run's id, or how one begins, without its model."""
    return BARE_RUN.fullmatch(text.strip()) is not None


def suggest(word: str, candidates: Iterable[str]) -> list[str]:
    """Return up to three candidates that ``word`` may have meant, best first."""
    return difflib.get_close_matches(word, list(candidates), n=_SUGGESTION_COUNT, cutoff=0.6)


def did_you_mean(near: Sequence[str]) -> str:
    """Return the end of a message that offers what ``suggest`` found; empty for nothing."""
    return f"; did you mean {' or '.join(near)}?" if near else ""
