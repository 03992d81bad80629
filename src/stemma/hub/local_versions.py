"""Verbs on models, versions and channels, in this process."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from typing_extensions import override

from stemma.catalog.capture.environment import conflict_between, fit_environment
from stemma.catalog.facts import load_facts
from stemma.catalog.releasing import ReleaseOutcome, ReleaseRequest, ReleaseStatus
from stemma.catalog.resolve import resolve
from stemma.catalog.service import LogEntry
from stemma.catalog.table_pins.checking import table_gates
from stemma.domain.digest import Digest
from stemma.domain.errors import ConflictError, NotFoundError
from stemma.domain.facts import VersionFacts
from stemma.domain.gate import check_gates
from stemma.domain.names import check_channel_name, check_model_name
from stemma.domain.policy import ModelPolicy
from stemma.domain.ref import did_you_mean, is_bare_run, suggest
from stemma.domain.release import STABLE, ChannelMove, GateResult, prerelease_on_stable
from stemma.domain.run import RunRecord, RunState
from stemma.hub.base import (
    ChannelVerbs,
    CheckReport,
    LogRow,
    ModelView,
    VersionDiff,
    VersionVerbs,
    VersionView,
)
from stemma.hub.local_parts import LocalParts
from stemma.hub.portions import find_left
from stemma.hub.selection import missing_parts
from stemma.hub.version_diffs import diff_of

if TYPE_CHECKING:
    from stemma.hub.adopting import Candidate

_SCANNED_RUNS = 1000


class LocalVersions(VersionVerbs, ChannelVerbs):
    """Models, versions and channels of one project."""

    _parts: LocalParts

    @override
    def policy(self, model: str) -> ModelPolicy:
        return self._parts.policy(model)

    @override
    def list_models(self) -> list[ModelView]:
        runs = self._parts.runs
        return [
            ModelView(
                name=model.name,
                release_count=model.release_count,
                newest=model.newest,
                channels=model.channels,
                newest_run=None if model.newest_run is None else runs.get(model.newest_run),
            )
            for model in self._parts.catalog.list_models()
        ]

    @override
    def resolve(self, ref: str) -> VersionView:
        catalog = self._parts.catalog
        if is_bare_run(ref):
            run = self._parts.runs.get(ref.strip())
            if not run.start.model:
                raise NotFoundError(
                    f"run {run.id} was logged by a tracking client and is of no model yet",
                    code="run-without-version",
                    hint=f"stemma release NAME@{run.id}",
                )
            ref = f"{run.start.model}@{run.id}"
        found = resolve(catalog, ref)
        version = "" if found.release is None else found.release.version
        channels = catalog.channels(found.model) if version else {}
        manifest = catalog.manifest(found.digest)
        return VersionView(
            model=found.model,
            version=version,
            digest=found.digest,
            manifest=manifest,
            release=found.release,
            channels=tuple(sorted(name for name, at in channels.items() if at == version)),
            parents=tuple(self._label(parent) for parent in manifest.provenance.parents),
        )

    def _label(self, manifest: Digest) -> str:
        released = self._parts.catalog.versions_of(manifest)
        return "@".join(released[0]) if released else f"sha256:{manifest.short}"

    @override
    def facts(self, view: VersionView) -> VersionFacts:
        left = find_left(self._parts.objects, self._parts.root / ".stemma", view.digest).contents
        facts = load_facts(self._parts.objects, view.manifest, left)
        return replace(facts, missing=missing_parts(view.manifest, left))

    @override
    def completions(self, prefix: str) -> list[str]:
        return self._parts.catalog.completions(prefix)

    @override
    def release(self, request: ReleaseRequest) -> ReleaseOutcome:
        check_model_name(request.model)
        policy = self._parts.policy(request.model)
        if request.channel:
            self.check_channel(request.model, request.channel)
        if request.is_prerelease and request.channel == STABLE:
            raise prerelease_on_stable(request.model, f"{request.model}: a pre-release")
        if not request.released_by:
            request = replace(request, released_by=self._parts.user)
        candidate = self._candidate(request)
        if request.is_dry_run:
            outcome = self._parts.releaser.release(request, candidate.run, policy)
            return replace(outcome, notes=candidate.notes)
        with self._parts.writing():
            outcome = self._parts.releaser.release(request, candidate.run, policy)
            # Unchanged too: a release that was killed before its channel moved is completed
            # by asking for it again.
            if outcome.status is not ReleaseStatus.REFUSED and request.channel:
                self._parts.catalog.move_channel(
                    request.model,
                    request.channel,
                    outcome.version,
                    reason=request.message or f"release {outcome.version}",
                    moved_by=request.released_by,
                )
        return replace(outcome, notes=candidate.notes)

    def _candidate(self, request: ReleaseRequest) -> Candidate:
        """Return what is to be released: what Stemma recorded, or what MLflow logged."""
        # What records a model costs more to import than most commands take.
        from stemma.hub.adopting import (  # noqa: PLC0415
            Candidate,
            candidate_of_run,
            newest_candidate,
        )

        runs = self._parts.runs
        if request.run:
            run = runs.get(request.run)
            if not run.start.model:
                return candidate_of_run(self._parts, request.model, run)
        else:
            of_model = runs.list(request.model, limit=_SCANNED_RUNS)
            found = newest_candidate(self._parts, request.model, of_model)
            if found is not None:
                return found
        return Candidate(run=self._run_to_release(request))

    def _run_to_release(self, request: ReleaseRequest) -> RunRecord:
        """Return the named run, or the model's newest finished one."""
        runs = self._parts.runs
        if request.run:
            run = runs.get(request.run)
            if run.start.model != request.model:
                raise ConflictError(
                    f"run {run.id} is of model {run.start.model}, not {request.model}",
                    code="run-of-another-model",
                    hint=f"stemma release {run.start.model} --run {run.id}",
                )
            return run
        of_model = runs.list(request.model, limit=_SCANNED_RUNS)
        for run in of_model:
            if run.state is RunState.FINISHED:
                return run
        if of_model:
            return of_model[0]  # not finished: the releaser says why it cannot be released
        names = [model.name for model in self._parts.catalog.list_models()]
        near = suggest(request.model, names)
        raise NotFoundError(
            f"model {request.model} has no run to release{did_you_mean(near)}",
            code="no-run",
            hint=f"stemma release {near[0]}" if near else "stemma run -- python train.py",
        )

    @override
    def check(self, ref: str, *, beside: str = "") -> CheckReport:
        view = self._to_check(ref)
        results = check_gates(self._parts.policy(view.model), view.manifest)
        results += tuple(
            table_gates(view.manifest.datasets.datasets, self._parts.objects, self._parts.root)
        )
        verdict = None
        stable = self._parts.catalog.channels(view.model).get("stable")
        if stable and stable != view.version:
            held = self.resolve(f"{view.model}@{stable}")
            results += (self._environment_gate(held, view),)
        if beside:
            results += (_conflict_gate(view, self.resolve(beside)),)
        if view.release is not None:
            verdict = view.release.verdict
        return CheckReport(label=view.label, results=results, verdict=verdict)

    def _to_check(self, ref: str) -> VersionView:
        """Resolve; a model without any release is its newest finished run."""
        try:
            return self.resolve(ref)
        except NotFoundError as error:
            if error.code != "no-release":
                raise
            run = self._candidate(ReleaseRequest(model=ref.strip())).run
            return self.resolve(f"{run.start.model}@{run.id}")

    def _environment_gate(self, held: VersionView, view: VersionView) -> GateResult:
        """Whether the version's requirements resolve within what ``stable`` runs in."""
        needed = f"resolves within {held.label}'s lock"
        left, right = held.manifest.environment, view.manifest.environment
        if left.identity == right.identity:
            return GateResult(
                gate="environment", has_passed=True, actual="same lock", needed=needed
            )
        lock = self._parts.objects.read_bytes(left.lock).decode("utf-8")
        fit = fit_environment(right.requirements, lock)
        if fit.does_resolve:
            actual = ", ".join(fit.changed) or "resolves unchanged"
        else:
            actual = fit.conflict or "could not be resolved offline"
        return GateResult(
            gate="environment", has_passed=bool(fit.does_resolve), actual=actual, needed=needed
        )

    @override
    def log(
        self, model: str, *, metric: str = "", limit: int = 50, before: int = 0
    ) -> list[LogRow]:
        catalog = self._parts.catalog
        check_model_name(model)
        shown = metric or self._parts.policy(model).golden_metric or self._judged_metric(model)
        entries = catalog.log_rows(model, metric=shown, limit=limit, before=before)
        if not entries and not before:
            self._refuse_unknown(model)
        marks: dict[str, list[str]] = {}
        for channel, version in sorted(catalog.channels(model).items()):
            marks.setdefault(version, []).append(channel)
        return [_log_row(entry, tuple(marks.get(entry.version, ()))) for entry in entries]

    def _judged_metric(self, model: str) -> str:
        """Return the metric that the newest release's behaviour was judged by, if any."""
        newest = self._parts.catalog.last_release(model, include_prereleases=True)
        if newest is None:
            return ""
        golden = self._parts.catalog.manifest(newest.manifest).evidence.golden
        return "" if golden is None else golden.metric

    def _refuse_unknown(self, model: str) -> None:
        names = [known.name for known in self._parts.catalog.list_models()]
        if model in names:
            return
        near = suggest(model, names)
        raise NotFoundError(
            f"no model {model}{did_you_mean(near)}",
            code="model-not-found",
            hint=f"stemma log {near[0]}" if near else "stemma log",
        )

    @override
    def diff(self, before: str, after: str) -> VersionDiff:
        left, right = self.resolve(before), self.resolve(after)
        return diff_of(self._parts.objects, (left, right), (self.facts(left), self.facts(right)))

    @override
    def move_channel(
        self, model: str, channel: str, ref: str, *, reason: str = "", moved_by: str = ""
    ) -> ChannelMove:
        self.check_channel(model, channel)
        version = ""
        if ref:
            found = resolve(self._parts.catalog, ref)
            if found.release is None or found.model != model:
                raise ConflictError(
                    f"{ref} is not a release of {model}; a channel points at releases only",
                    code="not-a-release",
                    hint=f"stemma release {model}",
                )
            version = found.release.version
        with self._parts.writing():
            return self._parts.catalog.move_channel(
                model, channel, version, reason=reason, moved_by=moved_by or self._parts.user
            )

    def check_channel(self, model: str, channel: str) -> None:
        """Make sure that the model may have a channel of that name.

        Raises:
            InvalidInputError: If the name, or the model's policy, does not allow it.
        """
        policy = self._parts.policy(model)
        check_channel_name(channel, pattern=policy.name_pattern, reserved=policy.reserved_names)

    @override
    def channel_history(self, model: str, channel: str) -> list[ChannelMove]:
        return self._parts.catalog.channel_history(model, channel)

    @override
    def channel_at(self, model: str, channel: str, moment: datetime) -> ChannelMove | None:
        return self._parts.catalog.channel_at(model, channel, moment)


def _conflict_gate(view: VersionView, beside: VersionView) -> GateResult:
    conflict = conflict_between(
        view.manifest.environment.requirements, beside.manifest.environment.requirements
    )
    return GateResult(
        gate=f"environment with {beside.label}",
        has_passed=not conflict,
        actual=conflict or "no conflict",
        needed="one environment fits both",
    )


def _log_row(entry: LogEntry, channels: tuple[str, ...]) -> LogRow:
    return LogRow(
        version=entry.version,
        level=entry.level,
        why=entry.why,
        metric=entry.metric,
        channels=channels,
        released_at=entry.released_at,
        released_by=entry.released_by,
        message=entry.message,
        digest=entry.manifest,
        size_bytes=entry.size_bytes,
        sequence=entry.sequence,
    )
