"""Tells what changes while the server runs, a sentence each."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, final

from stemma.delivery.values import ModelServing, ServingView

_AGAIN_SECONDS: Final = 60.0
"""A disk that is full must not be filled further by saying so ten times a second."""


@final
class Chronicle:
    """Compares what serves with what it saw last, and tells the difference."""

    def __init__(
        self,
        look: Callable[[], ServingView],
        routed: Callable[[], frozenset[str]],
        told: Callable[[str], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Look with ``look`` and at the slots that requests are sent to, tell ``told``."""
        self._look = look
        self._routed = routed
        self._told = told
        self._seen: dict[str, str] = {}
        self._monotonic = monotonic
        self._complaint = ""
        self._complained_at = 0.0

    def tell(self) -> None:
        """Tell every change since the last call."""
        view, routed = self._look(), self._routed()
        for model in view.models:
            for key, sentence in _sentences(view.server.address, model, routed):
                if self._seen.get(key) != sentence:
                    self._seen[key] = sentence
                    self._told(sentence)

    def note(self, sentence: str) -> None:
        """Tell what was done about something."""
        self._told(f"! {sentence}")

    def complain(self, message: str) -> None:
        """Tell what went wrong in a round; the same again once a minute at most."""
        now = self._monotonic()
        if message != self._complaint or now - self._complained_at >= _AGAIN_SECONDS:
            self._complaint, self._complained_at = message, now
            self._told(f"! {message}; users go on being served, trying again")


def _sentences(address: str, model: ModelServing, routed: frozenset[str]) -> list[tuple[str, str]]:
    name, deployed = model.deployment.model, model.deployment.deployed
    found: list[tuple[str, str]] = []
    for status in model.slots:
        is_deployed = status.spec.version == deployed.version
        if is_deployed and status.sockets and status.spec.name in routed:
            url = f"{address}/v1/models/{name}:predict"
            channel = "stable = " if model.stable_channel == deployed.version else ""
            found.append((f"serves {name}", f"✓ {url}   → {channel}{deployed.version}"))
        why = f": {status.detail}" if status.detail else ""
        sentence = f"  {name} {status.spec.version} is {status.state.value}{why}"
        found.append((f"slot {status.spec.name}", sentence))
    if model.rollout is not None:
        rollout = model.rollout
        weight = f"{model.weight_bp / 100:g} %"
        sentence = f"  rollout {rollout.canary.version}: {rollout.state.value} at {weight}"
        found.append((f"rollout {name}", sentence))
    return found
