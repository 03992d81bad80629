"""What verbs say to people about one version: the run's card and ``show``, as pure functions.

Invariants:
    * Both cards name the five components and the environment, in this order, always.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from stemma.cli import render
from stemma.cli.cards import check_rows, component_lines
from stemma.domain.component import ArchitectureComponent, Dataset, DatasetRole, Environment
from stemma.domain.facts import VersionFacts
from stemma.domain.gate import format_metric
from stemma.domain.manifest import Manifest, Metric
from stemma.domain.run import RunRecord, RunState
from stemma.hub.base import VersionView

_SHOWN_HYPERPARAMETERS: Final = 2
_SHOWN_METRICS: Final = 3
_SHORT_COMMIT: Final = 7
_VALUE_LENGTH: Final = 40
_WORST_DECIMALS: Final = 3


def run_card(record: RunRecord, facts: VersionFacts, passed: Sequence[str]) -> list[str]:
    """Say what a finished run recorded.

    Args:
        record: The run.
        facts: Its candidate version.
        passed: Names of the hyperparameters that were passed, shown first.
    """
    head = f"{render.DONE} run {render.short_run(record.id)}  {record.start.model}"
    return [head, *component_lines(components(facts, passed)), *metric_lines(facts.manifest)]


def failed_run_line(record: RunRecord) -> str:
    """Say in one line that a run failed or was interrupted."""
    why = f": {render.clean(record.failure)}" if record.failure else ""
    return (
        f"{render.REFUSED} run {render.short_run(record.id)}  {record.start.model}  "
        f"{record.state.value}{why}"
    )


def components(facts: VersionFacts, passed: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Return each component with one line of text."""
    manifest = facts.manifest
    return [
        ("architecture", architecture_text(manifest.architecture)),
        *(("datasets", text) for text in _dataset_texts(manifest)),
        ("pipeline", pipeline_text(manifest)),
        ("hyperparameters", _hyperparameters(facts, passed)),
        ("artifact", artifact_text(manifest)),
        ("environment", environment_text(manifest.environment)),
    ]


def _hyperparameters(facts: VersionFacts, passed: Sequence[str]) -> str:
    if "params" not in facts.missing:
        return hyperparameters_text(facts.hyperparameters, passed)
    known = facts.manifest.hyperparameters
    return f"{known.passed_count} passed, {known.defaulted_count} defaulted; values not here"


def architecture_text(architecture: ArchitectureComponent) -> str:
    """Return e.g. ``StandardScaler → LogisticRegression, 650 parameters``."""
    summary = architecture.summary or architecture.family
    if architecture.parameter_count:
        summary += f", {render.count(architecture.parameter_count, 'parameter')}"
    return summary


def _dataset_texts(manifest: Manifest) -> list[str]:
    """Return one text per training dataset; others are named when there is no training data."""
    datasets = manifest.datasets.datasets
    training = [item for item in datasets if item.role is DatasetRole.TRAINING]
    texts = [dataset_text(item) for item in training]
    texts = texts or [f"{dataset_text(item)}  ({item.role.value})" for item in datasets]
    return texts or ["none recorded"]


def dataset_text(dataset: Dataset) -> str:
    """Return e.g. ``digits-train  b97bcc0d  1,257 rows``."""
    amount = (
        render.size(dataset.size_bytes)
        if dataset.row_count < 0
        else render.count(dataset.row_count, "row")
    )
    return f"{dataset.name}  {dataset.identity.short}  {amount}"


def pipeline_text(manifest: Manifest) -> str:
    """Return e.g. ``train.py @ 9c1e2ab (clean)``."""
    pipeline = manifest.pipeline
    script = pipeline.script or " ".join(pipeline.command) or "no script"
    git = manifest.architecture.git
    if git is None:
        return f"{script} (not in git, captured whole)"
    if not git.commit:
        return f"{script} (no commit yet, captured whole)"
    commit = git.commit[:_SHORT_COMMIT]
    return f"{script} @ {commit} ({'uncommitted changes' if git.is_dirty else 'clean'})"


def hyperparameters_text(values: Mapping[str, object], passed: Sequence[str]) -> str:
    """Return e.g. ``max_iter=500 C=1.0 … 12 more``: what was passed comes first."""
    if not values:
        return "none recorded"
    first = [name for name in passed if name in values]
    names = [*first, *(name for name in sorted(values) if name not in first)]
    shown = names[: max(_SHOWN_HYPERPARAMETERS, min(len(first), 2 * _SHOWN_HYPERPARAMETERS))]
    text = " ".join(f"{name.rpartition('__')[2]}={value_text(values[name])}" for name in shown)
    rest = len(names) - len(shown)
    return f"{text} … {rest} more" if rest else text


