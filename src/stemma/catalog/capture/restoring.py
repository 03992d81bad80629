"""Makes an environment again from its lock, with uv.

Invariants:
    * An environment without its completion mark does not count: a killed restore is
      done again, nobody has to remove anything.
    * A complete one is reused after its packages were checked against the lock.
    * A folder that Stemma did not make is never touched.
    * What has a hash in the lock is installed by it; only what has none is installed without.
    * Two restores into one folder take turns.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from packaging.utils import canonicalize_name

from stemma.catalog.capture.locks import read_pins, split_lock
from stemma.catalog.capture.uv import UvAnswer, ask_uv
from stemma.domain.errors import (
    ConflictError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    StemmaError,
    UnavailableError,
)
from stemma.store.hashing import hash_bytes

COMPLETE_MARK: Final = ".stemma-complete"
BUILDING_MARK: Final = ".stemma-building"
_TIMEOUT_SECONDS: Final = 600.0


def restore_environment(
    lock_text: str, target: Path, python: str, *, is_offline: bool = False
) -> Path:
    """Make (or reuse) an environment in ``target`` that holds exactly the lock.

    Args:
        lock_text: The lock, as ``capture_environment`` made it.
        target: Folder of the environment; its parent is made when missing.
        python: Version of the interpreter the lock was made with; its minor counts.
        is_offline: Use uv's cache only.

    Returns:
        The environment's interpreter.

    Raises:
        ConflictError: If ``target`` holds something Stemma did not make.
        UnavailableError: If packages are needed and the network does not answer.
        NotFoundError: If the index does not have a package, or there is no such Python.
        IntegrityError: If a package's hash is not the locked one.
    """
    minor = ".".join(python.split(".")[:2])
    identity = str(hash_bytes(f"{minor}\n{lock_text}".encode()))
    interpreter = target / "bin" / "python"
    with _translated(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with _turn(target):
            if _is_complete(target, identity, lock_text):
                return interpreter
            _clear(target)
            target.mkdir()
            (target / BUILDING_MARK).write_text(identity, encoding="utf-8")
            _build(lock_text, target, minor, is_offline=is_offline)
            (target / COMPLETE_MARK).write_text(identity, encoding="utf-8")
            (target / BUILDING_MARK).unlink()
    return interpreter


def _build(lock_text: str, target: Path, minor: str, *, is_offline: bool) -> None:
    current = f"{sys.version_info.major}.{sys.version_info.minor}"
    wanted = sys.executable if minor in {current, ""} else minor
    answer = ask_uv(
        ["venv", "--quiet", "--no-project", "--allow-existing", "--python", wanted, str(target)],
        is_offline=is_offline,
        timeout_seconds=_TIMEOUT_SECONDS,
    )
    if not answer.has_succeeded:
        raise _translate(answer, f"no environment with Python {minor}")
    if not read_pins(lock_text):
        return
    (target / "stemma.lock.txt").write_text(lock_text, encoding="utf-8")
    hashed, bare = split_lock(lock_text)
    # uv requires hashes of all packages of a call or of none.
    for name, part, options in (
        ("stemma.hashed.txt", hashed, ["--require-hashes"]),
        ("stemma.without-hashes.txt", bare, []),
    ):
        if part:
            file = target / name
            file.write_text(part, encoding="utf-8")
            _install(target, file, options, is_offline=is_offline)


def _install(target: Path, file: Path, options: list[str], *, is_offline: bool) -> None:
    answer = ask_uv(
        [
            *("pip", "install", "--quiet", "--no-deps", "--python", str(target), *options),
            *("--requirements", str(file)),
        ],
        is_offline=is_offline,
        timeout_seconds=_TIMEOUT_SECONDS,
    )
    if not answer.has_succeeded:
        raise _translate(answer, "the locked packages cannot be installed")


def _translate(answer: UvAnswer, what: str) -> StemmaError:
    if answer.is_network_failure:
        return UnavailableError(
            f"{what}: no network, and not everything is in uv's cache",
            code="restore-offline",
            hint="try again with a network",
        )
    if "hash mismatch" in answer.complaint.lower():
        return IntegrityError(
            f"{what}: {answer.reason}",
            code="package-hash-mismatch",
            hint="the index delivers other bytes than were locked: do not install them",
        )
    return NotFoundError(
        f"{what}: {answer.reason}",
        code="package-not-found",
        hint="name the index that has it: export UV_INDEX=..., or UV_TORCH_BACKEND=cpu for torch",
    )


def _is_complete(target: Path, identity: str, lock_text: str) -> bool:
    try:
        mark = (target / COMPLETE_MARK).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    if mark != identity or not (target / "bin" / "python").exists():
        return False
    folders = [str(path) for path in target.glob("lib/python*/site-packages")]
    installed = {
        str(canonicalize_name(found.metadata["Name"] or "")): found.version
        for found in importlib.metadata.distributions(path=folders)
    }
    return all(
        name in installed and version in {"", installed[name]}
        for name, version in read_pins(lock_text).items()
    )


def _clear(target: Path) -> None:
    """Remove what Stemma made there; refuse anything else."""
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise _occupied(target)
    if not target.exists():
        return
    is_ours = any((target / mark).exists() for mark in (COMPLETE_MARK, BUILDING_MARK))
    if not is_ours and any(target.iterdir()):
        raise _occupied(target)
    if is_ours:
        # The mark of the old one goes first, so that a kill in between leaves no half one.
        (target / BUILDING_MARK).touch()
        (target / COMPLETE_MARK).unlink(missing_ok=True)
    for path in sorted(target.iterdir(), key=lambda path: path.name == BUILDING_MARK):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    target.rmdir()


def _occupied(target: Path) -> ConflictError:
    return ConflictError(
        f"{target} exists and is no environment Stemma made",
        code="folder-occupied",
        hint="name another folder, or remove it",
    )


@contextmanager
def _turn(target: Path) -> Iterator[None]:
    """Hold the folder's lock, which dies with the process."""
    handle = os.open(
        target.parent / f".{target.name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666
    )
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def _translated(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InvalidInputError(
            f"{target}: {error.strerror or error}", code="cannot-write", hint=f"ls -ld {target}"
        ) from error
