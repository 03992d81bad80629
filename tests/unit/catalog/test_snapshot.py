"""The head snapshot is believed only when it is whole and fresh."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from blake3 import blake3

from stemma.catalog.snapshot import (
    HEAD_NAME,
    CandidateHead,
    FileStamp,
    Head,
    ModelHead,
    changed_files,
    digest_file,
    read_head,
    stamp_file,
    stamp_sources,
    write_head,
)

MODEL = ModelHead(
    version="1.0.0",
    level="major",
    run="r-1",
    newest_run="r-2",
    newest_state="finished",
    failure="",
    channels={"stable": "1.0.0"},
    versions=["1.0.0"],
    python="3.11.7",
    command=["python", "train.py"],
    summaries={"artifact": "model.skops"},
    files={"pipeline": {"train.py": FileStamp(1, 2, "ff")}},
    candidate=CandidateHead(run="r-2", python="3.11.7", files={"a": FileStamp(1, 2, "ff")}),
)
HEAD = Head(
    models={"digits": MODEL},
    tracked={"data": {"data/a": FileStamp(1, 2, "ff")}},
    unreadable={"other": "its content is not here"},
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a project with a database."""
    (tmp_path / ".stemma").mkdir()
    (tmp_path / ".stemma" / "stemma.db").write_bytes(b"rows")
    return tmp_path


def _write(root: Path, head: object = HEAD) -> None:
    write_head(root / ".stemma", cast("Head", head), stamp_sources(root))


def _read(root: Path) -> Head | None:
    return read_head(root / ".stemma", stamp_sources(root))


def test_what_was_written_is_read_back(root: Path) -> None:
    """`status` would open the database each time."""
    _write(root)
    assert _read(root) == json.loads(json.dumps(HEAD))
    assert os.listdir(root / ".stemma" / "cache") == ["head.json"]  # noqa: PTH208 - names only


def test_a_missing_snapshot_is_no_snapshot(root: Path) -> None:
    """The first `status` would fail."""
    assert _read(root) is None


def test_a_flipped_bit_is_never_believed(root: Path) -> None:
    """`status` would say `same` about a file that changed."""
    _write(root)
    file = root / ".stemma" / HEAD_NAME
    data = bytearray(file.read_bytes())
    for index in range(0, len(data), 7):
        flipped = bytearray(data)
        flipped[index] ^= 0x10
        file.write_bytes(flipped)
        assert _read(root) is None


def _damaged_heads() -> Iterator[object]:
    plain = json.loads(json.dumps(HEAD))
    model, candidate = plain["models"]["digits"], plain["models"]["digits"]["candidate"]
    yield from (None, [], 1, {}, {**plain, "models": []}, {**plain, "unreadable": {"a": 1}})
    yield from ({key: plain[key] for key in plain if key != name} for name in plain)
    yield {**plain, "more": 1}
    yield {**plain, "tracked": {"data": {"a": [1, 2]}}}
    yield {**plain, "tracked": {"data": {"a": [1, "2", "ff"]}}}
    yield {**plain, "tracked": {"data": []}}
    for name in model:
        less = {key: value for key, value in model.items() if key != name}
        for other in (less, {**model, name: 1}, {**model, "more": ""}):
            yield {**plain, "models": {"digits": other}}
    for name in candidate:
        less = {key: value for key, value in candidate.items() if key != name}
        for other in (less, {**candidate, name: 1}, {**candidate, "more": ""}):
            yield {**plain, "models": {"digits": {**model, "candidate": other}}}
    for name in ("channels", "versions", "command", "summaries"):
        wrong = {"a": 1} if isinstance(model[name], dict) else [1]
        yield {**plain, "models": {"digits": {**model, name: wrong}}}
    yield {**plain, "models": {"digits": {**model, "files": {"pipeline": 1}}}}


@pytest.mark.parametrize("damaged", list(_damaged_heads()))
def test_a_head_of_another_shape_is_no_head(root: Path, damaged: object) -> None:
    """After an upgrade every `status` would end in a traceback."""
    _write(root, damaged)
    assert _read(root) is None


def test_a_head_of_another_build_is_no_head(root: Path) -> None:
    """After an upgrade `status` would believe fields that mean something else."""
    for text in ("", "not json", "[]", "{}", json.dumps({"schema": "stemma.head/1", "head": {}})):
        (root / ".stemma" / "cache").mkdir(exist_ok=True)
        checksum = blake3(text.encode()).hexdigest()
        (root / ".stemma" / HEAD_NAME).write_text(f"{checksum}\n{text}")
        assert _read(root) is None


def test_a_model_without_candidate_is_whole(root: Path) -> None:
    """`status` would open the database each time once everything is released."""
    _write(root, Head(models={"digits": {**MODEL, "candidate": None}}, tracked={}, unreadable={}))
    assert _read(root) is not None


def test_a_commit_since_then_makes_it_stale(root: Path) -> None:
    """`status` would not know the newest release."""
    _write(root)
    (root / ".stemma" / "stemma.db-wal").write_bytes(b"")
    assert _read(root) is not None, "an empty log holds no commit"
    (root / ".stemma" / "stemma.db-wal").write_bytes(b"new")
    assert _read(root) is None


@pytest.mark.parametrize("change", ["new", "edited", "removed"])
def test_a_pointer_that_git_brings_makes_it_stale(root: Path, change: str) -> None:
    """Data of a colleague would not be missed."""
    (root / "data").mkdir()
    pointer = root / "data" / "a.csv.stemma"
    pointer.write_text("old")
    _write(root)
    assert _read(root) is not None
    match change:
        case "new":
            (root / "data" / "b.csv.stemma").write_text("new")
        case "edited":
            pointer.write_text("longer than before")
        case "removed":
            pointer.unlink()
    assert _read(root) is None


def test_a_settings_file_that_changed_makes_it_stale(root: Path) -> None:
    """`status` would go on answering from a database that is no longer the project's."""
    settings = [root / "stemma.toml"]
    write_head(root / ".stemma", HEAD, stamp_sources(root, settings))
    assert read_head(root / ".stemma", stamp_sources(root, settings)) is not None
    settings[0].write_text("database = 'postgresql://elsewhere/stemma'")
    assert read_head(root / ".stemma", stamp_sources(root, settings)) is None


def test_without_a_database_it_is_not_believed(root: Path) -> None:
    """A project on another database would show old heads for ever."""
    (root / ".stemma" / "stemma.db").unlink()
    _write(root)
    assert _read(root) is None


def test_files_that_changed_or_are_missing_are_named(tmp_path: Path) -> None:
    """A changed script would be released as what was trained."""
    for name in ("same", "touched", "edited"):
        (tmp_path / name).write_text(name)
    files = {
        name: stamp_file(tmp_path / name, len(name), digest_file(tmp_path / name))
        for name in ("same", "touched", "edited")
    }
    files["gone"] = FileStamp(1, 1, "00")
    os.utime(tmp_path / "touched", ns=(1, 1))
    (tmp_path / "edited").write_text("EDITED")
    os.utime(tmp_path / "edited", ns=(1, 1))
    assert list(changed_files(tmp_path, files)) == [("edited", "changed"), ("gone", "missing")]


def test_a_file_that_differs_when_it_is_stamped_is_read_again(tmp_path: Path) -> None:
    """An edit made before the first `status` would never be seen."""
    (tmp_path / "a").write_text("new")
    stamp = stamp_file(tmp_path / "a", 3, "00")
    assert stamp.modified_ns == 0
    assert list(changed_files(tmp_path, {"a": stamp})) == [("a", "changed")]