def value_text(value: object) -> str:
    """Write a hyperparameter's value short."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _VALUE_LENGTH else f"{text[:_VALUE_LENGTH]}…"


def artifact_text(manifest: Manifest) -> str:
    """Return e.g. ``model.skops 30 KB``."""
    artifact = manifest.artifact
    if not artifact.files:
        return "none recorded"
    name = (
        artifact.files[0].path
        if len(artifact.files) == 1
        else f"{artifact.files[0].path} and {len(artifact.files) - 1} more"
    )
    danger = "  (a pickle: loading it runs code)" if artifact.is_pickle else ""
    return f"{name} {render.size(artifact.size_bytes)}{danger}"


def environment_text(environment: Environment) -> str:
    """Return e.g. ``python 3.11.7, 12 packages locked``."""
    parts = [f"python {environment.python}"]
    if environment.packages:
        locked = "locked" if environment.has_hashes else "pinned, without hashes"
        parts.append(f"{render.count(len(environment.packages), 'package')} {locked}")
    else:
        parts.append("no packages")
    if environment.accelerator:
        parts.append(environment.accelerator)
    return ", ".join(parts)


def metric_lines(manifest: Manifest) -> list[str]:
    """Return e.g. ``  accuracy 0.9722   worst class: 8 (0.923)``; nothing without metrics."""
    whole = [metric for metric in manifest.evidence.metrics if not metric.slice]
    golden = manifest.evidence.golden
    if golden is not None and any(metric.name == golden.metric for metric in whole):
        whole = [metric for metric in whole if metric.name == golden.metric]
    parts = [f"{metric.name} {format_metric(metric)}" for metric in whole[:_SHOWN_METRICS]]
    worst = _worst_class(manifest.evidence.metrics)
    if worst is not None:
        number = f"{worst.number:.{_WORST_DECIMALS}f}"
        parts.append(f"worst class: {worst.slice.removeprefix('class=')} ({number})")
    return [f"  {'   '.join(parts)}"] if parts else []


def _worst_class(metrics: Sequence[Metric]) -> Metric | None:
    recalls = [
        metric
        for metric in metrics
        if metric.name == "recall" and metric.slice.startswith("class=")
    ]
    worst = min(recalls, key=lambda metric: metric.number, default=None)
    # Where every class is found, none of them is the worst.
    return None if worst is None or worst.number >= 1 else worst


def show_card(view: VersionView, facts: VersionFacts, passed: Sequence[str]) -> list[str]:
    """Show one version: components, evidence, provenance, gates."""
    manifest = view.manifest
    parts = [view.label]
    if view.release is not None:
        parts.append(view.release.level.value)
    parts.append(f"sha256:{view.digest.short}")
    if view.channels:
        parts.append(f"({', '.join(view.channels)})")
    lines = ["   ".join(parts)]
    lines += component_lines(_with_other_datasets(components(facts, passed), manifest))
    lines += metric_lines(manifest)
    if facts.missing:
        absent = f"without {', '.join(facts.missing)}   ({pull_command(view, facts)})"
        lines += component_lines([("here in part", absent)])
    lines += ["", *_provenance(view)]
    if view.release is not None and view.release.gates:
        lines += ["", "  gates"]
        lines += render.table(check_rows(view.release.gates, has_marks=True), indent=4)
    return lines


def pull_command(view: VersionView, facts: VersionFacts) -> str:
    """Return what fetches the parts that stayed on a remote."""
    return shlex.join(["stemma", "pull", view.label, "--only", ",".join(facts.missing)])


def _with_other_datasets(pairs: list[tuple[str, str]], manifest: Manifest) -> list[tuple[str, str]]:
    """Put datasets that nothing was trained on right below the training data."""
    if all(item.role is not DatasetRole.TRAINING for item in manifest.datasets.datasets):
        return pairs  # named already, where the training data would stand
    others = [
        (f"{item.role.value} data", dataset_text(item))
        for item in manifest.datasets.datasets
        if item.role is not DatasetRole.TRAINING
    ]
    after = max(index for index, (name, _) in enumerate(pairs) if name == "datasets") + 1
    return [*pairs[:after], *others, *pairs[after:]]


def _provenance(view: VersionView) -> list[str]:
    manifest, release = view.manifest, view.release
    made = manifest.provenance
    pairs = [("run", f"{made.run}  {_moment(made.started_at)}  {made.created_by}@{made.host}")]
    if made.reason:
        pairs.append(("reason", made.reason))
    if manifest.pipeline.command:
        pairs.append(("command", " ".join(manifest.pipeline.command)))
    if view.parents:
        pairs.append(("descends from", ", ".join(view.parents)))
    if release is not None:
        pairs.append(("released", f"{_moment(release.released_at)}  {release.released_by}"))
        why = release.verdict.sentence if release.verdict else "first version"
        pairs.append(("because", release.override_reason or why))
        if release.message:
            pairs.append(("message", release.message))
    for name, value in sorted(manifest.metadata.items()):
        pairs.append((name, ", ".join(value) if isinstance(value, list) else str(value)))
    if manifest.evidence.licence:
        pairs.append(("licence", manifest.evidence.licence))
    return render.labelled(pairs, width=17)


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def run_rows(records: Sequence[RunRecord], *, is_precise: bool) -> list[list[str]]:
    """Return one row per run: id, model, state, when, who, why.

    A run of no model, which a tracking client logged, goes by its name in parentheses.
    """
    return [
        [
            record.id if is_precise else render.short_run(record.id),
            record.start.model or (record.start.name and f"({record.start.name})"),
            record.state.value,
            record.started_at.isoformat() if is_precise else f"{record.started_at:%Y-%m-%d %H:%M}",
            record.start.created_by,
            record.failure if record.state is not RunState.FINISHED else record.start.reason,
        ]
        for record in records
    ]


RUN_HEADER: Final = ("run", "model", "state", "when", "who", "why")
