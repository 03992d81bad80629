"""Where serving keeps its files.

    .stemma/serve/
        server.json              who serves now: process, address, since when
        server.log               what the server said
        slots.json               what the supervisor sees, written anew at each change
        routes.lock              taken by whoever renders routes from the database
        plane/                   files of the data plane; access.jsonl is its log
        versions/<manifest>/     a version materialised: artifact/, code/, golden.npz, version.json
        environments/<identity>/ an environment, made from its lock
        overlay/<python>/        what the runtime needs beside a version's own packages
        slots/<slot>/            specification.json, process-<n>.json, process-<n>.log
        recorded/<model>/        sampled requests
        asked/                   slots that commands under way need, e.g. a rollback

Sockets live outside, in a private folder with a short name: a Unix socket's path may have
no more than 107 bytes.

Invariants:
    * Everything here can be made again: what production is to be stands in the database.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from stemma.domain.errors import DeniedError
from stemma.store.hashing import hash_bytes

_PRIVATE = 0o700


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeLayout:
    """The folders of one project's serving.

    Attributes:
        state: The project's ``.stemma`` folder, absolute.
        folder: Name of the serving folder in it; a drill has one of its own, where everything
            is made afresh.
        area: Names a second set of slots that share versions and environments (``staging``);
            empty for production's.
    """

    state: Path
    folder: str = "serve"
    area: str = ""

    @property
    def root(self) -> Path:
        """``.stemma/serve``."""
        return self.state / self.folder

    @property
    def _own(self) -> Path:
        return self.root / self.area if self.area else self.root

    @property
    def server_file(self) -> Path:
        """Who serves now."""
        return self.root / "server.json"

    @property
    def slots_file(self) -> Path:
        """What the supervisor sees."""
        return self._own / "slots.json"

    @property
    def routes_lock(self) -> Path:
        """Lock of the route table."""
        return self.root / "routes.lock"

    @property
    def asked(self) -> Path:
        """Slots that commands under way ask the server for."""
        return self.root / "asked"

    @property
    def plane(self) -> Path:
        """Files of the data plane."""
        return self.root / "plane"

    def version(self, manifest: str) -> Path:
        """Folder of a materialised version; ``manifest`` is its digest as text."""
        return self.root / "versions" / manifest.partition(":")[2]

    def environment(self, identity: str) -> Path:
        """Folder of an environment; ``identity`` is its digest as text."""
        return self.root / "environments" / identity.partition(":")[2][:32]

    def slot(self, name: str) -> Path:
        """Folder of a slot."""
        return self._own / "slots" / name

    def sockets(self) -> Path:
        """Return the private folder of this project's sockets; made when missing.

        Raises:
            DeniedError: If somebody else's folder stands there.
        """
        name = hash_bytes(str(self._own).encode()).short
        folder = Path(tempfile.gettempdir()) / f"stemma-{os.getuid()}-{name}"
        folder.mkdir(mode=_PRIVATE, exist_ok=True)
        found = folder.lstat()
        if found.st_uid != os.getuid() or folder.is_symlink() or found.st_mode & 0o077:
            raise DeniedError(
                f"{folder} is not a private folder of this user",
                code="socket-folder-not-private",
                hint=f"ls -ld {folder}; remove it, or set TMPDIR to a folder of yours",
            )
        return folder
