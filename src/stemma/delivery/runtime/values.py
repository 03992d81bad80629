"""JSON to arrays: typed while it is parsed, so that every fault is named with its place.

Invariants:
    * Nothing is allocated by a declared shape: data is counted first.
    * Text never becomes a fixed-width array: one long cell among many short ones would need
      the square of their size.
    * A value is taken when it fits without loss; text is never read as a number.

Example:
    >>> parse(b"[[1, 2.5]]", Wanted(name="X", dtype="float64", shape=(-1, 2)))
    array([[1. , 2.5]])
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from stemma.domain.component import ANY_SIZE, ValueSpec
from stemma.domain.errors import InvalidInputError

DATATYPES: Final = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "bfloat16": "BF16",
    "str": "BYTES",
}
"""Names of the Open Inference Protocol by numpy's."""

DTYPES: Final = {datatype: dtype for dtype, datatype in DATATYPES.items()}
"""numpy's names by those of the Open Inference Protocol."""

_MOST_DIMENSIONS: Final = 8
_START_BYTES: Final = 64
_LARGE_BYTES: Final = 1024 * 1024
_FAULT: Final = re.compile(
    r"Expected `(?P<wanted>.*)`, got `(?P<got>.*?)`(?: - at `\$(?P<at>.*)`)?"
)
_Kind: TypeAlias = str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a caller must send under one name.

    Attributes:
        name: As callers write it.
        dtype: numpy's name; ``str`` for text; empty: any number.
        shape: ``-1`` is any size.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    @staticmethod
    def of(spec: ValueSpec) -> Wanted:
        """Take the facts of a signature's input; torch's bfloat16 is sent as float32."""
        dtype = "float32" if spec.dtype == "bfloat16" else spec.dtype
        return Wanted(name=spec.name, dtype=dtype, shape=spec.shape)

    @property
    def text(self) -> str:
        """What is needed, for people: ``FP64 [-1, 64]``."""
        return f"{DATATYPES.get(self.dtype, self.dtype)} {list(self.shape)}"


def parse(raw: bytes | msgspec.Raw, wanted: Wanted) -> NDArray[Any]:
    """Read nested JSON lists.

    Raises:
        InvalidInputError: If they are no array of the wanted type and shape.
    """
    _refuse_hollow(raw, wanted)
    try:
        values = _decoder(_kind(wanted.dtype), len(wanted.shape)).decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise _fault(error, wanted) from error
    return shaped(_array(values, wanted), wanted)


def convert(values: Any, wanted: Wanted) -> NDArray[Any]:
    """Read lists that are parsed already; errors as for ``parse``."""
    try:
        typed = msgspec.convert(values, _list_type(_kind(wanted.dtype), len(wanted.shape)))
    except (msgspec.ValidationError, RecursionError) as error:
        raise _fault(error, wanted) from error
    return shaped(_array(typed, wanted), wanted)


def parse_flat(raw: msgspec.Raw, wanted: Wanted, shape: Sequence[int]) -> NDArray[Any]:
    """Read a tensor of a declared shape, whose data is nested or flat in row-major order.

    Raises:
        InvalidInputError: If data and shape do not belong together.
    """
    start = b"".join(bytes(memoryview(raw)[:_START_BYTES]).split())
    if len(shape) != 1 and start.startswith(b"[["):
        return parse(raw, Wanted(name=wanted.name, dtype=wanted.dtype, shape=tuple(shape)))
    flat = parse(raw, Wanted(name=wanted.name, dtype=wanted.dtype, shape=(ANY_SIZE,)))
    return reshaped(flat, shape, wanted.name)


def reshaped(flat: NDArray[Any], shape: Sequence[int], name: str) -> NDArray[Any]:
    """Give flat data its declared shape.

    Raises:
        InvalidInputError: If the data does not fill it.
    """
    # math.prod counts without bounds, where numpy's would wrap around.
    count = math.prod(shape) if all(size >= 0 for size in shape) else -1
    if len(shape) > _MOST_DIMENSIONS or count != flat.size or not count:
        raise InvalidInputError(
            f"{name}: {flat.size} values were sent for shape {_shown(shape)}",
            code="shape-mismatch",
            hint="send one value per place of the shape, and at least one row",
        )
    return flat.reshape(tuple(shape))


