"""Runs ``stemma`` commands in forks of a process that has loaded it: 0.03 s each, not 0.6 s.

``conftest.py`` starts it with the path of a socket and its parent's process id.  Each
connection is one command: its open files come first (stdin, stdout, stderr), then one line
of JSON with ``arguments``, ``cwd`` and ``environment``.  The answers are two lines: the
command's process id, and its exit code.

Invariants:
    * A command is a process of its own, with the working directory, environment and files
      that a shell would give it, and it ends as the interpreter ends.
    * This process opens no project, file or connection of Stemma, and runs no thread of it.

It does not run scripts that train: a run records which modules its process has loaded.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import socket
import sys
import threading
import time
from contextlib import suppress

WIDE = ("cli", "server", "hub", "catalog", "tracking", "store", "db", "delivery")
NOT_NEEDED = ("stemma.db.migrations", "stemma.delivery.runtime", "stemma.store.codecs.kernels")
OTHERS = ("alembic.command", "alembic.config", "sqlite3", "concurrent.futures.thread")
FILES = 3
LOOK_SECONDS = 1.0


def load() -> None:
    """Import what commands import when they are needed."""
    for name in OTHERS:
        importlib.import_module(name)
    for name in WIDE:
        package = importlib.import_module(f"stemma.{name}")
        for module in pkgutil.walk_packages(package.__path__, f"stemma.{name}."):
            if not module.name.startswith(NOT_NEEDED):
                with suppress(ModuleNotFoundError):  # of an extra that is not installed
                    importlib.import_module(module.name)


def take(connection: socket.socket) -> tuple[list[int], dict[str, object]]:
    """Read a command."""
    text, files, _, _ = socket.recv_fds(connection, 1 << 16, FILES)
    while not text.endswith(b"\n"):
        text += connection.recv(1 << 16)
    return files, json.loads(text)


def become(files: list[int], order: dict[str, object]) -> None:
    """Turn this process into the one that a shell would start."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(order["environment"])  # type: ignore[call-overload]
    time.tzset()
    os.chdir(str(order["cwd"]))
    sys.path[0] = os.getcwd()  # noqa: PTH109 - as `python -m` does
    sys.argv = ["stemma", *order["arguments"]]  # type: ignore[misc]


def serve(connection: socket.socket) -> bool:
    """Run one command in a fork of this one; returns whether this process is that fork."""
    files, order = take(connection)
    pid = os.fork()
    if pid == 0:
        connection.close()
        become(files, order)
        return True
    connection.sendall(b"%d\n" % pid)
    for file in files:
        os.close(file)
    _, status = os.waitpid(pid, 0)
    connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
    return False


def reap() -> None:
    """Let go of forks that have ended."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def wait_for_commands(place: str, parent: int) -> bool:
    """Run every command in a fork; returns ``True`` in such a fork, which is to run it."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place)
        listener.listen(16)
        listener.settimeout(LOOK_SECONDS)
        while os.getppid() == parent:
            reap()
            with suppress(TimeoutError):
                connection, _ = listener.accept()
                with connection:
                    if os.fork() == 0:
                        listener.close()
                        if serve(connection):
                            return True
                        os._exit(0)
    return False


def end(code: int) -> None:
    """End as the interpreter does, but do not take apart every module: that takes 0.04 s."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main() -> int:
    """Load, and wait for commands until the tests have ended."""
    place, parent = sys.argv[1:]
    load()
    gc.collect()
    gc.freeze()
    if not wait_for_commands(place, int(parent)):
        return 0
    end(int(importlib.import_module("stemma.cli.main").main()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
