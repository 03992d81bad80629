"""Which tensors a torch pickle speaks of: read as a list of opcodes, never loaded.

A small machine follows the opcodes with plain values only: texts, whole numbers, tuples and
dictionaries.  The few globals that torch writes are recognised by their names, which are looked
up nowhere; every other object is one and the same placeholder.

Invariants:
    * Nothing is imported, called or built that the pickle asks for.
    * At most 4 MiB and 300,000 opcodes; no recursion, whatever the nesting.
    * Only texts and numbers become keys, so nothing of the pickle is hashed in depth.
"""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Final, NamedTuple, final

from stemma.store.formats.ranges import ITEM_BYTES, MalformedError

PICKLE_LIMIT_BYTES: Final = 4 << 20
_OPCODE_LIMIT: Final = 300_000
_NAME_LIMIT_CHARACTERS: Final = 512
_DIMENSION_LIMIT: Final = 64
_NUMBER_LIMIT: Final = 1 << 62
_STORAGE_PARTS: Final = 5
_TENSOR_PARTS: Final = 4
_DTYPE_PART: Final = 6

_STORAGE_TYPES: Final = {
    "torch DoubleStorage": "float64",
    "torch FloatStorage": "float32",
    "torch HalfStorage": "float16",
    "torch BFloat16Storage": "bfloat16",
    "torch LongStorage": "int64",
    "torch IntStorage": "int32",
    "torch ShortStorage": "int16",
    "torch CharStorage": "int8",
    "torch ByteStorage": "uint8",
    "torch BoolStorage": "bool",
    "torch ComplexFloatStorage": "complex64",
    "torch ComplexDoubleStorage": "complex128",
}
_UNTYPED: Final = "torch.storage UntypedStorage"
_REBUILD: Final = frozenset({"torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor_v3"})
_REBUILD_PARAMETER: Final = "torch._utils _rebuild_parameter"


