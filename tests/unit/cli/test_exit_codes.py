"""Errors become the documented numbers."""

from __future__ import annotations

import pytest

from stemma.cli.exit_codes import MEANINGS, ExitCode, exit_code_for
from stemma.domain import errors


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.NoProjectError("x"), 10),
        (errors.NotFoundError("x"), 5),
        (errors.LockedError("x"), 11),
        (errors.ConflictError("x"), 12),
        (errors.InvalidInputError("x"), 2),
        (errors.IntegrityError("x"), 1),
        (errors.GateFailedError("x"), 3),
        (errors.DeniedError("x"), 4),
        (errors.UnavailableError("x"), 75),
        (errors.StemmaError("x"), 1),
    ],
)
def test_every_error_has_its_documented_exit_code(error: errors.StemmaError, code: int) -> None:
    """A script that branches on the exit code would take the wrong branch."""
    assert exit_code_for(error) == code


def test_every_exit_code_says_what_it_means() -> None:
    """`stemma help exit-codes` would leave a number unexplained."""
    assert set(MEANINGS) == set(ExitCode)
