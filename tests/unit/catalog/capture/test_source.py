"""Source compared by meaning."""

from __future__ import annotations

import pytest

from stemma.catalog.capture.source import is_equal_but_for_hyperparameters, normal_form

SCRIPT = """
model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500, C=1.0))
epochs = 3
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x = 1  # why", "x=1"),
        ('def f():\n    """Doc."""\n    return 1', "def f():\n    return 1"),
        ("class A:\n    '''Doc.'''\n    y = 2", "class A:\n    y = 2"),
        ("    def f(self):\n        return 1", "def f(self):\n    return 1"),
        ("x = 'a'", 'x = "a"'),
    ],
)
def test_comments_layout_and_docstrings_do_not_count(before: str, after: str) -> None:
    """A comment in a model class would be sold as a new architecture."""
    assert normal_form(before) == normal_form(after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x = 1", "x = 2"),
        ("x = 1", "x = 1.0"),
        ("x = True", "x = 1"),
        ("x = None", "x = ..."),
        ("def f(a): return a", "def f(a, b): return a"),
        ("return_ = f(x)", "return_ = f(*x)"),
        ("x = b'a'", "x = 'a'"),
    ],
)
def test_different_code_has_different_forms(before: str, after: str) -> None:
    """A redesign would be called the same architecture."""
    assert normal_form(before) != normal_form(after)


def test_the_form_is_the_same_on_every_python() -> None:
    """An upgrade of Python would call every model's architecture changed."""
    source = 'def f(a, *, b=1):\n    return f"{a:<{b}} {b!r}"'
    assert normal_form(source) == (
        '["Module",["body",[["FunctionDef",["name","str:\'f\'"],["args",["arguments",["args",'
        '[["arg",["arg","str:\'a\'"]]]],["kwonlyargs",[["arg",["arg","str:\'b\'"]]]],'
        '["kw_defaults",[["Constant",["value","int:1"]]]]]],["body",[["Return",["value",'
        '["JoinedStr",["values",[["FormattedValue",["value",["Name",["id","str:\'a\'"]]],'
        '["conversion","int:-1"],["format_spec",["JoinedStr",["values",[["Constant",["value",'
        '"str:\'<\'"]],["FormattedValue",["value",["Name",["id","str:\'b\'"]]],["conversion",'
        '"int:-1"]]]]]]],["Constant",["value","str:\' \'"]],["FormattedValue",["value",["Name",'
        '["id","str:\'b\'"]]],["conversion","int:114"]]]]]]]]]]]]]'
    )


def test_source_that_does_not_parse_is_compared_as_text() -> None:
    """Python 2 code or a notebook magic would crash the recording."""
    assert normal_form("print 'x'  \n") == normal_form("print 'x'\n")
    assert normal_form("print 'x'") != normal_form("print 'y'")


@pytest.mark.parametrize(
    ("before", "after", "names", "expected"),
    [
        (SCRIPT, SCRIPT.replace("C=1.0", "C=0.9"), {"C"}, True),
        (SCRIPT, SCRIPT.replace("C=1.0", "C=0.9"), {"logisticregression__C"}, True),
        (SCRIPT, SCRIPT.replace("C=1.0", "C=0.9"), {"max_iter"}, False),
        (SCRIPT, SCRIPT.replace("epochs = 3", "epochs = 4"), {"epochs"}, True),
        (SCRIPT, SCRIPT.replace("LogisticRegression(", "SVC("), {"C", "max_iter"}, False),
        ("f(C=1)", "f(C=2)\nprint()", {"C"}, False),
        ("def f(C=1): ...", "def f(C=2): ...", {"C"}, True),
        ("def f(a, *, C=1): ...", "def f(a, *, C=2): ...", {"C"}, True),
        ("def f(a, b=1, C=1): ...", "def f(a, b=2, C=1): ...", {"C"}, False),
        ("C: float = 1", "C: float = 2", {"C"}, True),
        ("p = {'C': 1, 'k': 1}", "p = {'C': 2, 'k': 1}", {"C"}, True),
        ("p = {'C': 1, 'k': 1}", "p = {'C': 2, 'k': 2}", {"C"}, False),
        ("p = {**q, 'C': 1}", "p = {**q, 'C': 2}", {"C"}, True),
        ("f(1.0)", "f(0.9)", {"C"}, False),
        ("f(C=1)", "f(C=1)", set(), True),
        ("f(", "f(", {"C"}, True),
        ("f(", "g(", {"C"}, False),
    ],
)
def test_only_values_of_changed_hyperparameters_are_forgiven(
    before: str, after: str, names: set[str], *, expected: bool
) -> None:
    """An edit of the pipeline would hide behind a changed hyperparameter."""
    assert is_equal_but_for_hyperparameters(before, after, names) is expected
