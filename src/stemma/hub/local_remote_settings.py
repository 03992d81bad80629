"""What a project knows of its remotes without asking them: names, addresses, keys, last looks.

Invariants: those of ``stemma.hub.remotes``; nothing here needs a network.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from typing_extensions import override

from stemma.catalog import queries
from stemma.catalog.pointers import pointer_path, read_pointer
from stemma.domain.digest import Digest
from stemma.domain.errors import ConflictError, InvalidInputError, NotFoundError, StemmaError
from stemma.domain.ref import did_you_mean, suggest
from stemma.hub.local_parts import LocalParts
from stemma.hub.remote_tables import add_table, remove_table
from stemma.hub.remotes import Remote, RemoteVerbs
from stemma.hub.seen_remotes import FOLDER as SEEN_FOLDER
from stemma.hub.seen_remotes import ModelSeen, RemoteStanding, forget_seen, read_seen, stand
from stemma.store.backends.addresses import parse_address
from stemma.store.backends.logins import forget_login, write_login

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_DEFAULT: Final = "origin"


class LocalRemoteSettings(RemoteVerbs):
    """Names, addresses and keys of one project's remotes."""

    _parts: LocalParts

    @override
    def list_remotes(self) -> Sequence[Remote]:
        found = self._parts.load_remotes()
        return [Remote(name=name, url=url) for name, url in sorted(found.items())]

    @override
    def add_remote(self, name: str, url: str) -> Remote:
        if not _NAME.fullmatch(name):
            raise InvalidInputError(
                f"not a name of a remote: {name[:80]!r}; small letters, digits, - and _",
                code="bad-remote-name",
                hint=f"stemma remote add origin {url}",
            )
        address = parse_address(url)
        known = self._parts.load_remotes().get(name)
        if known == address.url:
            return Remote(name=name, url=known)
        if known is not None:
            raise ConflictError(
                f"{name} is {known} already",
                code="remote-exists",
                hint=f"stemma remote remove {name}",
            )
        add_table(self._parts.root, name, address.url)
        return Remote(name=name, url=address.url)

    @override
    def remove_remote(self, name: str) -> Remote:
        remote = self._named(name)
        remove_table(self._parts.root, name)
        forget_seen(self._parts.root, name)
        return remote

    @override
    def store_login(self, name: str, told: Mapping[str, str]) -> Path:
        address = parse_address(self.find_remote(name).url)
        return write_login(address, os.environ, told)

    @override
    def forget_login(self, name: str) -> bool:
        return forget_login(parse_address(self.find_remote(name).url), os.environ)

    def _named(self, name: str) -> Remote:
        found = self._parts.load_remotes()
        if name in found:
            return Remote(name=name, url=found[name])
        near = suggest(name, found)
        raise NotFoundError(
            f"no remote {name}{did_you_mean(near)}",
            code="remote-not-found",
            hint="stemma remote list" if found else f"stemma remote add {name} s3://BUCKET/PREFIX",
        )

    @override
    def find_remote(self, name: str = "") -> Remote:
        if "/" in name:
            return Remote(name="", url=parse_address(name).url)
        if name:
            return self._named(name)
        found = self._parts.load_remotes()
        usual = next(iter(found)) if len(found) == 1 else _DEFAULT
        if usual in found:
            return Remote(name=usual, url=found[usual])
        names = f"; there are {', '.join(sorted(found))}" if found else "; none is set"
        raise NotFoundError(
            f"no remote was named{names}",
            code="remote-not-found",
            hint="stemma remote list" if found else "stemma remote add origin s3://BUCKET/PREFIX",
        )

    @override
    def list_standings(self) -> Sequence[RemoteStanding]:
        root = self._parts.root
        if not (root / SEEN_FOLDER).is_dir():
            return []
        seen = [(it.name, read_seen(root, it.name, it.url)) for it in self.list_remotes()]
        here: dict[str, ModelSeen] = {}
        with self._parts.database.read() as connection:
            for model in queries.model_names(connection):
                rows = queries.release_rows(connection, model)
                if rows:
                    here[model] = ModelSeen({row.record.hex for row in rows})
            for record, move in queries.all_moves(connection):
                here.setdefault(move.model, ModelSeen()).moves.add(record.hex)
        tracked = list(self._tracked_contents())
        return [stand(name, found, here, tracked) for name, found in seen if found is not None]

    def _tracked_contents(self) -> Iterator[Digest]:
        """Yield what is here of the pointers whose paths we know; nobody searches for others."""
        for path in self._parts.catalog.tracked():
            with suppress(StemmaError):
                content = read_pointer(pointer_path(self._parts.root / path)).content
                if self._parts.objects.has_tree(content):
                    yield content
