"""How release and log grow from 100 to 10,000 versions of one model.

Every version is real: a manifest record, a release record and their rows, made through the
hub from one recorded run whose hyperparameters and metrics vary.  The same machine, the same
process; SQLite with ``synchronous=FULL``.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

from benchmarks.digits import ENVIRONMENT, STEMMA, digits_project
from benchmarks.measure import commands, least_seconds
from stemma.domain.digest import Digest
from stemma.domain.manifest import Manifest
from stemma.domain.release import Release
from stemma.domain.run import RunStart
from stemma.domain.semver import SemVer
from stemma.domain.verdict import Level
from stemma.hub.base import ReleaseRequest
from stemma.hub.local import LocalHub
from stemma.server.wiring import open_hub

SIZES = (100, 1_000, 10_000)


def run() -> dict[str, object]:
    """Measure at each size; seconds."""
    figures: dict[str, object] = {}
    with digits_project() as folder:
        for size in SIZES:
            with closing(open_hub(folder)) as hub:
                _fill(hub, size)
            figures[str(size)] = _measure(folder, size)
    return figures


def _fill(hub: LocalHub, size: int) -> None:
    """Append releases until there are ``size``."""
    first = hub.resolve("digits@1.0.0")
    catalog = hub._parts.catalog  # noqa: SLF001 - ten thousand real trainings would take hours
    newest = catalog.last_release("digits", include_prereleases=True)
    while newest is not None and newest.sequence < size:
        count = newest.sequence + 1
        manifest = _variant(hub, first.manifest, count)
        digest = catalog.register(manifest)
        version = SemVer.parse(newest.version)
        newest = Release(
            model="digits",
            version=str(SemVer(version.major, version.minor, version.patch + 1)),
            manifest=digest,
            sequence=count,
            previous=catalog.release_digest("digits", newest.version),
            level=Level.PATCH,
            released_at=first.manifest.provenance.ended_at,
            released_by="bench",
        )
        catalog.append_release(newest)


def _variant(hub: LocalHub, manifest: Manifest, count: int) -> Manifest:
    table = f'{{"defaulted": {{}}, "passed": {{"C": {1 + count / 100_000}}}}}'.encode()
    blob: Digest = hub.objects.put_bytes(table).digest
    return replace(
        manifest,
        hyperparameters=replace(manifest.hyperparameters, identity=blob, content=blob),
        provenance=replace(manifest.provenance, run=f"r-{count:08x}"),
    )


def _measure(folder: Path, size: int) -> dict[str, float]:
    with closing(open_hub(folder)) as hub:
        run_id = hub.start_run(RunStart(model="digits"))
        first = hub.resolve("digits@1.0.0").manifest
        with hub.writing():
            hub.finish_run(run_id, replace(_variant(hub, first, size + 500_000)))
        dry = ReleaseRequest(model="digits", is_dry_run=True)
        times = {
            "release_decide_seconds": least_seconds(lambda: hub.release(dry), rounds=5),
            "log_50_seconds": least_seconds(
                lambda: hub.log("digits", metric="accuracy", limit=50), rounds=5
            ),
            "log_all_seconds": least_seconds(
                lambda: hub.log("digits", metric="accuracy", limit=size + 10), rounds=3
            ),
            "resolve_caret_seconds": least_seconds(lambda: hub.resolve("digits@^1"), rounds=5),
            "release_seconds": least_seconds(
                lambda: hub.release(ReleaseRequest(model="digits")), rounds=1
            ),
        }
    wall = commands(
        {
            "cli_log_all": [STEMMA, "log", "digits", "-n", str(size + 10)],
            "cli_release_dry": [STEMMA, "release", "digits", "--dry-run"],
        },
        rounds=3,
        cwd=folder,
        environment=ENVIRONMENT,
    )
    times.update({f"{name}_seconds": best["wall_ms"] / 1000 for name, best in wall.items()})
    times["database_bytes"] = (folder / ".stemma" / "stemma.db").stat().st_size
    return times
