"""Rollbacks beside whatever else happens at the same time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stemma.delivery.layout import ServeLayout
from stemma.delivery.planes.base import PlaneStatus
from stemma.delivery.production.reading import DesireReader
from stemma.delivery.production.routes import RoutePublisher
from stemma.delivery.recovery.rollback import Rollback, RollbackParts, RollbackRequest
from stemma.delivery.slots.base import ReplicaStatus, SlotSpec, SlotState, SlotStatus
from stemma.delivery.slots.preparing import Preparer
from stemma.domain.digest import Digest
from stemma.domain.rollout import RolloutState
from stemma.domain.routing import RouteTable

Project = Any


@dataclass
class MemoryPlane:
    """A data plane in which every table is in force at once."""

    access_log: Path
    name: str = "memory"
    tables: list[RouteTable] = field(default_factory=list)

    def start(self) -> None:
        """Run already."""

    def apply(self, table: RouteTable) -> None:
        self.tables.append(table)

    def status(self) -> PlaneStatus:
        return PlaneStatus(is_alive=True, pid=1, revision=self.tables[-1].revision)

    def wait_for(self, revision: int, timeout_seconds: float) -> bool:
        return self.tables[-1].revision >= revision and timeout_seconds > 0

    def rotate(self, max_bytes: int) -> None:
        """Keep the log."""

    def stop(self) -> None:
        """Run on."""


class WarmSlots:
    """Slots that are all ready; the first question about one begins a rollout."""

    def __init__(self, project: Project, *canaries: Any) -> None:
        self.project = project
        self.canaries = list(canaries)
        self.known: dict[str, SlotStatus] = {}

    def statuses(self) -> Mapping[str, SlotStatus]:
        return self.known

    def status(self, name: str) -> SlotStatus | None:
        if self.canaries:
            current = self.project.delivery.deployment("digits").deployed
            draft = self.project.rollout(current, self.canaries.pop(), len(self.canaries) + 1)
            self.project.delivery.begin_rollout(draft, ())
        return self.known.get(name)

    def warm(self, spec: SlotSpec) -> None:
        replica = ReplicaStatus(
            pid=1, state=SlotState.READY, socket="s", since=self.project.clock(), restarts=0
        )
        self.known[spec.name] = SlotStatus(
            spec=spec, state=SlotState.READY, since=self.project.clock(), replicas=(replica,)
        )

    def ensure(self, spec: SlotSpec, timeout_seconds: float) -> SlotStatus:
        assert timeout_seconds > 0
        return self.known[spec.name]


def test_a_rollout_that_begins_during_a_rollback_is_rolled_back_too(
    sqlite_project: Project,
) -> None:
    """At two in the morning the one command would say no because a colleague was faster."""
    project = sqlite_project
    project.serve("1.0.0")
    second = project.released("1.1.0")
    project.delivery.deploy(
        "digits", second, kind="promote", by="ada", reason="", moves_stable=True
    )
    slots = WarmSlots(project, project.released("1.2.0"))
    parts = make_parts(project, slots)
    (desire,) = parts.reader.read()
    for deployed in (desire.deployment.deployed, *desire.earlier):
        slots.warm(desire.spec(deployed))
    said: list[str] = []
    report = Rollback(parts, said.append).run(RollbackRequest(model="digits", by="ada"))
    assert (report.before, report.after) == ("1.2.0", "1.1.0")
    assert project.delivery.deployment("digits").deployed == second
    assert project.delivery.newest_rollout("digits").state is RolloutState.ROLLED_BACK
    assert any("1.2.0 is under way" in line for line in said)


def make_parts(project: Project, slots: WarmSlots) -> RollbackParts:
    """Compose a rollback that needs neither processes nor a data plane's process."""

    def load_manifest(digest: str) -> Any:
        return project.catalog.manifest(Digest.parse(digest))

    layout = ServeLayout(state=project.folder / ".stemma")
    plane = MemoryPlane(access_log=project.folder / "access.jsonl")
    return RollbackParts(
        service=project.delivery,
        reader=DesireReader(project.delivery, project.catalog, project.database.generation),
        routes=RoutePublisher(layout, plane, lambda name, _: (name,), "control.sock"),
        plane=plane,
        preparer=Preparer(
            objects=project.objects, layout=layout, load_manifest=load_manifest, is_offline=True
        ),
        starter=slots,
        is_answering=lambda _: True,
        ask_golden=lambda *_: "",
        clock=project.clock,
    )
