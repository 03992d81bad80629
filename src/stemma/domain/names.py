"""Names of models and channels: what is allowed, so that a name is safe in a path and a URL.

Invariants:
    * A valid name is lower-case ASCII, so no two names collide by case or Unicode form.
    * A valid name is one path segment on every platform: no separator, no leading dot,
      no name that Windows keeps for devices.
    * A channel name never reads as a version, a range, a run or a digest.

Example:
    >>> check_model_name("digits")
    'digits'
"""

from __future__ import annotations

import re
from typing import Final
from zlib import crc32

from stemma.domain.errors import InvalidInputError

NAME_LENGTH_LIMIT: Final = 64
"""Longest model or channel name."""

_MODEL: Final = re.compile(r"[a-z][a-z0-9]*(?:[._-][a-z0-9]+)*")
_CHANNEL: Final = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_RUN: Final = re.compile(r"r-[0-9a-f]*")
BARE_RUN: Final = re.compile(r"r-[0-9a-f]{4,64}")
"""A run's id, or how one begins, where a model's name could stand; so no model has such a name."""
_DEVICES: Final = frozenset(
    {"con", "prn", "aux", "nul"} | {f"{word}{n}" for word in ("com", "lpt") for n in range(1, 10)}
)
_RESERVED_CHANNELS: Final = frozenset({"latest", "newest", "auto", "all", "none", "head"})


def check_model_name(name: str, *, reserved: tuple[str, ...] = ()) -> str:
    """Return ``name`` when a model may be called that.

    Args:
        name: The name.
        reserved: Further words that the project keeps.

    Raises:
        InvalidInputError: If it may not.
    """
    if BARE_RUN.fullmatch(name):
        raise InvalidInputError(
            f"model name {name!r} reads like a run",
            code="bad-name",
            hint=f"put the model before it: digits@{name}",
        )
    _check(name, _MODEL, "model", frozenset(reserved))
    return name


def check_channel_name(name: str, *, pattern: str = "", reserved: tuple[str, ...] = ()) -> str:
    """Return ``name`` when a channel may be called that.

    Args:
        name: The name.
        pattern: The project's own rule, a regular expression for the whole name.
        reserved: Further words that the project keeps.

    Raises:
        InvalidInputError: If it may not.
    """
    if _RUN.fullmatch(name):
        raise InvalidInputError(
            f"channel name {name!r} reads like a run", code="bad-name", hint="call it e.g. stable"
        )
    _check(name, _CHANNEL, "channel", _RESERVED_CHANNELS | set(reserved))
    if pattern and not re.fullmatch(pattern, name):
        raise InvalidInputError(
            f"channel name {name!r} does not match {pattern!r}, the rule of this model",
            code="bad-name",
            hint="see name_pattern in stemma.toml",
        )
    return name


def fit_model_name(name: str) -> str:
    """Return the model name that stands for a name of another system; an allowed one is kept.

    Two names may fit to one; whoever keeps both must refuse the second.
    """
    lowered = name.lower()
    fitted = lowered if _MODEL.fullmatch(lowered) else re.sub(r"[^a-z0-9]+", "-", lowered)
    fitted = fitted.strip("-")
    mark = f"{crc32(name.encode('utf-8', 'surrogatepass')):08x}"
    if not fitted.strip("-0123456789") or not fitted.isascii():
        fitted = f"model-{mark}"  # nothing in it that can be read
    if not _MODEL.fullmatch(fitted) or BARE_RUN.fullmatch(fitted) or _is_device(fitted):
        fitted = f"model-{fitted}"
    if len(fitted) > NAME_LENGTH_LIMIT:
        kept = fitted[: NAME_LENGTH_LIMIT - len(mark) - 1].rstrip("-._")
        fitted = f"{kept}-{mark}"  # so that long names with one beginning stay apart
    return fitted


def fit_channel_name(name: str) -> str:
    """Return the channel name that stands for a name of another system; an allowed one is kept."""
    fitted = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return fitted if _CHANNEL.fullmatch(fitted) else f"channel-{fitted}".rstrip("-")


def _is_device(name: str) -> bool:
    return name.split(".", maxsplit=1)[0] in _DEVICES


def _check(name: str, pattern: re.Pattern[str], what: str, reserved: frozenset[str]) -> None:
    if len(name) > NAME_LENGTH_LIMIT:
        raise InvalidInputError(
            f"{what} name {name[:20]!r}… has {len(name)} characters, "
            f"{NAME_LENGTH_LIMIT} are allowed",
            code="bad-name",
            hint="take a shorter name",
        )
    if not pattern.fullmatch(name):
        marks = "-" if what == "channel" else "- . _"
        raise InvalidInputError(
            f"{what} name {name!r} is not allowed: lower-case letters a-z, digits and single "
            f"{marks} between them, a letter first",
            code="bad-name",
            hint=_proposal(name, pattern),
        )
    if name in reserved or _is_device(name):
        raise InvalidInputError(
            f"{what} name {name!r} is reserved",
            code="reserved-name",
            hint="take another name",
        )


def _proposal(name: str, pattern: re.Pattern[str]) -> str:
    """Propose the nearest allowed name."""
    candidate = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return f"{candidate} would do" if pattern.fullmatch(candidate) else "digits would do"
