"""The release of a candidate: measure, decide, check the gates, append the record.

The decisions are pure and live in ``stemma.domain`` (``evidence``, ``combine``, ``gate``);
this module brings them their inputs and carries out what they say.

Invariants:
    * A refused, unchanged or dry release changes nothing.
    * Of two releases at once exactly one gets a number; the other is decided anew
      against it.
    * The verdict and every gate's answer are stored in the release record.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final

from stemma.catalog.compare import FitEnvironment, measure
from stemma.catalog.facts import load_facts
from stemma.catalog.service import CatalogService
from stemma.catalog.sources import is_source_equal
from stemma.domain.combine import Bump, Comparisons, Proposal, combine, propose, propose_first
from stemma.domain.digest import Digest
from stemma.domain.errors import ConflictError, DeniedError, InvalidInputError
from stemma.domain.evidence import assess, check_regression
from stemma.domain.facts import Measurements, VersionFacts
from stemma.domain.gate import check_gates
from stemma.domain.policy import ModelPolicy
from stemma.domain.release import GateResult, Release
from stemma.domain.run import RunId, RunRecord, RunState
from stemma.domain.semver import SemVer
from stemma.domain.verdict import Level, Verdict
from stemma.store.objects import ObjectStore

_ATTEMPTS: Final = 5


class ReleaseStatus(Enum):
    """How a release ended."""

    RELEASED = "released"
    WOULD_RELEASE = "would-release"
    UNCHANGED = "unchanged"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRequest:
    """What ``release`` is asked for.

    Attributes:
        model: Name of the model.
        run: Run to release (id or prefix); empty: the newest finished run of the model.
        bump: ``None`` takes the computed level; a person may raise it, lowering needs a reason.
        override_reason: Why another level than the computed one.
        is_prerelease: Release as ``X.Y.Z-pre.N``, gates notwithstanding.
        is_dry_run: Decide and explain, change nothing.
        message: The releaser's message.
        channel: Channel to move to the release, also when it exists already; empty: none.
        released_by: User name; empty: the one from the settings.
    """

    model: str
    run: str = ""
    bump: Level | None = None
    override_reason: str = ""
    is_prerelease: bool = False
    is_dry_run: bool = False
    message: str = ""
    channel: str = ""
    released_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseOutcome:
    """What ``release`` decided.

    Attributes:
        status: How it ended.
        model: Name of the model.
        version: Number released, that would be released, or that already is this.
        previous: Number it was compared with; empty for a first version.
        run: The run that was (or would be) released.
        manifest: sha256 of its manifest.
        verdict: Why this level; ``None`` for a first version.
        gates: Every gate's answer.
        release: The record, when released.
        notes: What the version lacks, where another system recorded it.
    """

    status: ReleaseStatus
    model: str
    version: str
    previous: str
    run: RunId
    manifest: Digest
    verdict: Verdict | None
    gates: tuple[GateResult, ...]
    release: Release | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a release would be, before anything is written.

    Attributes:
        status: ``WOULD_RELEASE``, ``UNCHANGED`` or ``REFUSED``.
        proposal: The number.
        verdict: Why; ``None`` for a first version.
        gates: Every gate's answer.
        newest: Newest release of the model, pre-releases included: the record's predecessor.
        previous: Release it was compared with.
    """

    status: ReleaseStatus
    proposal: Proposal
    verdict: Verdict | None
    gates: tuple[GateResult, ...]
    newest: Release | None
    previous: Release | None


