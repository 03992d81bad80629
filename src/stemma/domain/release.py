"""Release and channel-move records: the facts about names, as immutable records.

Invariants (normative text: ``docs/formats/manifest.md``):
    * A release record binds one number to one manifest, for ever.
    * A channel's history is the list of its moves; the newest says where it points.
    * ``stable`` never points at a pre-release, whose gates may have failed, nor at a candidate;
      another channel may point at the candidate of a run, whose id then stands for a number.
    * Records are canonical JSON named by sha256, so the database is only an index.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from stemma.domain.digest import Digest
from stemma.domain.errors import ConflictError, InvalidInputError
from stemma.domain.semver import SemVer
from stemma.domain.verdict import Level, Verdict

RELEASE_SCHEMA: Final = "stemma.release/1"
CHANNEL_MOVE_SCHEMA: Final = "stemma.channel-move/1"
STABLE: Final = "stable"
"""The channel that a model's bare name stands for; it never points at a pre-release."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """One gate's answer.

    Attributes:
        gate: What was asked, e.g. ``recall[class=8]`` or ``metadata owner``.
        has_passed: The answer.
        actual: What was found, as text.
        needed: What was needed, as text.
    """

    gate: str
    has_passed: bool
    actual: str
    needed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A version that got a SemVer number under a model.

    Attributes:
        schema: Always ``stemma.release/1``.
        model: Name of the model.
        version: SemVer text, e.g. ``1.1.0`` or ``2.0.0-pre.1``.
        manifest: sha256 of the manifest it names.
        sequence: Counts releases of this model from 1, in order of release.
        previous: Record of the release before this one under the model.
        level: Level that was applied.
        verdict: The computed verdict; ``None`` for a first version.
        gates: Every gate's answer at release time.
        override_reason: Why a person set another level than the computed one.
        message: The releaser's message.
        released_at: When.
        released_by: User name.
    """

    model: str
    version: str
    manifest: Digest
    sequence: int
    previous: Digest | None = None
    level: Level
    verdict: Verdict | None = None
    gates: tuple[GateResult, ...] = ()
    override_reason: str = ""
    message: str = ""
    released_at: datetime
    released_by: str
    schema: str = RELEASE_SCHEMA

    def __post_init__(self) -> None:
        """Refuse a schema this program does not know."""
        if self.schema != RELEASE_SCHEMA:
            raise InvalidInputError(
                f"release schema {self.schema!r} is not known",
                code="unknown-schema",
                hint="upgrade stemma",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelMove:
    """One move of a channel (``stable``, ``canary``, ``previous``, any other name).

    Attributes:
        schema: Always ``stemma.channel-move/1``.
        model: Name of the model.
        channel: Name of the channel.
        version: Where it points from now on; empty when the channel was removed.
        manifest: sha256 of that version's manifest; ``None`` when removed.
        sequence: Counts moves of this channel from 1.
        previous: Record of the move before this one.
        reason: Why.
        moved_at: When.
        moved_by: User name.
    """

    model: str
    channel: str
    version: str
    manifest: Digest | None = None
    sequence: int
    previous: Digest | None = None
    reason: str = ""
    moved_at: datetime
    moved_by: str
    schema: str = CHANNEL_MOVE_SCHEMA

    def __post_init__(self) -> None:
        """Refuse a schema this program does not know."""
        if self.schema != CHANNEL_MOVE_SCHEMA:
            raise InvalidInputError(
                f"channel move schema {self.schema!r} is not known",
                code="unknown-schema",
                hint="upgrade stemma",
            )


def is_candidate(version: str) -> bool:
    """Whether a channel's target is a run's candidate, which is not released, and no number."""
    return version.startswith("r-")


def refuse_prerelease_on_stable(model: str, channel: str, version: str) -> None:
    """Refuse to let ``stable`` point at a pre-release: its gates may have failed.

    Args:
        model: Name of the model.
        channel: Name of the channel.
        version: SemVer text; empty when the channel is being removed.

    Raises:
        ConflictError: If it would (``prerelease-on-stable``).
    """
    if channel == STABLE and version and SemVer.parse(version).prerelease:
        raise prerelease_on_stable(model, f"{model}@{version} is a pre-release, which")


def prerelease_on_stable(model: str, what: str) -> ConflictError:
    """Return the error for ``what``, a pre-release, that was to become stable."""
    return ConflictError(
        f"{what} may not become {STABLE}: a pre-release need not have passed its gates",
        code="prerelease-on-stable",
        hint=f"stemma release {model} --channel {STABLE}, or take another channel: canary",
    )
