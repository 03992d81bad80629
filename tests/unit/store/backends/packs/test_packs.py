"""Packs: many small objects at the price of a few, and nothing lost or shown half by it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stemma.domain.errors import IntegrityError, NotFoundError
from stemma.store.backends.base import PackingBackend
from stemma.store.backends.local import LocalBackend
from stemma.store.backends.packs.layout import TRAILER_BYTES, digest

BLOBS = {f"frames/{n % 7:02x}/{n:04d}": bytes([n]) * (n * 37) for n in range(40)}
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.fixture
def backend(tmp_path: Path) -> LocalBackend:
    """Return a store of forty blobs in one pack."""
    backend = LocalBackend(tmp_path / "objects")
    assert backend.put_many(BLOBS) == BLOBS.keys()
    return backend


def _packs(backend: LocalBackend) -> list[Path]:
    return sorted(path for path in (backend.root / "packs").iterdir() if len(path.name) == 64)


def _pack(backend: LocalBackend) -> Path:
    (pack,) = _packs(backend)
    return pack


def _everything(backend: LocalBackend) -> dict[str, bytes]:
    return {stat.key: backend.get(stat.key) for stat in backend.list()}


def _change(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


def test_what_is_written_together_rests_in_one_file(backend: LocalBackend) -> None:
    """Thousands of small files would each cost the disk a sync."""
    assert isinstance(backend, PackingBackend)
    assert [path.name for path in _pack(backend).parent.iterdir() if path.name != "lock"] == [
        _pack(backend).name
    ]
    backend.put_many({"a/alone": b"1"})
    assert (backend.root / "a" / "alone").read_bytes() == b"1"
    assert _everything(LocalBackend(backend.root)) == BLOBS | {"a/alone": b"1"}


def test_what_is_known_is_not_packed_again(backend: LocalBackend) -> None:
    """Every push would store everything once more."""
    assert backend.put_many(BLOBS) == frozenset()
    assert not backend.put("frames/00/0007", b"other")
    assert len(_packs(backend)) == 1
    assert backend.put_many(BLOBS | {"a/1": b"1", "a/2": b"2"}) == {"a/1", "a/2"}
    assert _everything(backend) == BLOBS | {"a/1": b"1", "a/2": b"2"}


def test_a_loose_blob_is_preferred(backend: LocalBackend) -> None:
    """What was mended by hand would stay hidden behind the damaged copy."""
    path = backend.root / "frames" / "00" / "0007"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mended")
    assert backend.get("frames/00/0007") == b"mended"
    assert backend.size("frames/00/0007") == len(b"mended")
    listed = [stat.key for stat in backend.list()]
    assert listed == sorted(BLOBS)


def test_what_another_process_writes_and_removes_is_seen_at_once(tmp_path: Path) -> None:
    """A server that runs for weeks would rely on what a collection removed."""
    here, there = LocalBackend(tmp_path / "objects"), LocalBackend(tmp_path / "objects")
    for number in range(30):
        batch = {f"a/{number}-{n}": bytes([n]) for n in range(3)}
        assert here.put_many(batch) == batch.keys()
        assert all(there.get(key) == data for key, data in batch.items())
        there.delete_many([f"a/{number}-0"])
        assert not here.exists(f"a/{number}-0")
        assert here.put_many(batch) == {f"a/{number}-0"}
        assert there.exists(f"a/{number}-0")


def test_a_blob_that_was_deleted_may_be_written_again_with_other_bytes(
    backend: LocalBackend,
) -> None:
    """A damaged blob must give way to the right one, also when it is packed again."""
    backend.delete_many(BLOBS)
    assert _everything(backend) == {}
    again = {key: data + b"!" for key, data in BLOBS.items()}
    assert backend.put_many(again) == again.keys()
    assert _everything(LocalBackend(backend.root)) == again


def test_ages_survive_rewriting(backend: LocalBackend) -> None:
    """The grace period would start anew with every collection."""
    before = {stat.key: stat.modified_at for stat in backend.list()}
    backend.delete_many(list(BLOBS)[20:])
    report = backend.tidy()
    assert report.rewritten == 1
    assert report.freed_bytes > 0
    after = {stat.key: stat.modified_at for stat in backend.list()}
    assert after == {key: before[key] for key in list(BLOBS)[:20]}


def test_a_pack_is_rewritten_when_enough_of_it_is_gone(backend: LocalBackend) -> None:
    """Collection would free nothing, or copy everything each time."""
    pack = _pack(backend)
    backend.delete_many(list(BLOBS)[:12])  # many, and small
    assert backend.tidy().rewritten == 0
    assert _packs(backend) == [pack]
    backend.delete_many(list(BLOBS)[-9:])
    assert backend.tidy().rewritten == 1
    assert _pack(backend) != pack
    assert _everything(backend) == {key: BLOBS[key] for key in list(BLOBS)[12:-9]}
    backend.delete_many(BLOBS)
    assert _packs(backend) == []
    assert [path.name for path in (backend.root / "packs").iterdir()] == ["lock"]


def test_many_small_packs_are_merged(tmp_path: Path) -> None:
    """Every add leaves a pack; thousands of them would make opening slow."""
    backend = LocalBackend(tmp_path / "objects")
    blobs: dict[str, bytes] = {}
    for number in range(34):
        batch = {f"a/{number:02d}-{n}": bytes([n]) * 10 for n in range(3)}
        backend.put_many(batch)
        blobs |= batch
        if number == 20:
            assert backend.tidy().rewritten == 0
    other = LocalBackend(tmp_path / "objects")
    assert other.get("a/00-1") == blobs["a/00-1"]
    assert backend.tidy().rewritten == 34
    assert len(_packs(backend)) == 1
    assert _everything(other) == blobs


def test_the_trash_of_a_pack_outlives_rewriting(backend: LocalBackend) -> None:
    """What may be brought back for a week would be gone with the next collection."""
    keys = list(BLOBS)
    backend.trash.take(keys[:5], NOW)
    backend.delete_many(keys[10:])
    assert backend.tidy().rewritten == 1
    assert sorted(_everything(backend)) == sorted(keys[5:10])
    trashed = list(backend.trash.list())
    assert [(blob.key, blob.trashed_at) for blob in trashed] == [(k, NOW) for k in sorted(keys[:5])]
    assert [backend.trash.read(blob) for blob in trashed] == [BLOBS[blob.key] for blob in trashed]
    backend.trash.remove(trashed[:1])
    backend.trash.give_back(trashed[1:])
    assert list(backend.trash.list()) == []
    assert sorted(_everything(backend)) == sorted({*keys[:10]} - {trashed[0].key})
    with pytest.raises(NotFoundError):
        backend.trash.read(trashed[0])
    ages = [stat.modified_at for stat in backend.list() if stat.key in keys[:5]]
    assert min(ages) > datetime.now(UTC) - timedelta(minutes=1)


def test_every_flipped_bit_beside_the_blobs_is_found_and_mended(backend: LocalBackend) -> None:
    """A table that rotted would hide what is whole."""
    backend.delete("frames/00/0007")
    pack = _pack(backend)
    sound = pack.read_bytes()
    bodies = _bodies(pack)
    for at in [n for n in range(len(sound)) if not any(a <= n < b for a, b in bodies)][::17]:
        broken = bytearray(sound)
        broken[at] ^= 1 << (at % 8)
        _change(pack, bytes(broken))
        fresh = LocalBackend(backend.root)
        assert [damage.key for damage in fresh.damages()] == [f"packs/{pack.name}"], at
        assert len(_everything(fresh)) == len(BLOBS) - 1, at
    assert fresh.mend() == (f"packs/{pack.name}",)
    assert list(fresh.damages()) == []
    expected = {key: data for key, data in BLOBS.items() if key != "frames/00/0007"}
    assert _everything(fresh) == _everything(LocalBackend(backend.root)) == expected
    fresh.delete("frames/00/0014")
    sidecar = backend.root / "packs" / (_pack(backend).name + ".dead")
    marks = sidecar.read_bytes()
    for at in range(0, len(marks), 7):
        _change(sidecar, marks[:at] + bytes([marks[at] ^ 4]) + marks[at + 1 :])
        fresh = LocalBackend(backend.root)
        assert [damage.key for damage in fresh.damages()] == [f"packs/{sidecar.name}"]
        assert _everything(fresh) == expected
    assert fresh.mend() == (f"packs/{sidecar.name}",)
    assert list(fresh.damages()) == []


def _bodies(pack: Path) -> list[tuple[int, int]]:
    data = pack.read_bytes()
    found = []
    for key, body in BLOBS.items():
        at = data.index(b"STME" + len(key).to_bytes(2, "little"))
        while data[at + 32 : at + 32 + len(key)] != key.encode():
            at = data.index(b"STME" + len(key).to_bytes(2, "little"), at + 1)
        found.append((at + 32 + len(key), at + 32 + len(key) + len(body)))
    return found


def test_of_a_pack_that_is_cut_off_the_whole_blobs_are_read(backend: LocalBackend) -> None:
    """A file system that lost the end of a file would take everything with it."""
    pack = _pack(backend)
    sound = pack.read_bytes()
    for size_bytes in (0, 1, 23, 24, 500, len(sound) // 2, len(sound) - TRAILER_BYTES):
        _change(pack, sound[:size_bytes])
        fresh = LocalBackend(backend.root)
        assert [damage.kind for damage in fresh.damages()] == ["pack-damaged"]
        kept = _everything(fresh)
        assert kept == {key: data for key, data in BLOBS.items() if key in kept}
    assert kept == BLOBS


def test_a_pack_of_a_later_version_is_refused_by_name(backend: LocalBackend) -> None:
    """An old program would take its blobs for lost, or mend it to death."""
    pack = _pack(backend)
    data = bytearray(pack.read_bytes())
    data[-TRAILER_BYTES + 4] = 2
    name = digest(bytes(data[-TRAILER_BYTES:-32]))
    (pack.parent / name.hex()).write_bytes(data[:-32] + name)
    pack.unlink()
    with pytest.raises(IntegrityError) as caught:
        LocalBackend(backend.root).get("frames/00/0007")
    assert caught.value.code == "pack-of-later-version"
    (pack.parent / name.hex()).unlink()


def test_foreign_files_among_packs_are_listed(backend: LocalBackend) -> None:
    """Whoever verifies must hear of what does not belong there."""
    (backend.root / "packs" / "note.txt").write_text("hi")
    assert "packs/note.txt" in [stat.key for stat in backend.list()]


def test_reading_writes_nothing_and_leaves_no_file_open(backend: LocalBackend) -> None:
    """A read-only copy must be readable, and a server must not run out of files."""
    before = sorted((backend.root / "packs").iterdir())
    reader = LocalBackend(backend.root)
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    assert _everything(reader) == BLOBS
    assert len(list(Path("/proc/self/fd").iterdir())) == open_before
    assert sorted((backend.root / "packs").iterdir()) == before


def test_a_crash_at_any_step_of_tidying_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The power fails while packs are rewritten: everything is there, and nothing is back."""
    calls = ("link", "unlink", "rename", "fsync")
    for dies_at in range(1, 40):
        backend = LocalBackend(tmp_path / str(dies_at))
        backend.put_many(BLOBS)
        backend.trash.take(list(BLOBS)[:3], NOW)
        backend.delete_many(list(BLOBS)[20:])
        expected = {key: BLOBS[key] for key in list(BLOBS)[3:20]}
        with monkeypatch.context() as patch:
            countdown = _Countdown(dies_at)
            for name in calls:
                patch.setattr(os, name, countdown.before(getattr(os, name)))
            with suppress(_PowerCutError):
                backend.tidy()
            is_over = countdown.left > 0
        after = LocalBackend(backend.root)
        assert _everything(after) == expected, dies_at
        assert {blob.key for blob in after.trash.list()} == set(list(BLOBS)[:3]), dies_at
        after.tidy()
        assert _everything(after) == expected, dies_at
        assert list(after.damages()) == []
        if is_over:
            return
    pytest.fail("tidying has more steps than were tried")


