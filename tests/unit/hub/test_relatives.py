"""Which version a new one is compared with when it is stored."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from stemma.catalog.recording import Recorder
from stemma.domain.manifest import Provenance
from stemma.domain.run import RunStart
from stemma.hub.relatives import relatives
from stemma.server.wiring import init_project, open_hub
from stemma.tracking.process import current_process


def test_the_newest_training_is_the_one_to_resemble(tmp_path: Path) -> None:
    """Each training would be stored whole although the last one is nearly the same."""
    init_project(tmp_path)
    now = datetime.now(UTC)
    with closing(open_hub(tmp_path)) as hub:
        assert relatives(hub, "digits") == ()
        run = hub.start_run(
            RunStart(
                model="digits",
                created_by="ada",
                host="here",
                command=("train",),
                process=current_process(),
            )
        )
        provenance = Provenance(run=run, started_at=now, ended_at=now, created_by="ada")
        with hub.writing():
            manifest = Recorder(hub.objects, tmp_path, "digits").build(provenance)
            record = hub.finish_run(run, manifest)
        assert relatives(hub, "digits") == (record.manifest,)
        # Another model may descend from the same published weights.
        assert relatives(hub, "letters") == (record.manifest,)
