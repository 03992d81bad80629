"""What is said of configurations, on values."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stemma.cli import configuration_cards as cards
from stemma.delivery.values import ConfigurationVersion
from stemma.domain.errors import NotFoundError

Configurations = Callable[..., ConfigurationVersion]


def test_the_history_says_what_changed_in_each(configuration_of: Configurations) -> None:
    """Nobody could say since when there are two replicas."""
    known = [configuration_of(2, replicas=2), configuration_of(1, "1.0.0")]
    rows = cards.configuration_rows(known, is_precise=False)
    assert rows == [
        ["c2", "2026-05-03 12:00", "ada", "", "replicas 1 → 2"],
        ["c1", "2026-05-03 12:00", "ada", "1.0.0", "the defaults"],
    ]


def test_two_configurations_are_compared_setting_by_setting(
    configuration_of: Configurations,
) -> None:
    """A changed threshold would be found by reading two files."""
    before = configuration_of(1, thresholds={"cut": "0.5"})
    after = configuration_of(2, replicas=2)
    assert cards.configuration_diff_card(before, after) == [
        "• digits@c1 → digits@c2   2 settings changed",
        "  replicas         1 → 2",
        "  thresholds.cut   0.5 → (none)",
    ]
    assert cards.configuration_diff_card(before, before) == ["✓ digits@c1 → digits@c1   same"]
    assert cards.configuration_diff_markdown(before, after)[-1] == "| thresholds.cut | 0.5 | – |"
    payload = cards.configuration_diff_payload(before, after)
    assert payload["changes"][0] == {"setting": "replicas", "before": "1", "after": "2"}


@pytest.mark.parametrize(("selector", "number"), [("", 2), ("c1", 1), ("1.0.0", 1), ("1.1.0", 2)])
def test_a_configuration_is_named_by_number_or_by_a_version(
    configuration_of: Configurations, selector: str, number: int
) -> None:
    """Who knows the version only could not find what it ran with."""
    known = [configuration_of(2, "1.1.0"), configuration_of(1, "1.0.0")]
    assert cards.pick_configuration(known, "digits", selector).number == number


@pytest.mark.parametrize("selector", ["c9", "3.0.0"])
def test_a_configuration_that_is_not_there_names_those_that_are(
    configuration_of: Configurations, selector: str
) -> None:
    """The user would have to guess the numbers."""
    with pytest.raises(NotFoundError, match="there are c1"):
        cards.pick_configuration([configuration_of(1)], "digits", selector)
    with pytest.raises(NotFoundError, match="never served"):
        cards.pick_configuration([], "digits", "c1")
