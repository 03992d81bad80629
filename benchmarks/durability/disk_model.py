r"""A model of a disk that loses power: system calls in, what may be found afterwards out.

From a trace (``strace -f -y -xx``) it replays what a verb wrote under one folder, and says
for any moment which files a power cut may leave.  The rules are the least that POSIX gives:

* a file's bytes are certain up to its last fsync; later writes may each be lost or kept;
* a name (created, linked, renamed, removed) is certain once its folder was fsynced; until
  then the old or the new state of that name may be found;
* what is in a new folder is there only if the folder is, whose name is one like any other;
* a file that was certain before the trace began stays certain.

Shared memory (``-shm``) is gone.  Writes through maps do not show in a trace; SQLite maps
nothing else.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_CALL: Final = re.compile(r"^(\d+) +(\w+)\((.*)\) += (-?\d+)")
_BEGUN: Final = re.compile(r"^(\d+) +(\w+\(.*) <unfinished \.\.\.>$")
_ENDED: Final = re.compile(r"^(\d+) +<\.\.\. \w+ resumed>(.*)$")
_HANDLE: Final = re.compile(r"^\d+<((?:\\x[0-9a-f]{2})*)>")
_TEXT: Final = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_KEEP_CHANCE: Final = 0.5


@dataclass(slots=True, eq=False)
class _File:
    """Bytes as every process sees them, bytes that are certain, and writes in between."""

    seen: bytearray = field(default_factory=bytearray)
    certain: bytes = b""
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)

    def write(self, offset: int, data: bytes) -> None:
        _write(self.seen, offset, data)
        self.pending.append((offset, data))

    def cut(self, size_bytes: int) -> None:
        _cut(self.seen, size_bytes)
        self.pending.append((size_bytes, None))

    def sync(self) -> None:
        self.certain = bytes(self.seen)
        self.pending.clear()

    def left(self, chance: random.Random | None) -> bytes:
        """Return what a power cut may leave; without chance, only what is certain."""
        data = bytearray(self.certain)
        for offset, block in self.pending:
            if chance is None or chance.random() > _KEEP_CHANCE:
                continue
            if block is None:
                _cut(data, offset)
            else:
                _write(data, offset, block)
        return bytes(data)


def _write(data: bytearray, offset: int, block: bytes) -> None:
    data.extend(bytes(max(0, offset - len(data))))
    data[offset : offset + len(block)] = block


def _cut(data: bytearray, size_bytes: int) -> None:
    del data[size_bytes:]
    data.extend(bytes(size_bytes - len(data)))


class Disk:
    """The folder of one project."""

    def __init__(self, root: Path) -> None:
        """Take what lies under ``root`` for certain."""
        self._root = str(root)
        self._seen: dict[str, _File] = {}
        self._certain: dict[str, _File] = {}
        self._folders = {str(path) for path in root.rglob("*") if path.is_dir()} | {str(root)}
        self._certain_folders = set(self._folders)
        for path in root.rglob("*"):
            if path.is_file() and not path.name.endswith("-shm"):
                data = path.read_bytes()
                self._seen[str(path)] = _File(bytearray(data), data)
        self._certain = dict(self._seen)

    def replay(self, log: Path) -> Iterator[str]:
        """Replay a trace; yields the name of every call that changed something."""
        for name, arguments, result in _calls(log):
            if result >= 0 and self._apply(name, arguments, result):
                yield f"{name} {_path(arguments).removeprefix(self._root)}"

    def after_power_cut(self, chance: random.Random | None) -> dict[Path, bytes]:
        """Return the files that may be found, by path under the root."""
        names = dict(self._certain)
        for name in sorted({*self._seen, *self._certain}):
            if self._seen.get(name) is self._certain.get(name):
                continue
            if chance is not None and chance.random() < _KEEP_CHANCE:
                names.pop(name, None)
                if name in self._seen:
                    names[name] = self._seen[name]
        lost = {
            folder
            for folder in sorted(self._folders - self._certain_folders)
            if chance is None or chance.random() > _KEEP_CHANCE
        }
        return {
            Path(name).relative_to(self._root): file.left(chance)
            for name, file in names.items()
            if lost.isdisjoint(map(str, Path(name).parents))
        }

    def _apply(self, name: str, arguments: str, result: int) -> bool:
        path = _path(arguments)
        if not path.startswith(self._root + "/") or path.endswith("-shm"):
            return False
        match name:
            case "openat":
                return self._open(path, arguments)
            case "write":
                file = self._seen.get(path)
                if file is None:
                    return False
                file.write(len(file.seen), _texts(arguments)[-1][:result])
            case "pwrite64":
                offset = int(arguments.rpartition(",")[2])
                self._seen[path].write(offset, _texts(arguments)[-1][:result])
            case "ftruncate":
                self._seen[path].cut(int(arguments.rpartition(",")[2]))
            case "fsync" | "fdatasync":
                self._sync(path)
            case _:
                return self._rename(name, arguments)
        return True

    def _open(self, path: str, arguments: str) -> bool:
        if "O_CREAT" in arguments and path not in self._seen:
            self._seen[path] = _File()
            return True
        if "O_TRUNC" in arguments:
            self._seen[path].cut(0)
            return True
        return False

    def _rename(self, name: str, arguments: str) -> bool:
        paths = [text.decode() for text in _texts(arguments)]
        if name.startswith("mkdir"):
            self._folders.add(paths[-1])
            return False  # nobody finds an empty folder missing
        if name == "rmdir" or "AT_REMOVEDIR" in arguments:
            self._folders.discard(paths[-1])
            return False
        if name.startswith("unlink"):
            return self._seen.pop(paths[-1], None) is not None
        if name.startswith("link"):
            self._seen[paths[1]] = self._seen[paths[0]]
            return True
        if name.startswith("rename"):
            self._seen[paths[1]] = self._seen.pop(paths[0])
            return True
        return False

    def _sync(self, path: str) -> None:
        if path in self._seen:
            self._seen[path].sync()
            return
        folder = path.rstrip("/")
        inside = {
            name
            for name in self._folders | self._certain_folders
            if name.rpartition("/")[0] == folder
        }
        self._certain_folders = self._certain_folders - inside | self._folders & inside
        for name in {*self._seen, *self._certain}:
            if name.rpartition("/")[0] != folder:
                continue
            if name in self._seen:
                self._certain[name] = self._seen[name]
            else:
                del self._certain[name]


def _calls(log: Path) -> Iterator[tuple[str, str, int]]:
    """Yield name, arguments and result of every call, joined where threads interleave."""
    begun: dict[str, str] = {}
    for line in log.read_text(encoding="ascii").splitlines():
        first = _BEGUN.match(line)
        if first is not None:
            begun[first[1]] = first[2]
            continue
        second = _ENDED.match(line)
        whole = line
        if second is not None:
            whole = f"{second[1]} {begun.pop(second[1], '')}{second[2]}"
        call = _CALL.match(whole)
        if call is not None:
            yield call[2], call[3], int(call[4])


def _path(arguments: str) -> str:
    """Return the path of the first handle, else of the first text."""
    handle = _HANDLE.match(arguments)
    if handle is not None:
        return _bytes(handle[1]).decode(errors="replace")
    texts = _texts(arguments)
    return texts[-1].decode(errors="replace") if texts else ""


def _texts(arguments: str) -> list[bytes]:
    return [_bytes(text) for text in _TEXT.findall(arguments)]


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))
