"""Reads what production is to be: rows of delivery joined with the history of ``stable``.

Invariants:
    * Deployments, rollouts and moves of ``stable`` are of one moment, so a rollout that
      becomes live is never half seen.
    * Nothing is read again while the database has not changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, final

from stemma.catalog.service import CatalogService
from stemma.delivery.production.desired import ModelDesire
from stemma.delivery.records.service import DeliveryService
from stemma.delivery.values import Deployment
from stemma.domain.errors import NotFoundError
from stemma.domain.release import ChannelMove
from stemma.domain.rollout import Deployed, Rollout
from stemma.domain.stable_history import stable_stack

_KEPT_WARM: Final = 1


@final
class DesireReader:
    """Reads the desires of every served model."""

    def __init__(
        self,
        service: DeliveryService,
        catalog: CatalogService,
        generation: Callable[[], int],
    ) -> None:
        """Read from the two services; ``generation`` counts writes to their database."""
        self._service = service
        self._catalog = catalog
        self._generation = generation
        self._seen = -1
        self._desires: tuple[ModelDesire, ...] = ()

    def read(self) -> Sequence[ModelDesire]:
        """Return what each served model's production is to be, by name."""
        generation = self._generation()
        if generation != self._seen:
            # Numbered by what was there before reading, so a write meanwhile is read next time.
            self._desires = self._read()
            self._seen = generation
        return self._desires

    def _read(self) -> tuple[ModelDesire, ...]:
        production = self._service.production()
        return tuple(
            self._desire(
                deployment,
                production.rollouts.get(deployment.model),
                production.stable_moves[deployment.model],
            )
            for deployment in production.deployments
        )

    def _desire(
        self, deployment: Deployment, rollout: Rollout | None, moves: Sequence[ChannelMove]
    ) -> ModelDesire:
        earlier = self._earlier(deployment, moves)
        return ModelDesire(
            deployment=deployment,
            rollout=rollout,
            standby=earlier[:_KEPT_WARM],
            earlier=earlier,
            configurations={
                found.digest: found for found in self._service.configurations(deployment.model)
            },
        )

    def _earlier(
        self, deployment: Deployment, moves: Sequence[ChannelMove]
    ) -> tuple[Deployed, ...]:
        """Return what the model can be rolled back to, the nearest first.

        Each version comes with the configuration it served with last; one that never served
        takes the present one.
        """
        model = deployment.model
        served = {
            item.deployed.version: item.deployed
            for item in sorted(
                self._service.deployment_history(model), key=lambda item: item.sequence
            )
        }
        found: list[Deployed] = []
        for version in stable_stack(moves):
            if version == deployment.deployed.version:
                continue
            known = served.get(version)
            if known is None:
                try:
                    manifest = str(self._catalog.release(model, version).manifest)
                except NotFoundError:
                    continue
                known = Deployed(
                    version=version,
                    manifest=manifest,
                    configuration=deployment.deployed.configuration,
                )
            found.append(known)
        return tuple(found)
