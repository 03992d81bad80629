"""What a run ran in: interpreter, platform, accelerator and locked packages.

Invariants:
    * Only what was imported, what the project declares, and what these require is locked;
      Stemma, what only Stemma needs, and tools of development are left out.
    * Installed metadata is read; nothing is imported to find out about it.
    * The answer is sorted and the same for the same installation.

Restoring and resolving live beside: ``restoring``, ``resolving``; their names are given here too.

Example:
    >>> capture_environment(["numpy"], Path(".stemma/cache")).requirements  # doctest: +SKIP
    ('numpy>=2.4,<3',)
"""

from __future__ import annotations

import importlib.metadata
import platform
import sys
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path
from typing import Any, Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from stemma.catalog.capture.base import CapturedEnvironment
from stemma.catalog.capture.imports import imported_distributions as find_imported_distributions
from stemma.catalog.capture.locks import PinnedPackage, make_lock
from stemma.catalog.capture.origin import read_origin
from stemma.catalog.capture.resolving import conflict_between, fit_environment
from stemma.catalog.capture.restoring import restore_environment
from stemma.domain.component import Package

__all__ = ["capture_environment", "conflict_between", "fit_environment", "restore_environment"]

_OWN_NAME: Final = "stemma-ml"
_SHARED: Final = frozenset({"numpy"})
"""What Stemma needs too, but models need in their own right."""

_COMPANIONS: Final = {
    "sklearn": frozenset({"skops"}),
    "torch": frozenset({"safetensors"}),
    "onnx": frozenset({"onnx", "onnxruntime"}),
}
"""What a loader reads and runs the recorded form of its models with."""

_DEVELOPMENT: Final = frozenset(
    {"coverage", "execnet", "hypothesis", "iniconfig", "ipykernel", "ipython", "mypy", "pip"}
    | {"pluggy", "pre-commit", "pytest", "pytest-cov", "pytest-xdist", "ruff", "setuptools"}
    | {"debugpy", "jupyter-client", "jupyter-core", "jupyterlab", "notebook", "uv", "wheel"}
    | {"pandas-stubs", "mypy-extensions", "pydevd", "virtualenv", "import-linter", "grimp"}
)


def capture_environment(
    imported_distributions: Sequence[str] | None,
    cache_folder: Path,
    *,
    project_root: Path | None = None,
    allow_network: bool = True,
    loader: str = "",
) -> CapturedEnvironment:
    """Lock what the running interpreter has imported.

    Args:
        imported_distributions: Names of distributions; ``None`` asks the user's own modules
            in ``sys.modules``.
        cache_folder: Where locks are kept, in ``locks/``.
        project_root: Where ``pyproject.toml`` or ``requirements.txt`` declare more.
        allow_network: Hashes come from the package index; without, from uv's cache or not.
        loader: What reads the recorded model back, and may need a package of its own.
    """
    declared = _declared_requirements(project_root) if project_root is not None else {}
    given = (
        find_imported_distributions() if imported_distributions is None else imported_distributions
    )
    imported = {str(canonicalize_name(name)) for name in given}
    roots = _roots(imported, declared, loader)
    closure = _closure(roots)
    pins, notes = _pins(closure, project_root)
    python = platform.python_version()
    lock = make_lock(pins, python, cache_folder, is_offline=not allow_network)
    return CapturedEnvironment(
        lock_text=lock.text,
        requirements=_requirements(roots, closure, declared),
        packages=tuple(
            Package(name=name, version=found.version) for name, found in sorted(closure.items())
        ),
        python=python,
        platform=f"{sys.platform}-{platform.machine().lower()}",
        accelerator=_accelerator(),
        has_hashes=lock.has_hashes,
        notes=(*notes, *([lock.note] if lock.note else [])),
    )


def _roots(imported: set[str], declared: dict[str, Requirement], loader: str) -> set[str]:
    """Leave out tools, Stemma, and what only Stemma needs."""
    own = set(_closure({_OWN_NAME})) - _SHARED
    kept = imported - own - _DEVELOPMENT - {_OWN_NAME}
    kept |= {name for name in declared if _find(name) is not None and name != _OWN_NAME}
    companions = _COMPANIONS.get(loader, frozenset[str]())
    return kept | {name for name in companions if _find(name) is not None}


