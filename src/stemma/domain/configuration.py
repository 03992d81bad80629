"""The configuration a version is served with: versioned beside the release it was proven with.

Invariants:
    * Equal configurations have equal digests; nothing secret is in one: a variable whose
      value must not be stored is named in ``inherited`` and taken from the server's environment.
    * An unknown key or a wrong type in ``[model.NAME.serve]`` is refused with its dotted key.

This module reads a plain mapping; it does not read files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What a deployment runs with.

    Attributes:
        variables: Environment variables by name.
        inherited: Names of variables taken from the server's own environment.
        flags: Switches the model's code can read, as ``STEMMA_FLAG_NAME``; text by name.
        thresholds: Numbers the model's code can read, as ``STEMMA_THRESHOLD_NAME``; decimal text.
        replicas: How many processes.
        memory_mib: Most memory of one process in MiB; more is killed and restarted.
        cpus: Threads a process may compute with.
        timeout_seconds: How long a request may take.
        start_timeout_seconds: How long a process may take from start to ready.
        methods: Which of the model's methods answer requests, the first by default.
        is_code_trusted: The version's own code may be imported (torch modules need it).
        is_recording: Requests are sampled for replay in staging.
        drill_every_seconds: A drill older than this blocks promotion; 0: no schedule.
    """

    variables: Mapping[str, str] = field(default_factory=dict)
    inherited: tuple[str, ...] = ()
    flags: Mapping[str, str] = field(default_factory=dict)
    thresholds: Mapping[str, str] = field(default_factory=dict)
    replicas: int = 1
    memory_mib: int = 2048
    cpus: int = 1
    timeout_seconds: int = 30
    start_timeout_seconds: int = 120
    methods: tuple[str, ...] = ()
    is_code_trusted: bool = False
    is_recording: bool = False
    drill_every_seconds: int = 0
