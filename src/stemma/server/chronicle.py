"""Tells what changes while the server runs, a sentence each."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from stemma.delivery.values import ModelServing, ServingView


@final
class Chronicle:
    """Compares what serves with what it saw last, and tells the difference."""

    def __init__(
        self,
        look: Callable[[], ServingView],
        routed: Callable[[], frozenset[str]],
        told: Callable[[str], None],
    ) -> None:
        """Look with ``look`` and at the slots that requests are sent to, tell ``told``."""
        self._look = look
        self._routed = routed
        self._told = told
        self._seen: dict[str, str] = {}
        self._complaint = ""

    def tell(self) -> None:
        """Tell every change since the last call."""
        self._complaint = ""
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
        """Tell what went wrong in a round, once until something else happens."""
        if message != self._complaint:
            self._complaint = message
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
