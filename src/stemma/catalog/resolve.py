"""From a ref to the version it names.

Invariants:
    * ``digits`` alone is where ``stable`` points, else the newest release, else the newest
      pre-release.
    * A range names the highest number in it, by SemVer's order, not the latest in time.
    * What is not found is answered with near names.

Example:
    >>> resolve(catalog, "digits@^1").release.version  # doctest: +SKIP
    '1.1.0'
"""

from __future__ import annotations

from dataclasses import dataclass

from stemma.catalog.service import CatalogService
from stemma.domain.digest import Digest
from stemma.domain.errors import NotFoundError
from stemma.domain.ref import (
    ChannelName,
    ExactVersion,
    ManifestPrefix,
    Newest,
    Ref,
    RunPrefix,
    VersionRange,
    did_you_mean,
    suggest,
)
from stemma.domain.release import Release, is_candidate
from stemma.domain.semver import Range, SemVer

_NO_RELEASE: str = "no-release"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """What a ref names.

    Attributes:
        model: Name of the model.
        digest: sha256 of the manifest.
        release: Its release record; ``None`` when unreleased.
    """

    model: str
    digest: Digest
    release: Release | None = None


def resolve(catalog: CatalogService, text: str) -> Resolved:
    """Return what ``text`` names.

    Raises:
        InvalidInputError: If it is not a ref.
        NotFoundError: If nothing has that name; the hint suggests near names.
        ConflictError: If a prefix may mean several.
    """
    ref = Ref.parse(text)
    catalog.check_model(ref.model)
    match ref.selector:
        case Newest():
            return _released(_newest(catalog, ref.model))
        case ExactVersion(version):
            return _released(catalog.release(ref.model, str(version)))
        case VersionRange(wanted):
            return _released(_highest(catalog, ref.model, wanted))
        case ChannelName(channel):
            return _on_channel(catalog, ref.model, channel)
        case RunPrefix(prefix):
            return _unreleased(catalog, ref.model, catalog.manifest_of_run(ref.model, prefix))
        case ManifestPrefix(hex_prefix):
            digest = catalog.manifest_by_prefix(ref.model, hex_prefix)
            return _unreleased(catalog, ref.model, digest)


def _released(release: Release) -> Resolved:
    return Resolved(model=release.model, digest=release.manifest, release=release)


def _unreleased(catalog: CatalogService, model: str, digest: Digest) -> Resolved:
    """Return a manifest with its release, when it has one."""
    versions = [version for name, version in catalog.versions_of(digest) if name == model]
    release = catalog.release(model, versions[-1]) if versions else None
    return Resolved(model=model, digest=digest, release=release)


def _newest(catalog: CatalogService, model: str) -> Release:
    stable = catalog.channels(model).get("stable")
    if stable is not None:
        return catalog.release(model, stable)
    numbers = [SemVer.parse(text) for text in catalog.versions(model)]
    if not numbers:
        raise NotFoundError(
            f"{model} has no release yet", code=_NO_RELEASE, hint=f"stemma release {model}"
        )
    final = [number for number in numbers if not number.prerelease]
    return catalog.release(model, str(max(final or numbers)))


def _highest(catalog: CatalogService, model: str, wanted: Range) -> Release:
    numbers = [SemVer.parse(text) for text in catalog.versions(model)]
    matching = [number for number in numbers if wanted.matches(number)]
    if not matching:
        newest = f"the newest is {max(numbers)}" if numbers else "there is no release yet"
        raise NotFoundError(
            f"no version of {model} is in {wanted}; {newest}",
            code="version-not-found",
            hint=f"stemma log {model}",
        )
    return catalog.release(model, str(max(matching)))


def _on_channel(catalog: CatalogService, model: str, channel: str) -> Resolved:
    channels = catalog.channel_moves(model)
    if channel in channels:
        move = channels[channel]
        if is_candidate(move.version) and move.manifest is not None:
            return _unreleased(catalog, model, move.manifest)
        return _released(catalog.release(model, move.version))
    near = suggest(channel, channels)
    known = f"its channels: {', '.join(sorted(channels))}" if channels else "it has none"
    raise NotFoundError(
        f"{model} has no channel {channel}{did_you_mean(near) or f'; {known}'}",
        code="channel-not-found",
        hint=f"stemma show {model}@{near[0]}" if near else f"stemma log {model}",
    )
