"""Gates: whether a version may ship, as one table of answers.

Invariants:
    * What was not measured does not pass.
    * Answers come in the order of the policy: gates, budgets, metadata, files.

This module decides; it does not measure.
"""

from __future__ import annotations

from stemma.domain.manifest import Manifest
from stemma.domain.policy import ModelPolicy
from stemma.domain.release import GateResult
from stemma.domain.threshold import Gate

__all__ = ["Gate", "check_gates"]


def check_gates(policy: ModelPolicy, manifest: Manifest) -> tuple[GateResult, ...]:
    """Return every gate's answer: metrics, budgets, metadata, pickles."""
    raise NotImplementedError
