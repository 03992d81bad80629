"""The rows that configuration and deployment records stand for: pure functions.

Invariants:
    * As in ``rows``: a row is a function of its record and the record's digest alone.

Who writes these records is ``stemma.delivery``; they are known here because doctor,
rebuild and garbage collection know every record there is.
"""

from __future__ import annotations

from typing import Final

from stemma.db.rows import Value
from stemma.domain.canonical import timestamp
from stemma.domain.delivery_records import ConfigurationRecord, DeploymentRecord
from stemma.domain.digest import Digest

CONFIGURATION: Final = "configuration"
DEPLOYMENT: Final = "deployment"
"""Kinds of records in the store."""


def configuration_values(record: Digest, made: ConfigurationRecord) -> dict[str, Value]:
    """Return the row of a configuration."""
    return {
        "record": str(record),
        "model": made.model,
        "sequence": made.sequence,
        "digest": str(made.digest),
        "previous": None if made.previous is None else str(made.previous),
        "created_at": timestamp(made.created_at),
        "created_by": made.created_by,
    }


def deployment_values(record: Digest, made: DeploymentRecord) -> dict[str, Value]:
    """Return the row of a deployment."""
    return {
        "record": str(record),
        "model": made.model,
        "sequence": made.sequence,
        "version": made.version,
        "manifest": str(made.manifest),
        "configuration": str(made.configuration),
        "kind": made.kind,
        "previous": None if made.previous is None else str(made.previous),
        "reason": made.reason,
        "deployed_at": timestamp(made.deployed_at),
        "deployed_by": made.deployed_by,
    }
