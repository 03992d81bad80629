"""What a recorded version will lack when the next one is compared with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from stemma.domain.axis_behaviour import foresee_missing_evidence
from stemma.domain.digest import Digest
from stemma.domain.manifest import Evidence, GoldenSet, Manifest, decode_manifest
from stemma.domain.policy import ModelPolicy

VECTOR = min((Path(__file__).parents[2] / "vectors" / "manifest").glob("*.json"))
NOTHING = Digest.blake3("0" * 64)


def version(row_count: int | None, overlap: int = 0) -> Manifest:
    """A manifest with a golden set of that many rows, or none."""
    manifest = decode_manifest(VECTOR.read_bytes())
    golden = None
    if row_count is not None:
        golden = GoldenSet(
            dataset="test",
            identity=NOTHING,
            predictions=NOTHING,
            row_count=row_count,
            task="classification",
            metric="accuracy",
            training_overlap_count=overlap,
        )
    return replace(manifest, evidence=Evidence(golden=golden))


@pytest.mark.parametrize(
    ("manifest", "says"),
    [
        (version(None), "no golden set, so the next version that differs will be MAJOR"),
        (version(298), "298 usable rows and 299 are needed"),
        (version(540, overlap=300), "240 usable rows and 299 are needed"),
    ],
)
def test_a_gap_is_told_while_it_can_be_mended(manifest: Manifest, says: str) -> None:
    """The next release would be 2.0.0 for ever, and nobody had said so."""
    assert says in foresee_missing_evidence(manifest, ModelPolicy())


def test_enough_evidence_needs_no_word() -> None:
    """A warning on every run is read by nobody."""
    assert foresee_missing_evidence(version(299), ModelPolicy()) == ""
