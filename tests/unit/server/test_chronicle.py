"""What the server tells while it runs."""

from __future__ import annotations

from stemma.delivery.values import ServerView, ServingView
from stemma.server.chronicle import Chronicle


def test_the_same_complaint_is_told_once_a_minute() -> None:
    """A full disk would be filled by a log that says so ten times a second."""
    said: list[str] = []
    hands = [0.0]
    nothing = ServingView(server=ServerView(is_running=True, is_answering=True), models=())
    chronicle = Chronicle(lambda: nothing, frozenset, said.append, lambda: hands[0])
    for _ in range(100):
        hands[0] += 0.5
        chronicle.complain("the disk is full")
        chronicle.tell()
    assert len(said) == 1
    chronicle.complain("the port is taken")
    assert len(said) == 2
    hands[0] += 60.0
    chronicle.complain("the port is taken")
    assert len(said) == 3
