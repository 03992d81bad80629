"""Every route of the protocol, gathered from the modules that answer them.

It answers nothing itself.
"""

from __future__ import annotations

from typing import Final

from stemma.protocols.mlflow import about
from stemma.protocols.mlflow.routes import MlflowRoute

ROUTES: Final[tuple[MlflowRoute, ...]] = (*about.ROUTES,)
"""A new module of handlers goes in here."""
