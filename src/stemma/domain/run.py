"""A run: one recorded training or import; when it finishes it names a candidate manifest.

Invariants:
    * Only a ``FINISHED`` run has a manifest; only such a run can be released.
    * A run whose process died without a word is ``FAILED``, never ``RUNNING`` for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import NewType

from stemma.domain.digest import Digest

RunId = NewType("RunId", str)
"""``r-`` followed by hexadecimal digits."""


class RunState(Enum):
    """Where a run stands."""

    SCHEDULED = "scheduled"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStart:
    """What is known when a run starts.

    Attributes:
        model: Name of the model.
        command: Command line, one argument per element.
        invocation: Joins the runs of one ``stemma run`` command; empty outside of one.
        reason: Why, in the user's words.
        created_by: User name.
        host: Host name.
        process: ``pid:start-ticks:boot-id`` of the recording process, to see that it died.
        experiment: The experiment it belongs to; 0 for the one of its model.
        name: A name for people; need not be unique.
    """

    model: str
    command: tuple[str, ...] = ()
    invocation: str = ""
    reason: str = ""
    created_by: str = ""
    host: str = ""
    process: str = ""
    experiment: int = 0
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A run as the catalog knows it.

    Attributes:
        id: ``r-`` and hexadecimal digits.
        start: What was known at its start.
        state: Where it stands.
        started_at: When it started.
        ended_at: When it ended; ``None`` while running.
        manifest: sha256 of the candidate manifest, once finished.
        failure: One line on why it failed.
        traceback: The whole traceback, when there is one.
        deleted_at: When it was deleted; ``None`` while it is not.
    """

    id: RunId
    start: RunStart
    state: RunState
    started_at: datetime
    ended_at: datetime | None = None
    manifest: Digest | None = None
    failure: str = ""
    traceback: str = ""
    deleted_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricPoint:
    """One logged value of a learning curve.

    Attributes:
        name: Metric name.
        value: Its value; finite.
        step: Training step; 0 when steps have no meaning.
        logged_at: When.
    """

    name: str
    value: float
    step: int
    logged_at: datetime
