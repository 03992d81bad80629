"""The adapter is chosen by the object's class; what cannot be read is said clearly."""

from __future__ import annotations

import sys

import pytest
from sklearn.linear_model import Ridge

from stemma.domain.errors import InvalidInputError
from stemma.sdk.adapters.registry import adapter_for, adapter_named, find_adapter


def test_an_unknown_object_is_refused_with_what_works() -> None:
    """The user would not learn what may be passed."""
    with pytest.raises(InvalidInputError, match=r"type builtins\.dict") as failure:
        adapter_for({"weights": [1, 2]})
    assert "unsafe_pickle=True" in failure.value.hint
    assert find_adapter("weights.bin") is None


@pytest.mark.parametrize("package", ["skops", "skops.io"])
def test_a_missing_library_names_the_extra_that_installs_it(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bare ModuleNotFoundError would leave the user guessing the distribution's name."""
    for name in [name for name in sys.modules if name.startswith("skops")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "stemma.sdk.adapters.sklearn", raising=False)
    with pytest.raises(InvalidInputError, match="need the package skops") as failure:
        adapter_for(Ridge())
    assert failure.value.hint == "pip install 'stemma-ml[sklearn]'"
    assert failure.value.code == "library-missing"


def test_an_adapter_that_does_not_exist_is_refused() -> None:
    """A manifest of a newer Stemma would import any module it names."""
    with pytest.raises(InvalidInputError, match="no adapter is called 'os'"):
        adapter_named("os")
