"""Locks: exact versions with hashes, as a requirements file that says nothing of this machine.

Invariants:
    * Sorted, without index addresses, times or paths; equal pins give equal text.
    * A lock made once is not made again: it is cached by the digest of its pins.
    * Without a network the lock has no hashes and says so; it is never guessed.

This module does not find out what is installed; see ``stemma.catalog.capture.environment``.
"""

from __future__ import annotations

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
    key = hash_bytes("\n".join([header, *lines]).encode()).hex
    cached = cache_folder / "locks" / f"{key}.txt"
    text = _read_cached(cached)
    if text is not None:
        return Lock(text, has_hashes=True, note="")
    hashed, note = _with_hashes(lines, minor, is_offline=is_offline)
    text = header + "\n".join(hashed[name_of(line)] for line in lines) + "\n"
    has_hashes = not note and all("--hash=" in hashed[name_of(line)] for line in lines)
    if has_hashes:
        _write_cached(cached, text)
    return Lock(text, has_hashes=has_hashes, note=note)


def _with_hashes(
    lines: Sequence[str], minor: str, *, is_offline: bool
) -> tuple[dict[str, str], str]:
    """Return each pin with its hashes by name, and why some have none."""
    plain = {name_of(line): line for line in lines}
    # Local versions (torch 2.13.0+cpu) come from no index, so they would fail all the others.
    asked = [line for line in lines if "+" not in line and " @ " not in line]
    left_out = sorted(set(plain) - {name_of(line) for line in asked})
    note = f"no hashes in the lock for {', '.join(left_out)}: from no index" if left_out else ""
    if not asked:
        return plain, note
    try:
        with tempfile.TemporaryDirectory(prefix="stemma-lock-") as folder:
            source = Path(folder) / "pins.in"
            source.write_text("\n".join(asked) + "\n", encoding="utf-8")
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
        return plain, f"no hashes in the lock: {error.message}"
    if not answer.has_succeeded:
        reason = "no network" if answer.is_network_failure else answer.reason
        return plain, f"no hashes in the lock: {reason}"
    return plain | _blocks(answer.output), note


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
    blocks = _blocks(lock_text)
    return (
        bool(blocks)
        and blocks.keys() == read_pins(lock_text).keys()
        and all("--hash=" in block for block in blocks.values())
    )


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