def _closure(roots: Iterable[str]) -> dict[str, Distribution]:
    """Return every installed distribution that ``roots`` need here, with themselves."""
    found: dict[str, Distribution] = {}
    pending = [(name, frozenset[str]()) for name in sorted(roots)]
    seen: set[tuple[str, frozenset[str]]] = set()
    while pending:
        name, extras = pending.pop()
        distribution = found.get(name) or _find(name)
        if distribution is None or (name, extras) in seen:
            continue
        seen.add((name, extras))
        found[name] = distribution
        for requirement in _needs(distribution, extras):
            need = (str(canonicalize_name(requirement.name)), frozenset(requirement.extras))
            pending.append(need)
    return found


def _needs(distribution: Distribution, extras: frozenset[str]) -> Iterator[Requirement]:
    for text in distribution.requires or ():
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue  # Old metadata; what was imported is found by itself.
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in (*extras, "")):
            yield requirement


def _find(name: str) -> Distribution | None:
    try:
        return importlib.metadata.distribution(name)
    except (PackageNotFoundError, ValueError):
        return None


def _requirements(
    roots: set[str], closure: dict[str, Distribution], declared: dict[str, Requirement]
) -> tuple[str, ...]:
    """Return declared ranges, and inferred ones for the rest of what is used directly."""
    return tuple(
        str(declared[name]) if name in declared else _inferred_range(name, closure[name].version)
        for name in sorted(roots)
        if name in closure and read_origin(closure[name]).folder is None
    )


def _inferred_range(name: str, version: str) -> str:
    try:
        parsed = Version(version)
    except InvalidVersion:
        return f"{name}=={version}"
    if parsed.is_prerelease:
        return f"{name}>={parsed.public},<{parsed.major + 1}"
    return f"{name}>={parsed.major}.{parsed.minor},<{parsed.major + 1}"


def _declared_requirements(root: Path) -> dict[str, Requirement]:
    """Return what the project declares, by name; unreadable lines are passed over."""
    lines = _pyproject_lines(root / "pyproject.toml")
    if not lines:
        try:
            text = (root / "requirements.txt").read_text(encoding="utf-8", errors="replace")
        except OSError:
            text = ""
        lines = [line.partition(" #")[0].strip(" \\") for line in text.splitlines()]
    found: dict[str, Requirement] = {}
    for line in lines:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if requirement.marker is None or requirement.marker.evaluate():
            requirement.marker = None
            found[canonicalize_name(requirement.name)] = requirement
    return found


def _pyproject_lines(path: Path) -> list[str]:
    try:
        project = tomllib.loads(path.read_text(encoding="utf-8")).get("project")
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return []
    if not isinstance(project, dict) or canonicalize_name(str(project.get("name"))) == _OWN_NAME:
        return []
    lines = project.get("dependencies")
    return [line for line in lines if isinstance(line, str)] if isinstance(lines, list) else []


def _pins(
    closure: dict[str, Distribution], project_root: Path | None
) -> tuple[list[PinnedPackage], list[str]]:
    pins: list[PinnedPackage] = []
    notes: list[str] = []
    for name, distribution in sorted(closure.items()):
        pin = _pin(name, distribution)
        pins.append(pin)
        is_foreign = not _is_project(distribution, project_root)
        notes += [f"{pin.comment}: cannot be restored elsewhere"] * (not pin.line and is_foreign)
    return pins, notes


def _pin(name: str, distribution: Distribution) -> PinnedPackage:
    """Return the line that installs it again: by version, or from where it came."""
    origin = read_origin(distribution)
    if origin.address:
        return PinnedPackage(name, f"{name} @ {origin.address}")
    if origin.folder is not None:
        how = "editable" if origin.is_editable else "local folder"
        return PinnedPackage(name, "", f"{name}=={distribution.version} ({how})")
    return PinnedPackage(name, f"{name}=={distribution.version}")


def _is_project(distribution: Distribution, project_root: Path | None) -> bool:
    """The project's own package is captured as code."""
    folder = read_origin(distribution).folder
    return project_root is not None and folder == project_root.resolve()


def _accelerator() -> str:
    """Ask torch when it is there already; importing it to ask would cost seconds."""
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return ""
    if torch.cuda.is_available():
        return f"cuda {torch.version.cuda}"
    mps = getattr(torch.backends, "mps", None)
    return "mps" if mps is not None and mps.is_available() else ""
