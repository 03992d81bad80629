"""Files of versions opened where they are: in this project, else on a remote.

Invariants:
    * What is read was verified, wherever it came from.
    * Of a file on a remote that is opened only the chunks that are read come here, as frames
      that a collection may remove; that leaves no file stored in half.
    * A remote is asked only for what is not here.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, final

from stemma.domain.digest import Digest
from stemma.domain.errors import NotFoundError
from stemma.domain.tree import Tree
from stemma.store.objects import ObjectStore
from stemma.store.ranges import OpenedFile

if TYPE_CHECKING:
    from stemma.hub.remotes import Remote, TransferProgress
    from stemma.store.fetching import Fetcher


class PartsHub(Protocol):
    """What is needed of a hub."""

    @property
    def objects(self) -> ObjectStore:
        """The content store."""
        ...

    def writing(self, *, is_patient: bool = False) -> AbstractContextManager[None]:
        """Hold the store shared."""
        ...

    def fetching(
        self, remote: str = "", progress: TransferProgress | None = None
    ) -> AbstractContextManager[Fetcher]:
        """Return what fetches from a remote."""
        ...

    def list_remotes(self) -> Sequence[Remote]:
        """Return every remote that is set, by name."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whom a tree or file belongs to, for the words of an error.

    Attributes:
        what: What it is (``model.safetensors of digits-net@1.0.0``).
        ref: Version that names it; empty when none does.
        component: Component of the version (``artifact``).
    """

    what: str
    ref: str = ""
    component: str = ""


@final
class Parts:
    """Opens trees and files of versions."""

    def __init__(self, hub: PartsHub) -> None:
        """Stand on a hub, which must stay open meanwhile."""
        self._hub = hub

    def tree(self, tree: Digest, owner: Owner) -> Tree:
        """Return a tree.

        Args:
            tree: Its digest.
            owner: Whose it is.

        Raises:
            NotFoundError: If it is not here and there is no remote (``contents-not-here``).
            IntegrityError: If it is damaged, or the remote does not hold it.
        """
        objects = self._hub.objects
        if objects.has_tree(tree):
            return objects.read_tree(tree)
        try:
            with self._hub.fetching() as fetcher:
                return fetcher.tree(tree)
        except NotFoundError as error:
            raise self._not_here(error, owner) from error

    def open(self, file: Digest, owner: Owner) -> OpenedFile:
        """Open a file for reading anywhere in it; see ``tree`` for arguments and errors."""
        objects = self._hub.objects
        if objects.has(file):
            return OpenedFile(objects.reader, objects.reader.recipe_of(file))
        try:
            with self._hub.fetching() as fetcher:
                recipe = fetcher.recipe(file)
        except NotFoundError as error:
            raise self._not_here(error, owner) from error

        def bring(chunks: Sequence[bytes]) -> None:
            with self._hub.writing():
                fetcher.chunks(chunks)

        return OpenedFile(objects.reader, recipe, bring)

    def bring(self, tree: Digest, owner: Owner) -> None:
        """Fetch what is not here of a tree and all of its files; see ``tree`` for errors."""
        objects = self._hub.objects
        found = self.tree(tree, owner)
        files = {entry.digest for entry in found.entries if entry.digest is not None}
        absent = [file for file in files if not objects.has(file)]
        if not absent and objects.has_tree(tree):
            return
        try:
            with self._hub.fetching() as fetcher:
                fetcher.files(absent)
                objects.put_tree_from(found.entries)
        except NotFoundError as error:
            raise self._not_here(error, owner) from error

    def _not_here(self, error: NotFoundError, owner: Owner) -> NotFoundError:
        """Return the error for what is not here; one about a remote says more than its absence."""
        if error.code not in {"remote-not-found", "remote-missing"}:
            return error
        remotes = self._hub.list_remotes()
        hint = error.hint
        if error.code == "remote-not-found" and remotes and owner.ref:
            # There are several, and a command can say which one is meant.
            hint = f"stemma pull {owner.ref} {remotes[0].name} --only {owner.component}"
        return NotFoundError(
            f"{owner.what} is not in this project, which knows of it by name only: {error.message}",
            code="contents-not-here",
            hint=hint,
        )
