"""The table ``semver_cases.toml``: what changes, what was measured, which level follows."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from stemma.domain.combine import Comparisons, combine
from stemma.domain.evidence import assess
from stemma.domain.facts import EnvironmentFit, Measurements, PairedBehaviour, VersionFacts
from stemma.domain.policy import parse_policy
from stemma.domain.verdict import Level

CASES = tomllib.loads((Path(__file__).parent / "semver_cases.toml").read_text(encoding="utf-8"))[
    "case"
]
WORDS = {"name", "before", "change", "behaviour", "environment", "policy", "level", "code", "says"}
DRIFT = {"since_minor", "since_major", "source_equal"}
UNCHANGED = {"rows": 540}


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_a_change_gets_the_level_of_the_table(
    case: dict[str, Any],
    build_facts: Callable[[Mapping[str, Any]], VersionFacts],
    build_behaviour: Callable[[Mapping[str, Any]], PairedBehaviour],
    build_environment_fit: Callable[[Mapping[str, Any]], EnvironmentFit],
) -> None:
    """A release would get a number that promises more, or less, than the evidence shows."""
    assert case.keys() <= WORDS | DRIFT
    words = case.get("before", {})
    before, after = build_facts(words), build_facts({**words, **case.get("change", {})})
    policy = parse_policy(case.get("policy", {}), "model.digits")
    fit = case.get("environment")

    def verdict_for(counts: Mapping[str, Any] | str, baseline: str) -> Any:
        measurements = Measurements(
            behaviour=None if counts == "missing" else build_behaviour(counts),  # type: ignore[arg-type]
            environment=None if fit is None else build_environment_fit(fit),
            is_source_equal_but_for_hyperparameters=case.get("source_equal", False),
        )
        return assess(before, after, measurements, policy, baseline)

    bases = {
        base: verdict_for(case[word], number)
        for base, word, number in (
            ("minor_base", "since_minor", "1.2.0"),
            ("major_base", "since_major", "1.0.0"),
        )
        if word in case
    }
    verdict = combine(
        Comparisons(previous=verdict_for(case.get("behaviour", UNCHANGED), "1.2.3"), **bases)
    )

    highest = [finding.code for finding in verdict.findings if finding.level is verdict.level]
    assert verdict.level is Level(case["level"]), verdict.sentence
    assert case.get("code", "") in [*highest, ""], verdict.sentence
    assert case.get("says", "") in verdict.sentence


def test_the_table_is_long_enough_to_be_the_specification() -> None:
    """Rows of the specification would go untested."""
    names = [case["name"] for case in CASES]
    assert len(names) == len(set(names))
    assert len(names) >= 100
