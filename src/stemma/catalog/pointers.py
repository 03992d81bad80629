"""``PATH.stemma`` pointer files: what stands in git for a tracked file or folder.

Invariants (normative text: ``docs/formats/pointer.md``):
    * One value has one text, so a pointer changes in git only when its content does.
    * The last line is a checksum of all lines before it: any flipped bit is found.
    * A pointer is replaced whole or not at all.

This module reads no tracked content; see ``stemma.catalog.capture.data``.

Example:
    >>> pointer_path(Path("data/train.csv")).name
    'train.csv.stemma'
"""

from __future__ import annotations

import os
import re
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stemma.catalog.pointer_files import SUFFIX
from stemma.domain.digest import Digest
from stemma.domain.errors import IntegrityError, InvalidInputError, NotFoundError
from stemma.store.backends.files import translate_os_error
from stemma.store.hashing import hash_bytes

POINTER_SCHEMA: Final = "stemma.pointer/1"
_SIZE_LIMIT_BYTES: Final = 64 * 1024
_CHECKSUM: Final = re.compile(
    rb'(.*)^checksum = "(blake3:[0-9a-f]{64})"\n', re.DOTALL | re.MULTILINE
)
_KINDS: Final = frozenset({"file", "folder"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointer:
    """What a pointer file says.

    Attributes:
        kind: ``file`` or ``folder``.
        size_bytes: Size of all its files.
        content: Tree of its files (a tracked file is a tree of one).
        sha256: sha256 of the file; ``None`` for a folder.
    """

    kind: str
    size_bytes: int
    content: Digest
    sha256: Digest | None = None

    def __post_init__(self) -> None:
        """Refuse a kind that does not exist and a size that cannot be.

        Raises:
            InvalidInputError: If it is neither a file nor a folder, or its size is negative.
        """
        if self.kind not in _KINDS or self.size_bytes < 0:
            raise InvalidInputError(
                f"not a pointer: kind {self.kind!r}, {self.size_bytes} bytes", code="bad-pointer"
            )


def pointer_path(path: Path) -> Path:
    """Return where the pointer of ``path`` lies: ``data/train.csv.stemma``."""
    return path.with_name(path.name + SUFFIX)


def encode_pointer(pointer: Pointer) -> bytes:
    """Return the bytes of the pointer file."""
    lines = [
        f'schema = "{POINTER_SCHEMA}"',
        f'kind = "{pointer.kind}"',
        f"size_bytes = {pointer.size_bytes}",
        f'content = "{pointer.content}"',
    ]
    if pointer.sha256 is not None:
        lines.append(f'sha256 = "{pointer.sha256}"')
    body = ("\n".join(lines) + "\n").encode()
    return body + f'checksum = "{hash_bytes(body)}"\n'.encode()


def write_pointer(path: Path, pointer: Pointer) -> Path:
    """Write the pointer of the tracked ``path`` beside it, durably, and return where.

    Nothing is written when it says this already.

    Raises:
        UnavailableError: If there is no room (``disk-full``).
        DeniedError: If it may not be written there.
    """
    target = pointer_path(path)
    data = encode_pointer(pointer)
    try:
        if target.is_file() and target.read_bytes() == data:
            return target
        replace_durably(target, data)
    except OSError as error:
        raise translate_os_error(error, f"write {target}") from error
    return target


def replace_durably(target: Path, data: bytes) -> None:
    """Write a file of the working tree whole or not at all: also after a power cut.

    Temp → fsync → rename → fsync of the folder.  What was there keeps its permissions.

    Raises:
        OSError: If it cannot be written; what was there is unchanged.
    """
    with tempfile.NamedTemporaryFile(
        dir=target.parent, prefix=f".{target.name}.", delete=False
    ) as stream:
        temporary = Path(stream.name)
        try:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
            mode = target.stat().st_mode & 0o777 if target.exists() else 0o644
            temporary.chmod(mode)
            temporary.replace(target)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_pointer(path: Path) -> Pointer:
    """Read the pointer file ``path``.

    Raises:
        NotFoundError: If there is none.
        IntegrityError: If a bit of it flipped, or somebody edited it.
        InvalidInputError: If a newer Stemma wrote it.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(_SIZE_LIMIT_BYTES + 1).replace(b"\r\n", b"\n")
    except FileNotFoundError as error:
        raise NotFoundError(
            f"no pointer {path}", code="pointer-not-found", hint=f"stemma add {_tracked(path)}"
        ) from error
    except OSError as error:
        raise InvalidInputError(
            f"{path}: cannot be read: {error.strerror}",
            code="unreadable-pointer",
            hint=f"ls -l {path}",
        ) from error
    match = _CHECKSUM.fullmatch(data)
    if match is None or str(hash_bytes(match[1])).encode() != match[2]:
        raise _damaged(path, "its checksum does not match")
    try:
        table = tomllib.loads(match[1].decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _damaged(path, str(error)) from error
    return _from_table(path, table)


def _from_table(path: Path, table: dict[str, object]) -> Pointer:
    if table.get("schema") != POINTER_SCHEMA:
        raise InvalidInputError(
            f"{path}: pointer schema {table.get('schema')!r} is not {POINTER_SCHEMA!r}",
            code="unknown-schema",
            hint="upgrade stemma",
        )
    match table:
        case {"kind": str(kind), "size_bytes": int(size_bytes), "content": str(content)}:
            sha256 = table.get("sha256")
        case _:
            raise _damaged(path, "a line is missing")
    try:
        return Pointer(
            kind=kind,
            size_bytes=size_bytes,
            content=Digest.parse(content),
            sha256=Digest.parse(str(sha256)) if sha256 is not None else None,
        )
    except InvalidInputError as error:
        raise _damaged(path, error.message) from error


def _tracked(path: Path) -> str:
    return str(path).removesuffix(SUFFIX)


def _damaged(path: Path, reason: str) -> IntegrityError:
    return IntegrityError(
        f"{path} is not what was written: {reason}",
        code="pointer-damaged",
        hint=f"git checkout -- {path}, or stemma add {_tracked(path)}",
    )


def ignore_in_git(path: Path) -> Path | None:
    """Name ``path`` in the nearest ``.gitignore``, once.

    The nearest is the first that exists from the path's folder up to the top of the work
    tree; without one it is made in the path's folder.

    Returns:
        The file that was changed; ``None`` when it says so already or this is not git's.

    Raises:
        UnavailableError: If there is no room (``disk-full``).
        DeniedError: If the file may not be written.
        InvalidInputError: If git cannot name the path.
    """
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 -- a link is ignored by its own name
    folders = list(absolute.parents)
    top = next((folder for folder in folders if (folder / ".git").exists()), None)
    if top is None:
        return None
    within = folders[: folders.index(top) + 1]
    existing = (folder / ".gitignore" for folder in within if (folder / ".gitignore").is_file())
    target = next(existing, absolute.parent / ".gitignore")
    line = "/" + _escaped(absolute.relative_to(target.parent).as_posix())
    try:
        known = target.read_bytes() if target.exists() else b""
        if os.fsencode(line) in known.splitlines():
            return None
        separator = b"" if not known or known.endswith(b"\n") else b"\n"
        replace_durably(target, known + separator + os.fsencode(line) + b"\n")
    except OSError as error:
        raise translate_os_error(error, f"write {target}") from error
    return target


def _escaped(name: str) -> str:
    """Escape what git reads as a pattern; a line break cannot be named at all."""
    if "\n" in name or "\r" in name:
        raise InvalidInputError(
            f"{name!r} has a line break, which .gitignore cannot name",
            code="bad-path",
            hint="rename it",
        )
    escaped = re.sub(r"([\\*?\[\]])", r"\\\1", name)
    return escaped[:-1] + "\\ " if escaped.endswith(" ") else escaped
