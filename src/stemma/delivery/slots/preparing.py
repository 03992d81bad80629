"""Makes a version's files and environment ready, and verifies those that are.

Invariants:
    * What is reported as ready was verified in this very call: files by their digests,
      packages against the lock.
    * What is damaged is made again from the store; only when that is damaged too is it an error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stemma.delivery.layout import ServeLayout
from stemma.delivery.slots.base import SlotSpec
from stemma.delivery.slots.environments import ensure_environment, is_built
from stemma.delivery.slots.materialise import made_at, materialise_version
from stemma.domain.manifest import Manifest
from stemma.store.objects import ObjectStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparer:
    """Prepares versions in one serving folder.

    Attributes:
        objects: Content store.
        layout: Where everything is made.
        load_manifest: From a manifest's digest to the manifest, verified.
        is_offline: Never ask the package index.
    """

    objects: ObjectStore
    layout: ServeLayout
    load_manifest: Callable[[str], Manifest]
    is_offline: bool = False

    def artifact(self, spec: SlotSpec) -> str:
        """Make or verify the version's files; returns what was done.

        Raises:
            IntegrityError: If they are damaged in the store too.
        """
        before = made_at(self.layout, spec.manifest)
        manifest = self.load_manifest(spec.manifest)
        materialise_version(self.objects, manifest, spec.manifest, self.layout)
        size = f"{manifest.artifact.size_bytes / 2**20:,.1f} MiB"
        if before is None:
            return f"{size} written"
        is_whole = made_at(self.layout, spec.manifest) == before
        return f"{size} verified" if is_whole else f"{size} were damaged, written again"

    def environment(self, spec: SlotSpec) -> str:
        """Make or verify the version's environment; returns what was done.

        Raises:
            UnavailableError: If a package is missing and there is no network.
            NotFoundError: If a package does not exist any more.
        """
        wanted = self.load_manifest(spec.manifest).environment
        had = is_built(self.layout, str(wanted.identity))
        lock = self.objects.read_bytes(wanted.lock).decode("utf-8")
        ensure_environment(
            lock, str(wanted.identity), wanted.python, self.layout, is_offline=self.is_offline
        )
        return f"{len(wanted.packages)} packages {'verified' if had else 'installed'}"
