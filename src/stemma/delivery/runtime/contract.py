"""A version's signature as the rule for what callers send.

Invariants:
    * What passes has every input the model needs, under its own name, in the signature's order,
      with as many rows each.
    * Every refusal names the input, what was sent and what is needed.

A version without a signature (a torch module recorded without a test set) takes one array of
numbers of any shape, under any name.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from numpy.typing import NDArray

from stemma.delivery.runtime.model import Inputs
from stemma.delivery.runtime.values import Wanted
from stemma.domain.component import ANY_SIZE, Signature
from stemma.domain.errors import InvalidInputError

OPEN_NAME: Final = "input"
"""Name of the only input of a version without a signature."""

_COLUMN: Final = (ANY_SIZE,)
_SHOWN: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """What callers must send.

    Attributes:
        wanted: Inputs by their own name, in order; empty for a version without a signature.
        own_names: Own name by every name callers may use.
        optional: Own names that may be left out.
    """

    wanted: Mapping[str, Wanted]
    own_names: Mapping[str, str]
    optional: frozenset[str]

    @staticmethod
    def of(signature: Signature) -> Contract:
        """Take the inputs of a signature."""
        inputs = signature.inputs
        return Contract(
            wanted={spec.name: Wanted.of(spec) for spec in inputs},
            own_names={alias: spec.name for spec in inputs for alias in (*spec.aliases, spec.name)},
            optional=frozenset(spec.name for spec in inputs if spec.is_optional),
        )

    @property
    def is_open(self) -> bool:
        """Whether nothing is known of the inputs."""
        return not self.wanted

    @property
    def is_table(self) -> bool:
        """Whether every input is a column: one value per row."""
        return bool(self.wanted) and all(w.shape == _COLUMN for w in self.wanted.values())

    @property
    def only(self) -> Wanted | None:
        """The only input; ``None`` when there are several or nothing is known."""
        return next(iter(self.wanted.values())) if len(self.wanted) == 1 else None

    def find(self, name: str) -> Wanted:
        """Return what is wanted under a name callers use.

        Raises:
            InvalidInputError: If there is no such input.
        """
        own = self.own_names.get(name)
        if own is None:
            raise self.unknown(name)
        return self.wanted[own]

    def unknown(self, name: str) -> InvalidInputError:
        """Return the error for an input that does not exist."""
        near = difflib.get_close_matches(name, list(self.own_names), n=1)
        return InvalidInputError(
            f"there is no input {name[:100]!r}; needed are {_listed(self.wanted)}",
            code="unknown-input",
            hint=f"did you mean {near[0]}?" if near else "GET /v2/models/NAME lists the inputs",
        )

    def gather(self, found: Mapping[str, NDArray[Any]]) -> Inputs:
        """Return what was found, complete and in order.

        Args:
            found: Arrays by own name.

        Raises:
            InvalidInputError: If an input is missing, or has another number of rows.
        """
        if self.is_open:
            return found
        self.require(found)
        lengths = {name: len(array) for name, array in found.items()}
        if len(set(lengths.values())) > 1:
            shown = ", ".join(f"{name} {length}" for name, length in list(lengths.items())[:_SHOWN])
            raise InvalidInputError(
                f"inputs have different numbers of rows: {shown}",
                code="length-mismatch",
                hint="send one value per row in every input",
            )
        return {name: found[name] for name in self.wanted if name in found}

    def require(self, names: Iterable[str], where: str = "") -> None:
        """Check that no input is missing.

        Raises:
            InvalidInputError: If one is; it is named with what is needed.
        """
        present = set(names)
        missing = [
            wanted.text and f"{name} ({wanted.text})"
            for name, wanted in self.wanted.items()
            if name not in present and name not in self.optional
        ]
        if missing:
            raise InvalidInputError(
                f"{where}missing {'input' if len(missing) == 1 else 'inputs'} {_listed(missing)}; "
                f"sent {_listed(sorted(present)) or 'none'}",
                code="missing-input",
                hint="GET /v2/models/NAME lists the inputs",
            )


def _listed(names: Iterable[str]) -> str:
    known = [name[:100] for name in names]
    rest = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    return ", ".join(known[:_SHOWN]) + rest
