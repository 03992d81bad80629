"""What is only tracked travels through a remote and comes back into the working tree."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, MutableSequence
from contextlib import closing
from pathlib import Path

import pytest
from typing_extensions import override

from stemma.catalog.pointers import Pointer, pointer_path, read_pointer, write_pointer
from stemma.cli.tracked_paths import tracked_paths
from stemma.cli.transfer_cards import standing_row
from stemma.domain.errors import NotFoundError
from stemma.hub.local import LocalHub
from stemma.hub.remotes import TransferOutcome, TransferRequest
from stemma.hub.tracked_copy import Journey, Noted, TrackedCopy
from stemma.server.wiring import init_project, open_hub
from stemma.store.backends.base import BlobStat
from stemma.store.backends.local import LocalBackend
from stemma.store.backends.memory import MemoryBackend
from stemma.store.keys import recipe_key
from stemma.store.remote_index import RemoteIndex
from stemma.store.sides import LocalFrames, Side
from stemma.store.transfer import Transfer

pytestmark = pytest.mark.slow


def _hub(folder: Path, remote: Path) -> LocalHub:
    folder.mkdir(exist_ok=True)
    init_project(folder)
    hub = open_hub(folder)
    assert isinstance(hub, LocalHub)
    hub.add_remote("origin", str(remote))
    return hub


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """Return an empty folder that is the remote."""
    folder = tmp_path / "shared"
    folder.mkdir()
    return folder


@pytest.fixture
def here(tmp_path: Path, remote: Path) -> Iterator[LocalHub]:
    """Return a project that tracks a file and a folder."""
    with closing(_hub(tmp_path / "here", remote)) as hub:
        _track(hub, "data/train.csv", {"data/train.csv": b"1,2\n" * 9_000})
        files = {f"data/images/a/{number}.bin": bytes([number]) * 3_000 for number in range(5)}
        _track(hub, "data/images", files)
        yield hub


@pytest.fixture
def there(here: LocalHub, tmp_path: Path, remote: Path) -> Iterator[LocalHub]:
    """Return a project elsewhere with the same pointers and no contents, as a clone has."""
    with closing(_hub(tmp_path / "there", remote)) as hub:
        (hub.project_root / "data").mkdir()
        for name in ("data/train.csv.stemma", "data/images.stemma"):
            (hub.project_root / name).write_bytes((here.project_root / name).read_bytes())
        yield hub


def _track(hub: LocalHub, path: str, files: Mapping[str, bytes]) -> Pointer:
    """Write files and track them as ``stemma add`` does."""
    root = hub.project_root
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    target = root / path
    kind = "folder" if target.is_dir() else "file"
    base = target if kind == "folder" else target.parent
    names = [(root / name).relative_to(base).as_posix() for name in files]
    tree = hub.objects.put_tree(base, names)
    hub.track(path, tree.digest)
    pointer = Pointer(kind=kind, size_bytes=tree.size_bytes, content=tree.digest)
    write_pointer(target, pointer)
    return pointer


def _files(root: Path) -> dict[str, bytes]:
    found = (path for path in (root / "data").rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found}


def _codes(outcome: TransferOutcome) -> dict[str, str]:
    return {refusal.what: refusal.code for refusal in outcome.refused}


def test_what_is_tracked_comes_back_elsewhere_byte_for_byte(
    here: LocalHub, there: LocalHub
) -> None:
    """A clone would hold pointers to data that nobody can get."""
    sent = here.push(TransferRequest())
    assert {item.path for item in sent.tracked} == {"data/train.csv", "data/images"}
    assert sent.copied_bytes > 0
    came = there.pull(TransferRequest())
    assert came.refused == ()
    assert {item.path: item.written_count for item in came.tracked} == {
        "data/images": 5,
        "data/train.csv": 1,
    }
    assert _files(there.project_root) == _files(here.project_root)
    again = there.pull(TransferRequest())
    assert (again.tracked, again.copied_bytes) == ((), 0)


def test_one_path_goes_and_comes_alone(here: LocalHub, there: LocalHub) -> None:
    """Somebody who needs a table would have to fetch every image."""
    asked = TransferRequest(paths=("data/train.csv",))
    assert [item.path for item in here.push(asked).tracked] == ["data/train.csv"]
    assert [item.path for item in there.pull(asked).tracked] == ["data/train.csv"]
    assert not (there.project_root / "data/images").exists()
    left = there.pull(TransferRequest())
    assert _codes(left) == {"data/images": "tracked-nowhere"}


def test_what_is_stored_here_needs_no_remote(here: LocalHub, remote: Path) -> None:
    """A file deleted by accident could not be brought back on a train."""
    remote.rmdir()
    path = here.project_root / "data/train.csv"
    before = path.read_bytes()
    path.unlink()
    (here.project_root / "data/images/a/3.bin").unlink()
    here.pull(TransferRequest(paths=("data/train.csv", "data/images")))
    assert path.read_bytes() == before
    assert (here.project_root / "data/images/a/3.bin").read_bytes() == b"\3" * 3_000


def test_a_file_that_differs_is_left_unless_forced(here: LocalHub) -> None:
    """Work that was not added yet would be overwritten."""
    root = here.project_root
    before = _files(root)
    (root / "data/train.csv").write_bytes(b"mine")
    (root / "data/images/a/0.bin").write_bytes(b"mine")
    (root / "data/images/a/1.bin").unlink()
    changed = _files(root)
    asked = TransferRequest(paths=("data/train.csv", "data/images"))
    left = here.pull(asked)
    assert _files(root) == changed
    assert all("differs" in item.note and item.hint for item in left.tracked)
    here.pull(TransferRequest(paths=asked.paths, is_forced=True))
    assert _files(root) == before


def test_nothing_is_written_through_a_link(here: LocalHub, tmp_path: Path) -> None:
    """A file outside of the project would be replaced."""
    outside = tmp_path / "outside"
    (here.project_root / "data/images/a").rename(outside)
    (here.project_root / "data/images/a").symlink_to(outside)
    (outside / "0.bin").unlink()
    here.pull(TransferRequest(paths=("data/images",)))
    assert not (outside / "0.bin").exists()


def test_a_push_says_which_content_is_nowhere(here: LocalHub, there: LocalHub) -> None:
    """A colleague would learn much later that the data never left this machine."""
    assert _codes(there.push(TransferRequest())) == {
        "data/images": "tracked-nowhere",
        "data/train.csv": "tracked-nowhere",
    }
    here.push(TransferRequest())
    known = there.push(TransferRequest())
    assert known.refused == ()
    assert all("origin has it" in item.note for item in known.tracked)


def test_damage_on_the_remote_keeps_back_one_path_alone(
    here: LocalHub, there: LocalHub, remote: Path
) -> None:
    """One flipped bit would keep everybody from every data set, or be written as data."""
    here.push(TransferRequest(paths=("data/train.csv",)))
    backend = LocalBackend(remote)
    for key in [stat.key for stat in backend.list("frames/")]:
        data = bytearray(backend.get(key))
        data[len(data) // 2] ^= 1
        backend.delete(key)
        backend.put(key, bytes(data))
    here.push(TransferRequest(paths=("data/images",)))
    came = there.pull(TransferRequest())
    assert list(_codes(came)) == ["data/train.csv"]
    assert not (there.project_root / "data/train.csv").exists()
    assert (there.project_root / "data/images/a/4.bin").read_bytes() == b"\4" * 3_000


def test_what_was_pulled_survives_a_collection(here: LocalHub, there: LocalHub) -> None:
    """The data would be gone from the store a day after it came."""
    here.push(TransferRequest())
    there.pull(TransferRequest())
    there.collect_garbage(is_dry_run=False, grace_seconds=0, is_final=True)
    (there.project_root / "data/train.csv").unlink()
    there.pull(TransferRequest(paths=("data/train.csv",)))
    assert (there.project_root / "data/train.csv").exists()


def test_a_dry_run_copies_and_writes_nothing(here: LocalHub, there: LocalHub, remote: Path) -> None:
    """Somebody who only asked would wait for gigabytes."""
    said = here.push(TransferRequest(is_dry_run=True))
    assert len(said.tracked) == 2
    assert not list(LocalBackend(remote).list())
    here.push(TransferRequest())
    before = _files(there.project_root)
    assert len(there.pull(TransferRequest(is_dry_run=True)).tracked) == 2
    assert _files(there.project_root) == before


class _Counted(MemoryBackend):  # type: ignore[misc]  # all of it, and a count
    """Counts what a remote would be asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: MutableSequence[str] = []

    @override
    def get(self, key: str) -> bytes:
        self.asked.append(f"get {key}")
        return super().get(key)

    @override
    def exists(self, key: str) -> bool:
        self.asked.append(f"exists {key}")
        return super().exists(key)

    @override
    def list(self, prefix: str = "") -> Iterator[BlobStat]:
        self.asked.append(f"list {prefix}")
        return super().list(prefix)