class Releaser:
    """Decides and appends releases."""

    def __init__(
        self,
        catalog: CatalogService,
        objects: ObjectStore,
        *,
        clock: Callable[[], datetime],
        fit_environment: FitEnvironment,
        load_fix_rows: Callable[[ModelPolicy], frozenset[bytes]],
    ) -> None:
        """Hold the services."""
        self._catalog = catalog
        self._objects = objects
        self._clock = clock
        self._fit_environment = fit_environment
        self._load_fix_rows = load_fix_rows

    def release(
        self, request: ReleaseRequest, run: RunRecord, policy: ModelPolicy
    ) -> ReleaseOutcome:
        """Decide, and unless refused, unchanged or dry, append the release.

        Raises:
            ConflictError: If the run is not finished, or other releases kept winning.
            DeniedError: If the policy names approvers and the releaser is not one.
            InvalidInputError: If a lower level is asked for without a reason.
        """
        manifest = _candidate(run)
        for _ in range(_ATTEMPTS):
            decision = self.decide(request, manifest, policy)
            if decision.status is not ReleaseStatus.WOULD_RELEASE or request.is_dry_run:
                return _outcome(request, run.id, manifest, decision)
            _refuse_strangers(request, policy)
            release = self._record(request, manifest, decision)
            try:
                self._catalog.append_release(release)
            except ConflictError as error:
                if error.code not in {"release-raced", "version-exists"}:
                    raise
                continue
            return _outcome(request, run.id, manifest, decision, release)
        raise ConflictError(
            f"{request.model}: other releases were faster {_ATTEMPTS} times",
            code="release-raced",
            hint=f"stemma release {request.model}",
        )

    def decide(self, request: ReleaseRequest, digest: Digest, policy: ModelPolicy) -> Decision:
        """Decide the number and the gates of the candidate ``digest``; changes nothing."""
        facts = load_facts(self._objects, self._catalog.manifest(digest))
        newest = self._catalog.last_release(request.model, include_prereleases=True)
        previous = self._catalog.last_release(request.model, include_prereleases=False)
        existing = [SemVer.parse(text) for text in self._catalog.versions(request.model)]
        bump = Bump(
            requested=request.bump,
            reason=request.override_reason,
            is_prerelease=request.is_prerelease,
        )
        gates = check_gates(policy, facts.manifest)
        if previous is None:
            proposal = propose_first(existing, bump)
            verdict = None
        else:
            comparisons, measured = self._compare(previous, facts, policy)
            verdict = combine(comparisons)
            proposal = propose(comparisons, SemVer.parse(previous.version), existing, bump)
            gates += check_regression(measured.behaviour, policy)
        return Decision(
            status=_status(verdict, gates, request),
            proposal=proposal,
            verdict=proposal.verdict if previous is not None else None,
            gates=gates,
            newest=newest,
            previous=previous,
        )

    def _compare(
        self, previous: Release, candidate: VersionFacts, policy: ModelPolicy
    ) -> tuple[Comparisons, Measurements]:
        """Compare with the newest release, and with x.y.0 and x.0.0 where they are others."""
        last = SemVer.parse(previous.version)
        first, measured = self._assess(previous, candidate, policy)
        others: dict[str, Verdict] = {}
        for base in (SemVer(last.major, last.minor, 0), SemVer(last.major, 0, 0)):
            text = str(base)
            if text == previous.version or text in others:
                continue
            release = self._catalog.find_version(previous.model, text)
            if release is not None:
                others[text] = self._assess(release, candidate, policy)[0]
        major_text = str(SemVer(last.major, 0, 0))
        return Comparisons(
            previous=first,
            minor_base=others.get(str(SemVer(last.major, last.minor, 0))),
            major_base=others.get(major_text) if last.minor else None,
        ), measured

    def _assess(
        self, release: Release, candidate: VersionFacts, policy: ModelPolicy
    ) -> tuple[Verdict, Measurements]:
        before = load_facts(self._objects, self._catalog.manifest(release.manifest))
        measured = measure(
            self._objects,
            (before, candidate),
            policy,
            fix_rows=self._load_fix_rows(policy),
            fit_environment=self._fit_environment,
            is_source_equal=is_source_equal(self._objects, before, candidate),
        )
        return assess(before, candidate, measured, policy, release.version), measured

    def _record(self, request: ReleaseRequest, manifest: Digest, decision: Decision) -> Release:
        newest = decision.newest
        return Release(
            model=request.model,
            version=str(decision.proposal.version),
            manifest=manifest,
            sequence=1 if newest is None else newest.sequence + 1,
            previous=None
            if newest is None
            else self._catalog.release_digest(request.model, newest.version),
            level=decision.proposal.level,
            verdict=decision.verdict,
            gates=decision.gates,
            override_reason=decision.proposal.override_reason,
            message=request.message,
            released_at=self._clock(),
            released_by=request.released_by,
        )


def _candidate(run: RunRecord) -> Digest:
    if run.state is RunState.FINISHED and run.manifest is not None:
        return run.manifest
    why = f": {run.failure}" if run.failure else ""
    raise ConflictError(
        f"run {run.id} is {run.state.value}{why}; only a finished run can be released",
        code="run-not-finished",
        hint=f"stemma log {run.start.model} --runs",
    )


def _status(
    verdict: Verdict | None, gates: tuple[GateResult, ...], request: ReleaseRequest
) -> ReleaseStatus:
    if verdict is not None and verdict.level is Level.NONE:
        return ReleaseStatus.UNCHANGED
    if not request.is_prerelease and not all(gate.has_passed for gate in gates):
        return ReleaseStatus.REFUSED
    return ReleaseStatus.WOULD_RELEASE


def _refuse_strangers(request: ReleaseRequest, policy: ModelPolicy) -> None:
    if policy.approvers and request.released_by not in policy.approvers:
        raise DeniedError(
            f"{request.released_by} may not release {request.model}; "
            f"approvers: {', '.join(policy.approvers)}",
            code="not-an-approver",
            hint=f"ask one of them, or edit [model.{request.model}] approvers in stemma.toml",
        )


def _outcome(
    request: ReleaseRequest,
    run: RunId,
    manifest: Digest,
    decision: Decision,
    release: Release | None = None,
) -> ReleaseOutcome:
    is_unchanged = decision.status is ReleaseStatus.UNCHANGED
    previous = "" if decision.previous is None else decision.previous.version
    return ReleaseOutcome(
        status=decision.status if release is None else ReleaseStatus.RELEASED,
        model=request.model,
        version=previous if is_unchanged else str(decision.proposal.version),
        previous=previous,
        run=run,
        manifest=manifest,
        verdict=decision.verdict,
        gates=decision.gates,
        release=release,
    )


def read_fix_rows(text: str, name: str) -> frozenset[bytes]:
    """Read a fix set: one golden row per line, as the 32 hexadecimal digits of its digest.

    Empty lines and lines that start with ``#`` are skipped.

    Raises:
        InvalidInputError: If a line is not a row digest.
    """
    rows: set[bytes] = set()
    for number, line in enumerate(text.splitlines(), start=1):
        word = line.partition("#")[0].strip()
        if not word:
            continue
        try:
            row = bytes.fromhex(word)
        except ValueError:
            row = b""
        if len(row) != 16:  # noqa: PLR2004 - bytes in a row digest
            raise InvalidInputError(
                f"{name}, line {number}: {word[:40]!r} is not a row digest",
                code="bad-fix-set",
                hint="one row digest of 32 hexadecimal digits per line",
            )
        rows.add(row)
    return frozenset(rows)
