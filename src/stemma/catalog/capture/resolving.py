"""Whether requirements fit a lock or each other, with the reason in one line.

Invariants:
    * What ``packaging`` can answer is answered without uv: the usual case costs microseconds.
    * "Could not be found out" is told apart from "does not fit".
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from stemma.catalog.capture.locks import constraint_lines, read_pins, read_python
from stemma.catalog.capture.uv import UvAnswer, ask_uv
from stemma.domain.errors import InvalidInputError, UnavailableError
from stemma.domain.facts import EnvironmentFit

_TIMEOUT_SECONDS: Final = 30.0
_PREAMBLE: Final = re.compile(r"^No solution found when resolving dependencies(?: cause)?:\s*")


def fit_environment(
    requirements: Sequence[str], lock_text: str, *, is_offline: bool = False
) -> EnvironmentFit:
    """Say whether ``requirements`` (of B) resolve within ``lock_text`` (of A).

    Args:
        requirements: What B declares, as requirement strings.
        lock_text: A's lock; its pins are held fast.
        is_offline: Do not use the network.

    Raises:
        InvalidInputError: If a requirement cannot be read.
    """
    pins = read_pins(lock_text)
    if all(_is_satisfied(parse_requirement(text), pins) for text in requirements):
        return EnvironmentFit(does_resolve=True)
    try:
        answer = _resolve(
            requirements, constraint_lines(pins), read_python(lock_text), is_offline=is_offline
        )
    except UnavailableError:
        return EnvironmentFit(does_resolve=None)
    if answer.is_network_failure:
        return EnvironmentFit(does_resolve=None)
    if not answer.has_succeeded:
        return EnvironmentFit(does_resolve=False, conflict=_conflict(answer))
    resolved = read_pins(answer.output)
    changed = [
        f"{name} {pins[name]} → {version}" if pins.get(name) else f"{name} {version} (new)"
        for name, version in sorted(resolved.items())
        if version and pins.get(name) != version
    ]
    return EnvironmentFit(does_resolve=True, changed=tuple(changed))


def conflict_between(
    first: Sequence[str], second: Sequence[str], *, python: str = "", is_offline: bool = False
) -> str:
    """Name the conflict between two models' requirements in one line; empty when they fit.

    Args:
        first: Requirements, or pins, of one model.
        second: Those of the other.
        python: Version of Python to resolve for; the running one by default.
        is_offline: Do not use the network.

    Raises:
        InvalidInputError: If a requirement cannot be read.
        UnavailableError: If it could not be found out without a network.
    """
    wanted = sorted({str(parse_requirement(text)) for text in (*first, *second)})
    if not wanted:
        return ""
    answer = _resolve(wanted, [], ".".join(python.split(".")[:2]), is_offline=is_offline)
    if answer.has_succeeded:
        return ""
    if answer.is_network_failure:
        raise UnavailableError(
            "whether the two environments fit cannot be found out without a network",
            code="resolve-offline",
            hint="try again with a network",
        )
    return _conflict(answer)


def parse_requirement(text: str) -> Requirement:
    """Read a requirement string.

    Raises:
        InvalidInputError: If it is none.
    """
    try:
        return Requirement(text)
    except InvalidRequirement as error:
        raise InvalidInputError(
            f"not a requirement: {text[:80]!r}",
            code="bad-requirement",
            hint="write it like numpy>=2,<3",
        ) from error


def _is_satisfied(requirement: Requirement, pins: dict[str, str]) -> bool:
    """Whether the pins answer a requirement as they are; extras need the resolver."""
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True
    version = pins.get(canonicalize_name(requirement.name))
    if version is None or requirement.url or requirement.extras:
        return False
    return bool(version) and requirement.specifier.contains(version, prereleases=True)


def _resolve(
    requirements: Sequence[str], constraints: Sequence[str], minor: str, *, is_offline: bool
) -> UvAnswer:
    current = f"{sys.version_info.major}.{sys.version_info.minor}"
    with tempfile.TemporaryDirectory(prefix="stemma-resolve-") as folder:
        source = Path(folder) / "wanted.in"
        source.write_text("\n".join(requirements) + "\n", encoding="utf-8")
        held = Path(folder) / "held.txt"
        held.write_text("\n".join(constraints) + "\n", encoding="utf-8")
        return ask_uv(
            [
                *("pip", "compile", "--quiet", "--no-header", "--no-annotate"),
                *("--python-version", minor or current, "--constraints", str(held)),
                str(source),
            ],
            is_offline=is_offline,
            timeout_seconds=_TIMEOUT_SECONDS,
        )


def _conflict(answer: UvAnswer) -> str:
    """Shorten uv's account of a conflict to the sentence that names it."""
    return _PREAMBLE.sub("", answer.reason)