def shaped(array: NDArray[Any], wanted: Wanted) -> NDArray[Any]:
    """Check a shape.

    Raises:
        InvalidInputError: If it is another one, or there is no row.
    """
    is_same = array.ndim == len(wanted.shape) and all(
        need in {ANY_SIZE, size} for need, size in zip(wanted.shape, array.shape, strict=True)
    )
    if not is_same:
        raise InvalidInputError(
            f"{wanted.name} has shape {_shown(array.shape)}, needs {wanted.text}",
            code="shape-mismatch",
            hint="-1 stands for any number of rows",
        )
    if array.size == 0:
        raise InvalidInputError(
            f"{wanted.name} has no rows (shape {_shown(array.shape)}), needs {wanted.text}",
            code="no-rows",
            hint="send at least one row",
        )
    return array


def cast(array: NDArray[Any], dtype: str, wanted: Wanted) -> NDArray[Any]:
    """Return an array as the wanted type, when every value fits it.

    Args:
        array: What was sent.
        dtype: Its type as it was declared.
        wanted: What the model needs.

    Raises:
        InvalidInputError: If values could be lost.
    """
    if dtype == wanted.dtype or not wanted.dtype:
        return array
    is_text = "str" in {dtype, wanted.dtype}
    if not is_text and np.can_cast(np.dtype(dtype), np.dtype(wanted.dtype), "safe"):
        return array.astype(wanted.dtype)
    raise InvalidInputError(
        f"{wanted.name} is {DATATYPES[dtype]}, needs {wanted.text}",
        code="type-mismatch",
        hint=f"send it as {DATATYPES.get(wanted.dtype, wanted.dtype)}",
    )


def _refuse_hollow(raw: bytes | msgspec.Raw, wanted: Wanted) -> None:
    """Refuse lists that cannot hold the values their shape needs, before they become objects.

    A list that is empty takes three bytes as text and sixty in memory.
    """
    inner = math.prod(size for size in wanted.shape[1:] if size != ANY_SIZE)
    size = memoryview(raw).nbytes
    if size < _LARGE_BYTES or inner <= 1 or wanted.dtype == "str":
        return
    lists = bytes(raw).count(b"[") - 1
    innermost = wanted.shape[-1] if wanted.shape[-1] != ANY_SIZE else 1
    # Each value takes a character and what parts it from the next one.
    if lists * innermost * 2 > size * len(wanted.shape):
        raise InvalidInputError(
            f"{wanted.name} has rows of different length, needs {wanted.text}",
            code="ragged-rows",
            hint="send as many values in each row",
        )


def _kind(dtype: str) -> _Kind:
    if dtype == "str":
        return "text"
    if dtype == "bool":
        return "bool"
    return "whole" if dtype.startswith(("int", "uint")) else "number"


@cache
def _decoder(kind: _Kind, rank: int) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(_list_type(kind, rank))


@cache
def _list_type(kind: _Kind, rank: int) -> Any:
    # A missing number is NaN, a missing text None, as in a table.
    found: Any = {"text": str | None, "bool": bool, "whole": int, "number": float | None}[kind]
    for _ in range(rank):
        found = list[found]
    return found


def _array(values: Any, wanted: Wanted) -> NDArray[Any]:
    is_text = wanted.dtype == "str"
    if is_text and len(wanted.shape) == 1:
        return np.array(values, dtype=np.object_)
    try:
        # Else a number beyond the type would become infinity.
        with np.errstate(over="raise"):
            return np.array(values, dtype=np.object_ if is_text else wanted.dtype or np.float64)
    except (OverflowError, FloatingPointError) as error:
        raise InvalidInputError(
            f"{wanted.name} holds a number that does not fit, needs {wanted.text}: {error}",
            code="out-of-range",
            hint="send values in the range of the type",
        ) from error
    except ValueError as error:
        raise InvalidInputError(
            f"{wanted.name} has rows of different length, needs {wanted.text}",
            code="ragged-rows",
            hint="send as many values in each row",
        ) from error


def _fault(error: Exception, wanted: Wanted) -> InvalidInputError:
    """Put msgspec's words into ours: which place, what was sent, what is needed."""
    found = _FAULT.fullmatch(str(error))
    if found is None:
        text = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        message = f"{wanted.name}: {text}; needs {wanted.text}"
    else:
        place = (found["at"] or "").replace("[...]", "")
        message = f"{wanted.name}{place} is {found['got']}, needs {wanted.text}"
    return InvalidInputError(
        message, code="value-mismatch", hint="GET /v2/models/NAME shows what is needed"
    )


def _shown(shape: Sequence[int]) -> str:
    text = str(list(shape))
    return text if len(text) <= 100 else f"{text[:100]}…"  # noqa: PLR2004 - a line's length