def test_a_second_push_asks_once_for_each_path(here: LocalHub) -> None:
    """Every push would read the remote as if it knew nothing of it."""
    objects = here.objects
    backend = _Counted()

    def push() -> int:
        near = Side(
            name="here",
            backend=objects.backend,
            frames=LocalFrames(objects.backend, objects.index),
            reader=objects.reader,
        )
        far = Side(name="far", backend=backend, frames=RemoteIndex(backend))
        journey = Journey(transfer=Transfer(near, far), remote=far, noted=Noted())
        tracked = TrackedCopy(here.parts, TransferRequest())
        tracked.plan_push(journey)
        tracked.copy(journey)
        return journey.noted.copied_bytes

    assert push() > 0
    backend.asked.clear()
    assert push() == 0
    assert [line.split("/")[0] for line in backend.asked] == ["exists trees", "exists trees"]


def test_a_path_is_told_from_a_ref(here: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model's name would be taken for a file, or a file for a model."""
    monkeypatch.chdir(here.project_root / "data")
    assert tracked_paths(here, "train.csv") == ("data/train.csv",)
    assert tracked_paths(here, "train.csv.stemma") == ("data/train.csv",)
    assert tracked_paths(here, "./") == ("data/images", "data/train.csv")
    for ref in ("", "digits", "digits@1.0.0", "s3://bucket/prefix", "other.csv"):
        assert tracked_paths(here, ref) == ()


def test_a_path_without_a_pointer_is_an_error(here: LocalHub) -> None:
    """Nothing would be pulled, and nothing said."""
    with pytest.raises(NotFoundError, match=r"no pointer .*other\.csv\.stemma"):
        here.pull(TransferRequest(paths=("other.csv",)))


def test_a_clone_gets_its_data_with_two_commands(here: LocalHub, tmp_path: Path) -> None:
    """The settings or the pointers would not be in git, and the way back not known."""
    root = here.project_root
    here.push(TransferRequest())
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@localhost"]
    for command in (["init", "-q"], ["add", "*.stemma", "stemma.toml"], ["commit", "-qm", "x"]):
        subprocess.run([*git, *command], cwd=root, check=True)
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(root), str(clone)], check=True)
    init_project(clone)
    with closing(open_hub(clone)) as hub:
        assert isinstance(hub, LocalHub)
        assert hub.pull(TransferRequest()).refused == ()
    assert _files(clone) == _files(root)
    assert pointer_path(clone / "data/images").exists()


