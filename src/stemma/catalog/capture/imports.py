"""Which distributions the user's own code uses, as opposed to all that got loaded.

A library that finds another one installed may import it (skops imports torch), and that
must not make torch part of a scikit-learn model's environment.  So only the user's own
modules are asked: what their source imports, and what their names hold (a notebook has
no source file).

Invariants:
    * Only what was really imported counts: a branch not taken adds nothing.
    * Nothing is imported or executed to find out.
"""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import sys
import sysconfig
import warnings
from importlib.metadata import Distribution
from pathlib import Path
from types import ModuleType
from typing import Final

from packaging.utils import canonicalize_name

from stemma.catalog.capture.origin import read_origin

_OWN_FOLDER: Final = Path(__file__).parents[2]
"""Stemma's own package."""
_INSTALLED: Final = re.compile(r"[/\\](site|dist)-packages[/\\]")


def imported_distributions() -> set[str]:
    """Return normalised names of the distributions that the user's own modules use."""
    foreign = _foreign_folders()
    own = [module for module in list(sys.modules.values()) if _is_own(module, foreign)]
    tops: set[str] = set()
    for module in own:
        tops |= _held(module) | _written(module)
    tops -= set(sys.stdlib_module_names) | {module.__name__.partition(".")[0] for module in own}
    needles = {_recorded_as(sys.modules[top]) for top in tops if top in sys.modules} - {""}
    files = {Path(file).resolve() for module in own if (file := module.__dict__.get("__file__"))}
    return {
        str(canonicalize_name(found.metadata["Name"] or ""))
        for found in importlib.metadata.distributions()
        if _owns(found, needles) or _is_editable_of(found, files)
    }


def _recorded_as(module: ModuleType) -> str:
    """Return how an installed module stands in its distribution's list of files."""
    file = module.__dict__.get("__file__")
    if not isinstance(file, str):  # A namespace package is only a folder.
        return f"\n{module.__name__}/"
    path = Path(file)
    name = f"{path.parent.name}/{path.name}" if hasattr(module, "__path__") else path.name
    return f"\n{name},"


def _owns(distribution: Distribution, needles: set[str]) -> bool:
    """Search the list of files as text: parsing it for every package costs half a second."""
    text = "\n" + (distribution.read_text("RECORD") or "")
    return any(needle in text for needle in needles)


def _is_editable_of(distribution: Distribution, files: set[Path]) -> bool:
    folder = read_origin(distribution).folder
    return folder is not None and any(file.is_relative_to(folder) for file in files)


def _is_own(module: object, foreign: tuple[str, ...]) -> bool:
    """Plain text is compared: thousands of modules are loaded, and resolving links is slow."""
    if not isinstance(module, ModuleType):
        return False
    file = module.__dict__.get("__file__")
    if not isinstance(file, str):
        return module.__name__ == "__main__"
    path = os.path.abspath(file)  # noqa: PTH100 -- see above
    return not path.startswith(foreign) and not _INSTALLED.search(path)


def _foreign_folders() -> tuple[str, ...]:
    """Return where Python, installed packages and Stemma live, as they may be written."""
    paths = sysconfig.get_paths()
    folders = {paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib", "scripts")}
    folders.add(str(_OWN_FOLDER))
    return tuple(
        sorted({way(folder) + os.sep for folder in folders for way in (str, os.path.realpath)})
    )


def _held(module: ModuleType) -> set[str]:
    """Return top-level packages of the values a module's names hold."""
    found: set[str] = set()
    for value in list(vars(module).values()):
        name = (
            value.__name__
            if isinstance(value, ModuleType)
            else getattr(value, "__module__", None) or type(value).__module__
        )
        if isinstance(name, str):
            found.add(name.partition(".")[0])
    return found


def _written(module: ModuleType) -> set[str]:
    """Return top-level packages that a module's source imports, anywhere in it."""
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or not file.endswith(".py"):
        return set()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(Path(file).read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return set()
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                found |= {name.name.partition(".")[0] for name in names}
            case ast.ImportFrom(level=0, module=str(name)):
                found.add(name.partition(".")[0])
            case _:
                pass
    return found
