"""The configuration a version is served with: versioned beside the release it was proven with.

Invariants:
    * Equal configurations have equal digests; nothing secret is in one: a variable whose
      value must not be stored is named in ``inherited`` and taken from the server's environment.
    * A variable whose name or value looks like a secret is refused, not stored.
    * An unknown key or a wrong type in ``[model.NAME.serve]`` is refused with its dotted key.

This module reads a plain mapping; it does not read files.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Final

from stemma.domain import canonical
from stemma.domain.digest import Digest
from stemma.domain.errors import InvalidInputError
from stemma.domain.table import Table, wrong_type


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What a deployment runs with.

    Attributes:
        variables: Environment variables by name.
        inherited: Names of variables taken from the server's own environment.
        flags: Switches the model's code can read, as ``STEMMA_FLAG_NAME``; text by name.
        thresholds: Numbers the model's code can read, as ``STEMMA_THRESHOLD_NAME``; decimal text.
        replicas: How many processes.
        memory_mib: Most memory of one process in MiB; more is killed and restarted.
        cpus: Threads a process may compute with.
        timeout_seconds: How long a request may take.
        start_timeout_seconds: How long a process may take from start to ready.
        methods: Which of the model's methods answer requests, the first by default.
        is_code_trusted: The version's own code may be imported (torch modules need it).
        is_recording: Requests are sampled for replay in staging.
        drill_every_seconds: A drill older than this blocks promotion; 0: no schedule.
    """

    variables: Mapping[str, str] = field(default_factory=dict)
    inherited: tuple[str, ...] = ()
    flags: Mapping[str, str] = field(default_factory=dict)
    thresholds: Mapping[str, str] = field(default_factory=dict)
    replicas: int = 1
    memory_mib: int = 2048
    cpus: int = 1
    timeout_seconds: int = 30
    start_timeout_seconds: int = 120
    methods: tuple[str, ...] = ()
    is_code_trusted: bool = False
    is_recording: bool = False
    drill_every_seconds: int = 0


REPLICA_LIMIT: Final = 64
MEMORY_FLOOR_MIB: Final = 64
MEMORY_LIMIT_MIB: Final = 4 * 1024 * 1024
CPU_LIMIT: Final = 1024
TIMEOUT_LIMIT_SECONDS: Final = 24 * 3600
DRILL_FLOOR_SECONDS: Final = 60

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SWITCH: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_METHOD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PERIOD: Final = re.compile(r"([0-9]{1,6})([mhdw])")
_PERIOD_SECONDS: Final = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_OWN_PREFIX: Final = "STEMMA_"
# MAX_TOKENS and TOKENIZERS_PARALLELISM are none; DB_PASSWORD_FILE names a file, which is right.
_SECRET_NAME: Final = re.compile(
    r"((^|_)(API|ACCESS|PRIVATE|SECRET|AUTH)?KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE"
    r"|CREDENTIALS?)$",
    re.IGNORECASE,
)
_SECRET_VALUE: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s:@]*:[^/\s@]+@", re.IGNORECASE)
_KEYS: Final = {
    "variables": "env",
    "inherited": "env_from",
    "is_code_trusted": "trust_code",
    "is_recording": "record_requests",
    "drill_every_seconds": "drill_every",
}
"""Fields that are named otherwise in ``stemma.toml``."""


def parse_configuration(values: Mapping[str, object], where: str) -> Configuration:
    """Read the table ``[model.NAME.serve]``; ``where`` is its dotted name.

    Raises:
        InvalidInputError: If a key is unknown, a type is wrong, a number is out of range, or a
            variable looks like a secret (``secret-in-settings``).
    """
    table = Table(values, where)
    variables = _variables(table.table("env"))
    configuration = Configuration(
        variables=variables,
        inherited=_inherited(table, variables),
        flags=_switches(table.table("flags"), _flag),
        thresholds=_switches(table.table("thresholds"), _threshold),
        replicas=_within(table, "replicas", 1, (1, REPLICA_LIMIT)),
        memory_mib=_within(table, "memory_mib", 2048, (MEMORY_FLOOR_MIB, MEMORY_LIMIT_MIB)),
        cpus=_within(table, "cpus", 1, (1, CPU_LIMIT)),
        timeout_seconds=_within(table, "timeout_seconds", 30, (1, TIMEOUT_LIMIT_SECONDS)),
        start_timeout_seconds=_within(
            table, "start_timeout_seconds", 120, (1, TIMEOUT_LIMIT_SECONDS)
        ),
        methods=_methods(table),
        is_code_trusted=table.flag("trust_code", default=False),
        is_recording=table.flag("record_requests", default=False),
        drill_every_seconds=_period(table, "drill_every"),
    )
    table.close()
    return configuration


def configuration_digest(configuration: Configuration) -> Digest:
    """Return the sha256 of the configuration's canonical form."""
    return Digest.sha256(hashlib.sha256(canonical.encode(configuration)).hexdigest())


