"""The axes around the model: environment, service level, licence, personal data, content.

Invariants:
    * What was known before and is not known now counts as worse.
    * Whatever else changes is at least a PATCH, with a readable reason.
"""

from __future__ import annotations

import json
from typing import Final

from stemma.domain.component import Dataset
from stemma.domain.facts import EnvironmentFit, Measurements, VersionFacts
from stemma.domain.manifest import Manifest, Metric
from stemma.domain.policy import PERSONAL_DATA, ModelPolicy
from stemma.domain.verdict import Axis, Finding, Level

_SHOWN: Final = 4
_VALUE_LENGTH: Final = 40
_SEEDS: Final = frozenset({"seed", "random_state"})
_HIGHER_IS_BETTER: Final = ("throughput",)
_LICENCE_FREEDOM: Final = {
    "CC0-1.0": 0,
    "Unlicense": 0,
    "0BSD": 0,
    "MIT": 1,
    "Apache-2.0": 1,
    "BSD-2-Clause": 1,
    "BSD-3-Clause": 1,
    "ISC": 1,
    "CC-BY-4.0": 1,
    "MPL-2.0": 2,
    "LGPL-3.0-only": 2,
    "LGPL-3.0-or-later": 2,
    "GPL-2.0-only": 3,
    "GPL-2.0-or-later": 3,
    "GPL-3.0-only": 3,
    "GPL-3.0-or-later": 3,
    "CC-BY-SA-4.0": 3,
    "AGPL-3.0-only": 4,
    "AGPL-3.0-or-later": 4,
    "CC-BY-NC-4.0": 5,
    "CC-BY-NC-SA-4.0": 6,
}
"""Classes of terms, from no condition at all to the most; only known licences are ranked."""


def _finding(axis: Axis, level: Level, code: str, reason: str) -> Finding:
    return Finding(axis=axis, level=level, code=code, reason=reason)


def judge_environment(
    before: VersionFacts, after: VersionFacts, fit: EnvironmentFit | None
) -> list[Finding]:
    """Return whether the new version runs where the old one is served."""
    if before.manifest.environment.identity == after.manifest.environment.identity:
        return []
    level, code = Level.MAJOR, "environment-missing"
    if fit is None or fit.does_resolve is None:
        reason = "could not find out whether it resolves within the old lock: see stemma doctor"
        if fit is not None and fit.conflict:
            reason += f" ({fit.conflict})"
    elif not fit.does_resolve:
        code = "environment-conflict"
        reason = f"does not resolve within the old lock: {fit.conflict or 'no reason was given'}"
    elif fit.changed:
        level, code = Level.MINOR, "environment-changed"
        reason = f"resolves with changes: {_listed(list(fit.changed))}"
    else:
        level, code = Level.PATCH, "environment-fits"
        reason = "another lock, resolves within the old one without changes"
    return [_finding(Axis.ENVIRONMENT, level, code, reason)]


def _listed(items: list[str]) -> str:
    shown = ", ".join(items[:_SHOWN])
    return f"{shown} and {len(items) - _SHOWN} more" if len(items) > _SHOWN else shown


def judge_terms(before: VersionFacts, after: VersionFacts) -> list[Finding]:
    """Return whether licence or personal data became worse for those who use the model."""
    old, new = before.manifest.evidence, after.manifest.evidence
    findings: list[Finding] = []
    if old.licence != new.licence:
        change = f"licence {old.licence or 'undeclared'} → {new.licence or 'undeclared'}"
        if old.licence and not _is_as_free(old.licence, new.licence):
            findings.append(_finding(Axis.SERVICE, Level.MAJOR, "licence-worse", change))
        else:
            findings.append(_finding(Axis.SERVICE, Level.PATCH, "licence-changed", change))
    if old.personal_data != new.personal_data:
        change = (
            f"personal data {old.personal_data or 'undeclared'} → "
            f"{new.personal_data or 'undeclared'}"
        )
        if _grade(new.personal_data) > _grade(old.personal_data or PERSONAL_DATA[0]):
            findings.append(_finding(Axis.SERVICE, Level.MAJOR, "personal-data-worse", change))
        else:
            findings.append(_finding(Axis.SERVICE, Level.PATCH, "personal-data-changed", change))
    return findings


def _is_as_free(old: str, new: str) -> bool:
    """Whether ``new`` is known to ask no more than ``old``; the unknown is not."""
    if old not in _LICENCE_FREEDOM or new not in _LICENCE_FREEDOM:
        return False
    return _LICENCE_FREEDOM[new] <= _LICENCE_FREEDOM[old]


def _grade(personal_data: str) -> int:
    """Return how grave it is; undeclared or unknown is the gravest."""
    if personal_data not in PERSONAL_DATA:
        return len(PERSONAL_DATA)
    return PERSONAL_DATA.index(personal_data)


def judge_service(before: VersionFacts, after: VersionFacts, policy: ModelPolicy) -> list[Finding]:
    """Return which service figures became worse than the budget, or than they were by far."""
    findings: list[Finding] = []
    measured = {metric.key: metric for metric in after.manifest.evidence.service}
    for old in before.manifest.evidence.service:
        new = measured.get(old.key)
        if new is None:
            reason = f"{old.key} was {_figure(old)} and is not measured any more"
            findings.append(_finding(Axis.SERVICE, Level.MAJOR, "service-missing", reason))
        elif old.unit != new.unit:
            reason = f"{old.key} was measured in {old.unit or 'no unit'}, now {new.unit or 'none'}"
            findings.append(_finding(Axis.SERVICE, Level.MAJOR, "service-missing", reason))
        else:
            findings += _service(old, new, policy)
    return findings


