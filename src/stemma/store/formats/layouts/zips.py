"""Where the tensors lie in a zip: numpy's ``.npz``, skops, and torch's ``.pt`` and ``.bin``.

Invariants:
    * Compressed and encrypted members are opaque, and so is a zip within the zip.
    * The pickle of a torch file is read as a list of opcodes, never loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Final, TypeVar

from stemma.store.formats.bounded import BoundedSource
from stemma.store.formats.layouts.npy import find_array
from stemma.store.formats.layouts.torch_pickle import (
    PICKLE_LIMIT_BYTES,
    Storage,
    TensorView,
    read_storages,
    read_tensors,
)
from stemma.store.formats.layouts.zip_directory import Member, data_offset, read_directory
from stemma.store.formats.ranges import (
    SMALLEST_TENSOR_BYTES,
    FileRange,
    MalformedError,
    shown,
)

FoundT = TypeVar("FoundT")

_ARRAY_SUFFIX: Final = ".npy"
_PICKLE_NAME: Final = "data.pkl"
_SKOPS_SCHEMA: Final = "schema.json"


def find_tensors(source: BoundedSource) -> Iterator[FileRange]:
    """Yield the tensors of a zip's stored members.

    Raises:
        MalformedError: If the directory or a header in a member cannot be read.
    """
    members = {member.name: member for member in read_directory(source)}
    pickles = _pickles(members)
    if len(pickles) == 1:
        yield from _find_storages(source, members, pickles[0])
    else:
        yield from _find_arrays(source, members)


def open_tensors(source: BoundedSource) -> Iterator[tuple[Member, TensorView | None, str]]:
    """Yield member, view and name of every tensor, the small and compressed ones too.

    The view says what a tensor of a torch file looks at; arrays of numpy have none.

    Raises:
        MalformedError: If the directory, or the pickle of a torch file, cannot be read.
    """
    members = {member.name: member for member in read_directory(source)}
    pickles = _pickles(members)
    if len(pickles) != 1:
        for member in members.values():
            if member.name.endswith(_ARRAY_SUFFIX):
                yield member, None, member.name.removesuffix(_ARRAY_SUFFIX)
        return
    folder = pickles[0].removesuffix(_PICKLE_NAME)
    for name, view in _pickled(source, members, pickles[0], read_tensors).items():
        held = members.get(f"{folder}data/{view.key}")
        if held is None or not held.is_stored or held.size_bytes != view.storage_bytes:
            raise MalformedError(f"tensor {shown(name)} has another size than its pickle says")
        yield held, view, name


def _pickles(members: Mapping[str, Member]) -> list[str]:
    return [name for name in members if name == _PICKLE_NAME or name.endswith("/" + _PICKLE_NAME)]


def _pickled(
    source: BoundedSource,
    members: Mapping[str, Member],
    pickle_name: str,
    read: Callable[[bytes], dict[str, FoundT]],
) -> dict[str, FoundT]:
    """Return what a torch file's pickle speaks of; nothing when its bytes are not as in memory."""
    byte_order = members.get(pickle_name.removesuffix(_PICKLE_NAME) + "byteorder")
    if byte_order is not None and _read_member(source, byte_order) != b"little":
        return {}
    pickle = members[pickle_name]
    return read(_read_member(source, pickle)) if pickle.is_stored else {}


def _find_arrays(source: BoundedSource, members: dict[str, Member]) -> Iterator[FileRange]:
    # skops names arrays by memory address: only their order is the same in the next version.
    numbers = count()
    is_skops = _SKOPS_SCHEMA in members
    for member in members.values():
        if not member.name.endswith(_ARRAY_SUFFIX):
            continue
        name = f"array {next(numbers)}" if is_skops else member.name.removesuffix(_ARRAY_SUFFIX)
        if _is_worth_a_look(member):
            yield from find_array(source, data_offset(source, member), member.size_bytes, name)


def _find_storages(
    source: BoundedSource, members: dict[str, Member], pickle_name: str
) -> Iterator[FileRange]:
    folder = pickle_name.removesuffix(_PICKLE_NAME)
    for key, storage in _pickled(source, members, pickle_name, read_storages).items():
        member = members.get(f"{folder}data/{key}")
        if member is not None and _is_worth_a_look(member):
            yield _tensor(source, member, storage)


def _tensor(source: BoundedSource, member: Member, storage: Storage) -> FileRange:
    if storage.size_bytes != member.size_bytes:
        raise MalformedError(f"member {shown(member.name)} has another size than its pickle says")
    return FileRange(
        offset=data_offset(source, member),
        size_bytes=member.size_bytes,
        name=storage.name,
        dtype=storage.dtype,
        shape=storage.shape,
    )


def _is_worth_a_look(member: Member) -> bool:
    return member.is_stored and member.size_bytes >= SMALLEST_TENSOR_BYTES


def _read_member(source: BoundedSource, member: Member) -> bytes:
    if member.size_bytes > PICKLE_LIMIT_BYTES:
        raise MalformedError(
            f"member {shown(member.name)} is larger than {PICKLE_LIMIT_BYTES >> 20} MiB"
        )
    return source.read(data_offset(source, member), member.size_bytes)
