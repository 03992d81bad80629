"""Asks the ``uv`` program: locks, resolutions and environments.

Invariants:
    * The program is the one that is installed with Stemma, never a download.
    * An absent network is told apart from a wrong requirement by uv's own words.
    * Every call ends: it has a timeout.

This module does not know models; see ``stemma.catalog.capture.environment``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import uv

from stemma.domain.errors import UnavailableError

_NETWORK_WORDS: Final = (
    "error sending request",
    "dns error",
    "failed to lookup address",
    "connection refused",
    "connection reset",
    "network is unreachable",
    "network connectivity is disabled",
    "network was disabled",
    "operation timed out",
    "request failed after",
    "failed to fetch",
    "tunnel error",
)
_DECORATION: Final = re.compile(r"[×╰─▶│├╭╮╯·]+|^\s*(error|hint):", re.MULTILINE)
_URL: Final = re.compile(r"\b[a-z+]+://\S+")


class UvAnswer(NamedTuple):
    """What uv said."""

    has_succeeded: bool
    output: str
    complaint: str

    @property
    def is_network_failure(self) -> bool:
        """Whether it failed for want of a network (or of its cache, when offline)."""
        text = self.complaint.lower()
        return not self.has_succeeded and any(word in text for word in _NETWORK_WORDS)

    @property
    def reason(self) -> str:
        """Its complaint in one line without decoration and addresses."""
        lines = [line for line in self.complaint.splitlines() if not line.startswith("warning")]
        text = " ".join(_DECORATION.sub(" ", "\n".join(lines)).split())
        return _URL.sub("(address)", text)


def ask_uv(
    arguments: Sequence[str], *, is_offline: bool = False, timeout_seconds: float = 60.0
) -> UvAnswer:
    """Run uv with these arguments.

    Raises:
        UnavailableError: If uv is not installed or gives no answer in time.
    """
    command = [_binary(), "--no-progress", "--color", "never", *arguments]
    if is_offline:
        command.append("--offline")
    # An activated environment must not decide what is resolved or changed.
    environment = {name: text for name, text in os.environ.items() if name != "VIRTUAL_ENV"}
    try:
        outcome = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(
            f"uv {arguments[0]} gave no answer in {timeout_seconds:g} s",
            code="uv-timeout",
            hint="try again when the network answers",
        ) from error
    except OSError as error:
        raise UnavailableError(
            f"uv cannot be run: {error.strerror}", code="uv-missing", hint="pip install uv"
        ) from error
    return UvAnswer(
        has_succeeded=outcome.returncode == 0,
        output=outcome.stdout.decode("utf-8", errors="replace"),
        complaint=outcome.stderr.decode("utf-8", errors="replace"),
    )


def _binary() -> str:
    try:
        return os.fsdecode(uv.find_uv_bin())
    except FileNotFoundError as error:
        found = shutil.which("uv")
        if found is None:
            raise UnavailableError(
                "uv is not installed", code="uv-missing", hint="pip install uv"
            ) from error
        return str(Path(found))
