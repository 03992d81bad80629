"""Errors: what a script that does not catch them shows."""

from __future__ import annotations

import pickle
import traceback

from stemma.domain.errors import NotFoundError


def test_an_uncaught_error_ends_with_its_next_step() -> None:
    """Who uses Stemma from Python would get the message without the way out."""
    error = NotFoundError("no model tyo", hint="stemma log toy")
    assert traceback.format_exception_only(error)[-2:] == [
        "stemma.domain.errors.NotFoundError: no model tyo\n",
        "hint: stemma log toy\n",
    ]
    assert str(error) == "no model tyo"


def test_an_error_without_a_hint_has_no_empty_line() -> None:
    """`hint:` alone would look like something that got lost."""
    assert len(traceback.format_exception_only(NotFoundError("no model tyo"))) == 1


def test_an_error_comes_whole_out_of_another_process() -> None:
    """A worker of a pool would lose code and hint, or fail to report at all."""
    error = pickle.loads(pickle.dumps(NotFoundError("no model", code="gone", hint="stemma log")))  # noqa: S301 - our own bytes
    assert (error.message, error.code, error.hint) == ("no model", "gone", "stemma log")
    assert error.__notes__ == ["hint: stemma log"]
