"""Versions loaded while a run is open become its parents."""

from __future__ import annotations

from threading import Thread

from stemma.domain.digest import Digest
from stemma.sdk.lineage import Parents, note_parent

BASE = Digest.sha256("a" * 64)
OTHER = Digest.sha256("b" * 64)


def test_what_is_loaded_while_a_run_is_open_is_its_parent() -> None:
    """Nobody could say which model a fine-tune started from."""
    note_parent(OTHER)
    outer = Parents()
    note_parent(BASE)
    inner = Parents()
    note_parent(OTHER)
    note_parent(OTHER)
    inner.close()
    outer.close()
    note_parent(Digest.sha256("c" * 64))
    assert outer.digests == (BASE, OTHER)
    assert inner.digests == (OTHER,)


def test_another_thread_loads_for_itself() -> None:
    """A server that loads models beside a training would become its ancestor."""
    parents = Parents()
    thread = Thread(target=note_parent, args=(BASE,))
    thread.start()
    thread.join()
    parents.close()
    assert parents.digests == ()
