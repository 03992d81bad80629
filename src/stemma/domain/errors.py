"""The one tree of errors: split by what the caller can do, not by where it happened.

Every error carries a stable ``code``, a message that names the values, and a
``hint``: one command or action that helps.  Third-party exceptions are
translated into this tree at the adapter that meets them, with ``from``.

Example:
    >>> raise NotFoundError("no version digits@9", code="version-not-found",
    ...                     hint="stemma log digits")
    Traceback (most recent call last):
    stemma.domain.errors.NotFoundError: no version digits@9
"""

from __future__ import annotations

from typing import ClassVar


class StemmaError(Exception):
    """Base of every error this package raises on purpose.

    Attributes:
        message: What happened, with the values.
        code: Stable machine name (kebab-case) of this error.
        hint: One next step, preferably a runnable command; may be empty.
        is_retryable: Whether the same call may succeed later unchanged.
    """

    default_code: ClassVar[str] = "error"
    is_retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, code: str | None = None, hint: str = "") -> None:
        """Keep the message, the stable code and the hint."""
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.hint = hint
        if hint:
            # A script that does not catch it shows the next step under the message, too.
            self.add_note(f"hint: {hint}")


class NotFoundError(StemmaError):
    """The named thing does not exist; the caller can name another."""

    default_code = "not-found"


class NoProjectError(NotFoundError):
    """No ``.stemma`` folder here or above; the caller can run ``stemma init``."""

    default_code = "no-project"


class ConflictError(StemmaError):
    """What is there already forbids this; the caller must look first."""

    default_code = "conflict"


class LockedError(ConflictError):
    """Another command holds what this one needs; the caller can wait for it to end."""

    default_code = "locked"


class InvalidInputError(StemmaError):
    """The input is wrong; the caller must change it."""

    default_code = "invalid-input"


class IntegrityError(StemmaError):
    """Stored bytes or rows are not what was written; never delivered, see ``stemma doctor``."""

    default_code = "integrity"


class GateFailedError(StemmaError):
    """The command ran and the answer is no: a gate, a policy, a check."""

    default_code = "gate-failed"


class DeniedError(StemmaError):
    """The caller is not allowed to do this."""

    default_code = "denied"


class UnavailableError(StemmaError):
    """Something needed does not answer now (network, disk space); the only retryable error."""

    default_code = "unavailable"
    is_retryable = True
