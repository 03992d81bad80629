"""Settings: one frozen object, read once, each value with its origin.

Order, first wins: ``STEMMA_*`` environment variables, ``stemma.toml`` (else
``[tool.stemma]`` in ``pyproject.toml``) of the project, ``~/.config/stemma/config.toml``,
``/etc/stemma/config.toml``, the default.  Tables merge, arrays replace.  Command-line
flags are applied by the command that has them.

Invariants:
    * An unknown key, a wrong type or broken TOML is refused with file, key and what is allowed.
    * Secrets are never read from ``stemma.toml``: a database URL there must not hold a password.

Example ``stemma.toml``:

    [model.digits]
    interface = ["predict", "predict_proba"]
    [model.digits.gates]
    accuracy = ">= 0.965"
"""

from __future__ import annotations

import getpass
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final, cast
from urllib.parse import urlsplit

from stemma.domain.errors import InvalidInputError
from stemma.domain.names import check_model_name
from stemma.domain.ref import suggest
from stemma.server.settings_files import PROJECT_FILE, settings_files
from stemma.store.backends.addresses import parse_address

_DAY_SECONDS: Final = 24 * 60 * 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be set, with its value.

    Attributes:
        user: Name written into runs, releases and channel moves.
        database: SQLAlchemy URL; empty: SQLite inside ``.stemma``.
        may_use_network: Whether locking an environment may ask the package index.
        gc_grace_seconds: Age under which ``gc`` touches nothing.
        gc_trash_seconds: How long the trash keeps what ``gc`` took.
        gc_deleted_seconds: How long deleted runs and logged models can be restored.
        scrub_days: In how many days a server reads everything stored once; 0: never.
        scrub_megabytes_per_second: How much it reads at most.
        scrub_repairs: Whether it restores what it finds damaged.
        lock_timeout_seconds: How long a command waits for another one.
        models: Raw ``[model.NAME]`` tables by name.
        remotes: Address of each ``[remote.NAME]`` by name.
        origins: Where each value came from, by key.
    """

    user: str = ""
    database: str = ""
    may_use_network: bool = True
    gc_grace_seconds: int = _DAY_SECONDS
    gc_trash_seconds: int = 7 * _DAY_SECONDS
    gc_deleted_seconds: int = 30 * _DAY_SECONDS
    scrub_days: int = 7
    scrub_megabytes_per_second: int = 8
    scrub_repairs: bool = False
    lock_timeout_seconds: int = 30
    models: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    remotes: Mapping[str, str] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)


_KEYS: Final[dict[str, type]] = {
    "user": str,
    "database": str,
    "may_use_network": bool,
    "gc_grace_seconds": int,
    "gc_trash_seconds": int,
    "gc_deleted_seconds": int,
    "scrub_days": int,
    "scrub_megabytes_per_second": int,
    "scrub_repairs": bool,
    "lock_timeout_seconds": int,
}
_NAMES: Final = (*_KEYS, "model", "remote")
_ENVIRONMENT: Final = "environment"
_TRUE: Final = {"1", "true", "yes", "on"}
_FALSE: Final = {"0", "false", "no", "off"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """One place that settings come from."""

    origin: str
    table: dict[str, object]


def load_settings(root: Path, environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings of the project at ``root``.

    Args:
        root: Project folder, the one that holds ``stemma.toml`` or ``.stemma``.
        environment: Environment variables; the process's own by default.

    Raises:
        InvalidInputError: If a file is not TOML, or a key or value is wrong.
    """
    variables = os.environ if environment is None else environment
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    models: dict[str, Mapping[str, object]] = {}
    remotes: dict[str, str] = {}
    for source in _sources(root, variables):
        for key, value in source.table.items():
            if key == "model":
                models = _merge_models(models, value, source.origin)
                continue
            if key == "remote":
                remotes = {**_checked_remotes(value, source.origin, root), **remotes}
                continue
            # Checked also where another source wins: a mistake must not show up much later.
            checked = _checked(key, value, source.origin)
            if key not in values:
                values[key] = checked
                origins[key] = source.origin
    if not values.get("user"):
        values["user"] = _login_name()
        origins["user"] = "login name"
    for item in fields(Settings):
        origins.setdefault(item.name, "default")
    return Settings(
        user=cast("str", values["user"]),
        database=cast("str", values.get("database", "")),
        may_use_network=cast("bool", values.get("may_use_network", True)),
        gc_grace_seconds=cast("int", values.get("gc_grace_seconds", _DAY_SECONDS)),
        gc_trash_seconds=cast("int", values.get("gc_trash_seconds", 7 * _DAY_SECONDS)),
        gc_deleted_seconds=cast("int", values.get("gc_deleted_seconds", 30 * _DAY_SECONDS)),
        scrub_days=cast("int", values.get("scrub_days", 7)),
        scrub_megabytes_per_second=cast("int", values.get("scrub_megabytes_per_second", 8)),
        scrub_repairs=cast("bool", values.get("scrub_repairs", False)),
        lock_timeout_seconds=cast("int", values.get("lock_timeout_seconds", 30)),
        models=models,
        remotes=remotes,
        origins=origins,
    )


