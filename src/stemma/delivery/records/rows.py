"""Rows of delivery as values, and values as rows: pure functions.

Invariants:
    * ``active`` of a rollout's row is its model's name until the rollout is final, then
      nothing: the unique column lets one rollout of a model be active.
    * Bodies are text of this program's own making; a body that cannot be read is an
      ``IntegrityError``, never a guess.

It reads and writes no database; see ``stemma.delivery.records.queries``.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import Row

from stemma.db.rows import REBUILD_HINT, Value
from stemma.delivery.values import Deployment, RollbackReport, RolloutEvent
from stemma.domain.canonical import timestamp
from stemma.domain.errors import IntegrityError
from stemma.domain.rollout import Decision, Deployed, Rollout, RolloutId, RolloutState
from stemma.domain.rollout_text import decode_rollout, encode_rollout

_REPORT_DECODER: Final = msgspec.json.Decoder(RollbackReport)


def to_deployment(row: Row[Any]) -> Deployment:
    """Return a deployment of its row."""
    return Deployment(
        model=row.model,
        deployed=Deployed(
            version=row.version, manifest=row.manifest, configuration=row.configuration
        ),
        sequence=row.sequence,
        kind=row.kind,
        since=datetime.fromisoformat(row.deployed_at),
        by=row.deployed_by,
        reason=row.reason,
    )


def rollout_values(rollout: Rollout, *, sequence: int, event_count: int) -> dict[str, Value]:
    """Return the row of a rollout; its log has ``event_count`` lines."""
    return {
        "id": rollout.id,
        "model": rollout.model,
        "sequence": sequence,
        "active": None if rollout.state.is_final else rollout.model,
        "event_count": event_count,
        "body": encode_rollout(rollout).decode(),
    }


def to_rollout(row: Row[Any]) -> Rollout:
    """Return a rollout of its row.

    Raises:
        IntegrityError: If its body cannot be read, or is of another rollout.
    """
    rollout = decode_rollout(row.body.encode())
    if (rollout.id, rollout.model) != (row.id, row.model):
        raise _unreadable("rollouts", row.id, f"its body is of {rollout.id}")
    return rollout


def event_values(rollout: RolloutId, event: RolloutEvent) -> dict[str, Value]:
    """Return the row of a line of a rollout's log."""
    return {
        "rollout": rollout,
        "sequence": event.sequence,
        "at": timestamp(event.at),
        "by": event.by,
        "kind": event.decision.kind,
        "text": event.decision.text,
        "weight_bp": event.decision.weight_bp,
        "state": event.decision.state.value,
    }


def to_event(row: Row[Any]) -> RolloutEvent:
    """Return a line of a rollout's log of its row."""
    return RolloutEvent(
        sequence=row.sequence,
        at=datetime.fromisoformat(row.at),
        by=row.by,
        decision=Decision(
            kind=row.kind,
            text=row.text,
            weight_bp=row.weight_bp,
            state=RolloutState(row.state),
        ),
    )


def rollback_values(report: RollbackReport, sequence: int) -> dict[str, Value]:
    """Return the row of a rollback or drill."""
    return {
        "model": report.model,
        "sequence": sequence,
        "is_drill": int(report.is_drill),
        "body": msgspec.json.encode(report).decode(),
    }


def to_rollback(row: Row[Any]) -> RollbackReport:
    """Return a rollback or drill of its row.

    Raises:
        IntegrityError: If its body cannot be read.
    """
    try:
        return _REPORT_DECODER.decode(row.body)
    except msgspec.DecodeError as error:
        raise _unreadable("rollbacks", f"{row.model} {row.sequence}", str(error)) from error


def _unreadable(table: str, name: str, detail: str) -> IntegrityError:
    return IntegrityError(
        f"table {table}, row {name}: {detail}", code="row-damaged", hint=REBUILD_HINT
    )
