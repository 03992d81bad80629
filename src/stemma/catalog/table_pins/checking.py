"""Whether the tables that a version was trained on can still be read as they were."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from stemma.catalog.table_pins import formats
from stemma.catalog.table_pins.pin import TablePin, decode_pin, is_pin
from stemma.domain.component import Dataset
from stemma.domain.errors import NotFoundError, StemmaError
from stemma.domain.release import GateResult
from stemma.store.objects import ObjectStore


def table_gates(
    datasets: Iterable[Dataset], objects: ObjectStore, root: Path
) -> Iterator[GateResult]:
    """Answer for each dataset that is a pinned table; others are passed over.

    Args:
        datasets: A version's datasets.
        objects: Where the pins are stored.
        root: The project's folder, from which their locations count.
    """
    for dataset in datasets:
        if dataset.format in formats.NAMES:
            yield _gate(dataset, objects, root)


def _gate(dataset: Dataset, objects: ObjectStore, root: Path) -> GateResult:
    needed, has_passed = f"its {dataset.format} snapshot as it was pinned", False
    try:
        pinned = _pin_of(dataset, objects)
        needed = f"{dataset.format} snapshot {pinned.snapshot} as it was pinned"
        if formats.has_its_files(pinned):
            actual, has_passed = f"recorded with its files: {len(pinned.files)}", True
        else:
            wrong = formats.examine_table(pinned, root)
            actual = wrong or f"unchanged, files: {len(pinned.files)}"
            has_passed = not wrong
    except StemmaError as error:
        actual = error.message
    return GateResult(
        gate=f"table {dataset.name}", has_passed=has_passed, actual=actual, needed=needed
    )


def _pin_of(dataset: Dataset, objects: ObjectStore) -> TablePin:
    tree = objects.read_tree(dataset.content)
    for entry in tree.entries:
        if "/" not in entry.path and is_pin(entry.path) and entry.digest is not None:
            return decode_pin(objects.read_bytes(entry.digest), entry.path)
    raise NotFoundError(
        f"dataset {dataset.name} has no pin", code="bad-table-pin", hint="stemma doctor"
    )
