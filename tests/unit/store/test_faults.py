"""Full disks and folders that may not be written: one clear error, nothing half done."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stemma.domain.errors import DeniedError, StemmaError, UnavailableError
from stemma.store.backends.local import LocalBackend, translate_os_error, translated_os_errors
from stemma.store.index import MemoryChunkIndex
from stemma.store.objects import ObjectStore
from stemma.store.verify import verify

PUT = """
import os, resource, sys
from pathlib import Path
from stemma.domain.errors import StemmaError
from stemma.store.backends.local import LocalBackend
from stemma.store.index import MemoryChunkIndex
from stemma.store.objects import ObjectStore
limit = int(sys.argv[2])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
store = ObjectStore(LocalBackend(Path(sys.argv[1])), MemoryChunkIndex())
print(store.put_bytes(b"small").digest) if limit else None
try:
    store.put_bytes(os.urandom(3 << 20))
except StemmaError as error:
    print(type(error).__name__, error.code, error.is_retryable, bool(error.hint))
"""


def _leftovers(root: Path) -> list[Path]:
    return [path for path in (root / "tmp").rglob("*") if path.is_file()]


def test_a_write_that_does_not_fit_is_refused_whole(tmp_path: Path) -> None:
    """A full disk must not leave half a model that looks whole."""
    root = tmp_path / "objects"
    answer = subprocess.run(
        [sys.executable, "-c", PUT, str(root), "100000"],
        capture_output=True,
        text=True,
        check=True,
    )
    digest, verdict = answer.stdout.splitlines()
    assert verdict == "UnavailableError disk-full True True"
    assert _leftovers(root) == []
    store = ObjectStore(LocalBackend(root), MemoryChunkIndex())
    store.rebuild_index()
    assert verify(store) == []
    assert [stat.key.partition("/")[0] for stat in store.backend.list()] == ["frames", "recipes"]
    assert digest.startswith("blake3:")


@pytest.mark.slow
def test_a_disk_that_is_really_full_is_named_so(tmp_path: Path) -> None:
    """People must learn that space is missing, not that something is broken."""
    unshare = shutil.which("unshare")
    script = f'mount -t tmpfs -o size=1m tmpfs "$1" && exec "{sys.executable}" -c "$2" "$1" 0'
    answer = (
        subprocess.run(
            [unshare or "unshare", "-m", "sh", "-c", script, "sh", str(tmp_path), PUT],
            capture_output=True,
            text=True,
            check=False,
        )
        if unshare
        else None
    )
    if answer is None or answer.returncode:
        pytest.skip("may not mount a small file system here")
    assert answer.stdout == "UnavailableError disk-full True True\n"


READ_ONLY = """
import os, sys
from pathlib import Path
from stemma.domain.digest import Digest
from stemma.domain.errors import StemmaError
from stemma.store.backends.local import LocalBackend
from stemma.store.index import MemoryChunkIndex
from stemma.store.objects import ObjectStore
if os.geteuid() == 0:  # root may write anywhere, so it becomes somebody else
    os.setuid(65534)
store = ObjectStore(LocalBackend(Path("objects")), MemoryChunkIndex())
store.rebuild_index()
print(store.read_bytes(Digest.parse(sys.argv[1])).decode())
try:
    store.put_bytes(b"new")
except StemmaError as error:
    print(type(error).__name__, error.code)
"""


@pytest.mark.slow
def test_a_read_only_folder_is_named_so_and_can_be_read(tmp_path: Path) -> None:
    """A store on a read-only share serves models; writing to it must say why it fails."""
    stored = ObjectStore(LocalBackend(tmp_path / "objects"), MemoryChunkIndex()).put_bytes(b"hello")
    places = [tmp_path, *tmp_path.rglob("*")]
    for path in places:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        answer = subprocess.run(
            [sys.executable, "-c", READ_ONLY, str(stored.digest)],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
    finally:
        for path in places:
            path.chmod(0o755)
    assert answer.stdout == "hello\nDeniedError read-only\n", answer.stderr


@pytest.mark.parametrize(
    ("number", "is_write", "kind", "code"),
    [
        (errno.ENOSPC, True, UnavailableError, "disk-full"),
        (errno.EDQUOT, True, UnavailableError, "disk-full"),
        (errno.EFBIG, True, UnavailableError, "disk-full"),
        (errno.EROFS, True, DeniedError, "read-only"),
        (errno.EACCES, True, DeniedError, "read-only"),
        (errno.EPERM, True, DeniedError, "read-only"),
        (errno.EACCES, False, DeniedError, "not-readable"),
        (errno.EIO, False, UnavailableError, "io-error"),
    ],
)
def test_what_the_system_says_becomes_one_of_our_errors(
    *, number: int, is_write: bool, kind: type[StemmaError], code: str
) -> None:
    """Protocols and the command line map codes, not errno."""
    with (
        pytest.raises(kind, match="write here") as caught,
        translated_os_errors("write here", is_write=is_write),
    ):
        raise OSError(number, os.strerror(number))
    assert caught.value.code == code
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, "disk-full"),
        (errno.EFBIG, "disk-full"),
        (errno.EROFS, "read-only"),
        (errno.ENOTDIR, "in-the-way"),
        (errno.EEXIST, "in-the-way"),
        (errno.EIO, "io-error"),
    ],
)
def test_what_the_system_refuses_is_told_by_what_helps(number: int, code: str) -> None:
    """Every refusal would look like a fault of Stemma."""
    refused = OSError(number, os.strerror(number), "/data/model")
    error = translate_os_error(refused, "write a version")
    assert error.code == code
    assert error.hint
    assert "write a version" in error.message
