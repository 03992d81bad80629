"""Tells tracking clients what Stemma's own runs recorded.

Invariants:
    * A run is told once, at its end; ``tell_runs`` makes up for runs of an older program and
      for rows that were lost.
"""

from __future__ import annotations

from stemma.catalog.facts import load_hyperparameters
from stemma.domain.errors import StemmaError
from stemma.domain.manifest import Manifest
from stemma.domain.run import RunRecord
from stemma.domain.run_facts import RunFacts, facts_of
from stemma.hub.local_parts import LocalParts


def run_facts(parts: LocalParts, manifest: Manifest) -> RunFacts:
    """Return what a run tells that made this version.

    Raises:
        IntegrityError: If its hyperparameters are damaged.
    """
    return facts_of(manifest, load_hyperparameters(parts.objects, manifest))


def tell_runs(parts: LocalParts) -> int:
    """Tell of every run of which clients see nothing; returns how many there were."""
    told = [(record, _known_facts(parts, record)) for record in parts.runs.untold()]
    parts.runs.tell(told)
    return len(told)


def _known_facts(parts: LocalParts, record: RunRecord) -> RunFacts:
    if record.manifest is None:
        return RunFacts()
    try:
        return run_facts(parts, parts.catalog.manifest(record.manifest))
    except StemmaError:
        return RunFacts()  # left elsewhere, or damaged: doctor says so
