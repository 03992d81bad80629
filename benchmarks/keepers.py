"""Ways to keep versions of a folder, alike on the outside: this store and five others.

Run as ``python -m benchmarks.keepers WAY keep|give-back STORE TARGET VERSION...`` each way has
processes of its own; the answer is one line of JSON.  What is timed are the way's own calls,
never the copying of files to where it expects them, nor the comparison afterwards.

Invariants:
    * Every version is handed over on its own, oldest first, as people make them.
    * What is given back is compared with the original, byte by byte.
    * What counts as stored is what holds the files' content, without indexes and caches.
"""

from __future__ import annotations

import filecmp
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Final, Protocol

from benchmarks.corpus.place import use_packages
from stemma.db.chunk_index import SqlChunkIndex
from stemma.db.engine import Database
from stemma.domain.digest import Digest
from stemma.store.backends.local import LocalBackend
from stemma.store.index import ChunkLocation
from stemma.store.ingest import Batch
from stemma.store.objects import ObjectStore


class Keeper(Protocol):
    """A way to keep versions, on a folder of its own."""

    def __init__(self, store: Path) -> None:
        """Stand on a folder that is there; the first time it is empty."""
        ...

    @classmethod
    def obstacle(cls) -> str:
        """Return why this way cannot run here; empty if it can."""
        ...

    def hand_over(self, version: Path) -> None:
        """Put files where the way expects them; not timed."""
        ...

    def keep(self, version: Path) -> str:
        """Keep a version and return what to ask for it with."""
        ...

    def stored(self) -> list[Path]:
        """Return the folders whose files are what is stored."""
        ...

    def give_back(self, kept: str, target: Path) -> Path:
        """Write a version out, and return the folder it is in."""
        ...


def _needs(*commands: str) -> str:
    missing = [command for command in commands if shutil.which(command) is None]
    return f"not installed: {', '.join(missing)}" if missing else ""


class Ours:
    """This store, as a recording uses it: relatives are the first version and the newest."""

    def __init__(self, store: Path) -> None:
        """Open the store."""
        database = Database.open(f"sqlite:///{store / 'index.db'}", may_create=True)
        self._objects = ObjectStore(
            LocalBackend(store / "objects"), SqlChunkIndex(database, ChunkLocation)
        )
        self._store = store
        self._earlier: list[dict[str, Digest]] = []

    @classmethod
    def obstacle(cls) -> str:
        """Return nothing: it is here."""
        return ""

    def hand_over(self, version: Path) -> None:
        """Do nothing: it reads where the files are."""

    def keep(self, version: Path) -> str:
        """Keep a version."""
        relatives = [file for earlier in self._earlier for file in earlier.items()]
        batch, files = Batch(self._objects.backend, self._objects.index), {}
        for path in sorted(version.iterdir(), key=lambda path: -path.stat().st_size):
            same = [digest for name, digest in relatives if name == path.name]
            others = [digest for name, digest in relatives if name != path.name]
            parents = list(dict.fromkeys([*same, *others]))
            files[path.name] = batch.add_path(path, parents=parents).digest
        batch.flush()
        self._earlier = [*self._earlier[:1], files]
        return json.dumps({name: str(digest) for name, digest in files.items()})

    def stored(self) -> list[Path]:
        """Return the folder of blobs."""
        return [self._store / "objects"]

    def give_back(self, kept: str, target: Path) -> Path:
        """Write a version out, durably and verified."""
        for name, digest in json.loads(kept).items():
            self._objects.export_file(Digest.parse(digest), target / name)
        return target


class Xet:
    """The client of the Hugging Face hub's storage, on a local folder."""

    def __init__(self, store: Path) -> None:
        """Open a session."""
        use_packages()
        import hf_xet

        self._xet = hf_xet
        self._session = hf_xet.XetSession()
        self._store = store / "xet"
        self._endpoint = f"local://{self._store}"

    @classmethod
    def obstacle(cls) -> str:
        """Return nothing: it is one of the corpus' packages."""
        return ""

    def hand_over(self, version: Path) -> None:
        """Do nothing: it reads where the files are."""

    def keep(self, version: Path) -> str:
        """Upload a version, file by file: within one commit, equal chunks are not all seen."""
        found: dict[str, tuple[str, int]] = {}
        for path in sorted(version.iterdir()):
            commit = self._session.new_upload_commit(endpoint=self._endpoint)
            upload = commit.start_upload_file(str(path))
            commit.wait_to_finish()
            info = upload.result().xet_info
            found[path.name] = info.hash, info.file_size
        return json.dumps(found)

    def stored(self) -> list[Path]:
        """Return the folders of blocks and of what says where they are."""
        inner = self._store / "xet" / "xorbs"
        return [inner / "xorbs", inner / "shards"]

    def give_back(self, kept: str, target: Path) -> Path:
        """Download a version."""
        group = self._session.new_file_download_group(endpoint=self._endpoint)
        for name, (digest, size_bytes) in json.loads(kept).items():
            info = self._xet.XetFileInfo(digest, size_bytes)
            group.start_download_file(info, str(target / name))
        group.wait_to_finish()
        return target


