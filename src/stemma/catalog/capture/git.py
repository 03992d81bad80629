"""Where code stands in git, asked of the ``git`` program without touching the repository.

Invariants:
    * Nothing is written: ``GIT_OPTIONAL_LOCKS=0``, no index refresh, no hooks.
    * No program that the repository configures is run: fsmonitor, external diff and
      text conversion are switched off.
    * Credentials in the remote's URL never leave this module.
    * No git, no repository, a broken one or a slow one is an answer, not an error.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from stemma.catalog.capture.base import GitFacts

PATCH_LIMIT_BYTES: Final = 16 * 1024 * 1024
"""A larger patch is left out (the files themselves are always captured)."""

_TIMEOUT_SECONDS: Final = 20.0
_COMMAND: Final = ("git", "-c", "core.fsmonitor=false", "-c", "core.quotePath=false")


def read_git(root: Path, sources: Sequence[str] = ()) -> tuple[GitFacts | None, tuple[str, ...]]:
    """Return where the folder ``root`` stands in git, and notes for people.

    ``None`` when it is not inside a work tree, or git is absent or refuses.

    Args:
        root: Folder inside a work tree.
        sources: Files below it that ran; one that git does not hold is an uncommitted change.
    """
    inside = _ask(root, "rev-parse", "--is-inside-work-tree")
    if inside != "true":
        return None, ()
    commit = _ask(root, "rev-parse", "--verify", "--quiet", "HEAD^{commit}") or ""
    branch = _ask(root, "symbolic-ref", "--short", "--quiet", "HEAD") or ""
    remote = without_credentials(_ask(root, "remote", "get-url", "origin") or "")
    if not commit:
        is_dirty = bool(_ask(root, "ls-files", "--cached", "--", "."))
        return GitFacts(remote=remote, branch=branch, is_dirty=is_dirty), (
            "no commit yet: the code is captured whole",
        )
    patch, note = _patch(root)
    facts = GitFacts(
        remote=remote,
        commit=commit,
        branch=branch,
        is_dirty=bool(patch) or bool(note) or not _holds(root, sources),
        patch=patch,
    )
    return facts, (note,) if note else ()


def _holds(root: Path, sources: Sequence[str]) -> bool:
    """Whether git holds every source; it says nothing of ignored ones in a diff."""
    if not sources:
        return True
    held = _ask(root, "--literal-pathspecs", "ls-files", "-z", "--cached", "--", *sources)
    return held is not None and set(sources) <= set(held.split("\0"))


def _patch(root: Path) -> tuple[bytes, str]:
    """Return the patch of tracked files under ``root``, or why it was left out."""
    arguments = (
        *_COMMAND,
        *("diff", "--binary", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames"),
        *("--submodule=short", "HEAD", "--", "."),
    )
    with tempfile.TemporaryFile() as file:
        try:
            outcome = subprocess.run(
                arguments,
                cwd=root,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.DEVNULL,
                timeout=_TIMEOUT_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return b"", f"git diff gave no answer in {_TIMEOUT_SECONDS:g} s: patch left out"
        if outcome.returncode != 0:
            return b"", f"git diff failed with exit code {outcome.returncode}: patch left out"
        size_bytes = file.seek(0, os.SEEK_END)
        if size_bytes > PATCH_LIMIT_BYTES:
            return b"", (
                f"uncommitted changes make a patch of {size_bytes} bytes, over "
                f"{PATCH_LIMIT_BYTES}: patch left out, files captured"
            )
        file.seek(0)
        return file.read(), ""


def _ask(root: Path, *arguments: str) -> str | None:
    """Return git's answer on one line, or ``None`` when it has none."""
    try:
        outcome = subprocess.run(
            (*_COMMAND, *arguments),
            cwd=root,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if outcome.returncode != 0:
        return None
    return outcome.stdout.decode("utf-8", errors="replace").strip()


def _environment() -> dict[str, str]:
    """Return an environment in which git looks at ``cwd`` only, asks nobody and writes nothing."""
    kept = {name: value for name, value in os.environ.items() if not _is_redirection(name)}
    return {**kept, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}


def _is_redirection(name: str) -> bool:
    """Inside a git hook these point at the repository of the hook, not at ours."""
    return name in {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"} or name.startswith(
        "GIT_CONFIG"
    )


def without_credentials(url: str) -> str:
    """Drop user, password, query and fragment from a URL; ``user@host:path`` keeps its user."""
    if "://" not in url:
        return url
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return ""
    if ":" in host:
        host = f"[{host}]"
    user = f"{parts.username}@" if parts.scheme == "ssh" and parts.username else ""
    return urlunsplit((parts.scheme, f"{user}{host}{port}", parts.path, "", ""))
