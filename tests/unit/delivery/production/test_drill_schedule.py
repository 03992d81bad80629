"""When a model's rollback is drilled by itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from stemma.delivery.production.drill_schedule import is_due
from stemma.delivery.values import Phase, RollbackReport

NOW = datetime(2026, 5, 3, 12, tzinfo=UTC)
DAY = 24 * 3600


def drill(age: timedelta, *, failure: str = "") -> RollbackReport:
    phase = Phase(name="traffic", seconds=0.1, limit_seconds=60.0, detail="")
    return RollbackReport(
        model="digits",
        before="1.1.0",
        after="1.0.0",
        phases=(phase,),
        is_drill=True,
        at=NOW - age,
        by="ada",
        failure=failure,
    )


@pytest.mark.parametrize(
    ("last", "every_seconds", "expected"),
    [
        (None, 0, False),
        (None, DAY, True),
        (drill(timedelta(hours=23)), DAY, False),
        (drill(timedelta(hours=24)), DAY, True),
        (drill(timedelta(minutes=30), failure="no route"), DAY, False),
        (drill(timedelta(hours=1), failure="no route"), DAY, True),
        (drill(timedelta(days=-1)), DAY, False),
    ],
)
def test_a_drill_is_due_by_its_schedule_and_soon_after_a_failed_one(
    *, last: RollbackReport | None, every_seconds: int, expected: bool
) -> None:
    """Promotions would stay blocked after a mended fault, or drills run all the time."""
    assert is_due(last, every_seconds, NOW) is expected