def diff_configurations(before: Configuration, after: Configuration) -> list[tuple[str, str, str]]:
    """Return every setting that differs: its key in ``stemma.toml``, before, after.

    A value that is not there is an empty text.
    """
    old, new = dict(_settings(before)), dict(_settings(after))
    return [
        (key, old.get(key, ""), new.get(key, ""))
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]


def _settings(configuration: Configuration) -> Iterator[tuple[str, str]]:
    """Yield every setting as ``stemma.toml`` names it, with its value as text."""
    for item in fields(configuration):
        key = _KEYS.get(item.name, item.name)
        value: object = getattr(configuration, item.name)
        match value:
            case Mapping():
                yield from ((f"{key}.{name}", str(text)) for name, text in value.items())
            case tuple():
                yield key, ", ".join(str(text) for text in value)
            case bool():
                yield key, str(value).lower()
            case int() if key == "drill_every":
                yield key, period_text(value)
            case _:
                yield key, str(value)


def period_text(seconds: int) -> str:
    """Write a period as ``stemma.toml`` takes it: ``7d``, ``12h``; empty for none."""
    if not seconds:
        return ""
    for unit in ("w", "d", "h", "m"):
        if seconds % _PERIOD_SECONDS[unit] == 0:
            return f"{seconds // _PERIOD_SECONDS[unit]}{unit}"
    return f"{seconds}s"


def _variables(table: Table) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in table.names:
        _check_variable(table.dotted(name), name)
        value = table.text(name)
        if _SECRET_NAME.search(name) or _SECRET_VALUE.search(value):
            raise InvalidInputError(
                f"{table.dotted(name)} looks like a secret, which would be stored in plain text",
                code="secret-in-settings",
                hint=f'env_from = ["{name}"] takes it from the server\'s environment instead',
            )
        if "\0" in value:
            raise wrong_type(table.dotted(name), "text without NUL characters", value)
        found[name] = value
    return found


def _inherited(table: Table, variables: Mapping[str, str]) -> tuple[str, ...]:
    names = table.texts("env_from")
    for name in names:
        _check_variable(table.dotted("env_from"), name)
        if name in variables or names.count(name) > 1:
            raise InvalidInputError(
                f"{table.dotted('env_from')}: {name} is given twice",
                code="bad-setting",
                hint=f"name {name} once, in env or in env_from",
            )
    return tuple(sorted(names))


def _check_variable(where: str, name: str) -> None:
    if not _VARIABLE.fullmatch(name):
        raise InvalidInputError(
            f"{where}: {name!r} is not the name of an environment variable",
            code="bad-setting",
            hint="use letters, digits and _, a digit not first",
        )
    if name.upper().startswith(_OWN_PREFIX):
        raise InvalidInputError(
            f"{where}: {name} is stemma's own",
            code="bad-setting",
            hint="use the tables flags and thresholds; the code reads STEMMA_FLAG_NAME and "
            "STEMMA_THRESHOLD_NAME",
        )


def _switches(table: Table, read: Callable[[Table, str], str]) -> dict[str, str]:
    """Read flags or thresholds, which become variables named in capitals."""
    found: dict[str, str] = {}
    for name in table.names:
        if not _SWITCH.fullmatch(name) or name.upper() in {known.upper() for known in found}:
            raise InvalidInputError(
                f"{table.dotted(name)}: not a name, or one that is there in other letters",
                code="bad-setting",
                hint="use letters, digits and _, a letter first",
            )
        found[name] = read(table, name)
    return found


def _flag(table: Table, name: str) -> str:
    match table.value(name):
        case bool() as value:
            return str(value).lower()
        case str() as value if "\0" not in value:
            return value
        case value:
            raise wrong_type(table.dotted(name), "true, false or a string", value)


def _threshold(table: Table, name: str) -> str:
    match table.value(name):
        case bool() as value:
            raise wrong_type(table.dotted(name), "a number", value)
        case int() | float() as value if math.isfinite(value):
            return repr(value)
        case value:
            raise wrong_type(table.dotted(name), "a finite number", value)


def _within(table: Table, key: str, default: int, limits: tuple[int, int]) -> int:
    value = table.whole(key, default)
    lowest, highest = limits
    if not lowest <= value <= highest:
        wanted = f"a whole number from {lowest} to {highest}"
        raise wrong_type(table.dotted(key), wanted, value)
    return value


def _methods(table: Table) -> tuple[str, ...]:
    names = table.texts("methods")
    for name in names:
        if not _METHOD.fullmatch(name) or names.count(name) > 1:
            raise InvalidInputError(
                f"{table.dotted('methods')}: {name!r} is not a method's name, or is there twice",
                code="bad-setting",
                hint='e.g. methods = ["predict", "predict_proba"]',
            )
    return names


def _period(table: Table, key: str) -> int:
    text = table.text(key)
    if not text:
        return 0
    found = _PERIOD.fullmatch(text)
    seconds = int(found[1]) * _PERIOD_SECONDS[found[2]] if found else 0
    if seconds < DRILL_FLOOR_SECONDS:
        raise InvalidInputError(
            f"{table.dotted(key)}: {text!r} is not a period of at least a minute",
            code="bad-setting",
            hint=f'{key} = "7d"; units are m, h, d and w',
        )
    return seconds
