"""The axes of structure: labels and tokens, architecture, files.

Invariants:
    * A size of -1 depends on the data and matches any size.
    * A dimension that is the number of labels or tokens may grow when these are appended.
"""

from __future__ import annotations

from typing import Final

from stemma.domain.axis_interface import appended_sizes
from stemma.domain.component import ANY_SIZE
from stemma.domain.facts import Tensor, VersionFacts
from stemma.domain.policy import ModelPolicy
from stemma.domain.verdict import Axis, Finding, Level

_SHOWN: Final = 3


def _finding(axis: Axis, level: Level, code: str, reason: str) -> Finding:
    return Finding(axis=axis, level=level, code=code, reason=reason)


def judge_labels(before: VersionFacts, after: VersionFacts) -> list[Finding]:
    """Return what changed in labels, tokens and special tokens."""
    old, new = before.manifest.architecture, after.manifest.architecture
    findings = _sequence("label", old.labels, new.labels)
    if old.tokens != new.tokens:
        if before.tokens or after.tokens:
            findings += _sequence("token", before.tokens, after.tokens)
        else:
            reason = "the token lists differ and could not be read"
            findings.append(_finding(Axis.LABELS, Level.MAJOR, "tokens-missing", reason))
    return findings + _special_tokens(old.special_tokens, new.special_tokens)


def _sequence(word: str, old: tuple[str, ...], new: tuple[str, ...]) -> list[Finding]:
    if old == new:
        return []
    if new[: len(old)] == old:
        added = new[len(old) :]
        reason = f"{len(added)} {word}{'s' if len(added) > 1 else ''} appended: {_listed(added)}"
        return [_finding(Axis.LABELS, Level.MINOR, f"{word}s-appended", reason)]
    lost = tuple(item for item in old if item not in set(new))
    if lost:
        reason = f"{word} removed: {_listed(lost)}"
        return [_finding(Axis.LABELS, Level.MAJOR, f"{word}-removed", reason)]
    index = next(i for i, (one, other) in enumerate(zip(old, new, strict=False)) if one != other)
    reason = f"{word}s remapped: {index} was {old[index]}, now {new[index]}"
    return [_finding(Axis.LABELS, Level.MAJOR, f"{word}s-remapped", reason)]


def _listed(items: tuple[str, ...]) -> str:
    shown = ", ".join(items[:_SHOWN])
    return f"{shown} and {len(items) - _SHOWN} more" if len(items) > _SHOWN else shown


def _special_tokens(old: tuple[str, ...], new: tuple[str, ...]) -> list[Finding]:
    before = dict(item.split("=", maxsplit=1) for item in old)
    after = dict(item.split("=", maxsplit=1) for item in new)
    changed = tuple(name for name in sorted(before) if after.get(name) != before[name])
    added = tuple(name for name in sorted(after) if name not in before)
    findings: list[Finding] = []
    if changed:
        reason = f"special token changed: {_listed(changed)}"
        findings.append(_finding(Axis.LABELS, Level.MAJOR, "special-token-changed", reason))
    if added:
        reason = f"special token added: {_listed(added)}"
        findings.append(_finding(Axis.LABELS, Level.MINOR, "special-token-added", reason))
    return findings


def judge_architecture(
    before: VersionFacts, after: VersionFacts, policy: ModelPolicy
) -> list[Finding]:
    """Return whether it is a redesign, an extension, another dtype or other values only."""
    old, new = before.manifest.architecture, after.manifest.architecture
    if old.family != new.family:
        return [_architecture(Level.MAJOR, "redesigned", f"redesigned: {_both(before, after)}")]
    tensors = before.structure.tensors
    grown = appended_sizes(before, after)
    by_name = {tensor.name: tensor for tensor in after.structure.tensors}
    kept = sum(
        tensor.name in by_name and _is_kept(tensor, by_name[tensor.name], grown)
        for tensor in tensors
    )
    if kept < policy.profile.redesign_share * len(tensors):
        reason = f"redesigned: {kept} of {len(tensors)} parameter tensors keep name and shape"
        return [_architecture(Level.MAJOR, "redesigned", reason)]
    if by_name and not tensors:
        reason = f"the structure of only one version is known ({len(by_name)} parameter tensors)"
        return [_architecture(Level.MAJOR, "structure-missing", reason)]
    is_base = policy.is_adapter_base or old.is_adapter_base or new.is_adapter_base
    findings = _structural(before, after, kept, is_grown=bool(grown))
    if is_base:
        return [
            _architecture(
                Level.MAJOR, "adapter-base-changed", f"{finding.reason}; adapters are built on it"
            )
            for finding in findings
        ] or _values(before, after)
    return findings or _values(before, after)


