"""Locks: exact versions with hashes, as a requirements file that says nothing of this machine.

Invariants:
    * Sorted, without index addresses, times or paths; equal pins give equal text.
    * A lock made once is not made again: it is cached by the digest of its pins.
    * Without a network the lock has no hashes and says so; it is never guessed.
    * A package that no configured index has (torch ``2.13.0+cpu``) is locked without a hash and
      named in a comment; the hash of another build is never taken for its own.

This module does not find out what is installed; see ``stemma.catalog.capture.environment``.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from packaging.utils import canonicalize_name

from stemma.catalog.capture.uv import ask_uv
from stemma.domain.errors import UnavailableError
from stemma.store.hashing import hash_bytes

_PIN: Final = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)")
_DIRECT: Final = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*) @ (\S+)")
_PYTHON: Final = re.compile(r"^# python (\d+\.\d+)", re.MULTILINE)
_TORCH_BUILD: Final = re.compile(r"^torch==[^+]+\+(cpu|cu\d+|xpu|rocm[\d.]+)$")
_BARE_COMMENT: Final = "# without a hash, no configured index has it: "
_INDEX_VARIABLES: Final = (
    *("UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL"),
    *("UV_FIND_LINKS", "UV_TORCH_BACKEND"),
)
_TIMEOUT_SECONDS: Final = 45.0


class Lock(NamedTuple):
    """A lock and whether every pin has hashes."""

    text: str
    has_hashes: bool
    note: str


class PinnedPackage(NamedTuple):
    """One line to be locked.

    ``line`` is ``name==version`` or ``name @ url``; empty for what only this machine has,
    which ``comment`` then names.
    """

    name: str
    line: str
    comment: str = ""


def make_lock(
    pins: Sequence[PinnedPackage], python: str, cache_folder: Path, *, is_offline: bool = False
) -> Lock:
    """Return the lock of these pins, with hashes when the package index answers.

    Args:
        pins: Sorted by name.
        python: Full version of the interpreter.
        cache_folder: Where locks are kept, in ``locks/``.
        is_offline: Do not use the network.
    """
    minor = ".".join(python.split(".")[:2])
    header = f"# python {minor}\n" + "".join(f"# {pin.comment}\n" for pin in pins if pin.comment)
    lines = [pin.line for pin in pins if pin.line]
    if not lines:
        return Lock(header, has_hashes=False, note="")
    key = hash_bytes("\n".join([header, *lines, *_index_settings(lines)]).encode()).hex
    cached = cache_folder / "locks" / f"{key}.txt"
    text = _read_cached(cached)
    if text is not None:
        return Lock(text, has_hashes=has_all_hashes(text), note="")
    found, failure = _ask_hashes(
        [line for line in lines if not _is_elsewhere(line)], minor, is_offline=is_offline
    )
    if failure:
        text = header + "\n".join(lines) + "\n"
        return Lock(text, has_hashes=False, note=f"no hashes in the lock: {failure}")
    local = [line for line in lines if _is_elsewhere(line) and " @ " not in line]
    found |= _ask_hashes(local, minor, is_offline=is_offline)[0]
    bare = [line for line in lines if "--hash=" not in found.get(name_of(line), "")]
    text = (
        header
        + "".join(f"{_BARE_COMMENT}{line}\n" for line in bare)
        + "\n".join(found.get(name_of(line), line) for line in lines)
        + "\n"
    )
    # Kept with what it lacks: what no index has today is not asked for, nor told, each run.
    _write_cached(cached, text)
    return Lock(text, has_hashes=not bare, note=_note(bare))


def _is_elsewhere(line: str) -> bool:
    """Whether the public index cannot have it; asking for it there would fail all the others."""
    return "+" in line or " @ " in line


def _index_settings(lines: Sequence[str]) -> list[str]:
    """Return what decides where uv looks, when the answer may change with it."""
    if not any(_is_elsewhere(line) for line in lines):
        return []
    return [f"{name}={os.environ.get(name, '')}" for name in _INDEX_VARIABLES]


def _note(bare: Sequence[str]) -> str:
    if not bare:
        return ""
    names = ", ".join(name_of(line) for line in bare)
    backend = next((match[1] for line in bare if (match := _TORCH_BUILD.match(line))), "")
    advice = f" (export UV_TORCH_BACKEND={backend} names torch's)" if backend else ""
    return f"no hash in the lock for {names}: no configured index has it{advice}; told once"


def _ask_hashes(
    lines: Sequence[str], minor: str, *, is_offline: bool
) -> tuple[dict[str, str], str]:
    """Return each pin with its hashes by name, or why there are none."""
    if not lines:
        return {}, ""
    try:
        with tempfile.TemporaryDirectory(prefix="stemma-lock-") as folder:
            source = Path(folder) / "pins.in"
            source.write_text("\n".join(lines) + "\n", encoding="utf-8")
            answer = ask_uv(
                [
                    *("pip", "compile", "--quiet", "--generate-hashes", "--no-deps"),
                    *("--no-header", "--no-annotate", "--python-version", minor),
                    str(source),
                ],
                is_offline=is_offline,
                timeout_seconds=_TIMEOUT_SECONDS,
            )
    except UnavailableError as error:
        return {}, error.message
    if not answer.has_succeeded:
        return {}, "no network" if answer.is_network_failure else answer.reason
    return _blocks(answer.output), ""


def _blocks(text: str) -> dict[str, str]:
    """Split uv's output into one block per package."""
    blocks: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        match = _PIN.match(line)
        if match is not None:
            current = blocks.setdefault(canonicalize_name(match[1]), [])
        if line.startswith(" ") or match is not None:
            current.append(line)
    return {name: "\n".join(lines) for name, lines in blocks.items()}


