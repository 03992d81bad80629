"""Channels: movable names on releases, with their whole history.

Invariants:
    * Every move is a record that names the one before it; nothing is overwritten.
    * Moves of a channel are in order of time, whatever the clock does.
    * Moving ``stable`` moves ``previous`` to where it pointed, in the same transaction.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from stemma.catalog import queries
from stemma.catalog import rows as build
from stemma.catalog.release_verbs import ReleaseVerbs
from stemma.db.engine import Connection
from stemma.domain import canonical
from stemma.domain.canonical import timestamp
from stemma.domain.digest import Digest
from stemma.domain.errors import ConflictError, NotFoundError
from stemma.domain.names import check_channel_name
from stemma.domain.ref import did_you_mean, suggest
from stemma.domain.release import STABLE, ChannelMove, refuse_prerelease_on_stable
from stemma.domain.run import RunId

PREVIOUS: Final = "previous"


class ChannelVerbs(ReleaseVerbs):
    """Verbs on channels."""

    def move_channel(
        self, model: str, channel: str, version: str, *, reason: str = "", moved_by: str
    ) -> ChannelMove:
        """Point a channel at a release; an empty ``version`` removes the channel.

        Moving ``stable`` also moves ``previous`` to where it pointed, in the same transaction.
        A channel that points there already does not move again.

        Raises:
            InvalidInputError: If the channel's name is not allowed.
            NotFoundError: If there is no such release, or no such channel to remove.
            ConflictError: If ``stable`` would point at a pre-release (``prerelease-on-stable``).
        """
        check_channel_name(channel)
        refuse_prerelease_on_stable(model, channel, version)
        if version:
            self.release(model, version)  # its message, unlike the transaction's, names near ones
        with self._database.write() as connection:
            return self.move_channel_in(
                connection, model, channel, version, reason=reason, moved_by=moved_by
            )

    def move_channel_in(
        self,
        connection: Connection,
        model: str,
        channel: str,
        version: str,
        *,
        reason: str,
        moved_by: str,
    ) -> ChannelMove:
        """Move a channel as part of the caller's write transaction.

        The record is in the store when this returns; the move counts once the caller commits.

        Raises:
            NotFoundError: If there is no such release, or no such channel to remove.
            ConflictError: If ``stable`` would point at a pre-release (``prerelease-on-stable``).
        """
        refuse_prerelease_on_stable(model, channel, version)
        target = queries.find_release(connection, model, version) if version else None
        if version and target is None:
            raise NotFoundError(
                f"no version {model}@{version}",
                code="version-not-found",
                hint=f"stemma log {model}",
            )
        history = queries.channel_rows(connection, model, channel, limit=1)
        current = history[0][1] if history else None
        if target is None and (current is None or not current.version):
            known = pointing(queries.current_moves(connection, model))
            raise _no_channel(model, channel, known)
        if current is not None and current.version == version:
            return current
        if channel == STABLE and current is not None and current.version:
            self._append_move(
                connection,
                (model, PREVIOUS),
                (current.version, current.manifest),
                (f"{STABLE} moved to {version or 'nothing'}", moved_by),
            )
        manifest = None if target is None else target.manifest
        return self._append_move(
            connection, (model, channel), (version, manifest), (reason, moved_by)
        )

    def move_channel_to_candidate(
        self, model: str, channel: str, candidate: tuple[RunId, Digest], *, moved_by: str
    ) -> ChannelMove:
        """Point a channel at a run's candidate, which need not be released.

        Args:
            model: Name of the model.
            channel: Name of the channel; not ``stable``.
            candidate: The run and its manifest.
            moved_by: User name.

        Raises:
            InvalidInputError: If the channel's name is not allowed.
            NotFoundError: If there is no such manifest of the model.
            ConflictError: If the channel is ``stable`` (``unreleased-on-stable``).
        """
        check_channel_name(channel)
        run, manifest = candidate
        if channel == STABLE:
            raise not_released(model, f"{model}@{run}")
        with self._database.write() as connection:
            row = queries.find_manifest(connection, manifest)
            if row is None or row["model"] != model:
                raise NotFoundError(
                    f"{model} has no manifest {manifest}", code="manifest-not-found"
                )
            history = queries.channel_rows(connection, model, channel, limit=1)
            if history and (history[0][1].version, history[0][1].manifest) == candidate:
                return history[0][1]
            reason = f"candidate of run {run}"
            return self._append_move(
                connection, (model, channel), (run, manifest), (reason, moved_by)
            )

    def channel_moves(self, model: str) -> dict[str, ChannelMove]:
        """Return the move that says where each channel of a model points; removed ones left out."""
        with self._database.read() as connection:
            moves = queries.current_moves(connection, model)
        return {move.channel: move for move in moves if move.version}

    def channels(self, model: str) -> dict[str, str]:
        """Return where each channel points: name to version."""
        with self._database.read() as connection:
            return pointing(queries.current_moves(connection, model))

    def channel_history(self, model: str, channel: str) -> list[ChannelMove]:
        """Return every move of the channel, newest first."""
        with self._database.read() as connection:
            return [move for _, move in queries.channel_rows(connection, model, channel)]

    def channel_at(self, model: str, channel: str, moment: datetime) -> ChannelMove | None:
        """Return the move in force at ``moment``; ``None`` before the first.

        The whole history is read and checked: a damaged moment in another row must not
        change the answer silently.
        """
        wanted = timestamp(moment)
        return next(
            (
                move
                for move in self.channel_history(model, channel)
                if timestamp(move.moved_at) <= wanted
            ),
            None,
        )

    def _append_move(
        self,
        connection: Connection,
        name: tuple[str, str],
        target: tuple[str, Digest | None],
        why: tuple[str, str],
    ) -> ChannelMove:
        """Store the record of a move and add its row."""
        model, channel = name
        history = queries.channel_rows(connection, model, channel, limit=1)
        record, last = history[0] if history else (None, None)
        now = self._clock()
        move = ChannelMove(
            model=model,
            channel=channel,
            version=target[0],
            manifest=target[1],
            sequence=1 if last is None else last.sequence + 1,
            previous=record,
            reason=why[0],
            # A clock that was set back must not put a move before the one it follows.
            moved_at=now if last is None else max(now, last.moved_at),
            moved_by=why[1],
        )
        digest = self._objects.put_record(build.CHANNEL_MOVE, canonical.encode(move))
        queries.insert_move(connection, digest, move)
        return move


def pointing(moves: Iterable[ChannelMove]) -> dict[str, str]:
    """Return where channels point; removed ones are left out."""
    return {move.channel: move.version for move in moves if move.version}


def not_released(model: str, what: str) -> ConflictError:
    """Return the error for what was to become ``stable`` without having been released."""
    return ConflictError(
        f"{what} is not released, and {STABLE} points at releases only",
        code="unreleased-on-stable",
        hint=f"stemma release {model} --channel {STABLE}",
    )


def _no_channel(model: str, channel: str, known: Iterable[str]) -> NotFoundError:
    return NotFoundError(
        f"{model} has no channel {channel}{did_you_mean(suggest(channel, known))}",
        code="channel-not-found",
        hint=f"stemma log {model}",
    )
