"""The loops in C: ``accelerator.c``, compiled when Stemma was installed (``hatch_build.py``).

Invariants:
    * The library is used only if it was compiled from the source beside it, and answers a small
      question as numpy does; otherwise this module says why it is not used.
    * Sizes are checked before each call, so that the C code stays inside its arrays.
    * Called through ctypes, which lets other threads run meanwhile.

Correctness of what is stored does not rest on this module: digests are of the raw bytes, and a
block that reads back wrongly is refused whoever encoded it.  It does not compile anything, and
does not decide whether the library is wanted (``selection``).
"""

from __future__ import annotations

import ctypes
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple, final

import numpy as np
from typing_extensions import override

from stemma.store.codecs.delta import exponent_field, is_groupable
from stemma.store.codecs.kernels.base import Counts, Kernels
from stemma.store.codecs.kernels.portable import PortableKernels
from stemma.store.codecs.words import Planes, Words, is_rotated, word_bytes

LIBRARY: Final = Path(__file__).with_name("accelerator.so")
SOURCE: Final = Path(__file__).with_name("accelerator.c")

_CASTS: Final = {
    ("float32", "bfloat16"): 1,
    ("float32", "float16"): 2,
    ("bfloat16", "float32"): 3,
    ("float16", "float32"): 4,
}
_OCTET: Final = "uint8"
_POINTER: Final = ctypes.c_void_p
_SIZE: Final = ctypes.c_size_t
_INT: Final = ctypes.c_int
_ARGUMENTS: Final = {
    "split": (_POINTER, _SIZE, _INT, _INT, _POINTER, _SIZE),
    "merge": (_POINTER, _SIZE, _INT, _INT, _POINTER),
    "split_residuals": (_POINTER, _POINTER, _SIZE, _INT, _INT, _POINTER, _SIZE),
    "merge_residuals": (_POINTER, _POINTER, _SIZE, _INT, _INT, _POINTER),
    "split_grouped": (_POINTER, _POINTER, _SIZE, _INT, _INT, _INT, _POINTER, _POINTER, _SIZE),
    "count": (_POINTER, _POINTER, _SIZE, _POINTER),
    "merge_grouped": (_POINTER, _POINTER, _SIZE, _INT, _INT, _INT, _POINTER, _POINTER),
}
_PROBES: Final = (
    *((dtype, dtype) for dtype in ("uint8", "int16", "bfloat16", "float16", "float32", "float64")),
    *((dtype, parent_dtype) for parent_dtype, dtype in _CASTS),
)
_PROBE_WORDS: Final = 2_500
"""More than two tiles of the C code and a rest."""


class Loaded(NamedTuple):
    """The loops in C, or none and why not."""

    kernels: NativeKernels | None
    obstacle: str


def load(library: Path = LIBRARY, source: Path = SOURCE) -> Loaded:
    """Return the loops in C if they are there and to be trusted."""
    if sys.byteorder != "little":
        return Loaded(None, "this machine's numbers are big-endian")
    if not library.exists():
        return Loaded(None, "no C compiler when Stemma was installed")
    try:
        loaded = ctypes.CDLL(str(library))
        stamp = int(ctypes.c_uint32.in_dll(loaded, "stemma_source_crc32").value)
        for name, arguments in _ARGUMENTS.items():
            function = getattr(loaded, f"stemma_{name}")
            function.argtypes, function.restype = arguments, None
        is_current = stamp == zlib.crc32(source.read_bytes())
    except (OSError, ValueError, AttributeError) as error:
        return Loaded(None, f"it cannot be loaded: {error}")
    if not is_current:
        return Loaded(None, "it was compiled from another source; install Stemma again")
    kernels = NativeKernels(loaded)
    if not agree(kernels, PortableKernels()):
        return Loaded(None, "its answers differ from numpy's")
    return Loaded(kernels, "")


