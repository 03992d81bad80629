"""How far a server reaches: this machine, where everybody may, or beyond, where tokens say who.

Invariants:
    * Nothing is answered beyond loopback to who shows no token.
    * No model is served beyond loopback; see ``tracking_only``.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

from msgspec.structs import replace

from stemma.delivery.server_file import ServerRecord
from stemma.domain.errors import DeniedError
from stemma.hub.local import LocalHub
from stemma.hub.local_parts import LocalParts
from stemma.protocols.mlflow.app import Guard, OpenGuard
from stemma.server.delivery_wiring import ANY_ADDRESS
from stemma.server.token_guard import TokenGuard
from stemma.server.tracking_only import is_loopback


def tracking_address(record: ServerRecord) -> str:
    """Return the address to give clients: of a server at every address, the machine's name."""
    if record.host in ANY_ADDRESS:
        return replace(record, host=socket.gethostname()).address
    return record.address


def make_guard(parts: LocalParts, host: str) -> Guard:
    """Return who decides who may call a server at ``host``."""
    if is_loopback(host):
        return OpenGuard()
    return TokenGuard(parts.database, parts.clock)


def check_reach(hub: LocalHub, host: str, refs: Sequence[str]) -> None:
    """Refuse what would let strangers in.

    Raises:
        DeniedError: If ``host`` is beyond loopback, and there is no token (``no-tokens``) or a
            model is to be served (``models-on-loopback-only``).
    """
    if is_loopback(host):
        return
    if not hub.list_tokens():
        raise DeniedError(
            f"{host} is no loopback address, and there is no token to tell callers apart",
            code="no-tokens",
            hint="stemma token create NAME --role write",
        )
    served = [*refs, *(model.deployment.model for model in hub.serving().models)]
    if served:
        raise DeniedError(
            f"models are served on loopback only, and {host} is not: {', '.join(served)[:200]}",
            code="models-on-loopback-only",
            hint="stemma serve --host 127.0.0.1 behind a proxy with TLS and authentication",
        )
