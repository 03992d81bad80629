"""From a ref to the version it names."""

from __future__ import annotations

from dataclasses import dataclass

from stemma.catalog.service import CatalogService
from stemma.domain.digest import Digest
from stemma.domain.release import Release


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
    """Return what ``text`` names, or raise NotFoundError with suggestions."""
    raise NotImplementedError
