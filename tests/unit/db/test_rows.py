"""Row digests: cheap, and nothing plausible passes."""

from __future__ import annotations

import time

import pytest

from stemma.db.rows import check_part, is_sound, name_row, seal, sealed_columns
from stemma.db.schema import SEALED_TABLES
from stemma.db.tables import manifest_metrics, models
from stemma.domain.errors import IntegrityError

VALUES = {
    "manifest": "sha256:00",
    "key": "accuracy",
    "name": "accuracy",
    "slice": "",
    "value": "0.97",
    "sample_size": 360,
    "unit": "",
}


def test_a_sealed_row_passes_and_any_change_does_not() -> None:
    """A flipped bit in an accuracy would be released."""
    sealed = seal(manifest_metrics, VALUES)
    row = [sealed[column.name] for column in manifest_metrics.columns]
    assert is_sound(manifest_metrics, row)
    for at in range(len(row)):
        for other in ("x", 7, None, 2**80, 0.5, b"x"):
            changed = [*row[:at], other, *row[at + 1 :]]
            assert not is_sound(manifest_metrics, changed)


def test_a_row_of_one_table_does_not_pass_in_another() -> None:
    """Rows could be moved between tables."""
    sealed = seal(models, {"name": "digits"})
    row = [sealed["name"], sealed["row_digest"]]
    assert is_sound(models, row)
    assert not is_sound(manifest_metrics, row)


def test_the_error_names_table_and_row() -> None:
    """Nobody could say what was lost."""
    sealed = seal(manifest_metrics, VALUES) | {"value": "0.99"}
    row = [sealed[column.name] for column in manifest_metrics.columns]
    assert name_row(manifest_metrics, row) == "sha256:00 accuracy"
    with pytest.raises(IntegrityError, match=r"manifest_metrics, row sha256:00 accuracy"):
        check_part(manifest_metrics, ["before", *row, "after"], 1)


def test_every_column_is_covered_and_the_digest_is_last() -> None:
    """A column could be changed without anybody noticing."""
    for table in SEALED_TABLES:
        names = [column.name for column in table.columns]
        assert names[-1] == "row_digest"
        assert list(sealed_columns(table)) == names[:-1]


def test_checking_ten_thousand_rows_takes_a_fraction_of_a_second() -> None:
    """``log`` would become slow with the history."""
    sealed = seal(manifest_metrics, VALUES)
    row = [sealed[column.name] for column in manifest_metrics.columns]
    began = time.process_time()
    assert all(is_sound(manifest_metrics, row) for _ in range(10_000))
    assert time.process_time() - began < 0.2
