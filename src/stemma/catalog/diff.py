"""Two versions, component by component, in words with figures.

Pure but for what the caller loads: it reads two ``VersionFacts`` and the source
texts, and returns lines.  It does not decide a level; see ``stemma.domain.evidence``.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from stemma.domain.component import Dataset
from stemma.domain.facts import VersionFacts

_SHOWN_DETAILS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentDiff:
    """One line of ``diff``.

    Attributes:
        component: ``architecture``, ``datasets``, ``pipeline``, ``hyperparameters``,
            ``artifact``, ``environment``, ``metrics``, ``metadata``.
        is_same: Nothing changed.
        summary: One line with figures.
        details: Further lines.
    """

    component: str
    is_same: bool
    summary: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """The text files of a version's code and pipeline.

    Attributes:
        texts: Text by relative path.
    """

    texts: Mapping[str, str]


def size_text(size_bytes: int) -> str:
    """Return a size for people: ``30 KB``, ``1.2 MB`` (powers of 1,000)."""
    size = float(size_bytes)
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:  # noqa: PLR2004 - the step between units
            return f"{size:.0f} {unit}" if unit == "B" or size >= 10 else f"{size:.1f} {unit}"  # noqa: PLR2004
        size /= 1000
    return f"{size:.1f} TB"


def diff_components(
    before: VersionFacts,
    after: VersionFacts,
    sources: tuple[Sources, Sources],
    stored_bytes: int | None,
) -> tuple[ComponentDiff, ...]:
    """Compare two versions.

    Args:
        before: A.
        after: B.
        sources: Source texts of A and B.
        stored_bytes: Bytes that B's artifact adds to the store beside A's, where that is known.
    """
    return (
        _architecture(before, after),
        _datasets(before, after),
        _pipeline(before, after, sources),
        _hyperparameters(before, after),
        _artifact(before, after, stored_bytes),
        _environment(before, after),
        _metrics(before, after),
        _metadata(before, after),
    )


def unified_patch(sources: tuple[Sources, Sources]) -> str:
    """Return a unified diff of the two versions' source texts."""
    before, after = sources[0].texts, sources[1].texts
    lines: list[str] = []
    for path in sorted(before.keys() | after.keys()):
        lines += difflib.unified_diff(
            before.get(path, "").splitlines(keepends=True),
            after.get(path, "").splitlines(keepends=True),
            fromfile=f"a/{path}" if path in before else "/dev/null",
            tofile=f"b/{path}" if path in after else "/dev/null",
        )
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


def value_text(value: object) -> str:
    """Return a hyperparameter value as the diff shows it."""
    return repr(value) if isinstance(value, (str, float, list, dict)) else str(value)


def changed_hyperparameters(before: VersionFacts, after: VersionFacts) -> list[str]:
    """Return the names whose values differ, are new or are gone, sorted."""
    left, right = before.hyperparameters, after.hyperparameters
    names = left.keys() | right.keys()
    return sorted(
        name for name in names if name not in left or name not in right or left[name] != right[name]
    )


def _architecture(before: VersionFacts, after: VersionFacts) -> ComponentDiff:
    left, right = before.manifest.architecture, after.manifest.architecture
    if left.identity == right.identity:
        return ComponentDiff(component="architecture", is_same=True, summary="same")
    old = {layer.name: layer for layer in before.structure.layers}
    new = {layer.name: layer for layer in after.structure.layers}
    details = [f"- {name}  {old[name].kind}" for name in old.keys() - new.keys()]
    details += [f"+ {name}  {new[name].kind}" for name in new.keys() - old.keys()]
    details += [
        f"~ {name}  {old[name].kind} {old[name].parameter_count:,} → "
        f"{new[name].kind} {new[name].parameter_count:,}"
        for name in old.keys() & new.keys()
        if old[name] != new[name]
    ]
    summary = (
        f"{left.summary} {left.parameter_count:,} params → "
        f"{right.summary} {right.parameter_count:,} params"
    )
    if (left.summary, left.parameter_count) == (right.summary, right.parameter_count):
        summary = f"{right.summary}: " + _changed_architecture_parts(before, after)
    return ComponentDiff(
        component="architecture", is_same=False, summary=summary, details=_clip(sorted(details))
    )


