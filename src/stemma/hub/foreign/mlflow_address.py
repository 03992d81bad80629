"""Addresses of MLflow tracking servers, as ``stemma pull`` and ``stemma push`` take them.

Invariants:
    * An address holds no secret; those come from MLflow's own variables.
    * ``mlflow://`` is plain HTTP, ``mlflow+https://`` is TLS.

Example:
    >>> parse_mlflow_address("mlflow://127.0.0.1:5000/models:/churn").model
    'churn'
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from stemma.domain.errors import InvalidInputError

PLAIN: Final = "mlflow"
SECURE: Final = "mlflow+https"

_MODELS: Final = "models:/"
_PORT: Final = 5000
_SECURE_PORT: Final = 443


@dataclass(frozen=True, slots=True, kw_only=True)
class MlflowAddress:
    """A tracking server, and what is meant there.

    Attributes:
        host: Host name or number.
        port: Its port.
        is_secure: Whether TLS is spoken.
        experiment: Name of an experiment; empty for all.
        model: Name of a registered model; empty for all.
    """

    host: str
    port: int
    is_secure: bool = False
    experiment: str = ""
    model: str = ""

    @property
    def authority(self) -> str:
        """``HOST:PORT``, with brackets around an IPv6 number."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def server(self) -> str:
        """The address of the server alone."""
        return f"{SECURE if self.is_secure else PLAIN}://{self.authority}"

    @property
    def url(self) -> str:
        """The same for a browser, or for ``MLFLOW_TRACKING_URI``."""
        return f"{'https' if self.is_secure else 'http'}://{self.authority}"


def is_mlflow_address(text: str) -> bool:
    """Return whether this is meant as the address of a tracking server."""
    return text.startswith((f"{PLAIN}://", f"{SECURE}://"))


def parse_mlflow_address(text: str) -> MlflowAddress:
    """Read an address.

    Raises:
        InvalidInputError: If it is none (``bad-address``).
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise _refused(text, str(error)) from error
    if not parts.hostname or parts.scheme not in {PLAIN, SECURE}:
        raise _refused(text, "it names no host")
    if parts.username is not None or parts.password is not None:
        raise InvalidInputError(
            f"the address of {parts.hostname} holds a user name or password",
            code="bad-address",
            hint="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, and leave it out",
        )
    if parts.query or parts.fragment:
        raise _refused(text, "it has a query or a fragment; write %3F for ? and %23 for #")
    is_secure = parts.scheme == SECURE
    rest = unquote(parts.path.removeprefix("/"))
    model = rest.removeprefix(_MODELS) if rest.startswith(_MODELS) else ""
    if rest.startswith(_MODELS) and (not model or "/" in model):
        raise _refused(text, "after models:/ goes the name of a registered model")
    return MlflowAddress(
        host=parts.hostname,
        port=port or (_SECURE_PORT if is_secure else _PORT),
        is_secure=is_secure,
        experiment="" if model else rest,
        model=model,
    )


def _refused(text: str, why: str) -> InvalidInputError:
    return InvalidInputError(
        f"not the address of a tracking server: {text[:200]!r}: {why}",
        code="bad-address",
        hint="write mlflow://HOST:PORT/, …/EXPERIMENT or …/models:/NAME",
    )