def test_doctor_in_a_clone_says_that_a_pull_helps(there: LocalHub) -> None:
    """A colleague without the data would be told to add it."""
    fixes = [finding.fix for finding in there.doctor().findings]
    assert len(fixes) == 2
    assert all(fix.startswith("stemma pull data/") for fix in fixes)


def test_a_repair_mends_what_is_tracked_and_leaves_what_is_sound(
    here: LocalHub, remote: Path
) -> None:
    """A flipped bit in data that no release names could not be mended from the remote."""
    here.push(TransferRequest(paths=("data/train.csv",)))
    content = read_pointer(here.project_root / "data/train.csv.stemma").content
    (entry,) = here.objects.read_tree(content).entries
    assert entry.digest is not None
    key = recipe_key(entry.digest)
    here.objects.backend.delete(key)
    assert here.pull(TransferRequest(is_repair=True)).refused == ()
    assert here.objects.backend.exists(key)
    assert here.doctor().is_healthy
    LocalBackend(remote).delete(key)
    assert here.push(TransferRequest(is_repair=True)).refused == ()
    assert LocalBackend(remote).exists(key)


def test_a_pointer_that_lies_about_its_kind_is_refused(here: LocalHub) -> None:
    """Somebody's pointer could stop every pull with a traceback."""
    root = here.project_root
    content = read_pointer(root / "data/images.stemma").content
    write_pointer(root / "other", Pointer(kind="file", size_bytes=15_000, content=content))
    came = here.pull(TransferRequest(paths=("other",)))
    assert _codes(came) == {"other": "pointer-damaged"}
    assert not (root / "other").exists()


