"""What one model file holds, as the readers of formats hand it to ``artifact``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stemma.domain.component import Signature
from stemma.store.formats.facts import TensorFact


@dataclass(frozen=True, slots=True, kw_only=True)
class FileContent:
    """What one model file holds.

    Attributes:
        tensors: By name.
        configuration: What else decides behaviour, JSON values.
        signature: Inputs and outputs, where the format declares them.
    """

    tensors: Mapping[str, TensorFact]
    configuration: Mapping[str, object]
    signature: Signature = field(default_factory=Signature)
