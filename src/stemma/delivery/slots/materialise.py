"""A version's files on disk, ready to be served from.

    versions/<manifest>/artifact/    the model's files
                        code/        the captured source
                        golden.npz   a golden request and its answer, when there is one
                        version.json what this is, for people
                        .stemma-complete   digest of each file above

Invariants:
    * Every byte was verified against the store's digests when it was written, and is verified
      against the mark by each ``materialise_version``.
    * A folder without its mark does not exist: it is made beside and renamed.
    * What is damaged is made again from the store; nothing damaged is ever returned.
    * Two processes making one version take turns.
    * Where the file system can, versions share the room of files that are the same.  A block
      that rots then shows in each of them when it is verified, and the store mends each.

Files are read-only against accidents; compiled Python beside the code is nobody's content and
is neither made by model processes nor looked at here.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec
from blake3 import blake3

from stemma.delivery.layout import ServeLayout
from stemma.delivery.slots.golden import make_golden
from stemma.domain.digest import Digest
from stemma.domain.errors import IntegrityError, NotFoundError
from stemma.domain.manifest import Manifest
from stemma.store.backends.local import translated_os_errors
from stemma.store.objects import ObjectStore

ARTIFACT_FOLDER: Final = "artifact"
CODE_FOLDER: Final = "code"
GOLDEN_FILE: Final = "golden.npz"
COMPLETE_MARK: Final = ".stemma-complete"
_VERSION_FILE: Final = "version.json"
_COMPILED: Final = "__pycache__"
_BLOCK_BYTES: Final = 16 << 20
"""Large enough for blake3 to share the work among threads."""


class _Mark(msgspec.Struct, frozen=True, kw_only=True):
    """Digest of each file, and target of each link, by relative path."""

    files: dict[str, str]
    links: dict[str, str]


def materialise_version(
    objects: ObjectStore, manifest: Manifest, manifest_digest: str, layout: ServeLayout
) -> Path:
    """Make the version's folder, or verify the one that is there.

    Args:
        objects: Where its files are stored.
        manifest: The version.
        manifest_digest: sha256 of the manifest, as text.
        layout: Where versions are.

    Returns:
        The folder; not to be written to.

    Raises:
        IntegrityError: If something the version needs is damaged or missing in the store.
    """
    folder = layout.version(manifest_digest)
    with translated_os_errors(f"write {folder}"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _turn(folder):
            if not verify_version(folder):
                return folder
            partial = folder.with_name(f".{folder.name}.part")
            for stale in (folder, partial):
                if stale.exists():
                    shutil.rmtree(stale)
            partial.mkdir()
            try:
                _fill(objects, manifest, manifest_digest, partial)
            except (IntegrityError, NotFoundError) as error:
                shutil.rmtree(partial, ignore_errors=True)
                raise IntegrityError(
                    f"{manifest.model}, version with manifest {manifest_digest}: {error.message}",
                    code=error.code,
                    hint=error.hint or "stemma doctor",
                ) from error
            partial.rename(folder)
    return folder


def is_materialised(layout: ServeLayout, manifest_digest: str) -> bool:
    """Return whether the version's folder was finished; its files are not looked at."""
    return (layout.version(manifest_digest) / COMPLETE_MARK).is_file()


def made_at(layout: ServeLayout, manifest_digest: str) -> int | None:
    """Return when the version's folder was finished, in nanoseconds; ``None`` when it was not."""
    try:
        return (layout.version(manifest_digest) / COMPLETE_MARK).stat().st_mtime_ns
    except OSError:
        return None


def verify_version(folder: Path) -> list[str]:
    """Return the paths that are not as they were made: changed, missing, or added.

    A folder that was never finished is named by its mark.
    """
    try:
        mark = msgspec.json.decode((folder / COMPLETE_MARK).read_bytes(), type=_Mark)
    except (OSError, msgspec.DecodeError):
        return [COMPLETE_MARK]
    found = _list(folder)
    damaged = found ^ (set(mark.files) | set(mark.links))
    for path, target in mark.links.items():
        if path in found and not _is_link_to(folder / path, target):
            damaged.add(path)
    for path, digest in mark.files.items():
        if path in found and ((folder / path).is_symlink() or not _has(folder / path, digest)):
            damaged.add(path)
    return sorted(damaged)


def _fill(objects: ObjectStore, manifest: Manifest, manifest_digest: str, folder: Path) -> None:
    files: dict[str, str] = {}
    links: dict[str, str] = {}
    twins = _twins(folder.parent)
    for name, content in (
        (ARTIFACT_FOLDER, manifest.artifact.content),
        (CODE_FOLDER, manifest.architecture.content),
    ):
        objects.export_tree(content, folder / name, twins)
        for entry in objects.read_tree(content).entries:
            path = f"{name}/{entry.path}"
            if entry.digest is None:
                links[path] = entry.target
            else:
                files[path] = entry.digest.hex
    (folder / _VERSION_FILE).write_bytes(_describe(manifest, manifest_digest))
    made = [_VERSION_FILE]
    if make_golden(objects, manifest, folder / GOLDEN_FILE):
        made.append(GOLDEN_FILE)
    files |= {name: _hash(folder / name) for name in made}
    for path in files:
        place = folder / path
        place.chmod(place.stat().st_mode & 0o555)
    mark = folder / COMPLETE_MARK
    mark.write_bytes(msgspec.json.encode(_Mark(files=files, links=links)))
    with mark.open("rb") as stream:
        os.fsync(stream.fileno())


def _twins(versions: Path) -> dict[Digest, Path]:
    """Return the files of versions that were made before, as their marks tell, by digest."""
    twins: dict[Digest, Path] = {}
    for mark in versions.glob(f"*/{COMPLETE_MARK}"):
        with suppress(OSError, msgspec.DecodeError):
            files = msgspec.json.decode(mark.read_bytes(), type=_Mark).files
            twins |= {Digest.blake3(digest): mark.parent / path for path, digest in files.items()}
    return twins


def _describe(manifest: Manifest, manifest_digest: str) -> bytes:
    facts = {
        "model": manifest.model,
        "manifest": manifest_digest,
        "family": manifest.architecture.family,
        "loader": manifest.artifact.loader,
        "environment": str(manifest.environment.identity),
        "python": manifest.environment.python,
        "run": manifest.provenance.run,
    }
    return msgspec.json.format(msgspec.json.encode(facts), indent=2) + b"\n"


def _list(folder: Path) -> set[str]:
    """Return the relative path of every file and link, less the mark and compiled Python."""
    found = {
        path.relative_to(folder)
        for path in folder.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }
    return {path.as_posix() for path in found if _COMPILED not in path.parts} - {COMPLETE_MARK}


def _is_link_to(path: Path, target: str) -> bool:
    return path.is_symlink() and str(path.readlink()) == target


def _has(path: Path, digest: str) -> bool:
    try:
        return _hash(path) == digest
    except OSError:
        return False


def _hash(path: Path) -> str:
    """Return the blake3 of a file, by all cores when it is large.

    Read rather than mapped: a file that is cut meanwhile must not end this process (SIGBUS).
    """
    size_bytes = path.stat().st_size
    hasher = blake3(max_threads=blake3.AUTO if size_bytes > _BLOCK_BYTES else 1)
    block = bytearray(max(1, min(size_bytes, _BLOCK_BYTES)))
    view = memoryview(block)
    with path.open("rb", buffering=0) as stream:
        while count := stream.readinto(block):
            hasher.update(view[:count])
    return hasher.hexdigest()


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """Hold the version's lock, which dies with the process."""
    path = folder.with_name(f".{folder.name}.lock")
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
