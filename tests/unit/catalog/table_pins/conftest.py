"""Real tables of each format, written by the format's own library."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import deltalake
import lance
import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog

FIRST = pa.table({"id": [1, 2, 3], "price": [1.5, 2.5, 3.5], "name": ["a", "b", None]})
SECOND = pa.table({"id": [4], "price": [4.5], "name": ["d"]})


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder, and the current one."""
    folder = tmp_path / "project"
    (folder / ".stemma").mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


class Lake:
    """Tables of three formats under ``lake/``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "lake").mkdir()
        address = f"sqlite:///{folder}/lake/catalog.db"
        self.catalog = SqlCatalog("c", uri=address, warehouse=f"file://{folder}/lake")
        self.catalog.create_namespace("shop")
        self.iceberg = self.catalog.create_table("shop.sales", schema=FIRST.schema)

    def path(self, kind: str) -> Path:
        """Return a table's folder."""
        return self.folder / "lake" / ("shop/sales" if kind == "iceberg" else f"{kind}-sales")

    def append(self, kind: str, rows: pa.Table) -> None:
        """Add rows, and with them a snapshot."""
        if kind == "iceberg":
            self.iceberg.append(rows)
        elif kind == "lance":
            lance.write_dataset(rows, str(self.path(kind)), mode="append")
        else:
            deltalake.write_deltalake(str(self.path(kind)), rows, mode="append")

    def forget(self, kind: str) -> None:
        """Take every snapshot but the newest away, as a table's keeper would."""
        if kind == "iceberg":
            old = [item.snapshot_id for item in self.iceberg.snapshots()][:-1]
            self.iceberg.maintenance.expire_snapshots().by_ids(old).commit()
        elif kind == "lance":
            lance.dataset(str(self.path(kind))).optimize.compact_files()
            self.clean_lance()
        else:
            table: Any = deltalake.DeltaTable(str(self.path(kind)))
            table.optimize.compact()
            table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)

    def clean_lance(self) -> None:
        """Delete every Lance version but the newest."""
        lance.dataset(str(self.path("lance"))).cleanup_old_versions(
            older_than=timedelta(0), delete_unverified=True
        )

    def close(self) -> None:
        """Let the catalog's database go."""
        self.catalog.engine.dispose()


@pytest.fixture
def lake(project: Path) -> Any:
    """Three tables with one snapshot each."""
    made = Lake(project)
    lance.write_dataset(FIRST, str(made.path("lance")))
    made.append("iceberg", FIRST)
    made.append("delta", FIRST)
    yield made
    made.close()


@pytest.fixture
def second() -> pa.Table:
    """Rows of a second snapshot."""
    return SECOND
