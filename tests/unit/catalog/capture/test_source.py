"""Python source compared by meaning, and but for changed hyperparameters."""

from __future__ import annotations

import pytest

from stemma.catalog.capture.source import is_equal_but_for_hyperparameters, normal_form


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("m = Logistic(C=1.0)", "m = Logistic(C=0.9)"),
        ("m = Logistic(max_iter=500)", "m = Logistic(C=0.9, max_iter=500)"),
        ("C = 1.0", "C = 0.9"),
        ("C: float = 1.0", "C: float = 0.9"),
        ("def train(C=1.0): pass", "def train(C=0.9): pass"),
        ("p = {'C': 1.0}", "p = {'C': 0.9}"),
        ("m = Logistic(C=1.0)  # why", '"""Doc."""\nm = Logistic(\n    C=0.9\n)'),
    ],
)
def test_an_edit_of_a_changed_hyperparameter_is_not_named_twice(before: str, after: str) -> None:
    """A release would blame the pipeline for what the hyperparameters say already."""
    assert is_equal_but_for_hyperparameters(before, after, {"logisticregression__C"})


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("m = Logistic(tol=1.0)", "m = Logistic(tol=0.9)"),
        ("m = Logistic(C=1.0)", "m = Ridge(C=0.9)"),
        ("m = Logistic(C=1.0)", "m = Logistic(C=0.9)\nm = None"),
        ("C = 1.0", "C = 0.9; D = 2"),
        ("not python at all", "not python at all!"),
    ],
)
def test_any_other_edit_is_a_change_of_the_pipeline(before: str, after: str) -> None:
    """A changed pipeline would pass for an unchanged one."""
    assert not is_equal_but_for_hyperparameters(before, after, {"C"})


def test_layout_and_comments_do_not_change_what_code_means() -> None:
    """Reformatting a model class would look like another architecture."""
    assert normal_form("class A:\n    '''Doc.'''\n    x = 1") == normal_form("class A: x=1  # c")
    assert normal_form("x = 1") != normal_form("x = 1.0")
    assert normal_form("x = True") != normal_form("x = 1")