def _newer(here: LocalHub, there: LocalHub) -> dict[str, bytes]:
    """Change, add and remove files here, push, and bring the pointers over as git does."""
    root = here.project_root
    here.push(TransferRequest())
    there.pull(TransferRequest())
    (root / "data/images/a/4.bin").unlink()
    files = {f"data/images/a/{number}.bin": bytes([number]) * 3_000 for number in range(1, 4)}
    files |= {"data/images/a/0.bin": b"new", "data/images/b/5.bin": b"5" * 10}
    _track(here, "data/images", files)
    _track(here, "data/train.csv", {"data/train.csv": b"1,3\n" * 9_000})
    assert not (root / "data/images/a/4.bin").exists()
    here.push(TransferRequest())
    for name in ("data/train.csv.stemma", "data/images.stemma"):
        (there.project_root / name).write_bytes((root / name).read_bytes())
    return _files(root)


def test_unchanged_data_follows_its_pointer(here: LocalHub, there: LocalHub) -> None:
    """After every `git pull` data would need --force, which replaces work as well."""
    root = there.project_root
    old = _files(here.project_root)
    new = _newer(here, there)
    for files in (new, old, new):  # the last two as after `git switch`: all of it is stored here
        for name in ("data/train.csv.stemma", "data/images.stemma"):
            (root / name).write_bytes(files[name])
        came = there.pull(TransferRequest())
        assert [item.note for item in came.tracked] == ["", ""]
        assert _files(root) == files
        assert there.pull(TransferRequest()).tracked == ()


@pytest.mark.parametrize("name", ["data/images/a/0.bin", "data/images/a/4.bin"])
def test_changed_data_does_not_follow_its_pointer(
    here: LocalHub, there: LocalHub, name: str
) -> None:
    """Work that was not added yet would be overwritten, or removed, by somebody's newer data."""
    new = _newer(here, there)
    (there.project_root / name).write_bytes(b"mine")
    before = _files(there.project_root)
    came = there.pull(TransferRequest())
    assert [bool(item.note) for item in came.tracked] == [True, False]
    assert _files(there.project_root) == {**before, "data/train.csv": new["data/train.csv"]}
    # Back as it was, it is unchanged again.
    (there.project_root / name).write_bytes(bytes([int(name[-5])]) * 3_000)
    there.pull(TransferRequest())
    assert _files(there.project_root) == new


def test_a_pull_that_was_cut_off_between_files_goes_on(here: LocalHub, there: LocalHub) -> None:
    """Half of a folder would be new, and all of it refused from then on."""
    new = _newer(here, there)
    (there.project_root / "data/images/a/0.bin").write_bytes(b"new")
    there.pull(TransferRequest())
    assert _files(there.project_root) == new


def test_files_that_nobody_tracked_stay(here: LocalHub, there: LocalHub) -> None:
    """Notes beside the images would be gone with the first newer version."""
    new = _newer(here, there)
    (there.project_root / "data/images/mine.txt").write_text("mine", encoding="utf-8")
    there.pull(TransferRequest())
    assert _files(there.project_root) == {**new, "data/images/mine.txt": b"mine"}


def test_status_knows_which_tracked_data_never_left(here: LocalHub, there: LocalHub) -> None:
    """`remote same` would be believed, and the only copy of the data lost with this disk."""

    def ahead(hub: LocalHub) -> list[int]:
        return [standing.tracked_ahead for standing in hub.list_standings()]

    here.push(TransferRequest(paths=("data/train.csv",)))
    assert ahead(here) == []
    here.push(TransferRequest())
    assert ahead(here) == [0]
    _track(here, "data/train.csv", {"data/train.csv": b"newer"})
    (standing,) = here.list_standings()
    assert standing_row(standing)[3:4] == ["ahead"]
    assert standing_row(standing)[4].startswith("ahead by 1 tracked path (stemma push)")
    here.push(TransferRequest(paths=("data/train.csv",)))
    assert ahead(here) == [0]
    there.pull(TransferRequest())
    assert ahead(there) == [0]
    pointer_path(here.project_root / "data/train.csv").unlink()
    _track(here, "other.csv", {"other.csv": b"1,2"})
    assert ahead(here) == [1]
