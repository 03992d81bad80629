"""Canonical JSON: the one function from a value to the bytes that get hashed.

Invariants (normative text: ``docs/formats/manifest.md``):
    * UTF-8, keys sorted by code point, no white space, no escapes beyond JSON's own.
    * Only objects, arrays, strings, booleans and integers; a field that is ``None``
      is left out; floats are refused, so a number never depends on a printer.
    * ``decode(encode(value)) == value``, and ``encode`` of equal values gives equal bytes.

This module does not hash; see ``stemma.store.hashing``.

Example:
    >>> encode({"b": 1, "a": "x"})
    b'{"a":"x","b":1}'
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TypeVar

import msgspec

from stemma.domain.digest import Digest
from stemma.domain.errors import InvalidInputError

Plain = dict[str, "Plain"] | list["Plain"] | str | bool | int
T = TypeVar("T")


def _encode_hook(value: object) -> object:
    if isinstance(value, Digest):
        return str(value)
    raise InvalidInputError(f"{type(value).__name__} has no canonical form", code="not-canonical")


def _decode_hook(kind: type, value: object) -> object:
    if kind is not Digest:
        raise NotImplementedError(kind.__name__)
    if not isinstance(value, str):
        raise ValueError(f"a digest must be a text, not {type(value).__name__}")  # noqa: TRY004 - msgspec passes only this on
    try:
        return Digest.parse(value)
    except InvalidInputError as error:
        raise ValueError(error.message) from error


def timestamp(moment: datetime) -> str:
    """Write an aware moment as UTC with microseconds, ``2026-05-03T12:00:00.000000Z``.

    Raises:
        InvalidInputError: If ``moment`` has no time zone.
    """
    if moment.tzinfo is None:
        raise InvalidInputError(f"a moment without a time zone: {moment.isoformat()}")
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _plain(value: object, where: str) -> Plain:
    match value:
        case bool() | int() | str():
            return value
        case dict():
            return {
                str(key): _plain(item, f"{where}.{key}")
                for key, item in sorted(value.items())
                if item is not None
            }
        case list() | tuple():
            return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
        case _:
            raise InvalidInputError(
                f"{where or 'value'}: {type(value).__name__} has no canonical form",
                code="not-canonical",
                hint="use strings and integers; floats live in their component's own blob",
            )


def _isoformat(value: object) -> object:
    """Replace datetimes inside builtins by their canonical text."""
    match value:
        case datetime():
            return timestamp(value)
        case dict():
            return {key: _isoformat(item) for key, item in value.items()}
        case list() | tuple():
            return [_isoformat(item) for item in value]
        case _:
            return value


def to_plain(value: object) -> Plain:
    """Reduce a dataclass, Struct or builtin to canonical objects, arrays, strings and integers.

    Raises:
        InvalidInputError: If it contains a float or any other type without canonical form.
    """
    builtins = msgspec.to_builtins(
        value, enc_hook=_encode_hook, builtin_types=(datetime,), str_keys=True
    )
    return _plain(_isoformat(builtins), "")


def encode(value: object) -> bytes:
    """Return the canonical bytes of ``value``.

    Raises:
        InvalidInputError: If it contains a float, another type without canonical form, or
            text that is not Unicode (a file name of undecodable bytes).
    """
    text = json.dumps(to_plain(value), ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidInputError(
            f"text that is not Unicode has no canonical form: {text[error.start : error.end]!r}",
            code="not-canonical",
            hint="rename the file or field that is named so",
        ) from error


def decode(data: bytes, kind: type[T], *, what: str = "record") -> T:
    """Read canonical bytes as ``kind``.

    Raises:
        InvalidInputError: If they are not JSON, or not of that shape.
    """
    try:
        return msgspec.json.decode(data, type=kind, dec_hook=_decode_hook)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInputError(
            f"not a {what}: {error}", code=f"bad-{what.replace(' ', '-')}"
        ) from error


def from_plain(value: object, kind: type[T], *, what: str = "record") -> T:
    """Read builtins that a person wrote (parsed YAML or JSON) as ``kind``.

    Unlike ``decode`` it refuses fields that ``kind`` does not have: a typing
    mistake must not vanish.

    Raises:
        InvalidInputError: If they are not of that shape.
    """
    code = f"bad-{what.replace(' ', '-')}"
    try:
        record = msgspec.convert(value, kind, dec_hook=_decode_hook)
    except msgspec.ValidationError as error:
        raise InvalidInputError(f"not a {what}: {error}", code=code) from error
    unknown = _unknown_field(value, to_plain(record), "")
    if unknown:
        raise InvalidInputError(f"not a {what}: unknown field {unknown}", code=code)
    return record


def _unknown_field(given: object, known: object, where: str) -> str:
    """Return the path of the first field that was given and not read; empty when there is none."""
    if isinstance(given, dict) and isinstance(known, dict):
        pairs = [(f"{where}.{key}", item, known.get(key)) for key, item in given.items()]
        for path, item, read in pairs:
            if item is not None and read is None:
                return path.removeprefix(".")
    elif isinstance(given, list | tuple) and isinstance(known, list):
        pairs = [
            (f"{where}[{index}]", item, read)
            for index, (item, read) in enumerate(zip(given, known, strict=False))
        ]
    else:
        return ""
    return next(
        (found for pair in pairs if (found := _unknown_field(pair[1], pair[2], pair[0]))), ""
    )
