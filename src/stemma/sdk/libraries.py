"""Libraries that somebody may have and Stemma does not need."""

from __future__ import annotations

import importlib
from typing import Any

from stemma.domain.errors import InvalidInputError


def library(name: str) -> Any:
    """Import a library when it is needed.

    Raises:
        InvalidInputError: If it is not installed (``library-missing``).
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name.partition(".")[0]
        raise InvalidInputError(
            f"this needs {package}, which is not installed",
            code="library-missing",
            hint=f"pip install {package}",
        ) from error