class _Commands:
    """A way that is used by its commands, in a folder where people would work."""

    commands: ClassVar[tuple[str, ...]]

    def __init__(self, store: Path) -> None:
        self._store = store
        self._work = store / "work"
        self._environment = os.environ | {
            "HOME": str(store),
            "XDG_CACHE_HOME": str(store / "cache"),
            "RESTIC_PASSWORD": "corpus",
            "RESTIC_REPOSITORY": str(store / "restic"),
            "BORG_REPO": str(store / "borg"),
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
            "DVC_NO_ANALYTICS": "1",
            "GIT_AUTHOR_NAME": "corpus",
            "GIT_AUTHOR_EMAIL": "corpus@example.com",
            "GIT_COMMITTER_NAME": "corpus",
            "GIT_COMMITTER_EMAIL": "corpus@example.com",
        }
        if not self._work.exists():
            self._work.mkdir()
            self._prepare()

    @classmethod
    def obstacle(cls) -> str:
        """Return which commands are missing."""
        return _needs(*cls.commands)

    def _prepare(self) -> None:
        raise NotImplementedError

    def _run(self, *command: str, folder: Path | None = None) -> str:
        return subprocess.run(
            command,
            cwd=folder or self._work,
            env=self._environment,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout

    def hand_over(self, version: Path) -> None:
        """Copy the files to the folder where people would work."""
        for path in version.iterdir():
            (self._work / path.name).unlink(missing_ok=True)
            shutil.copyfile(path, self._work / path.name)


class GitLfs(_Commands):
    """git with its extension for large files; what is kept stays in the repository."""

    commands = ("git", "git-lfs")

    def _prepare(self) -> None:
        self._run("git", "init", "--quiet")
        self._run("git", "lfs", "install", "--local")
        attributes = "[!.]* filter=lfs diff=lfs merge=lfs -text\n"
        (self._work / ".gitattributes").write_text(attributes, encoding="ascii")
        self._run("git", "add", ".gitattributes")

    def keep(self, version: Path) -> str:
        """Commit a version."""
        self._run("git", "add", *(path.name for path in version.iterdir()))
        self._run("git", "commit", "--quiet", "-m", "version")
        return self._run("git", "rev-parse", "HEAD").strip()

    def stored(self) -> list[Path]:
        """Return the folder of large files."""
        return [self._work / ".git" / "lfs" / "objects"]

    def give_back(self, kept: str, target: Path) -> Path:
        """Check a version out beside the folder, from what is kept here."""
        self._run("git", "--work-tree", str(target), "checkout", "--force", kept, "--", ".")
        (target / ".gitattributes").unlink(missing_ok=True)
        return target


class Dvc(_Commands):
    """``dvc add`` and ``dvc push`` to a remote that is a folder."""

    commands = ("dvc",)

    def _prepare(self) -> None:
        self._run("dvc", "init", "--quiet", "--no-scm")
        self._run(
            "dvc", "remote", "add", "--quiet", "--default", "copy", str(self._store / "remote")
        )

    def keep(self, version: Path) -> str:
        """Add and push a version."""
        names = sorted(path.name for path in version.iterdir())
        self._run("dvc", "add", "--quiet", *names)
        self._run("dvc", "push", "--quiet")
        return json.dumps({name: (self._work / f"{name}.dvc").read_text() for name in names})

    def stored(self) -> list[Path]:
        """Return the remote; the cache holds as much again."""
        return [self._store / "remote"]

    def give_back(self, kept: str, target: Path) -> Path:
        """Pull a version into a project that has nothing."""
        self._run("dvc", "init", "--quiet", "--no-scm", folder=target)
        (target / ".dvc" / "config").write_text((self._work / ".dvc" / "config").read_text())
        for name, pointer in json.loads(kept).items():
            (target / f"{name}.dvc").write_text(pointer)
        self._run("dvc", "pull", "--quiet", folder=target)
        return target


class Restic(_Commands):
    """The backup program restic, with its own compression."""

    commands = ("restic",)

    def _prepare(self) -> None:
        self._run("restic", "init", "--quiet")

    def keep(self, version: Path) -> str:
        """Back a version up."""
        answer = self._run("restic", "backup", "--json", "--quiet", "--tag", version.name, ".")
        return str(json.loads(answer.splitlines()[-1])["snapshot_id"])

    def stored(self) -> list[Path]:
        """Return the repository's packs."""
        return [self._store / "restic" / "data"]

    def give_back(self, kept: str, target: Path) -> Path:
        """Restore a version."""
        self._run("restic", "restore", "--quiet", kept, "--target", str(target))
        return target


class Borg(_Commands):
    """The backup program borg, compressing by zstd."""

    commands = ("borg",)

    def _prepare(self) -> None:
        self._run("borg", "init", "--encryption", "none")

    def keep(self, version: Path) -> str:
        """Create an archive of a version."""
        self._run("borg", "create", "--compression", "zstd", f"::{version.name}", ".")
        return version.name

    def stored(self) -> list[Path]:
        """Return the repository's segments."""
        return [self._store / "borg" / "data"]

    def give_back(self, kept: str, target: Path) -> Path:
        """Extract an archive."""
        self._run("borg", "extract", f"::{kept}", folder=target)
        return target


KEEPERS: Final[dict[str, type[Keeper]]] = {
    "ours": Ours,
    "xet": Xet,
    "git-lfs": GitLfs,
    "dvc": Dvc,
    "restic": Restic,
    "borg": Borg,
}


class _Meter:
    """Adds up what calls take."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.cpu_seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        cpu_seconds, started = _cpu_seconds(), time.perf_counter()
        yield
        self.seconds += time.perf_counter() - started
        self.cpu_seconds += _cpu_seconds() - cpu_seconds

    def figures(self, raw_bytes: int) -> dict[str, float]:
        # Not ``ru_maxrss`` of this process, which starts at what its parent had.
        status = Path("/proc/self/status").read_text(encoding="ascii")
        own_kib = int(status.partition("VmHWM:")[2].split()[0])
        children_kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        return {
            "mb_per_second": round(raw_bytes / 1e6 / self.seconds, 1),
            "cpu_seconds": round(self.cpu_seconds, 2),
            "peak_memory_mib": max(own_kib, children_kib) >> 10,
        }


def _cpu_seconds() -> float:
    uses = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in uses)


def keep(way: str, store: Path, versions: list[Path]) -> dict[str, float]:
    """Keep all versions; return what that took."""
    keeper, meter, kept = KEEPERS[way](store), _Meter(), []
    for version in versions:
        keeper.hand_over(version)
        with meter.running():
            kept.append(keeper.keep(version))
    (store / "kept.json").write_text(json.dumps(kept), encoding="utf-8")
    raw_bytes = sum(map(_size_bytes, versions))
    stored_bytes = sum(map(_size_bytes, keeper.stored()))
    return {"stored_share": round(stored_bytes / raw_bytes, 4), **meter.figures(raw_bytes)}


def give_back(way: str, store: Path, target: Path, versions: list[Path]) -> dict[str, float]:
    """Write all versions out and compare them; return what the writing took."""
    keeper, meter = KEEPERS[way](store), _Meter()
    kept = json.loads((store / "kept.json").read_text(encoding="utf-8"))
    for name, version in zip(kept, versions, strict=True):
        target.mkdir()
        with meter.running():
            found = keeper.give_back(name, target)
        names = [path.name for path in version.iterdir()]
        _, different, missing = filecmp.cmpfiles(version, found, names, shallow=False)
        assert not different, (way, different)
        assert not missing, (way, missing)
        shutil.rmtree(target)
    return meter.figures(sum(map(_size_bytes, versions)))


def _size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main(way: str, action: str, store: str, target: str, *versions: str) -> None:
    """Do one thing and say what it took."""
    folders = [Path(version) for version in versions]
    actions: dict[str, Callable[[], dict[str, float]]] = {
        "keep": lambda: keep(way, Path(store), folders),
        "give-back": lambda: give_back(way, Path(store), Path(target), folders),
    }
    print(json.dumps(actions[action]()))


if __name__ == "__main__":
    main(*sys.argv[1:])
