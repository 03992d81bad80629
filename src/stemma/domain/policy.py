"""The policy of a model: what its table in ``stemma.toml`` asks for.

Invariants:
    * An unknown key, a wrong type or a malformed gate is refused with its dotted
      key, what is allowed and what was probably meant; nothing is ignored.
    * An empty table is a valid policy: no gates, profile ``default``.

This module reads a plain mapping; it does not read files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stemma.domain.profiles import DEFAULT, Profile
from stemma.domain.threshold import Gate


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataField:
    """One metadata value that a model's versions carry.

    Attributes:
        name: Its name in ``manifest.metadata``.
        type: ``str``, ``int``, ``bool``, ``list`` or ``date`` (ISO 8601, ``2026-05-03``).
        is_required: A version without it does not pass.
        allowed: Allowed values; empty: any.
        pattern: Regular expression the whole text must match; empty: any.
        unit: Unit of an ``int``; empty when there is none.
    """

    name: str
    type: str = "str"
    is_required: bool = True
    allowed: tuple[str | int, ...] = ()
    pattern: str = ""
    unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The most a version may use of something, from ``[model.NAME.budgets]``.

    Attributes:
        key: As written, e.g. ``latency_p99_ms``.
        metric: Name in ``manifest.evidence.service``, e.g. ``latency_p99``.
        unit: e.g. ``ms``.
        maximum: Highest value that passes.
    """

    key: str
    metric: str
    unit: str
    maximum: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPolicy:
    """What a model's versions must be, and how their numbers are chosen.

    Attributes:
        interface: Methods that callers rely on; losing one is a MAJOR change.
        is_positional: Callers pass inputs by position, so their order is a promise.
        is_open: Outputs are declared open: further ones do not break callers.
        is_adapter_base: Declared as a base for adapters.
        gates: Conditions on metrics, in the order written.
        metadata: Metadata fields, in the order written.
        budgets: Budgets on the service level.
        profile: Thresholds for the behaviour axis.
        golden_metric: Metric that ``log`` shows and behaviour is named by; empty: the first.
        tolerance: For regression: answers this near to each other are the same.
        licence: SPDX expression recorded with each version; empty: undeclared.
        personal_data: ``none``, ``pseudonymised``, ``personal``, ``sensitive``; empty: undeclared.
        approvers: User names who may release; empty: everybody.
        expiry_days: Days after which an unreleased candidate may be removed.
        fix_set: File that lists the golden rows this release means to change; empty: none.
        name_pattern: Regular expression that channel names of this model must match; empty: any.
        reserved_names: Channel names that nobody may take.
        is_pickle_allowed: Versions may contain a pickle.
    """

    interface: tuple[str, ...] = ()
    is_positional: bool = False
    is_open: bool = False
    is_adapter_base: bool = False
    gates: tuple[Gate, ...] = ()
    metadata: tuple[MetadataField, ...] = ()
    budgets: tuple[Budget, ...] = ()
    profile: Profile = DEFAULT
    golden_metric: str = ""
    tolerance: float = 0.0
    licence: str = ""
    personal_data: str = ""
    approvers: tuple[str, ...] = ()
    expiry_days: int = 14
    fix_set: str = ""
    name_pattern: str = ""
    reserved_names: tuple[str, ...] = ()
    is_pickle_allowed: bool = False


def parse_policy(table: Mapping[str, object], where: str) -> ModelPolicy:
    """Read the table ``[model.NAME]``; ``where`` is its dotted name, e.g. ``model.digits``.

    Raises:
        InvalidInputError: If a key is unknown, a type is wrong or a gate is malformed.
    """
    raise NotImplementedError
