"""Fetching parts of a version from a remote when somebody reads them.

Invariants: those of ``stemma.store.transfer``; everything is checked before it is written, and
    * ``fetch_files`` brings whole files, and nobody can tell that they came late.
    * ``fetch_chunks`` brings frames alone, with those they are differences to.  A recipe is
      stored only with all of its chunks, so what was fetched in part is no damage; it is a
      cache that a collection may remove.

Chunks of a part: ``Fetcher.recipe(file)`` says which chunks hold which bytes of a file, and
``Reader.pieces`` reads them once they are here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from threading import Lock
from typing import final

from stemma.domain.digest import Digest
from stemma.domain.tree import Tree
from stemma.store.keys import recipe_key, tree_key
from stemma.store.recipes import Recipe, decode_recipe
from stemma.store.sides import Side
from stemma.store.transfer import Plan, Transfer
from stemma.store.trees import verified_tree


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyReport:
    """What was fetched.

    Attributes:
        frame_count: Frames that were written.
        copied_bytes: What was written in all.
    """

    frame_count: int
    copied_bytes: int


@final
class Fetcher:
    """Fetches from one remote, again and again; safe to use from several threads."""

    def __init__(
        self, remote: Side, local: Side, advance: Callable[[int], None] = lambda _bytes: None
    ) -> None:
        """Stand between a remote and our own store.

        Args:
            remote: Where to fetch from.
            local: Our own side.
            advance: Told the size of what arrived, piece by piece.
        """
        self._sides = (remote, local)
        self._supply = Transfer(remote, local)
        self._advance = advance
        self._guard = Lock()

    def recipe(self, file: Digest) -> Recipe:
        """Return the recipe of a file (blake3), from here or there; it is stored nowhere.

        Raises:
            IntegrityError: If neither side has it (``transfer-incomplete``), or it is damaged.
        """
        return decode_recipe(self._supply.read(recipe_key(file)), file)

    def tree(self, tree: Digest) -> Tree:
        """Return a tree, from here or there; it is stored nowhere.

        Raises:
            IntegrityError: If neither side has it (``transfer-incomplete``), or it is damaged.
        """
        return verified_tree(self._supply.read(tree_key(tree)), tree)

    def files(self, files: Collection[Digest]) -> CopyReport:
        """Fetch what is missing here of whole files (blake3).

        Raises:
            IntegrityError: If the remote misses something, or what it has is damaged; nothing
                that names it has been written then.
        """
        # A new one each time: what came earlier may have been collected since.
        transfer = Transfer(*self._sides)
        with self._guard:
            return self._copy(transfer, transfer.plan_files(files))

    def chunks(self, chunks: Collection[bytes]) -> CopyReport:
        """Fetch what is missing here to read some chunks.

        Raises:
            IntegrityError: If the remote misses something, or what it has is damaged.
        """
        transfer = Transfer(*self._sides)
        with self._guard:
            return self._copy(transfer, transfer.plan_chunks(chunks))

    def _copy(self, transfer: Transfer, plan: Plan) -> CopyReport:
        copied_bytes = transfer.copy(plan, self._advance)
        return CopyReport(frame_count=len(plan.frames), copied_bytes=copied_bytes)


def fetch_files(remote: Side, local: Side, files: Collection[Digest]) -> CopyReport:
    """Fetch what is missing here of whole files (blake3); see ``Fetcher.files``."""
    return Fetcher(remote, local).files(files)


def fetch_chunks(remote: Side, local: Side, chunks: Collection[bytes]) -> CopyReport:
    """Fetch what is missing here to read some chunks; see ``Fetcher.chunks``."""
    return Fetcher(remote, local).chunks(chunks)