def _changed_architecture_parts(before: VersionFacts, after: VersionFacts) -> str:
    left, right = before.manifest.architecture, after.manifest.architecture
    parts = {
        "signature": left.signature != right.signature,
        "labels": left.labels != right.labels,
        "tokens": (left.tokens, left.special_tokens) != (right.tokens, right.special_tokens),
        "structure": before.structure != after.structure,
    }
    named = [name for name, has_changed in parts.items() if has_changed]
    return f"{', '.join(named) or 'defining source'} changed"


def _datasets(before: VersionFacts, after: VersionFacts) -> ComponentDiff:
    left = {(d.role.value, d.name): d for d in before.manifest.datasets.datasets}
    right = {(d.role.value, d.name): d for d in after.manifest.datasets.datasets}
    changed = [
        key
        for key in sorted(left.keys() | right.keys())
        if key not in left or key not in right or left[key].identity != right[key].identity
    ]
    if not changed:
        training = [d for d in right.values() if d.role.value == "training"] or list(right.values())
        names = ", ".join(d.identity.short for d in training)
        return ComponentDiff(component="datasets", is_same=True, summary=f"same  {names}".strip())
    details = [_dataset_line(key, left.get(key), right.get(key)) for key in changed]
    return ComponentDiff(
        component="datasets",
        is_same=False,
        summary=details[0] if len(details) == 1 else f"{len(details)} datasets differ",
        details=_clip(details if len(details) > 1 else []),
    )


def _dataset_line(key: tuple[str, str], left: Dataset | None, right: Dataset | None) -> str:
    role, name = key
    if left is None and right is not None:
        return f"+ {name} ({role}) {right.identity.short}  {_rows(right)}"
    if right is None and left is not None:
        return f"- {name} ({role}) {left.identity.short}  {_rows(left)}"
    if left is None or right is None:
        return name
    line = f"{name} ({role}) {left.identity.short} → {right.identity.short}"
    return f"{line}  {_rows(left)} → {_rows(right)}"


def _rows(dataset: Dataset) -> str:
    if dataset.row_count < 0:
        return size_text(dataset.size_bytes)
    return f"{dataset.row_count:,} rows"


def _pipeline(
    before: VersionFacts, after: VersionFacts, sources: tuple[Sources, Sources]
) -> ComponentDiff:
    left, right = before.manifest.pipeline, after.manifest.pipeline
    if left.identity == right.identity:
        return ComponentDiff(component="pipeline", is_same=True, summary="same")
    old, new = sources[0].texts, sources[1].texts
    details = [
        f"{path}  {_line_change(old.get(path), new.get(path))}"
        for path in sorted(old.keys() | new.keys())
        if old.get(path) != new.get(path)
    ]
    if left.command != right.command:
        details.append(f"command  {' '.join(left.command)} → {' '.join(right.command)}")
    if left.stages != right.stages:
        names = [stage.name for stage in right.stages]
        details.append(f"stages  now {', '.join(names) or 'none'}")
    summary = details[0] if details else "changed"
    return ComponentDiff(
        component="pipeline", is_same=False, summary=summary, details=_clip(details[1:])
    )


def _line_change(before: str | None, after: str | None) -> str:
    if before is None:
        return "added"
    if after is None:
        return "removed"
    matcher = difflib.SequenceMatcher(None, before.splitlines(), after.splitlines(), autojunk=False)
    count = sum(
        max(a_end - a_start, b_end - b_start)
        for tag, a_start, a_end, b_start, b_end in matcher.get_opcodes()
        if tag != "equal"
    )
    return f"{count} {'line' if count == 1 else 'lines'} changed"


def _hyperparameters(before: VersionFacts, after: VersionFacts) -> ComponentDiff:
    names = changed_hyperparameters(before, after)
    if not names:
        return ComponentDiff(component="hyperparameters", is_same=True, summary="same")
    details = [
        _change(name, before.hyperparameters, after.hyperparameters, value_text) for name in names
    ]
    shown = details if len(details) <= 3 else [f"{len(details)} differ"]  # noqa: PLR2004
    return ComponentDiff(
        component="hyperparameters",
        is_same=False,
        summary=", ".join(shown),
        details=_clip(details if shown != details else []),
    )


