"""Metrics that users post while a rollout is under way.

Invariants:
    * A key counts once, however often it is posted; another value under it is refused.
    * What is posted waits until a look at the rollout counts it (``look_at_rollout``).
"""

from __future__ import annotations

import re
from typing import Final

from stemma.db.engine import Connection
from stemma.db.rows import Value
from stemma.delivery.records import queries
from stemma.delivery.records.rollout_verbs import RolloutVerbs
from stemma.delivery.values import MetricPost
from stemma.domain.canonical import timestamp
from stemma.domain.errors import ConflictError, InvalidInputError, NotFoundError
from stemma.domain.rollout import Rollout
from stemma.domain.traffic import Side

RESERVED_METRICS: Final = ("errors", "latency_p50", "latency_p95", "latency_p99")
"""Guardrails that are counted from the access log."""

COUNT_LIMIT: Final = 10**12
KEY_LIMIT: Final = 200

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")


class MetricVerbs(RolloutVerbs):
    """Verbs on posted metrics."""

    def post_metric(self, post: MetricPost) -> bool:
        """Keep an observation until it is counted; returns whether it was new.

        Raises:
            InvalidInputError: If the post makes no sense (``bad-metric-post``).
            NotFoundError: If no rollout is under way, or it is of another version.
            ConflictError: If the rollout has ended (``rollout-ended``), or the key was used for
                something else (``metric-key-taken``).
        """
        _check(post)
        with self._database.write() as connection:
            rollout = _rollout(connection, post)
            values: dict[str, Value] = {
                "rollout": rollout.id,
                "key": post.key,
                "metric": post.metric,
                "side": _side(rollout, post).value,
                "events": post.events,
                "trials": post.trials,
            }
            known = queries.find_metric(connection, rollout.id, post.key)
            if known is not None:
                if any(known[name] != value for name, value in values.items()):
                    raise ConflictError(
                        f"the key {post.key!r} was used for {known['events']!s} of"
                        f" {known['trials']!s} {known['metric']!s} ({known['side']!s})",
                        code="metric-key-taken",
                        hint="post each observation under a key of its own",
                    )
                return False
            if rollout.state.is_final:
                raise ConflictError(
                    f"rollout {rollout.id} of {rollout.model} has ended: {rollout.state.value}",
                    code="rollout-ended",
                    hint=f"stemma rollout status {rollout.model}",
                )
            queries.insert_metric(
                connection, {**values, "posted_at": timestamp(self._clock()), "is_counted": 0}
            )
        return True


def _check(post: MetricPost) -> None:
    if not _NAME.fullmatch(post.metric) or post.metric in RESERVED_METRICS:
        raise _bad(f"{post.metric!r} is not the name of a metric of your own")
    if not 0 <= post.events <= post.trials or not 1 <= post.trials <= COUNT_LIMIT:
        raise _bad(f"{post.metric}: {post.events} events among {post.trials} trials")
    if not post.key or len(post.key) > KEY_LIMIT or not post.key.isprintable():
        raise _bad(f"{post.metric}: the key must be 1 to {KEY_LIMIT} printable characters")


def _rollout(connection: Connection, post: MetricPost) -> Rollout:
    if post.rollout is None:
        newest = queries.newest_rollouts(connection, post.model)
        stored = newest[0] if newest and not newest[0].rollout.state.is_final else None
    else:
        stored = queries.find_rollout(connection, post.rollout)
    if stored is None or stored.rollout.model != post.model:
        raise NotFoundError(
            f"no rollout {post.rollout or ''} of {post.model} is under way".replace("  ", " "),
            code="rollout-not-found",
            hint=f"stemma rollout status {post.model}",
        )
    return stored.rollout


def _side(rollout: Rollout, post: MetricPost) -> Side:
    """Return whose metric it is, by version or by the side's own name."""
    versions = {Side.CANARY: rollout.canary.version, Side.STABLE: rollout.stable.version}
    meant = [side for side in Side if post.version in {side.value, versions[side]}]
    if len(meant) != 1:
        raise NotFoundError(
            f"rollout {rollout.id} compares {versions[Side.CANARY]} (canary) with"
            f" {versions[Side.STABLE]} (stable); {post.version!r} names not one of them",
            code="version-not-in-rollout",
            hint="post with version canary or stable",
        )
    return meant[0]


def _bad(message: str) -> InvalidInputError:
    return InvalidInputError(
        message, code="bad-metric-post", hint="events among trials, e.g. 3 events, 120 trials"
    )
