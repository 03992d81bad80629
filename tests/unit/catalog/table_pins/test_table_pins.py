"""Wrong here: a version says it was trained on a table that nobody can read again."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stemma.catalog.capture.data import capture_dataset_path
from stemma.catalog.table_pins.formats import examine_table, pin_table, pinned_files
from stemma.catalog.table_pins.pin import decode_pin, encode_pin, read_pin
from stemma.domain.component import DatasetRole
from stemma.domain.errors import InvalidInputError, NotFoundError, StemmaError

pytestmark = pytest.mark.slow

KINDS = ("iceberg", "lance", "delta")


@pytest.mark.parametrize("kind", KINDS)
def test_a_pin_names_the_snapshot_and_outlives_later_ones(
    kind: str, lake: Any, second: Any, project: Path
) -> None:
    """Rows added after training would pass for rows trained on."""
    first = pin_table(str(lake.path(kind)), "", project)
    assert (first.format, first.row_count, len(first.files)) == (kind, 3, 1)
    assert [column.name for column in first.columns] == ["id", "price", "name"]
    assert not Path(first.location).is_absolute()
    assert decode_pin(encode_pin(first), "x") == first
    lake.append(kind, second)
    assert examine_table(first, project) == ""
    newest = pin_table(str(lake.path(kind)), "", project)
    assert (newest.row_count, len(newest.files)) == (4, 2)
    assert newest.canonical_digest != first.canonical_digest
    assert pin_table(str(lake.path(kind)), first.snapshot, project) == first


@pytest.mark.parametrize("kind", KINDS)
def test_a_snapshot_that_its_keeper_deleted_is_said(
    kind: str, lake: Any, second: Any, project: Path
) -> None:
    """A retraining would read other rows, or none, and nobody would have been told."""
    pinned = pin_table(str(lake.path(kind)), "", project)
    lake.append(kind, second)
    lake.forget(kind)
    try:
        said = examine_table(pinned, project)
    except StemmaError as error:
        said = error.message
    assert "gone" in said or "no snapshot" in said, said


@pytest.mark.parametrize("kind", KINDS)
def test_changed_bytes_and_missing_files_are_found(kind: str, lake: Any, project: Path) -> None:
    """A table that was overwritten in place would count as the one trained on."""
    pinned = pin_table(str(lake.path(kind)), "", project)
    for path in [item.path for item in (*pinned.anchors, *pinned.files)]:
        target = lake.path(kind) / path
        before = target.read_bytes()
        target.write_bytes(before + b"x")
        assert path in examine_table(pinned, project)
        target.unlink()
        assert path in examine_table(pinned, project)
        target.write_bytes(before)
    assert examine_table(pinned, project) == ""


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_snapshot_names_those_there_are(kind: str, lake: Any, project: Path) -> None:
    """A typing error would pin the newest, or end in another library's traceback."""
    with pytest.raises(NotFoundError, match="no snapshot 77") as caught:
        pin_table(str(lake.path(kind)), "77", project)
    assert caught.value.code == "snapshot-not-found"


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_table_is_one_clear_line(kind: str, lake: Any, project: Path) -> None:
    """The user would read a traceback of a library they did not call."""
    folders = {"iceberg": "metadata", "lance": "_versions", "delta": "_delta_log"}
    paths = sorted((lake.path(kind) / folders[kind]).iterdir())
    assert paths
    for garbage in (b"\x00garbage", b"{}", b"Obj\x01" + b"\x7f" * 50):
        for path in paths:
            before = path.read_bytes()
            path.write_bytes(garbage)
            said: list[StemmaError] = []
            try:
                pin_table(str(lake.path(kind)), "", project)
            except (InvalidInputError, NotFoundError) as error:
                said.append(error)
            path.write_bytes(before)
            for line in said:
                assert line.code in {"unreadable-table", "snapshot-not-found"}
                assert "\n" not in line.message
    assert pin_table(str(lake.path(kind)), "", project).row_count == 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_pin_is_a_dataset_and_its_identity_is_the_snapshot(
    kind: str, lake: Any, project: Path
) -> None:
    """Another location, or another checkout of the pin, would count as other data."""
    pinned = pin_table(str(lake.path(kind)), "", project)
    path = project / "sales.table.json"
    path.write_bytes(encode_pin(pinned))
    captured = capture_dataset_path("sales", path, DatasetRole.TRAINING)
    assert (captured.format, captured.row_count) == (kind, 3)
    assert captured.canonical_digest == pinned.canonical_digest
    assert [column.name for column in captured.columns] == ["id", "price", "name"]
    has_rows = any(name.endswith(".parquet") for name in captured.files)
    assert has_rows == (kind == "delta")
    moved = replace(pinned, location="elsewhere")
    assert moved.canonical_digest == pinned.canonical_digest


def test_a_delta_version_is_recorded_with_its_rows_or_not_at_all(lake: Any, project: Path) -> None:
    """Vacuum would take the rows of a recorded version away."""
    pinned = pin_table(str(lake.path("delta")), "", project)
    path = project / "sales.table.json"
    path.write_bytes(encode_pin(pinned))
    _, files = pinned_files(path)
    assert [file.read_bytes()[:4] for file in files.values()] == [b"PAR1"]
    shutil.rmtree(lake.path("delta"))
    with pytest.raises(InvalidInputError, match="is gone") as caught:
        pinned_files(path)
    assert caught.value.code == "table-changed"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"schema": "stemma.table/2"}',
        "\x00",
        '{"schema": "stemma.table/1"}',
        "[" * 9999,
    ],
)
def test_what_is_no_pin_is_refused(text: str, project: Path) -> None:
    """A broken merge of the pin would be recorded as a dataset."""
    path = project / "sales.table.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInputError) as caught:
        read_pin(path)
    assert caught.value.code == "bad-table-pin"


@pytest.mark.parametrize(
    "location", ["http://127.0.0.1:1/metadata/1.metadata.json", "ftp://host/x", "s3://a:b@c/d"]
)
def test_addresses_that_are_no_object_store_are_never_asked(location: str, project: Path) -> None:
    """A pin from somebody else's push would make this machine call any server."""
    with pytest.raises(InvalidInputError) as caught:
        pin_table(location, "", project)
    assert caught.value.code == "bad-table-location"


def test_a_pin_that_names_a_device_is_not_read_for_ever(lake: Any, project: Path) -> None:
    """A check of a pulled version would never end."""
    pinned = pin_table(str(lake.path("lance")), "", project)
    value = json.loads(encode_pin(pinned))
    value["anchors"] = [{"path": "/dev/zero", "sha256": "sha256:00"}]
    said = examine_table(decode_pin(json.dumps(value).encode(), "x"), project)
    assert "/dev/zero is gone" in said


def test_a_folder_that_is_no_table_is_said(project: Path) -> None:
    """The user would be told of a missing library instead."""
    with pytest.raises(InvalidInputError, match="is no Iceberg, Lance or Delta table"):
        pin_table(str(project), "", project)
