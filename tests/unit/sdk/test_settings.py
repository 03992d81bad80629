"""Values given with ``--set``."""

from __future__ import annotations

import pytest

from stemma.domain.errors import InvalidInputError
from stemma.sdk.process import is_recording_rank
from stemma.sdk.settings import read_overrides


def test_what_was_read_is_known() -> None:
    """An option that nobody read could not be told."""
    overrides = read_overrides({"STEMMA_SET": '{"C": 0.5, "depth": 3}'})
    assert overrides.get("C", 1.0) == 0.5
    assert overrides.get("other", 1) == 1
    assert overrides.used == {"C"}
    assert repr(overrides) == "Settings({'C': 0.5, 'depth': 3})"
    assert len(read_overrides({})) == 0


@pytest.mark.parametrize("text", ["{", "[1]", '"C"'])
def test_a_broken_variable_is_refused(text: str) -> None:
    """A training would run with its defaults although told otherwise."""
    with pytest.raises(InvalidInputError, match="STEMMA_SET"):
        read_overrides({"STEMMA_SET": text})


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, True),
        ({"RANK": "0", "LOCAL_RANK": "0"}, True),
        ({"RANK": "8", "LOCAL_RANK": "0"}, False),
        ({"LOCAL_RANK": "1"}, False),
        ({"RANK": "primary"}, True),
    ],
)
def test_one_rank_records(environment: dict[str, str], expected: bool) -> None:  # noqa: FBT001
    """The first process of each machine would record a run of its own."""
    assert is_recording_rank(environment) is expected