def _architecture(level: Level, code: str, reason: str) -> Finding:
    return _finding(Axis.ARCHITECTURE, level, code, reason)


def _is_kept(old: Tensor, new: Tensor, grown: dict[int, int]) -> bool:
    return len(old.shape) == len(new.shape) and all(
        ANY_SIZE in {one, other} or one == other or grown.get(one) == other
        for one, other in zip(old.shape, new.shape, strict=True)
    )


def _both(before: VersionFacts, after: VersionFacts) -> str:
    """Describe both models, without the first steps that they share."""
    old, new = before.manifest.architecture, after.manifest.architecture
    left, right = old.summary.split(" → "), new.summary.split(" → ")
    while len(left) > 1 and len(right) > 1 and left[0] == right[0]:
        del left[0], right[0]
    return (
        f"{' → '.join(left)} {old.parameter_count:,} params → "
        f"{' → '.join(right)} {new.parameter_count:,} params"
    )


def _structural(
    before: VersionFacts, after: VersionFacts, kept: int, *, is_grown: bool
) -> list[Finding]:
    old, new = before.structure, after.structure
    by_name = {tensor.name: tensor for tensor in new.tensors}
    added = len(by_name.keys() - {tensor.name for tensor in old.tensors})
    findings: list[Finding] = []
    layers = [(layer.name, layer.kind) for layer in old.layers]
    is_other = layers != [(layer.name, layer.kind) for layer in new.layers]
    if added or kept < len(old.tensors) or is_other or is_grown:
        reason = (
            f"structure extended: {kept} of {len(old.tensors)} parameter tensors kept, "
            f"{added} added, {len(old.layers)} → {len(new.layers)} layers"
        )
        findings.append(_architecture(Level.MINOR, "structure-extended", reason))
    retyped = [
        (tensor.dtype, by_name[tensor.name].dtype)
        for tensor in old.tensors
        if tensor.name in by_name and tensor.dtype != by_name[tensor.name].dtype
    ]
    if retyped:
        one, other = retyped[0]
        reason = f"{len(retyped)} of {len(old.tensors)} parameter tensors {one} → {other}"
        findings.append(_architecture(Level.MINOR, "dtype-changed", reason))
    return findings


def _values(before: VersionFacts, after: VersionFacts) -> list[Finding]:
    """Say that only values or the defining source changed."""
    old, new = before.manifest, after.manifest
    if old.artifact.identity != new.artifact.identity:
        names = before.tensor_digests.keys() | after.tensor_digests.keys()
        changed = sum(
            before.tensor_digests.get(name) != after.tensor_digests.get(name) for name in names
        )
        reason = "other values in the same structure"
        if changed:
            reason = f"{changed} of {len(names)} tensors changed, same structure"
        return [_architecture(Level.PATCH, "values-changed", reason)]
    if old.architecture.identity != new.architecture.identity:
        reason = "defining source changed, same structure"
        return [_architecture(Level.PATCH, "source-changed", reason)]
    return []


def judge_files(before: VersionFacts, after: VersionFacts) -> list[Finding]:
    """Return which file formats came and went."""
    old, new = before.manifest.artifact, after.manifest.artifact
    had = {file.format for file in old.files}
    has = {file.format for file in new.files}
    findings = [
        _finding(Axis.FILES, Level.MAJOR, "format-removed", f"no {name} file any more")
        for name in sorted(had - has)
    ]
    if new.is_pickle and not old.is_pickle:
        reason = "a pickle is introduced: loading it runs code"
        findings.append(_finding(Axis.FILES, Level.MAJOR, "pickle-introduced", reason))
        has.discard("pickle")
    return findings + [
        _finding(Axis.FILES, Level.MINOR, "format-added", f"{name} file added")
        for name in sorted(has - had)
    ]