def _figure(metric: Metric) -> str:
    return f"{metric.number:.4g} {metric.unit}".rstrip()


def _service(old: Metric, new: Metric, policy: ModelPolicy) -> list[Finding]:
    change = f"{old.key} {_figure(old)} → {_figure(new)}"
    if old.name.startswith(_HIGHER_IS_BETTER):
        worse, limit = old.number / policy.profile.service_growth > new.number, "of what it was"
        limit = f"under 1/{policy.profile.service_growth:g} {limit}, and no budget is declared"
        return (
            [_finding(Axis.SERVICE, Level.MAJOR, "service-worse", f"{change}, {limit}")]
            if worse
            else []
        )
    budget = next((row for row in policy.budgets if old.name in {row.metric, row.key}), None)
    if budget is not None:
        if new.number <= budget.maximum or new.number <= old.number:
            return []
        reason = f"{change}, the budget is {budget.maximum:g} {budget.unit}"
        return [_finding(Axis.SERVICE, Level.MAJOR, "over-budget", reason)]
    if new.number <= policy.profile.service_growth * old.number:
        return []
    growth = f"over {policy.profile.service_growth:g}× of what it was"
    reason = f"{change}, {growth}, and no budget is declared"
    return [_finding(Axis.SERVICE, Level.MAJOR, "service-worse", reason)]


def judge_content(
    before: VersionFacts, after: VersionFacts, measurements: Measurements
) -> list[Finding]:
    """Return what changed in datasets, pipeline and hyperparameters, in words."""
    old, new = before.manifest, after.manifest
    findings: list[Finding] = []
    if old.datasets.identity != new.datasets.identity:
        reason = f"{_role_of_change(old, new)} {_datasets(old, new)}"
        findings.append(_finding(Axis.CONTENT, Level.PATCH, "datasets-changed", reason))
    is_retuned = old.hyperparameters.identity != new.hyperparameters.identity
    is_explained = is_retuned and measurements.is_source_equal_but_for_hyperparameters
    if old.pipeline.identity != new.pipeline.identity and not is_explained:
        reason = f"pipeline {_pipeline(old, new)}"
        findings.append(_finding(Axis.CONTENT, Level.PATCH, "pipeline-changed", reason))
    if is_retuned:
        reason = f"hyperparameters {_hyperparameters(before, after)}"
        findings.append(_finding(Axis.CONTENT, Level.PATCH, "hyperparameters-changed", reason))
    return findings


def _role_of_change(old: Manifest, new: Manifest) -> str:
    """Return ``training data``, ``test data`` …; ``data`` when several roles changed."""
    changed = set(old.datasets.datasets) ^ set(new.datasets.datasets)
    roles = {row.role.value for row in changed} or {"training"}
    return f"{roles.pop()} data" if len(roles) == 1 else "data"


def _datasets(old: Manifest, new: Manifest) -> str:
    had = {(row.role.value, row.name): row for row in old.datasets.datasets}
    has = {(row.role.value, row.name): row for row in new.datasets.datasets}
    changes = [f"{name} removed" for role, name in had if (role, name) not in has]
    changes += [f"{name} added ({role})" for role, name in has if (role, name) not in had]
    for key, row in has.items():
        if key in had and had[key] != row:
            changes += _dataset(had[key], row)
    return _listed(changes) if changes else "recorded otherwise"


def _dataset(old: Dataset, new: Dataset) -> list[str]:
    changes: list[str] = []
    if old.preprocessing != new.preprocessing:
        before, after = (", ".join(row.preprocessing) or "none" for row in (old, new))
        changes.append(f"preprocessing of {new.name} {before} → {after}")
    if old.identity != new.identity:
        rows = ""
        if old.row_count != new.row_count:
            rows = f" ({old.row_count:,} → {new.row_count:,} rows)"
        changes.append(f"{new.name} {old.identity.short} → {new.identity.short}{rows}")
    return changes


def _pipeline(old: Manifest, new: Manifest) -> str:
    before, after = old.pipeline, new.pipeline
    changes: list[str] = []
    if before.content != after.content:
        changes.append(f"{after.script or 'source'} changed")
    if before.command != after.command:
        changes.append(f"command {' '.join(before.command)} → {' '.join(after.command)}")
    if before.stages != after.stages:
        changes.append(f"{len(before.stages)} → {len(after.stages)} stages")
    return _listed(changes) if changes else "changed"


def _hyperparameters(before: VersionFacts, after: VersionFacts) -> str:
    old, new = before.hyperparameters, after.hyperparameters
    changes = {
        name: f"{name} {_value(old[name])} → {_value(value)}"
        for name, value in new.items()
        if name in old and not _is_same(old[name], value)
    }
    changes |= {
        name: f"{name}={_value(value)} added" for name, value in new.items() if name not in old
    }
    changes |= {name: f"{name} removed" for name in old if name not in new}
    if not changes:
        return "passed otherwise, same values"
    is_seed_only = all(name.rpartition("__")[2] in _SEEDS for name in changes)
    note = " (a new seed alone usually moves some answers)" if is_seed_only else ""
    return f"{_listed(list(changes.values()))}{note}"


def _is_same(one: object, other: object) -> bool:
    """Whether two JSON values are the same; ``1``, ``1.0`` and ``true`` are three values."""
    return _value(one, limit=0) == _value(other, limit=0)


def _value(value: object, limit: int = _VALUE_LENGTH) -> str:
    is_word = isinstance(value, str) and value != ""
    text = str(value) if is_word else json.dumps(value, ensure_ascii=False, default=str)
    return f"{text[: limit - 1]}…" if limit and len(text) > limit else text
