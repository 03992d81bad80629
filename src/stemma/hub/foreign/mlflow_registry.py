"""Imports the registry of a tracking server: registered models, versions and aliases.

Invariants:
    * A version keeps its number; one whose files are not here is named and left out.
    * Aliases become channels; they move when something of the model changed there, so that a
      move that was made here stays until then.
"""

from __future__ import annotations

from typing import final

from stemma.domain.names import fit_channel_name
from stemma.domain.registry import RegisteredModel
from stemma.hub.aliasing import point_alias
from stemma.hub.foreign import mlflow_reading as reading
from stemma.hub.foreign import mlflow_translate as translate
from stemma.hub.foreign import mlflow_wire as wire
from stemma.hub.foreign.mlflow_import import TrackingImport
from stemma.tracking import imports, registry


@final
class RegistryImport:
    """One import of registered models."""

    def __init__(self, tracking: TrackingImport) -> None:
        """Go on where ``tracking`` brought runs and logged models."""
        self._tracking = tracking
        self._parts = tracking.parts
        self._tally = tracking.tally
        self._server = tracking.client.address.server

    def bring(self, found: wire.ForeignRegistered, *, with_sources: bool = False) -> None:
        """Import a registered model.

        Args:
            found: The model.
            with_sources: Import the runs and logged models of its versions first.
        """
        self._tally.see("registered model")
        versions = reading.versions(self._tracking.client, found.name)
        for _ in versions:
            self._tally.see("version")
        others = [it for it in versions if not self._tracking.is_ours(it.tags)]
        if versions and not others:
            return
        versions = others
        if with_sources:
            for version in versions:
                with self._tracking.noting(f"version {version.version} of {found.name}"):
                    self._tracking.bring_sources(version)
        state = translate.state_of(wire.RegisteredState(found, tuple(versions)))
        if self._is_here(found.name, state):
            return
        if self._tracking.is_dry_run:
            self._tally.copy("registered model")
            return
        refused = len(self._tally.left)
        with self._tracking.noting(f"registered model {found.name}"):
            model = self._put(found)
            for version in versions:
                self._put_version(model, version)
            self._put_aliases(found, model)
        if len(self._tally.left) == refused:
            self._tally.copy("registered model")
            with self._parts.database.write() as connection:
                imports.mark_registered_model(connection, found.name, state)

    def _is_here(self, name: str, state: str) -> bool:
        if self._tracking.is_repair:
            return False
        with self._parts.database.read() as connection:
            return imports.registered_state(connection, name) == state

    def _put(self, found: wire.ForeignRegistered) -> RegisteredModel:
        model = translate.registered_model(found, self._server)
        with self._parts.database.write() as connection:
            return imports.put_registered_model(connection, model, self._parts.clock())

    def _put_version(self, model: RegisteredModel, found: wire.ForeignVersion) -> None:
        with self._tracking.noting(f"version {found.version} of {model.name}"):
            version = translate.version(found, self._server)
            with self._parts.database.write() as connection:
                is_new = imports.put_version(connection, model, version, self._parts.clock())
            if is_new:
                self._tally.copy("version")

    def _put_aliases(self, found: wire.ForeignRegistered, model: RegisteredModel) -> None:
        for alias in found.aliases:
            with self._tracking.noting(f"alias {alias.alias} of {model.name}"):
                with self._parts.database.read() as connection:
                    version = registry.get_version(connection, model.name, alias.version)
                point_alias(self._parts, model, fit_channel_name(alias.alias), version, "")
                self._tally.copy("alias")
