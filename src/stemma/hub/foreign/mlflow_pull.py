"""``stemma pull mlflow://…``: what an address names, imported."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing

from stemma.hub.foreign import mlflow_reading as reading
from stemma.hub.foreign.mlflow_address import MlflowAddress
from stemma.hub.foreign.mlflow_client import MlflowClient
from stemma.hub.foreign.mlflow_import import TrackingImport
from stemma.hub.foreign.mlflow_registry import RegistryImport
from stemma.hub.foreign.outcome import ForeignOutcome, ForeignProgress, Tally
from stemma.hub.local_parts import LocalParts


def pull_mlflow(
    parts: LocalParts,
    address: MlflowAddress,
    environment: Mapping[str, str],
    progress: ForeignProgress,
    *,
    is_dry_run: bool = False,
    is_repair: bool = False,
) -> ForeignOutcome:
    """Import a server, an experiment, or a registered model with its runs.

    Args:
        parts: The services of this project.
        address: What to import.
        environment: Where credentials are looked up.
        progress: Is told how far it is.
        is_dry_run: Only count what would be copied.
        is_repair: Look again at the points and files of what is here already.

    Raises:
        UnavailableError: If the server does not answer (``server-silent``); what has come by
            then stays, and the same call goes on.
        DeniedError: If it does not let us in (``server-denied``).
        NotFoundError: If there is no such experiment or model (``not-found-there``).
    """
    tally = Tally()
    with closing(MlflowClient(address, environment)) as client:
        tracking = TrackingImport(
            parts, client, tally, progress, is_dry_run=is_dry_run, is_repair=is_repair
        )
        registry = RegistryImport(tracking)
        if address.model:
            found = reading.registered_model(client, address.model)
            registry.bring(found, with_sources=True)
        elif address.experiment:
            tracking.bring_experiment(reading.experiment_named(client, address.experiment))
        else:
            for experiment in reading.experiments(client):
                tracking.bring_experiment(experiment)
            for model in reading.registered_models(client):
                registry.bring(model)
        return ForeignOutcome(
            server=address.server,
            seen=tally.seen,
            copied=tally.copied,
            file_count=tally.file_count,
            file_bytes=tally.file_bytes,
            request_count=client.request_count,
            left=tuple(tally.left),
            is_dry_run=is_dry_run,
        )
