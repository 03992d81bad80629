"""Gates: what passes, what does not, and how that is said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from stemma.domain.errors import InvalidInputError
from stemma.domain.facts import VersionFacts
from stemma.domain.gate import Gate, check_gates, format_metric, summarise_gates
from stemma.domain.manifest import Metric
from stemma.domain.policy import parse_policy
from stemma.domain.release import GateResult

Build = Callable[[Mapping[str, Any]], VersionFacts]


def answers(
    build_facts: Build, policy: Mapping[str, Any], words: Mapping[str, Any]
) -> list[GateResult]:
    parsed = parse_policy(policy, "model.digits")
    return list(check_gates(parsed, build_facts(words).manifest))


@pytest.mark.parametrize(
    ("expression", "passes", "fails", "needed"),
    [
        (">= 0.965", 0.965, 0.9649, "≥ 0.965"),
        (">=0.965", 1.0, 0.0, "≥ 0.965"),
        ("≥ 0.90", 0.9, 0.8, "≥ 0.90"),
        ("> 0", 0.1, 0.0, "> 0"),
        ("<= 10", 10.0, 10.1, "≤ 10"),
        ("< 1e-3", 0.0009, 0.001, "< 1e-3"),
        ("between 1 and 2", 2.0, 2.1, "between 1 and 2"),
        (" between -1 and .5 ", -1.0, -1.1, "between -1 and .5"),
    ],
)
def test_a_gate_passes_what_it_says(
    expression: str, passes: float, fails: float, needed: str
) -> None:
    """A version below the bar would be released."""
    gate = Gate.parse("accuracy", expression)
    assert gate.accepts(passes)
    assert not gate.accepts(fails)
    assert gate.needed == needed


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "0.9",
        "== 1",
        ">= x",
        ">= nan",
        ">= 1e999",
        "between 2 and 1",
        "between 1 and 1e999",
        "between 1",
        ">= 1 and <= 2",
        ">=> 1",
        "> = 1",
    ],
)
def test_a_malformed_condition_is_refused(expression: str) -> None:
    """A gate would silently pass everything."""
    with pytest.raises(InvalidInputError, match="gate accuracy") as caught:
        Gate.parse("accuracy", expression)
    assert caught.value.code == "bad-gate"


@pytest.mark.parametrize("key", ["", "recall[", "recall[class]", "recall[class=]", "a b", "[x=1]"])
def test_a_malformed_metric_is_refused(key: str) -> None:
    """A gate would ask for a metric that can never exist."""
    with pytest.raises(InvalidInputError, match="not a metric"):
        Gate.parse(key, ">= 1")


def test_a_wildcard_asks_every_slice_of_its_key(build_facts: Build) -> None:
    """One bad class would hide behind the others."""
    metrics = ["recall[class=7]=1.0", "recall[class=8]=0.1923", "recall[site=a]=0.1", "recall=0.5"]
    results = answers(build_facts, {"gates": {"recall[class=*]": ">= 0.90"}}, {"metrics": metrics})
    assert [(result.gate, result.has_passed) for result in results] == [
        ("recall[class=7]", True),
        ("recall[class=8]", False),
    ]


def test_a_gate_without_a_measurement_fails(build_facts: Build) -> None:
    """A version would be released because nobody looked."""
    gates = {"f1": ">= 0.9", "recall[class=*]": ">= 0.9", "accuracy[site=a]": ">= 0.1"}
    results = answers(build_facts, {"gates": gates}, {})
    assert [result.gate for result in results] == list(gates)
    assert all(result.actual == "not measured" for result in results)
    assert not any(result.has_passed for result in results)


def test_a_gate_may_ask_for_a_service_figure(build_facts: Build) -> None:
    """A floor under throughput could not be stated."""
    results = answers(
        build_facts,
        {"gates": {"throughput": ">= 100"}},
        {"service": ["throughput=200 req/s"]},
    )
    assert results[0].has_passed
    assert results[0].actual == "200 req/s"


def test_rounding_never_shows_a_failure_as_a_pass(build_facts: Build) -> None:
    """The table would say 0.9650 needs ≥ 0.965, failed."""
    results = answers(
        build_facts, {"gates": {"accuracy": ">= 0.965"}}, {"metrics": ["accuracy=0.96499"]}
    )
    assert not results[0].has_passed
    assert results[0].actual == "0.96499"


@pytest.mark.parametrize(
    ("value", "rows", "expected"),
    [
        ("0.8296296", 540, "0.8296"),
        ("0.1923076", 52, "0.192"),
        ("0.5", 5, "0.500"),
        ("0.97222", 0, "0.9722"),
        ("0.97222", 10_000, "0.9722"),
        ("12.34567", 540, "12.35"),
        ("1257", 0, "1,257"),
        ("-0.25", 540, "-0.2500"),
    ],
)
def test_a_metric_is_written_as_exactly_as_its_sample_allows(
    value: str, rows: int, expected: str
) -> None:
    """Figures would look more exact than they are."""
    assert format_metric(Metric(name="m", value=value, sample_size=rows)) == expected


def test_budgets_are_gates_on_the_service_level(build_facts: Build) -> None:
    """A version too slow for production would ship."""
    policy = {"budgets": {"latency_p99_ms": 10, "memory_peak_mib": 512, "energy_wh": 1}}
    service = ["latency_p99=11 ms", "memory_peak_mib=141"]
    results = answers(build_facts, policy, {"service": service})
    assert [(row.gate, row.has_passed, row.actual, row.needed) for row in results] == [
        ("latency_p99_ms", False, "11 ms", "≤ 10 ms"),
        ("memory_peak_mib", True, "141 MiB", "≤ 512 MiB"),
        ("energy_wh", False, "not measured", "≤ 1 Wh"),
    ]


def test_a_budget_in_another_unit_does_not_pass(build_facts: Build) -> None:
    """Nine seconds would pass a budget of ten milliseconds."""
    results = answers(
        build_facts, {"budgets": {"latency_p99_ms": 10}}, {"service": ["latency_p99=9 s"]}
    )
    assert not results[0].has_passed


METADATA = {
    "owner": "str",
    "task": {"type": "str", "allowed": ["digits", "letters"]},
    "ticket": {"pattern": "[A-Z]+-[0-9]+"},
    "resolution": {"type": "int", "unit": "px", "allowed": [8, 16]},
    "is_public": "bool",
    "sites": {"type": "list", "allowed": ["a", "b"]},
    "reviewed": {"type": "date"},
    "note": {"required": False},
}
GOOD = {
    "owner": "ada",
    "task": "digits",
    "ticket": "ML-12",
    "resolution": 8,
    "is_public": True,
    "sites": ["a", "b"],
    "reviewed": "2026-05-03",
}


def test_complete_metadata_passes_and_optional_may_be_absent(build_facts: Build) -> None:
    """Users could not satisfy their own policy."""
    results = answers(build_facts, {"metadata": METADATA}, {"metadata": GOOD})
    assert len(results) == 7
    assert all(result.has_passed for result in results)


def test_missing_metadata_fails_and_says_how_to_add_it(build_facts: Build) -> None:
    """A version without an owner would ship."""
    results = answers(build_facts, {"metadata": METADATA}, {})
    assert len(results) == 7
    assert all(row.actual == "missing" and "metadata" in row.gate for row in results)
    assert results[3].needed.startswith("int in px one of 8, 16; add it with ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("owner", " "),
        ("owner", 3),
        ("task", "numbers"),
        ("ticket", "ml-12"),
        ("resolution", 12),
        ("resolution", True),
        ("is_public", "yes"),
        ("sites", []),
        ("sites", ["a", "c"]),
        ("sites", "a"),
        ("reviewed", "3 May"),
        ("reviewed", 2026),
    ],
)
def test_wrong_metadata_fails(build_facts: Build, name: str, value: object) -> None:
    """A version with nonsense in a required field would ship."""
    results = answers(build_facts, {"metadata": METADATA}, {"metadata": {**GOOD, name: value}})
    failed = [result.gate for result in results if not result.has_passed]
    assert failed == [f"metadata {name}"]


def test_a_pickle_needs_the_policy_s_leave(build_facts: Build) -> None:
    """Loading a version would run foreign code."""
    words = {"formats": ["pickle"]}
    results = answers(build_facts, {}, words)
    assert [result.gate for result in results] == ["files"]
    assert "allow_pickle = true" in results[0].needed
    assert answers(build_facts, {"allow_pickle": True}, words) == []


def test_answers_are_counted_per_gate_with_the_worst_slice_first(build_facts: Build) -> None:
    """The head line would count slices as gates."""
    metrics = ["accuracy=0.99", "recall[class=7]=0.7", "recall[class=8]=0.192", "rate[a=1]=3"]
    gates = {"accuracy": ">= 0.9", "recall[class=*]": ">= 0.90", "rate[a=*]": "<= 2"}
    results = answers(build_facts, {"gates": gates}, {"metrics": [*metrics, "rate[a=2]=4"]})
    regression = GateResult(
        gate="regression", has_passed=False, actual="4 fixed, 82 broken", needed="no loss"
    )
    summary = summarise_gates([*results, regression])
    assert (summary.passed_count, summary.total_count) == (1, 3)
    assert [row.gate for row in summary.failures] == ["recall[class=8]", "rate[a=2]", "regression"]


def test_all_passed_counts_as_in_the_tutorial(build_facts: Build) -> None:
    """``gates: 2 of 2 passed`` would read otherwise."""
    policy = {"gates": {"accuracy": ">= 0.965", "recall[class=*]": ">= 0.90"}}
    metrics = ["accuracy=0.9722", *(f"recall[class={n}]=0.95" for n in range(10))]
    summary = summarise_gates(answers(build_facts, policy, {"metrics": metrics}))
    assert (summary.passed_count, summary.total_count, summary.failures) == (2, 2, ())
