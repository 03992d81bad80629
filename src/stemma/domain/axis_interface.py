"""The interface axis: what callers send and what they rely on getting back.

Invariants:
    * Inputs are contravariant: a new version may accept more, never less.
    * Outputs are covariant: a new version may answer more narrowly, never more widely.
    * A dimension that is the number of labels may grow with appended labels; the
      labels axis speaks for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from stemma.domain.component import ANY_SIZE, Signature, ValueSpec
from stemma.domain.facts import VersionFacts
from stemma.domain.policy import ModelPolicy
from stemma.domain.verdict import Axis, Finding, Level

_WIDER: Final = {
    "bool": ("int8", "uint8"),
    "int8": ("int16", "float16"),
    "uint8": ("int16", "uint16", "float16"),
    "int16": ("int32", "float32"),
    "uint16": ("int32", "uint32", "float32"),
    "int32": ("int64", "float64"),
    "uint32": ("int64", "uint64", "float64"),
    "float16": ("float32",),
    "bfloat16": ("float32",),
    "float32": ("float64",),
}
"""Next wider types that hold every value exactly (numpy's safe casts)."""


def is_wider(wide: str, narrow: str) -> bool:
    """Whether ``wide`` holds every value of ``narrow`` and more."""
    if wide == "object":
        return narrow != "object"
    return any(wide == step or is_wider(wide, step) for step in _WIDER.get(narrow, ()))


def appended_sizes(before: VersionFacts, after: VersionFacts) -> dict[int, int]:
    """Return sizes that grew because labels or tokens were appended, old size to new."""
    pairs = (
        (before.manifest.architecture.labels, after.manifest.architecture.labels),
        (before.tokens, after.tokens),
    )
    return {
        len(old): len(new) for old, new in pairs if old and old != new and new[: len(old)] == old
    }


def judge_interface(
    before: VersionFacts, after: VersionFacts, policy: ModelPolicy
) -> list[Finding]:
    """Return what changed in inputs, outputs and methods."""
    old, new = before.manifest.architecture.signature, after.manifest.architecture.signature
    findings = _methods(old, new, policy)
    if bool(old.inputs or old.outputs) != bool(new.inputs or new.outputs):
        reason = "inputs and outputs are declared in only one of the two versions"
        return [*findings, _finding(Level.MAJOR, "signature-missing", reason)]
    findings += _inputs(old.inputs, new.inputs)
    findings += _outputs(
        old, new, is_open=old.is_open or policy.is_open, grown=appended_sizes(before, after)
    )
    if policy.is_positional or old.is_positional or new.is_positional:
        findings += _order(old, new)
    return findings


def _finding(level: Level, code: str, reason: str) -> Finding:
    return Finding(axis=Axis.INTERFACE, level=level, code=code, reason=reason)


def _methods(old: Signature, new: Signature, policy: ModelPolicy) -> list[Finding]:
    relied = [name for name in old.methods if not policy.interface or name in policy.interface]
    lost = [name for name in relied if name not in new.methods]
    added = [name for name in new.methods if name not in old.methods]
    findings = [_finding(Level.MAJOR, "method-lost", f"{name}() is lost") for name in lost]
    return findings + [_finding(Level.MINOR, "method-added", f"{name}() is new") for name in added]


def _find(name: str, specs: Iterable[ValueSpec]) -> ValueSpec | None:
    return next((spec for spec in specs if name == spec.name or name in spec.aliases), None)


def _inputs(old: tuple[ValueSpec, ...], new: tuple[ValueSpec, ...]) -> list[Finding]:
    findings: list[Finding] = []
    matched: set[str] = set()
    for before in old:
        after = _find(before.name, new)
        if after is None:
            reason = f"input {before.name} is removed"
            findings.append(_finding(Level.MAJOR, "input-removed", reason))
            continue
        matched.add(after.name)
        findings += _input(before, after)
    for spec in new:
        if spec.name in matched:
            continue
        if spec.is_optional:
            reason = f"optional input {spec.name} is new"
            findings.append(_finding(Level.MINOR, "optional-input-added", reason))
        else:
            reason = f"required input {spec.name} is new"
            findings.append(_finding(Level.MAJOR, "required-input-added", reason))
    return findings


def _input(before: ValueSpec, after: ValueSpec) -> list[Finding]:
    what = f"input {before.name}"
    findings = _names(what, before, after) + _unit_and_meaning(what, before, after)
    if before.dtype != after.dtype:
        change = f"{what}: {before.dtype} → {after.dtype}"
        if is_wider(after.dtype, before.dtype):
            findings.append(_finding(Level.MINOR, "input-widened", f"{change} (wider)"))
        else:
            findings.append(_finding(Level.MAJOR, "input-dtype-changed", change))
    if before.shape != after.shape:
        change = f"{what}: shape {_shape(before)} → {_shape(after)}"
        if _fits(before.shape, after.shape):
            findings.append(_finding(Level.MINOR, "input-widened", f"{change} (wider)"))
        else:
            findings.append(_finding(Level.MAJOR, "input-shape-changed", change))
    if before.is_optional and not after.is_optional:
        findings.append(_finding(Level.MAJOR, "input-now-required", f"{what} is now required"))
    elif after.is_optional and not before.is_optional:
        findings.append(_finding(Level.MINOR, "input-now-optional", f"{what} is now optional"))
    return findings


def _outputs(
    old: Signature, new: Signature, *, is_open: bool, grown: dict[int, int]
) -> list[Finding]:
    findings: list[Finding] = []
    matched: set[str] = set()
    for before in old.outputs:
        after = _find(before.name, new.outputs)
        if after is None:
            reason = f"output {before.name} is removed"
            findings.append(_finding(Level.MAJOR, "output-removed", reason))
            continue
        matched.add(after.name)
        findings += _output(before, after, grown)
    for spec in new.outputs:
        if spec.name in matched:
            continue
        if is_open:
            reason = f"output {spec.name} is new"
            findings.append(_finding(Level.MINOR, "output-added", reason))
        else:
            reason = f"output {spec.name} is new and outputs are not declared open"
            findings.append(_finding(Level.MAJOR, "output-added-closed", reason))
    return findings


def _output(before: ValueSpec, after: ValueSpec, grown: dict[int, int]) -> list[Finding]:
    what = f"output {before.name}"
    findings = _names(what, before, after) + _unit_and_meaning(what, before, after)
    if before.dtype != after.dtype:
        change = f"{what}: {before.dtype} → {after.dtype}"
        if is_wider(before.dtype, after.dtype):
            findings.append(_finding(Level.MINOR, "output-narrowed", f"{change} (narrower)"))
        else:
            findings.append(_finding(Level.MAJOR, "output-dtype-changed", change))
    if not _is_same_or_grown(before.shape, after.shape, grown):
        change = f"{what}: shape {_shape(before)} → {_shape(after)}"
        if _fits(after.shape, before.shape):
            findings.append(_finding(Level.MINOR, "output-narrowed", f"{change} (narrower)"))
        else:
            findings.append(_finding(Level.MAJOR, "output-shape-changed", change))
    if after.is_nullable and not before.is_nullable:
        findings.append(_finding(Level.MAJOR, "output-nullable", f"{what} may now be missing"))
    elif before.is_nullable and not after.is_nullable:
        reason = f"{what} is never missing any more"
        findings.append(_finding(Level.MINOR, "output-narrowed", reason))
    return findings


def _names(what: str, before: ValueSpec, after: ValueSpec) -> list[Finding]:
    """Compare the names that callers may use."""
    old, new = {before.name, *before.aliases}, {after.name, *after.aliases}
    findings = [
        _finding(Level.MAJOR, "alias-removed", f"{what}: the name {name} is lost")
        for name in sorted(old - new)
    ]
    return findings + [
        _finding(Level.MINOR, "alias-added", f"{what} may also be called {name}")
        for name in sorted(new - old)
    ]


def _unit_and_meaning(what: str, before: ValueSpec, after: ValueSpec) -> list[Finding]:
    findings: list[Finding] = []
    for word, old, new in (
        ("unit", before.unit, after.unit),
        ("meaning", before.meaning, after.meaning),
    ):
        if old == new:
            continue
        change = f"{what}: {word} {old or 'undeclared'} → {new or 'undeclared'}"
        if old:
            findings.append(_finding(Level.MAJOR, f"{word}-changed", change))
        else:
            findings.append(_finding(Level.PATCH, f"{word}-declared", change))
    return findings


def _shape(spec: ValueSpec) -> str:
    return f"({', '.join('any' if size == ANY_SIZE else str(size) for size in spec.shape)})"


def _fits(narrow: tuple[int, ...], wide: tuple[int, ...]) -> bool:
    """Whether every array of shape ``narrow`` is also of shape ``wide``."""
    return len(narrow) == len(wide) and all(
        large in {ANY_SIZE, small} for small, large in zip(narrow, wide, strict=True)
    )


def _is_same_or_grown(
    before: tuple[int, ...], after: tuple[int, ...], grown: dict[int, int]
) -> bool:
    return len(before) == len(after) and all(
        old == new or grown.get(old) == new for old, new in zip(before, after, strict=True)
    )


def _order(old: Signature, new: Signature) -> list[Finding]:
    """Compare positions: what callers passed first must stay first."""
    findings: list[Finding] = []
    for what, before, after in (
        ("inputs", old.inputs, new.inputs),
        ("outputs", old.outputs, new.outputs),
    ):
        kept = [spec.name for spec in before if _find(spec.name, after)]
        names = [
            next((name for name in kept if name == spec.name or name in spec.aliases), spec.name)
            for spec in after
        ]
        if names[: len(kept)] != kept:
            change = f"order of {what} {', '.join(kept)} → {', '.join(names)}, passed by position"
            findings.append(_finding(Level.MAJOR, f"{what[:-1]}-order-changed", change))
    return findings
