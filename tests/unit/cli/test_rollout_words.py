"""The words after ``stemma rollout``."""

from __future__ import annotations

import click
import pytest

from stemma.cli.commands.rollout import exit_code_of, read_words
from stemma.cli.exit_codes import ExitCode
from stemma.domain.rollout import RolloutState


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("digits@1.1.0",), ("start", "digits@1.1.0")),
        (("pause@1.0.0",), ("start", "pause@1.0.0")),
        (("status", "digits"), ("status", "digits")),
        (("abort", "digits@1.1.0"), ("abort", "digits")),
    ],
)
def test_a_ref_starts_and_an_action_acts(words: tuple[str, ...], expected: tuple[str, str]) -> None:
    """An action would be taken for a model, or the other way round."""
    assert read_words(words) == expected


@pytest.mark.parametrize("words", [("pause",), ("digits", "1.1.0"), ("pause", "a", "b")])
def test_other_words_are_refused(words: tuple[str, ...]) -> None:
    """A typing error would start something."""
    with pytest.raises(click.UsageError):
        read_words(words)


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (RolloutState.LIVE, ExitCode.DONE),
        (RolloutState.ROLLED_BACK, ExitCode.NO),
        (RolloutState.FAILED, ExitCode.NO),
    ],
)
def test_a_rollout_that_was_taken_back_is_a_no(
    rollout_of: object, state: RolloutState, code: ExitCode
) -> None:
    """A pipeline would go on as if the version were live."""
    assert callable(rollout_of)
    assert exit_code_of(rollout_of(state=state)) is code
