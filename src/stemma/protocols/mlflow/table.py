"""Every route of the protocol, gathered from the modules that answer them.

It answers nothing itself.
"""

from __future__ import annotations

from typing import Final

from stemma.protocols.mlflow import (
    about,
    artifacts,
    experiments,
    logged_models,
    metrics,
    model_versions,
    multipart,
    registered_models,
    run_logs,
    runs,
    traces,
)
from stemma.protocols.mlflow.routes import MlflowRoute

ROUTES: Final[tuple[MlflowRoute, ...]] = (
    *about.ROUTES,
    *experiments.ROUTES,
    *runs.ROUTES,
    *run_logs.ROUTES,
    *metrics.ROUTES,
    *artifacts.ROUTES,
    *multipart.ROUTES,
    *logged_models.ROUTES,
    *registered_models.ROUTES,
    *model_versions.ROUTES,
    *traces.ROUTES,
)
"""A new module of handlers goes in here."""
