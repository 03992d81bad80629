"""The policy of a model, read from a plain table."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from stemma.domain.errors import InvalidInputError
from stemma.domain.policy import MetadataField, ModelPolicy, parse_policy
from stemma.domain.profiles import PROFILES, Profile


def test_an_empty_table_is_a_policy() -> None:
    """``stemma init`` would write more than users need."""
    assert parse_policy({}, "model.digits") == ModelPolicy()


def test_a_full_table_is_read() -> None:
    """A documented setting would be ignored."""
    policy = parse_policy(
        {
            "interface": ["predict", "predict_proba"],
            "positional": True,
            "outputs_open": True,
            "adapter_base": True,
            "gates": {"accuracy": ">= 0.965", "recall[class=*]": ">= 0.90"},
            "metadata": {"owner": "str", "score": {"type": "int", "unit": "px", "allowed": [1]}},
            "budgets": {"latency_p99_ms": 10, "memory_peak_mib": 512.5},
            "profile": "strict",
            "golden_metric": "accuracy",
            "tolerance": 0.1,
            "licence": "Apache-2.0",
            "personal_data": "none",
            "approvers": ["ada"],
            "expiry_days": 30,
            "fix_set": "fixes.txt",
            "name_pattern": "[a-z]+",
            "reserved_names": ["beta"],
            "allow_pickle": True,
        },
        "model.digits",
    )
    assert policy.interface == ("predict", "predict_proba")
    assert [gate.key for gate in policy.gates] == ["accuracy", "recall[class=*]"]
    assert policy.metadata[1] == MetadataField(name="score", type="int", unit="px", allowed=(1,))
    assert [(row.metric, row.unit, row.maximum) for row in policy.budgets] == [
        ("latency_p99", "ms", 10.0),
        ("memory_peak", "MiB", 512.5),
    ]
    assert policy.profile is PROFILES["strict"]
    assert (policy.is_positional, policy.is_open, policy.is_adapter_base) == (True, True, True)
    assert (policy.expiry_days, policy.is_pickle_allowed) == (30, True)
    assert policy.approvers == ("ada",)


@pytest.mark.parametrize(
    ("table", "key", "hint"),
    [
        ({"interfaces": ["predict"]}, "model.digits.interfaces", "did you mean interface?"),
        ({"zzz": 1}, "model.digits.zzz", "see docs"),
        ({"interface": "predict"}, "model.digits.interface", "a list of strings"),
        ({"interface": [1]}, "model.digits.interface", "a list of strings"),
        ({"positional": "yes"}, "model.digits.positional", "true or false"),
        ({"gates": ["accuracy"]}, "model.digits.gates", "a table"),
        ({"gates": {"accuracy": 0.9}}, "model.digits.gates.accuracy", "a string"),
        ({"gates": {"accuracy": "high"}}, "model.digits.gates.accuracy", "a gate reads like"),
        ({"gates": {"a b": ">= 1"}}, 'model.digits.gates."a b"', "a metric reads like"),
        ({"profile": "stricter"}, "model.digits.profile", "did you mean strict?"),
        ({"profile": "?"}, "model.digits.profile", "e.g. strict"),
        ({"thresholds": {"churn": 1}}, "model.digits.thresholds.churn", "churn_patch"),
        ({"thresholds": {"churn_patch": "1"}}, "thresholds.churn_patch", "a number"),
        ({"thresholds": {"churn_patch": True}}, "thresholds.churn_patch", "a number"),
        ({"thresholds": {"churn_patch": -1}}, "thresholds.churn_patch", "at least 0"),
        ({"thresholds": {"churn_patch": float("nan")}}, "thresholds.churn_patch", "at least 0"),
        ({"thresholds": {"confidence": 1}}, "thresholds.confidence", "between 0 and 1"),
        ({"expiry_days": 0}, "model.digits.expiry_days", "at least 1"),
        ({"expiry_days": 1.5}, "model.digits.expiry_days", "at least 1"),
        ({"expiry_days": True}, "model.digits.expiry_days", "at least 1"),
        ({"budgets": {"latency": 10}}, "model.digits.budgets.latency", "latency_p99_ms"),
        ({"budgets": {"_ms": 10}}, "model.digits.budgets._ms", "latency_p99_ms"),
        ({"budgets": {"latency_p99_ms": "10"}}, "budgets.latency_p99_ms", "a number"),
        ({"metadata": {"owner": "text"}}, "model.digits.metadata.owner", "e.g. str"),
        ({"metadata": {"owner": 1}}, "model.digits.metadata.owner", "a table"),
        ({"metadata": {"owner": {"typ": "str"}}}, "metadata.owner.typ", "did you mean type?"),
        ({"metadata": {"owner": {"pattern": "["}}}, "metadata.owner.pattern", "e.g."),
        ({"metadata": {"owner": {"allowed": "a"}}}, "metadata.owner.allowed", "a list of str"),
        ({"metadata": {"owner": {"allowed": [1]}}}, "metadata.owner.allowed", "a list of str"),
        (
            {"metadata": {"n": {"type": "int", "allowed": [True]}}},
            "metadata.n.allowed",
            "a list of int",
        ),
        ({"personal_data": "some"}, "model.digits.personal_data", "e.g. none"),
        ({"licence": 1}, "model.digits.licence", "a string"),
    ],
)
def test_a_mistake_is_named_with_its_dotted_key(table: dict[str, Any], key: str, hint: str) -> None:
    """A wrong setting would be ignored, or the user left to search for it."""
    with pytest.raises(InvalidInputError) as caught:
        parse_policy(table, "model.digits")
    assert key in caught.value.message
    assert hint in caught.value.hint or hint in caught.value.message


def test_the_whole_policy_must_be_a_table() -> None:
    """``digits = 1`` would end in a traceback."""
    with pytest.raises(InvalidInputError, match=r"model\.digits: expected a table"):
        parse_policy(1, "model.digits")  # type: ignore[arg-type]


def test_own_thresholds_replace_single_numbers_of_a_profile() -> None:
    """Adjusting one threshold would reset the others."""
    thresholds = {
        "golden_set_minimum_rows": 200,
        "slice_minimum_rows": 80,
        "churn_patch": 0.03,
        "confidence": 0.99,
    }
    profile = parse_policy({"profile": "strict", "thresholds": thresholds}, "model.d").profile
    assert profile.name == "strict (adjusted)"
    for field in fields(Profile):
        if field.name != "name":
            expected = thresholds.get(field.name, getattr(PROFILES["strict"], field.name))
            assert getattr(profile, field.name) == expected


def test_profiles_are_ordered_from_strict_to_lenient() -> None:
    """``lenient`` would refuse what ``default`` allows."""
    at_least = {"golden_set_minimum_rows", "confidence", "redesign_share"}
    for strict, loose in (("strict", "default"), ("default", "lenient")):
        for field in fields(Profile):
            if field.name in {"name", "slice_minimum_rows"}:
                continue
            one = getattr(PROFILES[strict], field.name)
            other = getattr(PROFILES[loose], field.name)
            assert one >= other if field.name in at_least else one <= other


def test_the_default_profile_is_the_specification() -> None:
    """The documented table and the program would disagree."""
    assert PROFILES["default"] == Profile(
        name="default",
        golden_set_minimum_rows=299,
        confidence=0.95,
        churn_patch=0.01,
        broken_patch=0.01,
        metric_patch_points=0.005,
        broken_minor=0.02,
        metric_minor_points=0.005,
        slice_minimum_rows=100,
        slice_drop_points=0.02,
        fix_set_maximum_share=0.05,
        redesign_share=0.5,
        service_growth=1.2,
    )