def _sources(root: Path, variables: Mapping[str, str]) -> list[_Source]:
    """Return every source that exists, the one that wins first."""
    files = settings_files(root, variables)
    sources = [_from_environment(variables)]
    project, origin = _read_toml(files.project), PROJECT_FILE
    if project is None:
        project, origin = _tool_table(files.tool), "[tool.stemma] in pyproject.toml"
    else:
        _refuse_password(project, files.project)
    if project is not None:
        sources.append(_Source(origin=origin, table=project))
    for path in (files.user, files.machine):
        table = _read_toml(path, is_projects=False)
        if table is not None:
            sources.append(_Source(origin=str(path), table=table))
    return sources


def _from_environment(variables: Mapping[str, str]) -> _Source:
    table: dict[str, object] = {}
    for key, kind in _KEYS.items():
        text = variables.get(f"STEMMA_{key.upper()}")
        if text is not None:
            table[key] = _from_text(key, kind, text)
    return _Source(origin=_ENVIRONMENT, table=table)


def _from_text(key: str, kind: type, text: str) -> object:
    name = f"STEMMA_{key.upper()}"
    if kind is bool:
        if text.lower() in _TRUE | _FALSE:
            return text.lower() in _TRUE
        raise InvalidInputError(
            f"{name} is {text!r}; it must be true or false",
            code="bad-setting",
            hint=f"unset {name}",
        )
    if kind is int:
        try:
            return int(text)
        except ValueError as error:
            raise InvalidInputError(
                f"{name} is {text!r}; it must be a whole number",
                code="bad-setting",
                hint=f"unset {name}",
            ) from error
    return text


def _read_toml(path: Path, *, is_projects: bool = True) -> dict[str, object] | None:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if isinstance(error, PermissionError) and not is_projects:
            return None  # somebody else's home
        # The project's is never skipped: its gates would silently not hold.
        raise InvalidInputError(
            f"{path} cannot be read: {error.strerror}",
            code="bad-settings-file",
            hint=f"ls -ld {path}",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInputError(
            f"{path.name} is not TOML: {error}", code="bad-settings-file", hint=f"edit {path}"
        ) from error


def _tool_table(path: Path) -> dict[str, object] | None:
    table = _read_toml(path)
    tool = table.get("tool") if table else None
    mine = tool.get("stemma") if isinstance(tool, dict) else None
    return mine if isinstance(mine, dict) else None


def _refuse_password(table: Mapping[str, object], path: Path) -> None:
    url = table.get("database")
    if isinstance(url, str) and urlsplit(url).password:
        raise InvalidInputError(
            f"{path.name} holds a database password, which git would see",
            code="secret-in-settings",
            hint="export STEMMA_DATABASE=… and remove the key `database`",
        )


def _checked(key: str, value: object, origin: str) -> object:
    kind = _KEYS.get(key)
    if kind is None:
        near = suggest(key, _NAMES)
        raise InvalidInputError(
            f"{origin}: unknown key {key!r}; known keys: {', '.join([*_KEYS, 'model'])}",
            code="unknown-setting",
            hint=f"did you mean {near[0]!r}?" if near else "stemma doctor --settings",
        )
    if type(value) is not kind:
        raise InvalidInputError(
            f"{origin}: {key} is {type(value).__name__} {value!r}; it must be {kind.__name__}",
            code="bad-setting",
            hint=f"edit {origin}",
        )
    if isinstance(value, int) and value < 0:
        raise InvalidInputError(
            f"{origin}: {key} is {value}; it must not be negative",
            code="bad-setting",
            hint=f"unset STEMMA_{key.upper()}" if origin == _ENVIRONMENT else f"edit {origin}",
        )
    return value


def _merge_models(
    known: dict[str, Mapping[str, object]], value: object, origin: str
) -> dict[str, Mapping[str, object]]:
    if not isinstance(value, dict) or not all(isinstance(item, dict) for item in value.values()):
        raise InvalidInputError(
            f"{origin}: `model` must hold tables, as [model.digits]",
            code="bad-setting",
            hint=f"edit {origin}",
        )
    merged = dict(known)
    for name, table in value.items():
        _check_table_name(name, origin)
        merged[name] = {**table, **merged.get(name, {})}
    return merged


def _checked_remotes(value: object, origin: str, root: Path) -> dict[str, str]:
    """Return the address of each remote; a relative folder starts at the project's."""
    if not isinstance(value, dict) or not all(
        isinstance(table, dict) and table.keys() == {"url"} and isinstance(table["url"], str)
        for table in value.values()
    ):
        raise InvalidInputError(
            f'{origin}: `remote` must hold tables, as [remote.origin] with url = "…"',
            code="bad-setting",
            hint=f"edit {origin}",
        )
    return {name: parse_address(table["url"], folder=root).url for name, table in value.items()}


def _check_table_name(name: str, origin: str) -> None:
    """Refuse a table for a model that cannot exist: its gates would never hold."""
    try:
        check_model_name(name)
    except InvalidInputError as error:
        raise InvalidInputError(
            f"{origin}: [model.{name}]: {error.message}", code=error.code, hint=error.hint
        ) from error


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
