"""Callbacks that cannot be had say so."""

from __future__ import annotations

import pytest

from stemma.domain.errors import InvalidInputError
from stemma.sdk.run import Run


def test_an_unknown_framework_is_named_with_those_there_are() -> None:
    """A typing error would end in a traceback of an import."""
    with pytest.raises(InvalidInputError, match="did you mean keras") as refused:
        Run("digits").callback("keres")
    assert "transformers" in (refused.value.hint or "")
