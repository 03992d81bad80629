"""Says whether a port is free, and who holds it when it is not.

It reserves nothing: between asking and listening somebody else may still come.
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

from stemma.domain.errors import ConflictError, DeniedError, InvalidInputError

_LISTENING: Final = "0A"
_PROC: Final = Path("/proc")


def numeric_address(host: str) -> str:
    """Return the address that a host name stands for, IPv4 before IPv6.

    Raises:
        InvalidInputError: If it stands for none (``bad-address``).
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise InvalidInputError(
            f"{host} is no address: {error.strerror or error}",
            code="bad-address",
            hint="stemma serve --host 127.0.0.1",
        ) from error
    addresses = sorted(found, key=lambda one: one[0] is not socket.AF_INET)
    return str(addresses[0][4][0])


def check_port(host: str, port: int) -> None:
    """Return when a server could listen at ``host:port``.

    Raises:
        ConflictError: If the port is taken (``port-in-use``).
        DeniedError: If this user may not listen there (``port-denied``).
        InvalidInputError: If the host is no address of this machine (``bad-address``).
    """
    address = numeric_address(host)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ConflictError(
                    f"port {port} of {host} is taken{_by_whom(port)}",
                    code="port-in-use",
                    hint=f"stemma serve --port {port + 1}",
                ) from error
            if error.errno == errno.EACCES:
                raise DeniedError(
                    f"this user may not listen at port {port}",
                    code="port-denied",
                    hint="stemma serve --port 8700",
                ) from error
            raise InvalidInputError(
                f"cannot listen at {host}:{port}: {error.strerror or error}",
                code="bad-address",
                hint="stemma serve --host 127.0.0.1",
            ) from error


def _by_whom(port: int) -> str:
    inodes = _listening_inodes(port)
    for folder in _PROC.glob("[0-9]*"):
        with suppress(OSError):
            for link in (folder / "fd").iterdir():
                if _target(link) in inodes:
                    name = (folder / "comm").read_text(encoding="utf-8", errors="replace").strip()
                    return f" by {name} (process {folder.name})"
    return ""


def _target(link: Path) -> str:
    try:
        return os.readlink(link)  # noqa: PTH115 - the target is a name like socket:[1234], no path
    except OSError:
        return ""


def _listening_inodes(port: int) -> set[str]:
    found: set[str] = set()
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in (_PROC / "net" / table).read_text(encoding="ascii").splitlines()[1:]:
                # proc(5) /proc/net/tcp: 1 local address, 3 state, 9 inode
                fields = line.split()
                local_port = int(fields[1].rpartition(":")[2], 16)
                if local_port == port and fields[3] == _LISTENING:
                    found.add(f"socket:[{fields[9]}]")
    return found
