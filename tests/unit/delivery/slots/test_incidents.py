"""Wrong here: what went wrong cannot be read afterwards, or fills the disk."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stemma.delivery.layout import ServeLayout
from stemma.delivery.slots.incidents import Incident, append_incident, read_incidents
from stemma.delivery.slots.sockets import socket_paths
from stemma.delivery.slots.statuses import read_statuses
from stemma.domain.errors import InvalidInputError

_ONE = Incident(
    at=datetime(2026, 1, 1, tzinfo=UTC), slot="digits-1.0.0-c1", replica=0, kind="crash", detail="0"
)


@pytest.fixture
def layout(tmp_path: Path) -> ServeLayout:
    """An empty serving folder."""
    return ServeLayout(state=tmp_path / ".stemma")


def test_the_newest_incidents_are_kept_and_the_file_stays_small(layout: ServeLayout) -> None:
    """A process that crashes for weeks would fill the disk."""
    for number in range(450):
        append_incident(layout, replace(_ONE, detail=str(number)))
    found = read_incidents(layout, limit=1000)
    assert len(found) <= 400
    assert found[-1] == replace(_ONE, detail="449")
    assert [i.detail for i in read_incidents(layout, limit=2)] == ["448", "449"]


def test_half_a_line_is_passed_over(layout: ServeLayout) -> None:
    """A power cut would hide every incident before it."""
    append_incident(layout, _ONE)
    with (layout.root / "incidents.jsonl").open("ab") as stream:
        stream.write(b'{"at": "2026-\n')
    assert read_incidents(layout) == (_ONE,)


def test_nothing_yet_reads_as_nothing(layout: ServeLayout) -> None:
    """``stemma status`` would fail before the first start."""
    assert read_incidents(layout) == ()
    assert read_statuses(layout) == {}


def test_sockets_of_a_long_name_still_fit(
    layout: ServeLayout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model with a long name could not be served."""
    paths = (*socket_paths(layout, "x" * 120, 2), *socket_paths(layout, "x" * 121, 2))
    assert len(set(paths)) == 4
    assert all(len(os.fsencode(path)) <= 107 for path in paths)
    shutil.rmtree(layout.sockets())
    deep = tmp_path / ("d" * 90)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    with pytest.raises(InvalidInputError, match="too long a name"):
        socket_paths(layout, "digits-1.0.0-c1", 1)