class _PowerCutError(Exception):
    """The end of the process."""


class _Countdown:
    """Ends the process before a call, and lets nothing happen afterwards."""

    def __init__(self, left: int) -> None:
        self.left = left

    def before(self, call: Callable[..., object]) -> Callable[..., object]:
        """Wrap a call of the system."""

        def counted(*arguments: object, **named: object) -> object:
            self.left -= 1
            if self.left <= 0:
                raise _PowerCutError
            return call(*arguments, **named)

        return counted


def test_threads_write_and_read_at_once(tmp_path: Path) -> None:
    """A push copies with several threads."""
    backend = LocalBackend(tmp_path / "objects")
    failures: list[str] = []

    def work(worker: int) -> None:
        for number in range(6):
            batch = {f"a/{worker}-{number}-{n}": bytes([n]) * 9 for n in range(5)}
            created = backend.put_many(batch)
            if created != batch.keys() or any(backend.get(k) != v for k, v in batch.items()):
                failures.append(f"{worker}-{number}")

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(_everything(LocalBackend(backend.root))) == 6 * 6 * 5


WRITER = """
import sys
from pathlib import Path
from stemma.store.backends.local import LocalBackend
backend, worker = LocalBackend(Path(sys.argv[1])), sys.argv[2]
for number in range(10):
    backend.put_many({f"a/{worker}-{number}-{n}": bytes([n]) for n in range(5)})
    backend.put_many({f"a/shared-{number}-{n}": bytes([n]) for n in range(5)})
    backend.delete_many([f"a/{worker}-{number}-0"])
backend.close()
"""


@pytest.mark.slow
def test_processes_write_and_delete_at_once(tmp_path: Path) -> None:
    """Eight trainings that end together must lose nothing."""
    objects = tmp_path / "objects"
    workers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(objects), str(worker)])
        for worker in range(4)
    ]
    assert [worker.wait() for worker in workers] == [0] * 4
    backend = LocalBackend(tmp_path / "objects")
    expected = {f"a/{w}-{b}-{n}" for w in range(4) for b in range(10) for n in range(1, 5)}
    expected |= {f"a/shared-{b}-{n}" for b in range(10) for n in range(5)}
    assert {stat.key for stat in backend.list()} == expected
    assert list(backend.damages()) == []
