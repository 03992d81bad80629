"""The directory of a zip file: which members it has and where their bytes lie.

Python's ``zipfile`` holds a directory of any size in memory and takes what it says on trust;
this reads at most 16 MiB and 65,536 members, and nothing is ever decompressed.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from stemma.store.formats.bounded import BoundedSource
from stemma.store.formats.ranges import TENSOR_LIMIT, MalformedError, shown

_END: Final = struct.Struct("<4s4H2LH")
_END_MARK: Final = b"PK\x05\x06"
_COMMENT_LIMIT_BYTES: Final = 65_535
_LOCATOR: Final = struct.Struct("<4sLQL")
_LOCATOR_MARK: Final = b"PK\x06\x07"
_WIDE_END: Final = struct.Struct("<4sQ2H2L4Q")
_WIDE_END_MARK: Final = b"PK\x06\x06"
_ENTRY: Final = struct.Struct("<4s6H3L5H2L")
_ENTRY_MARK: Final = b"PK\x01\x02"
_LOCAL: Final = struct.Struct("<4s5H3L2H")
_LOCAL_MARK: Final = b"PK\x03\x04"
_EXTRA: Final = struct.Struct("<HH")
_WIDE_EXTRA: Final = 1
_IS_ENCRYPTED: Final = 1
_IS_UTF8: Final = 0x800
_UNSET_16: Final = 0xFFFF
_UNSET_32: Final = 0xFFFFFFFF


class Member(NamedTuple):
    """One member.

    Attributes:
        name: Its path in the zip.
        header_offset: Where its local header begins.
        size_bytes: How long it is, decompressed.
        is_stored: Whether its bytes lie in the zip as they are.
    """

    name: str
    header_offset: int
    size_bytes: int
    is_stored: bool


def read_directory(source: BoundedSource) -> list[Member]:
    """Return the members in the directory's order.

    Raises:
        MalformedError: If the directory is not there, lies, or names a member twice.
    """
    count, offset, size_bytes = _find_directory(source)
    if count > TENSOR_LIMIT:
        raise MalformedError(f"it has more than {TENSOR_LIMIT} members")
    directory = source.read(offset, size_bytes)
    members: list[Member] = []
    position = 0
    while position < size_bytes:
        if len(members) == count:
            raise MalformedError("its directory has more members than it says")
        member, position = _read_entry(directory, position)
        members.append(member)
    if len(members) != count:
        raise MalformedError("its directory has fewer members than it says")
    if len({member.name for member in members}) != count:
        raise MalformedError("two members have the same name")
    return members


def data_offset(source: BoundedSource, member: Member) -> int:
    """Return where a member's bytes begin, and make sure that the file has them all."""
    fields = _LOCAL.unpack(source.read(member.header_offset, _LOCAL.size))
    if fields[0] != _LOCAL_MARK:
        raise MalformedError(f"member {shown(member.name)} is not where the directory says")
    offset: int = member.header_offset + _LOCAL.size + fields[9] + fields[10]
    if offset + member.size_bytes > source.size_bytes:
        raise MalformedError(f"member {shown(member.name)} lies outside the file")
    return offset


def _find_directory(source: BoundedSource) -> tuple[int, int, int]:
    """Return the number of members, and offset and size of the directory."""
    tail_bytes = min(source.size_bytes, _END.size + _COMMENT_LIMIT_BYTES)
    if tail_bytes < _END.size:
        raise MalformedError("it has no directory; it may be cut off")
    tail = source.read(source.size_bytes - tail_bytes, tail_bytes)
    found = tail.rfind(_END_MARK, 0, tail_bytes - _END.size + len(_END_MARK))
    if found < 0:
        raise MalformedError("it has no directory; it may be cut off")
    end_offset = source.size_bytes - tail_bytes + found
    _, disk, first_disk, _, count, size_bytes, offset, _ = _END.unpack_from(tail, found)
    if count == _UNSET_16 or _UNSET_32 in (size_bytes, offset):
        return _find_wide_directory(source, end_offset)
    if disk or first_disk:
        raise MalformedError("it is one part of several")
    return count, offset, size_bytes


def _find_wide_directory(source: BoundedSource, end_offset: int) -> tuple[int, int, int]:
    locator = _LOCATOR.unpack(source.read(end_offset - _LOCATOR.size, _LOCATOR.size))
    if locator[0] != _LOCATOR_MARK:
        raise MalformedError("its 64-bit directory is missing")
    fields = _WIDE_END.unpack(source.read(locator[2], _WIDE_END.size))
    if fields[0] != _WIDE_END_MARK:
        raise MalformedError("its 64-bit directory is missing")
    return fields[7], fields[9], fields[8]


def _read_entry(directory: bytes, position: int) -> tuple[Member, int]:
    name_start = position + _ENTRY.size
    if name_start > len(directory):
        raise MalformedError("its directory is cut off")
    fields = _ENTRY.unpack_from(directory, position)
    flags, method, packed_bytes, size_bytes = fields[3], fields[4], fields[8], fields[9]
    extra_start = name_start + fields[10]
    extra_end = extra_start + fields[11]
    end = extra_end + fields[12]
    if fields[0] != _ENTRY_MARK or end > len(directory):
        raise MalformedError("its directory is cut off")
    sizes = _widened(directory[extra_start:extra_end], (size_bytes, packed_bytes, fields[16]))
    is_stored = method == 0 and not flags & _IS_ENCRYPTED and sizes[0] == sizes[1]
    name = _decoded(directory[name_start:extra_start], is_utf8=bool(flags & _IS_UTF8))
    return Member(name, sizes[2], sizes[0], is_stored), end


def _decoded(name: bytes, *, is_utf8: bool) -> str:
    try:
        return name.decode("utf-8" if is_utf8 else "cp437")
    except UnicodeDecodeError as error:
        raise MalformedError("a member's name is not text") from error


def _widened(extra: bytes, sizes: tuple[int, int, int]) -> tuple[int, ...]:
    """Return size, packed size and offset, from the 64-bit field where 32 bits are too few."""
    if _UNSET_32 not in sizes:
        return sizes
    position = 0
    while position + _EXTRA.size <= len(extra):
        kind, length = _EXTRA.unpack_from(extra, position)
        position += _EXTRA.size
        if kind == _WIDE_EXTRA:
            numbers = iter(struct.unpack(f"<{length // 8}Q", extra[position:][: length // 8 * 8]))
            return tuple(next(numbers, 0) if size == _UNSET_32 else size for size in sizes)
        position += length
    return sizes
