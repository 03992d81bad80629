"""Recognising pickles by their opcodes; nothing is ever loaded.

Invariants:
    * When in doubt it is a pickle: a false alarm costs a question, a miss runs code.
    * An opcode that breaks off later is no excuse: what stands before it would have run.
"""

from __future__ import annotations

import pickletools
import re
import warnings
from typing import Final, NamedTuple

_PROTOCOL_OPCODE: Final = 0x80
_FRAMED_PROTOCOLS: Final = range(2, 6)
_FEWEST_OPCODES: Final = 3
_NAME: Final = re.compile(r"[\w.]+ [\w.]+")
_BUILDING: Final = frozenset(
    {"GLOBAL", "PUT", "BINPUT", "DICT", "LIST", "TUPLE", "STRING", "UNICODE", "BINUNICODE"}
)
_CALLS: Final = (
    frozenset({"GLOBAL", "TUPLE", "REDUCE"}),
    frozenset({"GLOBAL", "EMPTY_TUPLE", "REDUCE"}),
    frozenset({"GLOBAL", "MARK", "OBJ"}),
    frozenset({"MARK", "INST"}),
)
"""Opcodes that together call something, in the protocols that announce nothing."""


class _Opcodes(NamedTuple):
    """What reading opcodes met: their names, and how the reading ended."""

    names: list[str]
    stopped_at: int
    has_run_out: bool


def is_pickle(head: bytes, *, is_whole: bool) -> bool:
    """Return whether a file that starts with ``head`` is a pickle of any protocol.

    Args:
        head: The file's first bytes.
        is_whole: Whether that is all of the file.
    """
    met = _read(head)
    if len(head) > 1 and head[0] == _PROTOCOL_OPCODE and head[1] in _FRAMED_PROTOCOLS:
        return met.stopped_at > 0 or not is_whole or len(met.names) >= _FEWEST_OPCODES
    names = set(met.names)
    if any(call <= names for call in _CALLS):
        return True
    is_building = not names.isdisjoint(_BUILDING)
    if met.stopped_at:
        is_all = is_whole and met.stopped_at == len(head)
        return is_building or (is_all and len(met.names) > 1)
    return is_building and met.has_run_out and not is_whole


def _read(head: bytes) -> _Opcodes:
    names: list[str] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # text that is no pickle has odd escapes
            for opcode, argument, position in pickletools.genops(head):
                if opcode.name in {"GLOBAL", "INST"} and not _NAME.fullmatch(str(argument)):
                    break
                names.append(opcode.name)
                if opcode.name == "STOP":
                    return _Opcodes(names, (position or 0) + 1, has_run_out=False)
    except ValueError as error:
        # "at position 7, opcode b'x' unknown" is a fault; all others ask for more bytes.
        return _Opcodes(names, 0, has_run_out="unknown" not in str(error))
    return _Opcodes(names, 0, has_run_out=False)