@final
class NativeKernels(Kernels):
    """Every loop as one pass in C."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    @override
    def split(self, words: Words, dtype: str, planes: Planes) -> None:
        source, rows = _Input(words, dtype), _rows(planes, len(words), dtype)
        self._library.stemma_split(
            source.address, len(words), word_bytes(dtype), is_rotated(dtype), rows, len(words)
        )

    @override
    def merge(self, planes: Sequence[Planes], dtype: str, out: Words) -> None:
        rows = _Rows(planes, len(out), dtype)
        self._library.stemma_merge(
            rows.address, len(out), word_bytes(dtype), is_rotated(dtype), _output(out, dtype)
        )

    @override
    def split_residuals(
        self, words: Words, dtype: str, parent: Words, parent_dtype: str, planes: Planes
    ) -> None:
        source, before = _Input(words, dtype), _Input(parent, parent_dtype, len(words))
        self._library.stemma_split_residuals(
            source.address,
            before.address,
            len(words),
            word_bytes(dtype),
            _cast(parent_dtype, dtype),
            _rows(planes, len(words), dtype),
            len(words),
        )

    @override
    def merge_residuals(
        self, planes: Sequence[Planes], dtype: str, parent: Words, parent_dtype: str, out: Words
    ) -> None:
        rows, before = _Rows(planes, len(out), dtype), _Input(parent, parent_dtype, len(out))
        self._library.stemma_merge_residuals(
            rows.address,
            before.address,
            len(out),
            word_bytes(dtype),
            _cast(parent_dtype, dtype),
            _output(out, dtype),
        )

    @override
    def split_grouped(self, words: Words, dtype: str, parent: Words, planes: Planes) -> None:
        source, before = _Input(words, dtype), _Input(parent, dtype, len(words))
        scratch = np.empty(len(words), dtype=f"<u{word_bytes(dtype)}")
        self._library.stemma_split_grouped(
            source.address,
            before.address,
            len(words),
            word_bytes(dtype),
            *exponent_field(dtype),
            _writable(scratch),
            _rows(planes, len(words), dtype),
            len(words),
        )

    @override
    def merge_grouped(
        self, planes: Sequence[Planes], dtype: str, parent: Words, out: Words
    ) -> None:
        rows, before = _Rows(planes, len(out), dtype), _Input(parent, dtype, len(out))
        scratch = np.empty(len(out), dtype=f"<u{word_bytes(dtype)}")
        self._library.stemma_merge_grouped(
            rows.address,
            before.address,
            len(out),
            word_bytes(dtype),
            *exponent_field(dtype),
            _writable(scratch),
            _output(out, dtype),
        )

    @override
    def count(self, symbols: Planes, groups: Planes | None = None) -> Counts:
        source = _Input(symbols, _OCTET)
        labels = None if groups is None else _Input(groups, _OCTET, len(symbols))
        counts = np.empty(256 if labels is None else 1 << 16, dtype=np.uint32)
        self._library.stemma_count(
            source.address, labels and labels.address, len(symbols), _writable(counts)
        )
        return counts


class _Input:
    """Where words rest, kept alive for the call; copied only if they do not lie in a row."""

    def __init__(self, words: Words, dtype: str, count: int | None = None) -> None:
        self._words = np.ascontiguousarray(words, dtype=f"<u{word_bytes(dtype)}")
        if count is not None and len(self._words) != count:
            raise ValueError(f"{len(self._words)} words for {count} others")
        self.address = self._words.ctypes.data


class _Rows:
    """Where planes rest, one address per byte of a word."""

    def __init__(self, planes: Sequence[Planes], count: int, dtype: str) -> None:
        self._planes = [np.ascontiguousarray(plane, dtype=np.uint8) for plane in planes]
        sizes = [len(plane) for plane in self._planes]
        if sizes != [count] * word_bytes(dtype):
            raise ValueError(f"planes of {sizes} bytes for {count} words of {dtype}")
        addresses = [plane.ctypes.data for plane in self._planes]
        self._addresses = (ctypes.c_void_p * len(addresses))(*addresses)
        self.address = ctypes.addressof(self._addresses)


def _rows(planes: Planes, count: int, dtype: str) -> int:
    if planes.shape != (word_bytes(dtype), count) or planes.dtype != np.uint8:
        raise ValueError(f"planes of shape {planes.shape} for {count} words of {dtype}")
    return _writable(planes)


def _output(out: Words, dtype: str) -> int:
    if out.ndim != 1 or out.dtype != np.dtype(f"<u{word_bytes(dtype)}"):
        raise ValueError(f"words of {out.dtype} for {dtype}")
    return _writable(out)


def _writable(array: Planes | Words | Counts) -> int:
    if not (array.flags.c_contiguous and array.flags.writeable):
        raise ValueError("the result must lie in a row and be writable")
    return int(array.ctypes.data)


def _cast(parent_dtype: str, dtype: str) -> int:
    return 0 if parent_dtype == dtype else _CASTS[parent_dtype, dtype]


def agree(one: Kernels, other: Kernels) -> bool:
    """Whether two sets of loops answer a small question alike, in every width and cast."""
    return all(
        _answers(one, dtype, parent_dtype) == _answers(other, dtype, parent_dtype)
        for dtype, parent_dtype in _PROBES
    )


def _answers(kernels: Kernels, dtype: str, parent_dtype: str) -> list[bytes]:
    """Return what each loop makes of numbers without a pattern."""
    words, parent = _probe(dtype, 1), _probe(parent_dtype, 3)
    planes: Planes = np.empty((words.itemsize, len(words)), dtype=np.uint8)
    out, answers = np.empty_like(words), []
    kernels.split(words, dtype, planes)
    answers.append(planes.tobytes())
    kernels.merge(list(planes), dtype, out)
    answers.append(out.tobytes())
    answers += [kernels.count(planes[0]).tobytes(), kernels.count(planes[0], planes[-1]).tobytes()]
    kernels.split_residuals(words, dtype, parent, parent_dtype, planes)
    answers.append(planes.tobytes())
    kernels.merge_residuals(list(planes), dtype, parent, parent_dtype, out)
    answers.append(out.tobytes())
    if parent_dtype == dtype and is_groupable(dtype):
        kernels.split_grouped(words, dtype, parent, planes)
        answers.append(planes.tobytes())
        kernels.merge_grouped(list(planes), dtype, parent, out)
        answers.append(out.tobytes())
    return answers


def _probe(dtype: str, seed: int) -> Words:
    numbers = np.arange(seed, seed + _PROBE_WORDS, dtype="<u8") * np.uint64(0x9E3779B97F4A7C15)
    width = word_bytes(dtype)
    return (numbers >> np.uint64(64 - 8 * width)).astype(f"<u{width}")
