"""A version's environment, made from its lock, one folder per identity.

Invariants:
    * An environment is whole or does not count: another process building it is waited for, and
      a killed build is done again (``catalog.capture.restoring``).
    * What uv's cache has needs no network, and none is asked for.
"""

from __future__ import annotations

from pathlib import Path

from stemma.catalog.capture.restoring import COMPLETE_MARK, restore_environment
from stemma.delivery.layout import ServeLayout
from stemma.domain.errors import NotFoundError, UnavailableError


def ensure_environment(
    lock_text: str, identity: str, python: str, layout: ServeLayout, *, is_offline: bool = False
) -> Path:
    """Make the environment, or verify the one that is there.

    Args:
        lock_text: The lock; one without packages gives a bare interpreter.
        identity: The environment's digest, as text.
        python: Version of the interpreter it was locked with.
        layout: Where environments are.
        is_offline: Never ask the package index.

    Returns:
        The environment's interpreter.

    Raises:
        UnavailableError: If packages are missing and the network does not answer.
        NotFoundError: If the index does not have a package, or there is no such Python.
        IntegrityError: If a package's hash is not the locked one.
    """
    target = layout.environment(identity)
    try:
        return restore_environment(lock_text, target, python, is_offline=True)
    except (UnavailableError, NotFoundError):
        # Without the index uv cannot tell a package that is not cached from one that is not.
        if is_offline:
            raise
    return restore_environment(lock_text, target, python, is_offline=False)


def is_built(layout: ServeLayout, identity: str) -> bool:
    """Return whether the environment was finished; its packages are not looked at."""
    folder = layout.environment(identity)
    return (folder / COMPLETE_MARK).is_file() and (folder / "bin" / "python").exists()