def name_of(line: str) -> str:
    """Return the normalised name a pin starts with; empty when it is none."""
    match = _PIN.match(line) or _DIRECT.match(line)
    return canonicalize_name(match[1]) if match is not None else ""


def read_pins(lock_text: str) -> dict[str, str]:
    """Return ``{name: version}`` of a lock; packages from an address have version ``""``."""
    pins: dict[str, str] = {}
    for line in lock_text.splitlines():
        match = _PIN.match(line)
        if match is not None:
            pins[canonicalize_name(match[1])] = match[2]
        elif name_of(line):
            pins[name_of(line)] = ""
    return pins


def read_python(lock_text: str) -> str:
    """Return the Python minor a lock was made for, ``3.11``; empty when it does not say."""
    match = _PYTHON.search(lock_text)
    return match[1] if match is not None else ""


def has_all_hashes(lock_text: str) -> bool:
    """Whether every pin of a lock has a hash."""
    return not split_lock(lock_text)[1] and bool(read_pins(lock_text))


def split_lock(lock_text: str) -> tuple[str, str]:
    """Return the pins that have hashes and those that have none, as two requirements files."""
    hashed: list[str] = []
    bare: list[str] = []
    blocks = _blocks(lock_text)
    for line in lock_text.splitlines():
        name = name_of(line)
        if name and "--hash=" in blocks.get(name, ""):
            hashed.append(blocks[name])
        elif name:
            bare.append(line)
    return "".join(f"{line}\n" for line in hashed), "".join(f"{line}\n" for line in bare)


def constraint_lines(pins: Mapping[str, str]) -> list[str]:
    """Return pins as plain constraints, without hashes."""
    return [f"{name}=={version}" for name, version in sorted(pins.items()) if version]


def _read_cached(path: Path) -> str | None:
    """Return a cached lock when it is exactly what was written."""
    try:
        checksum, _, text = path.read_text(encoding="utf-8").partition("\n")
    except (OSError, UnicodeDecodeError):
        return None
    return text if checksum == f"# {hash_bytes(text.encode())}" else None


def _write_cached(path: Path, text: str) -> None:
    """Keep a lock for the next run; a cache that cannot be written costs time only."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as stream:
            stream.write(f"# {hash_bytes(text.encode())}\n{text}")
        Path(stream.name).replace(path)
    except OSError:
        return
