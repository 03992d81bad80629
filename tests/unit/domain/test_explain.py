"""The lines that ``release`` shows, as in the tutorial."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from stemma.domain.combine import Comparisons, combine
from stemma.domain.evidence import assess, check_regression, is_significant_loss
from stemma.domain.explain import Line, explain, explain_gates
from stemma.domain.facts import EnvironmentFit, Measurements, PairedBehaviour, VersionFacts
from stemma.domain.gate import check_gates
from stemma.domain.policy import ModelPolicy, parse_policy
from stemma.domain.verdict import Verdict

Build = Callable[[Mapping[str, Any]], VersionFacts]
Count = Callable[[Mapping[str, Any]], PairedBehaviour]

MLP = {
    "family": "sklearn.neural_network.MLPClassifier",
    "summary": "StandardScaler → MLPClassifier(64,)",
    "parameters": 4810,
    "weights": "b",
}


def lines(verdict: Verdict) -> list[tuple[str, str]]:
    return [(line.label, line.text) for line in explain(verdict)]


def judge(
    build_facts: Build, change: Mapping[str, Any], behaviour: PairedBehaviour | None, **more: Any
) -> Verdict:
    before, after = build_facts(more.pop("before", {})), build_facts(change)
    measurements = Measurements(behaviour=behaviour, **more)
    return assess(before, after, measurements, ModelPolicy(), "1.0.0")


def test_nothing_changed_has_no_lines(build_facts: Build) -> None:
    """``already is this`` would be followed by noise."""
    verdict = judge(build_facts, {}, None)
    assert lines(verdict) == []
    assert verdict.sentence == "all five components identical"


def test_a_patch_reads_as_in_the_tutorial(build_facts: Build, build_behaviour: Count) -> None:
    """The tutorial's 1.0.1 would read otherwise."""
    change = {
        "weights": "b",
        "pipeline": "b",
        "source": "b",
        "hyperparameters": {"C": 0.9, "max_iter": 500},
    }
    verdict = judge(
        build_facts,
        change,
        build_behaviour({"rows": 540, "right": 525}),
        is_source_equal_but_for_hyperparameters=True,
    )
    assert lines(verdict) == [
        ("behaviour", "0 of 540 predictions differ (≤ 0.6 % at 95 %)"),
        ("because", "hyperparameters C 1.0 → 0.9; everything else same"),
    ]


def test_a_minor_reads_as_in_the_tutorial(build_facts: Build, build_behaviour: Count) -> None:
    """The tutorial's 1.1.0 would read otherwise."""
    change = {"weights": "b", "hyperparameters": {"C": 0.5, "max_iter": 500}}
    counts = build_behaviour({"rows": 540, "fixed": 2, "right": 525})
    assert lines(judge(build_facts, change, counts)) == [
        ("interface", "unchanged"),
        ("behaviour", "2 of 540 predictions differ: 2 fixed, 0 broken (≤ 0.6 % at 95 %)"),
        ("accuracy", "0.9722 → 0.9759   not a significant change (McNemar p = 0.50)"),
    ]


def test_a_redesign_reads_as_in_the_tutorial(build_facts: Build, build_behaviour: Count) -> None:
    """The tutorial's 2.0.0 would read otherwise."""
    counts = build_behaviour({"rows": 540, "differ": 11, "fixed": 5, "broken": 4, "right": 525})
    redesign = "redesigned: LogisticRegression 650 params → MLPClassifier(64,) 4,810 params"
    assert lines(judge(build_facts, MLP, counts)) == [
        ("architecture", redesign),
        (
            "accuracy",
            "0.9741 on the same 540 rows, 0.9722 at 1.0.0: not a significant change",
        ),
    ]


def test_a_redesign_since_an_older_number_hides_behaviour_too(
    build_facts: Build, build_behaviour: Count
) -> None:
    """What goes without saying would be said twice."""
    counts = build_behaviour({"rows": 540, "broken": 80, "right": 525})
    previous = judge(build_facts, {"weights": "b"}, build_behaviour({"rows": 540}))
    base = judge(build_facts, MLP, counts)
    combined = combine(Comparisons(previous=previous, major_base=base))
    assert [label for label, _ in lines(combined)] == ["architecture", "accuracy"]


def test_a_refusal_reads_as_in_the_tutorial(build_facts: Build, build_behaviour: Count) -> None:
    """The tutorial's refused release would read otherwise."""
    gates = {"accuracy": ">= 0.965", "recall[class=*]": ">= 0.90"}
    policy = parse_policy({"gates": gates}, "model.digits")
    counts = build_behaviour({"rows": 540, "fixed": 4, "broken": 82, "right": 525})
    metrics = ["accuracy=0.8296", "recall[class=1]=0.855", "recall[class=8]=0.19230"]
    results = check_gates(policy, build_facts({"metrics": metrics}).manifest)
    shown = explain_gates([*results, *check_regression(counts, policy)])
    assert shown == (
        Line(label="accuracy", text="0.8296   needs ≥ 0.965"),
        Line(label="recall[class=8]", text="0.1923   needs ≥ 0.90"),
        Line(label="regression", text="4 fixed, 82 broken, McNemar p < 0.001"),
    )


