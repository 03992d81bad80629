"""What the runtime needs beside a version's own packages, in one folder per Python.

The launcher in it appends the folder to the end of ``sys.path``, so that a package of the
version always wins over ours.

Invariants:
    * For our own Python it is made of links into our own installation: no network, ever.
    * A folder is made beside and renamed, and never changed: what it holds is part of its name,
      so processes that run from an older one keep it.
"""

from __future__ import annotations

import importlib.metadata
import secrets
import shutil
import sys
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path
from typing import Final

import stemma
from stemma.catalog.capture.uv import ask_uv
from stemma.delivery.layout import ServeLayout
from stemma.delivery.slots.base import MODEL_PROCESS_MODULE
from stemma.domain.errors import NotFoundError, UnavailableError
from stemma.store.backends.local import translated_os_errors
from stemma.store.hashing import hash_bytes

LAUNCHER: Final = "launch.py"
_TIMEOUT_SECONDS: Final = 300.0
_LINKED: Final = (
    *("uvicorn", "h11", "httptools", "uvloop", "click"),
    *("msgspec", "typing_extensions", "blake3", "numpy"),
)
"""numpy last and least: a version nearly always brings its own, which wins."""

_LAUNCH_TEXT: Final = f'''\
"""Starts a model process: the version's own packages first, the runtime's behind them."""

import os
import runpy
import sys

sys.path.append(os.path.dirname(os.path.abspath(__file__)))
os.chdir(os.path.dirname(os.path.abspath(sys.argv[1])))
runpy.run_module("{MODEL_PROCESS_MODULE}", run_name="__main__", alter_sys=True)
'''


def ensure_overlay(python_minor: str, layout: ServeLayout, *, is_offline: bool = False) -> Path:
    """Make the overlay, or find the one that is there.

    Args:
        python_minor: Such as ``3.11``.
        layout: Where overlays are.
        is_offline: Never ask the package index.

    Returns:
        The folder, with ``launch.py`` in it.

    Raises:
        NotFoundError: If what serving needs is not installed here (``no-serve-extra``).
        UnavailableError: If another Python's packages are missing and no network answers.
    """
    distributions = {name: _find(name) for name in _LINKED}
    links = {"stemma": Path(stemma.__file__).resolve().parent}
    is_ours = python_minor == f"{sys.version_info.major}.{sys.version_info.minor}"
    if is_ours:
        for distribution in distributions.values():
            links |= _top_level(distribution)
    pins = [f"{name}=={found.version}" for name, found in distributions.items()]
    stamp = "\n".join([_LAUNCH_TEXT, *pins, *(f"{name}={place}" for name, place in links.items())])
    name = f"{python_minor}-{hash_bytes(stamp.encode()).short}"
    folder = layout.root / "overlay" / name
    if all((folder / item).exists() for item in (*links, LAUNCHER)):
        return folder
    with translated_os_errors(f"write {folder}"):
        partial = folder.with_name(f".{name}.{secrets.token_hex(4)}.part")
        partial.mkdir(parents=True)
        try:
            if not is_ours:
                _install(pins, python_minor, partial, is_offline=is_offline)
            for item, place in links.items():
                (partial / item).symlink_to(place)
            (partial / LAUNCHER).write_text(_LAUNCH_TEXT, encoding="utf-8")
            _take_place(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def _take_place(partial: Path, folder: Path) -> None:
    """Rename; a folder that is there is another process's, or lacks something and goes."""
    if folder.exists():
        shutil.rmtree(folder)
    try:
        partial.rename(folder)
    except OSError:
        # Somebody was faster between the two steps: theirs holds the same.
        if not (folder / LAUNCHER).exists():
            raise


def _find(name: str) -> Distribution:
    try:
        return importlib.metadata.distribution(name)
    except PackageNotFoundError as error:
        raise NotFoundError(
            f"serving needs {name}, which is not installed",
            code="no-serve-extra",
            hint="pip install 'stemma-ml[serve]'",
        ) from error


def _top_level(distribution: Distribution) -> dict[str, Path]:
    """Return what the distribution put right into site-packages: packages, modules, metadata."""
    files = distribution.files or []
    names = sorted({file.parts[0] for file in files if file.parts} - {"..", "__pycache__"})
    places = {name: Path(str(distribution.locate_file(name))).absolute() for name in names}
    return {name: place for name, place in places.items() if place.exists()}


def _install(pins: list[str], python_minor: str, target: Path, *, is_offline: bool) -> None:
    answer = ask_uv(
        [
            *("pip", "install", "--quiet", "--no-deps", "--target", str(target)),
            # Wheels for that Python are chosen by its version; it need not be installed yet.
            *("--python", sys.executable, "--python-version", python_minor),
            *("--only-binary", ":all:", *pins),
        ],
        is_offline=is_offline,
        timeout_seconds=_TIMEOUT_SECONDS,
    )
    if answer.has_succeeded:
        return
    what = f"what serving needs for Python {python_minor} cannot be installed"
    if answer.is_network_failure:
        raise UnavailableError(
            f"{what}: no network, and not everything is in uv's cache",
            code="overlay-offline",
            hint="try again with a network",
        )
    raise NotFoundError(f"{what}: {answer.reason}", code="package-not-found", hint="stemma doctor")
