"""The one table from our errors to MLflow's.

Invariants:
    * What the caller did wrong is never a 5xx: its client would try again for minutes.
    * A message says what went wrong and the next step; nothing of it is a traceback.

Example:
    >>> problem_of(NotFoundError("no run r-1")).status
    404
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from stemma.domain.errors import (
    ConflictError,
    DeniedError,
    GateFailedError,
    InvalidInputError,
    LockedError,
    NotFoundError,
    StemmaError,
    UnavailableError,
)

INVALID: Final = "INVALID_PARAMETER_VALUE"
_STATUS: Final = {
    INVALID: 400,
    "RESOURCE_ALREADY_EXISTS": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "RESOURCE_DOES_NOT_EXIST": 404,
    "ENDPOINT_NOT_FOUND": 404,
    "RESOURCE_CONFLICT": 409,
    "INTERNAL_ERROR": 500,
    "NOT_IMPLEMENTED": 501,
    "TEMPORARILY_UNAVAILABLE": 503,
}

# Most particular first.
_CODES: Final[tuple[tuple[type[StemmaError], str], ...]] = (
    (NotFoundError, "RESOURCE_DOES_NOT_EXIST"),
    (LockedError, "TEMPORARILY_UNAVAILABLE"),
    (ConflictError, "RESOURCE_CONFLICT"),
    (InvalidInputError, INVALID),
    (GateFailedError, "PERMISSION_DENIED"),
    (DeniedError, "PERMISSION_DENIED"),
    (UnavailableError, "TEMPORARILY_UNAVAILABLE"),
)
_EXISTS: Final = "-exists"
_SPANS: Final = "/v1/traces"
NO_TOKEN: Final = "no-token"  # noqa: S105 - the code of an error
"""The code of refusing who shows no token that counts."""

_OF_CODE: Final = {
    # MLflow calls it a wrong value.
    "alias-not-found": INVALID,
    NO_TOKEN: "UNAUTHENTICATED",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An error as MLflow words it.

    Attributes:
        error_code: MLflow's name of it.
        message: What happened, and the next step.
    """

    error_code: str
    message: str

    @property
    def status(self) -> int:
        """HTTP status."""
        return _STATUS[self.error_code]

    @property
    def body(self) -> dict[str, str]:
        """What the client is sent."""
        return {"error_code": self.error_code, "message": self.message}


def problem_of(error: StemmaError) -> Problem:
    """Return what MLflow calls an error of ours."""
    message = f"{error.message} ({error.hint})" if error.hint else error.message
    return Problem(error_code=_code_of(error), message=message)


def not_built(method: str, path: str) -> Problem:
    """Return the answer to a route that MLflow has and this server has not."""
    message = f"{method} {path} is not part of this server; see docs/compat/mlflow.md"
    if path == _SPANS:
        # MLflow's client knows these words, and keeps the spans as a file from then on.
        message = f"REST OTLP span logging is not supported: {message}"
    return Problem(error_code="NOT_IMPLEMENTED", message=message)


def unknown(method: str, path: str) -> Problem:
    """Return the answer to a route that MLflow has not either."""
    return Problem(error_code="ENDPOINT_NOT_FOUND", message=f"{method} {path[:200]} is no endpoint")


def broken() -> Problem:
    """Return the answer when a fault of ours came between."""
    return Problem(
        error_code="INTERNAL_ERROR", message="a fault in stemma; what the server prints says which"
    )


def _code_of(error: StemmaError) -> str:
    named = _OF_CODE.get(error.code)
    if named is not None:
        return named
    if isinstance(error, ConflictError) and error.code.endswith(_EXISTS):
        return "RESOURCE_ALREADY_EXISTS"
    return next((code for kind, code in _CODES if isinstance(error, kind)), "INTERNAL_ERROR")