def test_columns_of_a_refusal_are_aligned(build_facts: Build) -> None:
    """A table of failed gates would be hard to read."""
    policy = parse_policy({"gates": {"accuracy": ">= 1", "f1": ">= 1"}}, "model.digits")
    results = check_gates(policy, build_facts({}).manifest)
    assert [line.text for line in explain_gates(results)] == [
        "0.9722         needs ≥ 1",
        "not measured   needs ≥ 1",
    ]
    assert explain_gates([]) == ()


def test_a_minor_names_every_axis_that_asks_for_it(
    build_facts: Build, build_behaviour: Count
) -> None:
    """The reason for a level would stay hidden."""
    change = {
        "inputs": ["x float64 any,64"],
        "formats": ["skops", "onnx"],
        "methods": ["predict", "predict_proba", "explain"],
        "lock": "b",
    }
    verdict = judge(
        build_facts,
        change,
        build_behaviour({"rows": 540}),
        environment=EnvironmentFit(does_resolve=True, changed=("numpy 2.3 → 2.4",)),
    )
    assert lines(verdict) == [
        ("interface", "explain() is new; input x: float32 → float64 (wider)"),
        ("files", "onnx file added"),
        ("behaviour", "0 of 540 predictions differ (≤ 0.6 % at 95 %)"),
        ("environment", "resolves with changes: numpy 2.3 → 2.4"),
        ("accuracy", "0.9722 → 0.9722   not a significant change (McNemar p = 1.00)"),
    ]


def test_a_major_without_evidence_says_what_to_do(build_facts: Build) -> None:
    """The user would not know how to get a lower number."""
    verdict = judge(build_facts, {"weights": "b", "golden": ""}, None)
    assert lines(verdict) == [("behaviour", "no golden set: pass test=(X, y) to run.model")]
    assert verdict.significance == ""


def test_a_patch_without_content_says_what_changed(
    build_facts: Build, build_behaviour: Count
) -> None:
    """``because`` would be empty."""
    verdict = judge(build_facts, {"weights": "b"}, build_behaviour({"rows": 540}))
    assert lines(verdict)[-1] == (
        "because",
        "4 of 4 tensors changed, same structure; everything else same",
    )


def test_significance_names_gain_and_loss(build_facts: Build, build_behaviour: Count) -> None:
    """A real gain would read like chance, a real loss like nothing."""
    gain = build_behaviour({"rows": 1000, "fixed": 30, "broken": 4, "right": 900})
    loss = build_behaviour({"rows": 1000, "fixed": 0, "broken": 6, "right": 900})
    change = {"weights": "b", "task": "regression"}
    assert judge(build_facts, change, gain).significance == (
        "within-tolerance 0.9000 → 0.9260: a significant gain (McNemar p < 0.001)"
    )
    assert judge(build_facts, change, loss).significance == (
        "within-tolerance 0.8940 on the same 1,000 rows, 0.9000 at 1.0.0: a significant loss"
    )


def test_small_p_values_keep_two_figures(build_facts: Build, build_behaviour: Count) -> None:
    """0.049 and 0.051 would both read 0.05."""
    counts = build_behaviour({"rows": 2000, "fixed": 6})
    assert "McNemar p = 0.031" in judge(build_facts, {"weights": "b"}, counts).significance


def test_a_significant_loss_is_never_silent(build_behaviour: Count) -> None:
    """A worse version would be released as a minor (measured: 82 broken predictions)."""
    policy = ModelPolicy()
    loss = build_behaviour({"rows": 540, "fixed": 4, "broken": 82})
    assert is_significant_loss(loss, policy)
    assert check_regression(loss, policy)[0].gate == "regression"
    for harmless in (
        None,
        build_behaviour({"rows": 540, "fixed": 82, "broken": 4}),
        build_behaviour({"rows": 540, "fixed": 0, "broken": 5}),
        build_behaviour({"rows": 540, "broken": 82, "labelled": False}),
    ):
        assert not is_significant_loss(harmless, policy)
        assert check_regression(harmless, policy) == ()


def test_a_regression_names_the_tolerance(build_facts: Build, build_behaviour: Count) -> None:
    """Nobody could tell what "36 predictions differ" means for numbers."""
    counts = replace(build_behaviour({"rows": 540, "fixed": 2, "right": 525}), tolerance=7.7123)
    change = {"weights": "b", "hyperparameters": {"C": 0.5, "max_iter": 500}}
    assert lines(judge(build_facts, change, counts))[1] == (
        "behaviour",
        "2 of 540 predictions differ by more than 7.71: 2 fixed, 0 broken (≤ 0.6 % at 95 %)",
    )