def _change(
    name: str,
    before: Mapping[str, object],
    after: Mapping[str, object],
    text: Callable[[object], str],
) -> str:
    if name not in before:
        return f"+ {name} {text(after[name])}"
    if name not in after:
        return f"- {name} {text(before[name])}"
    return f"{name} {text(before[name])} → {text(after[name])}"


def _artifact(before: VersionFacts, after: VersionFacts, stored_bytes: int | None) -> ComponentDiff:
    left, right = before.manifest.artifact, after.manifest.artifact
    if left.identity == right.identity:
        return ComponentDiff(
            component="artifact", is_same=True, summary=f"same  {right.identity.short}"
        )
    parts = [f"{size_text(left.size_bytes)} → {size_text(right.size_bytes)}"]
    old, new = before.tensor_digests, after.tensor_digests
    if old and new:
        changed = sum(1 for name in new if old.get(name) != new[name])
        noun = "tensor" if len(new) == 1 else "tensors"
        parts.append(f"{changed} of {len(new)} {noun} changed")
    if stored_bytes is not None:
        parts.append(f"{size_text(stored_bytes)} stored")
    formats = {file.format for file in left.files}, {file.format for file in right.files}
    details = [f"- format {name}" for name in sorted(formats[0] - formats[1])]
    details += [f"+ format {name}" for name in sorted(formats[1] - formats[0])]
    return ComponentDiff(
        component="artifact", is_same=False, summary=", ".join(parts), details=tuple(details)
    )


def _environment(before: VersionFacts, after: VersionFacts) -> ComponentDiff:
    left, right = before.manifest.environment, after.manifest.environment
    if left.identity == right.identity:
        return ComponentDiff(component="environment", is_same=True, summary="same")
    old: dict[str, object] = {package.name: package.version for package in left.packages}
    new: dict[str, object] = {package.name: package.version for package in right.packages}
    details = [
        _change(name, old, new, str)
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]
    if left.python != right.python:
        details.insert(0, f"python {left.python} → {right.python}")
    summary = details[0] if len(details) == 1 else f"{len(details)} packages differ"
    return ComponentDiff(
        component="environment",
        is_same=False,
        summary=summary,
        details=_clip(details if len(details) > 1 else []),
    )


def _metrics(before: VersionFacts, after: VersionFacts) -> ComponentDiff:
    old = {metric.key: metric for metric in before.manifest.evidence.metrics}
    new = {metric.key: metric for metric in after.manifest.evidence.metrics}
    whole = [key for key in new if not new[key].slice]
    names = [key for key in sorted(old.keys() | new.keys()) if _value(old, key) != _value(new, key)]
    if not names:
        return ComponentDiff(component="metrics", is_same=True, summary="same")
    details = [f"{key} {_value(old, key)} → {_value(new, key)}" for key in names]
    first = next((i for i, key in enumerate(names) if key in whole), 0)
    return ComponentDiff(
        component="metrics",
        is_same=False,
        summary=details[first],
        details=_clip(details[:first] + details[first + 1 :]),
    )


def _value(metrics: Mapping[str, object], key: str) -> str:
    metric = metrics.get(key)
    number = getattr(metric, "number", None)
    return "–" if number is None else f"{number:.4g}"


def _metadata(before: VersionFacts, after: VersionFacts) -> ComponentDiff:
    old: dict[str, object] = {**before.manifest.metadata}
    new: dict[str, object] = {**after.manifest.metadata}
    for table, manifest in ((old, before.manifest), (new, after.manifest)):
        table["licence"] = manifest.evidence.licence
        table["personal_data"] = manifest.evidence.personal_data
    details = [
        _change(name, old, new, value_text)
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]
    if not details:
        return ComponentDiff(component="metadata", is_same=True, summary="same")
    return ComponentDiff(
        component="metadata", is_same=False, summary=details[0], details=_clip(details[1:])
    )


def _clip(lines: Iterable[str]) -> tuple[str, ...]:
    kept = tuple(lines)
    if len(kept) <= _SHOWN_DETAILS:
        return kept
    return (*kept[:_SHOWN_DETAILS], f"… {len(kept) - _SHOWN_DETAILS} more")
