"""Slots as values: what is wanted, and what is there.

A slot is one version with one configuration, served by ``replicas`` processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final

from stemma.domain.configuration import Configuration

MODEL_PROCESS_MODULE: Final = "stemma.sdk.model_process"
"""Started as ``python -m`` in the version's environment, with the path of its specification."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotSpec:
    """What a slot is to be.

    Attributes:
        name: Unique; ``MODEL-VERSION-CONFIGURATION`` and a suffix for a second one of the kind.
        model: Name of the model.
        version: SemVer text.
        manifest: sha256 of the manifest, as text.
        configuration_digest: sha256 of the configuration, as text.
        configuration: What it runs with.
    """

    name: str
    model: str
    version: str
    manifest: str
    configuration_digest: str
    configuration: Configuration


class SlotState(Enum):
    """How a slot is."""

    PREPARING = "preparing"
    STARTING = "starting"
    READY = "ready"
    UNREADY = "not ready"
    RESTARTING = "restarting"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaStatus:
    """One process of a slot.

    Attributes:
        pid: Process id; 0 when none runs.
        state: How it is.
        socket: Absolute path of its Unix socket.
        since: When it took that state.
        restarts: How often it was started again.
        memory_bytes: Resident memory.
        detail: What happened last, in one sentence; empty when nothing did.
    """

    pid: int
    state: SlotState
    socket: str
    since: datetime
    restarts: int = 0
    memory_bytes: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotStatus:
    """A slot and its processes.

    Attributes:
        spec: What it is to be.
        state: READY when every replica is; FAILED when it is given up; else the worst of them.
        since: When it took that state.
        replicas: Its processes.
        detail: What happened last, in one sentence.
    """

    spec: SlotSpec
    state: SlotState
    since: datetime
    replicas: tuple[ReplicaStatus, ...] = ()
    detail: str = ""

    @property
    def sockets(self) -> tuple[str, ...]:
        """Sockets of the replicas that are ready."""
        return tuple(r.socket for r in self.replicas if r.state is SlotState.READY)