class Storage(NamedTuple):
    """One storage: the bytes that one or several tensors look at.

    Attributes:
        name: Where the first tensor that looks at it stands in the pickle, parts joined by dots.
        dtype: Its element type, one of ``ITEM_BYTES``.
        shape: That tensor's shape if it is all of the storage in C order, else one dimension.
        size_bytes: Its size.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    size_bytes: int


class TensorView(NamedTuple):
    """One tensor: what it looks at of a storage; offset and strides count elements.

    Attributes:
        key: Key of the storage.
        storage_bytes: The storage's size.
        dtype: Element type, one of ``ITEM_BYTES``.
        offset: Where its first element is.
        shape: Sizes per dimension.
        strides: Steps per dimension.
    """

    key: str
    storage_bytes: int
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Global(NamedTuple):
    """A name that the pickle would import."""

    name: str


@dataclass(slots=True, eq=False)
class _Storage:
    """A storage as the pickle calls for it; ``count`` is in bytes while it has no type."""

    key: str
    dtype: str
    count: int
    tensor_dtype: str = ""
    shape: tuple[int, ...] | None = None


class _View(NamedTuple):
    """A tensor as the pickle rebuilds it: nothing of it is checked yet."""

    storage: _Storage
    offset: object
    shape: object
    strides: object


class _Other:
    """Whatever does not matter."""


_OTHER: Final = _Other()


def read_storages(pickle: bytes) -> dict[str, Storage]:
    """Return the storages whose element type is certain, by their key.

    Raises:
        MalformedError: If the bytes are no pickle, or one too large to follow.
    """
    machine = _follow(pickle)
    names = _names(machine.answer)
    storages = {}
    for key, storage in machine.storages.items():
        known = _described(storage, names.get(key) or f"data/{key}")
        if known is not None:
            storages[key] = known
    return storages


def read_tensors(pickle: bytes) -> dict[str, TensorView]:
    """Return the tensors whose element type and place are certain, by their name.

    Raises:
        MalformedError: If the bytes are no pickle, or one too large to follow.
    """
    found = _walk(_follow(pickle).answer)
    views = {name: _viewed(value) for name, value in found if isinstance(value, _View)}
    return {name: view for name, view in views.items() if view is not None}


def _follow(pickle: bytes) -> _Machine:
    machine = _Machine()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a text in the pickle may have odd escapes
            for steps, (opcode, argument, _) in enumerate(pickletools.genops(pickle)):
                if steps >= _OPCODE_LIMIT:
                    raise MalformedError(f"its pickle has more than {_OPCODE_LIMIT} opcodes")
                machine.step(opcode, argument)
    except IndexError as error:
        raise MalformedError("its pickle takes more than is there") from error
    except ValueError as error:
        raise MalformedError(f"its pickle cannot be read: {error}") from error
    return machine


def _viewed(view: _View) -> TensorView | None:
    storage = view.storage
    dtype = storage.dtype or storage.tensor_dtype
    item_bytes = ITEM_BYTES.get(dtype)
    shape, strides = _numbers(view.shape), _numbers(view.strides)
    if item_bytes is None or shape is None or strides is None or len(shape) != len(strides):
        return None
    if not isinstance(view.offset, int) or not _is_number(view.offset):
        return None
    storage_bytes = storage.count * (item_bytes if storage.dtype else 1)
    return TensorView(storage.key, storage_bytes, dtype, view.offset, shape, strides)


def _numbers(value: object) -> tuple[int, ...] | None:
    if not isinstance(value, tuple) or len(value) > _DIMENSION_LIMIT:
        return None
    found = tuple(item for item in value if isinstance(item, int) and _is_number(item))
    return found if len(found) == len(value) else None


def _described(storage: _Storage, name: str) -> Storage | None:
    dtype = storage.dtype or storage.tensor_dtype
    item_bytes = ITEM_BYTES.get(dtype)
    if item_bytes is None:
        return None
    size_bytes = storage.count * (item_bytes if storage.dtype else 1)
    count = size_bytes // item_bytes
    is_whole = storage.shape is not None and prod(storage.shape) == count
    shape = storage.shape if is_whole and storage.shape is not None else (count,)
    return Storage(name, dtype, shape, size_bytes)


def _names(root: object) -> dict[str, str]:
    """Return a name per storage key: the path of the first tensor that looks at it."""
    names: dict[str, str] = {}
    for path, value in _walk(root):
        storage = value.storage if isinstance(value, _View) else value
        names.setdefault(storage.key, path)
    return names


def _walk(root: object) -> Iterator[tuple[str, _Storage | _View]]:
    """Yield every storage and tensor with its path in the pickle, parts joined by dots."""
    seen: set[int] = set()
    left: list[tuple[str, object]] = [("", root)]
    while left:
        path, value = left.pop()
        if isinstance(value, (_Storage, _View)):
            yield path, value
        if not isinstance(value, dict) or id(value) in seen:
            continue
        seen.add(id(value))
        for key, item in reversed(value.items()):
            is_short = len(path) + len(str(key)) < _NAME_LIMIT_CHARACTERS
            if is_short and isinstance(item, (dict, _Storage, _View)):
                left.append((f"{path}.{key}" if path else str(key), item))


@final
class _Machine:
    """Follows opcodes; ``storages`` and ``answer`` are what is left at the end."""

    def __init__(self) -> None:
        self.storages: dict[str, _Storage] = {}
        self.answer: object = None
        self._stack: list[object] = []
        self._marks: list[int] = []
        self._memo: dict[object, object] = {}
        self._verbs: dict[str, Callable[[object], None]] = {
            "MARK": lambda _: self._marks.append(len(self._stack)),
            "STOP": self._stop,
            "GLOBAL": lambda name: self._stack.append(_Global(str(name))),
            "STACK_GLOBAL": self._stack_global,
            "EMPTY_DICT": lambda _: self._stack.append({}),
            "EMPTY_TUPLE": lambda _: self._stack.append(()),
            "TUPLE": lambda _: self._stack.append(tuple(self._pop_to_mark())),
            "TUPLE1": lambda _: self._stack.append(tuple(self._pop(1))),
            "TUPLE2": lambda _: self._stack.append(tuple(self._pop(2))),
            "TUPLE3": lambda _: self._stack.append(tuple(self._pop(3))),
            "SETITEM": lambda _: self._set_items(self._pop(2)),
            "SETITEMS": lambda _: self._set_items(self._pop_to_mark()),
            "REDUCE": self._reduce,
            "BUILD": self._build,
            "BINPERSID": self._persistent,
            "MEMOIZE": lambda _: self._put(len(self._memo)),
            **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), self._put),
            **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), self._get),
        }

    def step(self, opcode: pickletools.OpcodeInfo, argument: object) -> None:
        verb = self._verbs.get(opcode.name)
        if verb is not None:
            verb(argument)
            return
        # All others do to the stack what pickletools says, with values of no interest.
        before = opcode.stack_before
        if pickletools.markobject in before:
            self._pop_to_mark()
            before = before[: before.index(pickletools.markobject)]
        self._pop(len(before))
        is_value = not before and isinstance(argument, (str, int))
        self._stack += [argument if is_value else _OTHER for _ in opcode.stack_after]

    def _pop(self, count: int) -> list[object]:
        keep = len(self._stack) - count
        if keep < (self._marks[-1] if self._marks else 0):
            raise IndexError
        popped = self._stack[keep:]
        del self._stack[keep:]
        return popped

    def _pop_to_mark(self) -> list[object]:
        mark = self._marks.pop()
        popped = self._stack[mark:]
        del self._stack[mark:]
        return popped

    def _stop(self, _: object) -> None:
        self.answer = self._pop(1)[0]

    def _put(self, index: object) -> None:
        self._memo[index] = self._stack[-1]

    def _get(self, index: object) -> None:
        self._stack.append(self._memo.get(index, _OTHER))

    def _stack_global(self, _: object) -> None:
        module, name = self._pop(2)
        is_known = isinstance(module, str) and isinstance(name, str)
        self._stack.append(_Global(f"{module} {name}") if is_known else _OTHER)

    def _set_items(self, items: list[object]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict):
            return
        for key, value in zip(items[::2], items[1::2], strict=False):
            if isinstance(key, (str, int)):
                target[key] = value

    def _build(self, _: object) -> None:
        """Let an object of no interest become its state; a dictionary stays what it is."""
        (state,) = self._pop(1)
        if self._stack[-1] is _OTHER and isinstance(state, dict):
            self._stack[-1] = state

    def _reduce(self, _: object) -> None:
        called, arguments = self._pop(2)
        answer: object = _OTHER
        if isinstance(called, _Global) and isinstance(arguments, tuple):
            if called.name == "collections OrderedDict" and not arguments:
                answer = {}
            elif called.name in _REBUILD:
                answer = _looked_at(arguments)
            elif called.name == _REBUILD_PARAMETER and arguments:
                answer = arguments[0]
        self._stack.append(answer)

    def _persistent(self, _: object) -> None:
        (identity,) = self._pop(1)
        storage = _storage(identity)
        if storage is not None:
            storage = self.storages.setdefault(storage.key, storage)
        self._stack.append(_OTHER if storage is None else storage)


def _storage(identity: object) -> _Storage | None:
    if not isinstance(identity, tuple) or len(identity) != _STORAGE_PARTS:
        return None
    word, kind, key, _, count = identity
    if word != "storage" or not isinstance(kind, _Global) or not isinstance(key, str):
        return None
    dtype = _STORAGE_TYPES.get(kind.name, "")
    if not (dtype or kind.name == _UNTYPED) or not _is_number(count):
        return None
    return _Storage(key=key, dtype=dtype, count=count)


def _looked_at(arguments: tuple[object, ...]) -> object:
    """Return a tensor, having noted its shape at its storage if it is the first there."""
    if len(arguments) < _TENSOR_PARTS:
        return _OTHER
    storage, offset, shape, stride = arguments[:_TENSOR_PARTS]
    if not isinstance(storage, _Storage):
        return _OTHER
    view = _View(storage, offset, shape, stride)
    if storage.shape is not None or storage.tensor_dtype:
        return view
    dtype = arguments[_DTYPE_PART] if len(arguments) > _DTYPE_PART else None
    if isinstance(dtype, _Global):
        storage.tensor_dtype = dtype.name.removeprefix("torch ")
    if offset == 0 and isinstance(shape, tuple) and _is_contiguous(shape, stride):
        storage.shape = shape
    return view


def _is_contiguous(shape: tuple[object, ...], stride: object) -> bool:
    if len(shape) > _DIMENSION_LIMIT or not all(map(_is_number, shape)):
        return False
    sizes = [size for size in shape if isinstance(size, int)]
    return stride == tuple(prod(sizes[place + 1 :]) for place in range(len(sizes)))


def _is_number(value: object) -> bool:
    return isinstance(value, int) and 0 <= value < _NUMBER_LIMIT
