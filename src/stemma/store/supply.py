"""Sound blobs of two stores: from the nearer one where both have them, and each asked for once.

Invariants (normative text: ``docs/formats/store.md`` §Remotes):
    * What is returned was checked against its name.
    * What is missing or damaged near is looked for far; what is damaged far is an error.
    * Memory holds up to 32 MiB of recipes that came from a remote.

It writes nothing; see ``stemma.store.transfer``.
"""

from __future__ import annotations

from typing import Final, final

from stemma.domain.errors import IntegrityError, NotFoundError
from stemma.store.checking import checked
from stemma.store.keys import Family
from stemma.store.sides import Side

_RECIPE_BYTES: Final = 32 << 20


@final
class Supply:
    """Reads blobs of a source, and of its target where that is on this machine."""

    def __init__(self, source: Side, target: Side) -> None:
        """Name both sides."""
        self._source = source
        self._target = target
        self._recipes: dict[str, bytes] = {}
        self._recipe_bytes = 0

    def read(self, key: str) -> bytes:
        """Return a blob from the nearer side that has it.

        Raises:
            IntegrityError: If neither side has it, or what it has is damaged.
        """
        data = self.find(key)
        if data is None:
            raise self.lacking(key)
        return data

    def find(self, key: str) -> bytes | None:
        """Return a blob from the nearer side that has it; ``None`` when neither has.

        Raises:
            IntegrityError: If what the source has is damaged.
        """
        if self._target.is_local:
            try:
                return self._of(self._target, key)
            except (NotFoundError, IntegrityError):
                pass  # the source may have what is missing or damaged here
        if key in self._recipes:
            return self._recipes[key]
        try:
            data = self._of(self._source, key)
        except NotFoundError as error:
            if error.code != "blob-not-found":
                raise
            return None
        # A request for each of many small files is what planning costs; once is enough.
        if key.startswith(Family.RECIPE.prefix) and not self._source.is_local:
            self._recipe_bytes += len(data)
            if self._recipe_bytes <= _RECIPE_BYTES:
                self._recipes[key] = data
        return data

    def take(self, key: str) -> bytes:
        """Return a blob of the source, unless ``find`` has it still.

        Raises:
            IntegrityError: If the source has none, or it is damaged.
        """
        if key in self._recipes:
            return self._recipes[key]
        try:
            return self._of(self._source, key)
        except NotFoundError as error:
            if error.code != "blob-not-found":
                raise
            raise self.lacking(key) from error

    def is_sound_there(self, key: str) -> bool:
        """Whether the target has a blob that is what its name says."""
        try:
            self._of(self._target, key)
        except (NotFoundError, IntegrityError):
            return False
        return True

    def lacking(self, what: str) -> IntegrityError:
        """Return the error of something that the source should have."""
        return IntegrityError(
            f"{self._source.name} does not hold {what}",
            code="transfer-incomplete",
            hint="stemma doctor" if self._source.is_local else "stemma push, where it was made",
        )

    def _of(self, side: Side, key: str) -> bytes:
        reader = self._source.reader or self._target.reader
        return checked(key, side.backend.get(key), side.name, reader)
