"""What each remote held when it was last spoken to, so that ``status`` need not ask it.

Invariants:
    * A file for each remote in ``.stemma/remotes``, replaced whole; it is only a memory, and
      one that is missing, damaged or of another address counts as never seen.
    * It holds digests of records; what they say is with the records.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from stemma.catalog.exchange import Chains
from stemma.domain.digest import Digest
from stemma.store.backends.local import translated_os_errors
from stemma.store.export import write_file

FOLDER: Final = ".stemma/remotes"
_MOST_TRACKED: Final = 1000


@dataclass(slots=True)
class ModelSeen:
    """Records of one model, by digest.

    Attributes:
        releases: Of its releases.
        moves: Of the moves of its channels.
    """

    releases: set[str] = field(default_factory=set)
    moves: set[str] = field(default_factory=set)


@dataclass(slots=True)
class RemoteSeen:
    """What a remote held.

    Attributes:
        url: Its address then.
        seen_at: When.
        models: Its models.
        tracked: Contents of tracked paths that it holds, as far as we came to know, the latest
            last; ``None`` when that was never looked at.
    """

    url: str
    seen_at: datetime
    models: dict[str, ModelSeen] = field(default_factory=dict)
    tracked: list[str] | None = None

    def add(self, chains: Mapping[str, Chains]) -> None:
        """Take in what was read from it."""
        for model, chain in chains.items():
            self.add_releases(model, (record for record, _ in chain.releases))
            self.add_moves(model, (pair[0] for pairs in chain.moves.values() for pair in pairs))

    def add_releases(self, model: str, records: Iterable[Digest]) -> None:
        """Take in releases that it holds."""
        self.models.setdefault(model, ModelSeen()).releases.update(it.hex for it in records)

    def add_moves(self, model: str, records: Iterable[Digest]) -> None:
        """Take in moves that it holds."""
        self.models.setdefault(model, ModelSeen()).moves.update(it.hex for it in records)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStanding:
    """How far one model here and on a remote are apart.

    Attributes:
        model: Its name.
        ahead: Releases that only we have.
        behind: Releases that only the remote had.
        moves_ahead: Channel moves that only we have.
        moves_behind: Channel moves that only the remote had.
    """

    model: str
    ahead: int
    behind: int
    moves_ahead: int
    moves_behind: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteStanding:
    """How far this project and a remote are apart, as it was last seen.

    Attributes:
        name: The remote.
        url: Its address.
        seen_at: When it was seen.
        models: Models that differ.
        tracked_ahead: Tracked paths whose content only we have, as far as is known.
    """

    name: str
    url: str
    seen_at: datetime
    models: tuple[ModelStanding, ...]
    tracked_ahead: int = 0


def write_seen(root: Path, name: str, seen: RemoteSeen) -> None:
    """Remember what a remote holds now; what is tracked as before, when that was not looked at."""
    if seen.tracked is None:
        before = read_seen(root, name, seen.url)
        seen.tracked = None if before is None else before.tracked
    text = json.dumps(
        {
            "url": seen.url,
            "seen_at": seen.seen_at.isoformat(),
            "models": {
                model: {"releases": sorted(it.releases), "moves": sorted(it.moves)}
                for model, it in sorted(seen.models.items())
            },
            **({} if seen.tracked is None else {"tracked": seen.tracked}),
        }
    )
    write_file([text.encode()], _path(root, name), is_executable=False)


def read_seen(root: Path, name: str, url: str) -> RemoteSeen | None:
    """Return what a remote held when it was last seen; ``None`` when it never was."""
    try:
        found = json.loads(_path(root, name).read_text(encoding="utf-8"))
        seen = RemoteSeen(
            url=str(found["url"]),
            seen_at=datetime.fromisoformat(found["seen_at"]),
            models={
                str(model): ModelSeen(set(it["releases"]), set(it["moves"]))
                for model, it in found["models"].items()
            },
            tracked=[str(it) for it in found["tracked"]] if "tracked" in found else None,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return seen if seen.url == url else None


def note_tracked(root: Path, name: str, url: str, contents: Iterable[Digest]) -> None:
    """Remember contents that a remote holds; nothing when the remote itself was never seen."""
    seen = read_seen(root, name, url)
    if seen is not None:
        known = dict.fromkeys([*(seen.tracked or ()), *(it.hex for it in contents)])
        seen.tracked = list(known)[-_MOST_TRACKED:]
        write_seen(root, name, seen)


def forget_seen(root: Path, name: str) -> None:
    """Forget a remote that was removed."""
    path = _path(root, name)
    with translated_os_errors(f"remove {path}"):
        path.unlink(missing_ok=True)


def stand(
    name: str, seen: RemoteSeen, here: Mapping[str, ModelSeen], tracked: Iterable[Digest] = ()
) -> RemoteStanding:
    """Say how far a project is from what a remote held.

    Args:
        name: The remote.
        seen: What it held.
        here: Our models.
        tracked: The content of each of our tracked paths.
    """
    held = set(seen.tracked or ())
    only_here = [it for it in tracked if it.hex not in held] if seen.tracked is not None else []
    models: list[ModelStanding] = []
    for model in sorted(here.keys() | seen.models.keys()):
        ours, theirs = here.get(model, ModelSeen()), seen.models.get(model, ModelSeen())
        if ours != theirs:
            models.append(
                ModelStanding(
                    model=model,
                    ahead=len(ours.releases - theirs.releases),
                    behind=len(theirs.releases - ours.releases),
                    moves_ahead=len(ours.moves - theirs.moves),
                    moves_behind=len(theirs.moves - ours.moves),
                )
            )
    return RemoteStanding(
        name=name,
        url=seen.url,
        seen_at=seen.seen_at,
        models=tuple(models),
        tracked_ahead=len(only_here),
    )


def _path(root: Path, name: str) -> Path:
    return root / FOLDER / f"{name}.json"
