"""A checkout that is refused half-way leaves everything as it was."""

from __future__ import annotations

from typing import Any

import pytest

from stemma.testing.loose_objects import make_loose

pytestmark = pytest.mark.slow


_SCRIPT = """\
import pathlib, random
import stemma

with stemma.run("big") as run:
    pathlib.Path("big.bin").write_bytes(random.Random(1).randbytes(2 << 20))
    run.model("big.bin")
"""


@pytest.fixture
def damaged(place: Any) -> Any:
    """Return the project with a version whose artifact is damaged and whose code is whole."""
    trained = place.python(_SCRIPT)
    assert trained.returncode == 0, trained.stderr
    make_loose(place.folder / ".stemma/objects")
    objects = (place.folder / ".stemma/objects").rglob("*")
    path = max((path for path in objects if path.is_file()), key=lambda path: path.stat().st_size)
    data = bytearray(path.read_bytes())
    assert len(data) > 1 << 19, "the artifact's bytes are in it"
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    return place


@pytest.mark.parametrize("target", [None, "out", "deep/er/out"])
def test_nothing_is_left_of_a_checkout_that_was_refused(damaged: Any, target: str | None) -> None:
    """A folder with empty or missing parts would look like the version."""
    before = sorted(damaged.folder.rglob("*"))
    where = ["--to", target] if target else []
    answer = damaged.stemma("checkout", damaged.runs()[0].id, *where)
    assert answer.returncode == 1
    assert "damaged" in answer.stderr
    assert sorted(damaged.folder.rglob("*")) == before


def test_a_folder_that_is_there_keeps_what_it_holds(damaged: Any) -> None:
    """A refused checkout would mix two versions."""
    damaged.write("out/mine.txt", "mine")
    checkout = ("checkout", damaged.runs()[0].id, "--to", "out")
    assert damaged.stemma(*checkout, "--only", "params").returncode == 0
    before = damaged.digest()
    assert damaged.stemma(*checkout).returncode == 1
    assert damaged.digest() == before
    assert damaged.stemma(*checkout, "--only", "code").returncode == 0
    assert (damaged.folder / "out/code/script.py").read_text() == _SCRIPT
    assert (damaged.folder / "out/mine.txt").read_text() == "mine"
