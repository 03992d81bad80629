"""The policy of a model: what its table in ``stemma.toml`` asks for.

Invariants:
    * An unknown key, a wrong type or a malformed gate is refused with its dotted
      key, what is allowed and what was probably meant; nothing is ignored.
    * An empty table is a valid policy: no gates, profile ``default``.

This module reads a plain mapping; it does not read files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Final

from stemma.domain.configuration import Configuration, parse_configuration
from stemma.domain.errors import InvalidInputError
from stemma.domain.profiles import DEFAULT, PROFILES, Profile
from stemma.domain.table import Table, unknown_key, wrong_type
from stemma.domain.threshold import Gate

PERSONAL_DATA: Final = ("none", "pseudonymised", "personal", "sensitive")
"""Kinds of personal data in what a model was trained on, from harmless to grave."""

METADATA_TYPES: Final = ("str", "int", "bool", "list", "date")
"""Types that a metadata field may have."""

BUDGET_UNITS: Final = {"ms": "ms", "s": "s", "mib": "MiB", "gib": "GiB", "mb": "MB", "wh": "Wh"}
"""Suffix of a budget's key, and the unit it stands for."""


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
        serve: What the model is served with; no part of how versions are judged.
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
    serve: Configuration = field(default_factory=Configuration)


def parse_policy(values: Mapping[str, object], where: str) -> ModelPolicy:
    """Read the table ``[model.NAME]``; ``where`` is its dotted name, e.g. ``model.digits``.

    Raises:
        InvalidInputError: If a key is unknown, a type is wrong or a gate is malformed.
    """
    table = Table(values, where)
    policy = ModelPolicy(
        interface=table.texts("interface"),
        is_positional=table.flag("positional", default=False),
        is_open=table.flag("outputs_open", default=False),
        is_adapter_base=table.flag("adapter_base", default=False),
        gates=_gates(table.table("gates")),
        metadata=_metadata(table.table("metadata")),
        budgets=_budgets(table.table("budgets")),
        profile=_profile(table),
        golden_metric=table.text("golden_metric"),
        tolerance=table.number("tolerance", 0.0),
        licence=table.text("licence"),
        personal_data=table.text("personal_data", allowed=PERSONAL_DATA),
        approvers=table.texts("approvers"),
        expiry_days=table.whole("expiry_days", 14),
        fix_set=table.text("fix_set"),
        name_pattern=table.pattern("name_pattern"),
        reserved_names=table.texts("reserved_names"),
        is_pickle_allowed=table.flag("allow_pickle", default=False),
        serve=_serve(table),
    )
    table.close()
    return policy


def _serve(table: Table) -> Configuration:
    return parse_configuration(table.table("serve").values, table.dotted("serve"))


def _gates(table: Table) -> tuple[Gate, ...]:
    gates: list[Gate] = []
    for key in table.names:
        try:
            gates.append(Gate.parse(key, table.text(key)))
        except InvalidInputError as error:
            if error.code != "bad-gate":
                raise
            raise InvalidInputError(
                f"{table.dotted(key)}: {error.message}", code="bad-gate", hint=error.hint
            ) from error
    return tuple(gates)


def _budgets(table: Table) -> tuple[Budget, ...]:
    budgets: list[Budget] = []
    for key in table.names:
        metric, _, suffix = key.rpartition("_")
        if not metric or suffix not in BUDGET_UNITS:
            raise InvalidInputError(
                f"{table.dotted(key)}: a budget's name ends in its unit, one of "
                f"{', '.join(f'_{unit}' for unit in BUDGET_UNITS)}",
                code="bad-setting",
                hint="e.g. latency_p99_ms = 10 or memory_peak_mib = 512",
            )
        unit, maximum = BUDGET_UNITS[suffix], table.number(key, 0.0)
        budgets.append(Budget(key=key, metric=metric, unit=unit, maximum=maximum))
    return tuple(budgets)


def _profile(table: Table) -> Profile:
    base = PROFILES[table.text("profile", "default", allowed=tuple(PROFILES))]
    own = table.table("thresholds")
    if not own.names:
        return base
    names = [item.name for item in fields(Profile) if item.name != "name"]
    for key in own.names:
        if key not in names:
            raise unknown_key(own.dotted(key), key, names)
    confidence = own.number("confidence", base.confidence)
    if not 0 < confidence < 1:
        raise wrong_type(own.dotted("confidence"), "a number between 0 and 1", confidence)
    return Profile(
        name=f"{base.name} (adjusted)",
        golden_set_minimum_rows=own.whole("golden_set_minimum_rows", base.golden_set_minimum_rows),
        confidence=confidence,
        churn_patch=own.number("churn_patch", base.churn_patch),
        broken_patch=own.number("broken_patch", base.broken_patch),
        metric_patch_points=own.number("metric_patch_points", base.metric_patch_points),
        broken_minor=own.number("broken_minor", base.broken_minor),
        metric_minor_points=own.number("metric_minor_points", base.metric_minor_points),
        slice_minimum_rows=own.whole("slice_minimum_rows", base.slice_minimum_rows),
        slice_drop_points=own.number("slice_drop_points", base.slice_drop_points),
        fix_set_maximum_share=own.number("fix_set_maximum_share", base.fix_set_maximum_share),
        redesign_share=own.number("redesign_share", base.redesign_share),
        service_growth=own.number("service_growth", base.service_growth),
    )


def _metadata(table: Table) -> tuple[MetadataField, ...]:
    return tuple(_metadata_field(table, name) for name in table.names)


def _metadata_field(table: Table, name: str) -> MetadataField:
    """Read ``owner = "str"`` or a table with type, required, allowed, pattern and unit."""
    if isinstance(table.value(name), str):
        return MetadataField(name=name, type=table.text(name, allowed=METADATA_TYPES))
    row = table.table(name)
    kind = row.text("type", "str", allowed=METADATA_TYPES)
    allowed = row.value("allowed")
    expected = int if kind == "int" else str
    if allowed is not None and (
        not isinstance(allowed, list | tuple)
        or not all(isinstance(value, expected) and not isinstance(value, bool) for value in allowed)
    ):
        raise wrong_type(row.dotted("allowed"), f"a list of {expected.__name__} values", allowed)
    found = MetadataField(
        name=name,
        type=kind,
        is_required=row.flag("required", default=True),
        allowed=() if allowed is None else tuple(allowed),
        pattern=row.pattern("pattern"),
        unit=row.text("unit"),
    )
    row.close()
    return found
