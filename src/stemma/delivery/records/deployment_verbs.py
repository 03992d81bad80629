"""Deployments: what production is to be, as records in the store and rows.

Invariants:
    * The history of a model is append-only; its newest entry is what production is to be.
    * A deployment names a release by number and manifest, and a configuration of the model.
    * Deployment and channel ``stable`` change in one transaction.
    * While a rollout is under way nothing but the rollout, or a rollback, deploys.

It starts and routes nothing; the controller makes production follow.
"""

from __future__ import annotations

from stemma.catalog import queries as catalog_queries
from stemma.catalog.delivery_rows import DEPLOYMENT, deployment_values
from stemma.db.engine import Connection
from stemma.delivery.records import queries
from stemma.delivery.records.configuration_verbs import WITHDRAW, ConfigurationVerbs
from stemma.delivery.values import Deployment, Production
from stemma.domain import canonical
from stemma.domain.delivery_records import DeploymentRecord
from stemma.domain.digest import Digest
from stemma.domain.errors import ConflictError, NotFoundError
from stemma.domain.release import STABLE
from stemma.domain.rollout import Deployed, Rollout

PROMOTE = "promote"
ROLLBACK = "rollback"


class DeploymentVerbs(ConfigurationVerbs):
    """Verbs on deployments."""

    def deploy(
        self, model: str, deployed: Deployed, *, kind: str, by: str, reason: str, moves_stable: bool
    ) -> Deployment:
        """Say what production is to be from now on.

        Args:
            model: Name of the model.
            deployed: Version and configuration.
            kind: ``serve``, ``reconfigure``, or another kind of ``Deployment``.
            by: User name.
            reason: Why.
            moves_stable: Point the channel ``stable`` at the version, in the same transaction.

        Raises:
            NotFoundError: If there is no such release or configuration.
            ConflictError: If a rollout of the model is under way (``rollout-running``), the
                manifest is not that release's (``deployed-mismatch``), or a pre-release was to
                become stable.
        """
        with self._database.write() as connection:
            refuse_running(connection, model)
            return self._deploy_in(
                connection, model, deployed, why=(kind, by, reason), moves_stable=moves_stable
            )

    def withdraw(self, model: str, *, by: str, reason: str) -> Deployment:
        """Say that nothing of the model is to be served.

        Raises:
            NotFoundError: If nothing is (``not-deployed``).
            ConflictError: If a rollout of the model is under way (``rollout-running``).
        """
        with self._database.write() as connection:
            refuse_running(connection, model)
            current = current_deployment(connection, model)
            if current is None:
                raise NotFoundError(
                    f"{model} is not served", code="not-deployed", hint="stemma status"
                )
            return self._append_deployment(
                connection, model, current.deployed, (WITHDRAW, by, reason)
            )

    def deployment(self, model: str) -> Deployment | None:
        """Return what production is to be; ``None`` when nothing of the model is served."""
        with self._database.read() as connection:
            return current_deployment(connection, model)

    def deployments(self) -> list[Deployment]:
        """Return what production is to be for each served model, by name."""
        with self._database.read() as connection:
            return _served(connection)

    def deployment_history(self, model: str) -> list[Deployment]:
        """Return every deployment of the model, newest first."""
        with self._database.read() as connection:
            return queries.deployment_rows(connection, model)

    def production(self) -> Production:
        """Return deployments, rollouts under way and moves of ``stable`` of one moment."""
        with self._database.read() as connection:
            served = _served(connection)
            return Production(
                deployments=tuple(served),
                rollouts={rollout.model: rollout for rollout in running(connection)},
                stable_moves={
                    deployment.model: tuple(
                        move
                        for _, move in catalog_queries.channel_rows(
                            connection, deployment.model, STABLE
                        )
                    )
                    for deployment in served
                },
            )

    def _deploy_in(
        self,
        connection: Connection,
        model: str,
        deployed: Deployed,
        *,
        why: tuple[str, str, str],
        moves_stable: bool,
    ) -> Deployment:
        """Append a deployment, and move ``stable``; ``why`` is kind, user and reason."""
        self._check_deployed(connection, model, deployed)
        if moves_stable:
            _, by, reason = why
            self._catalog.move_channel_in(
                connection, model, STABLE, deployed.version, reason=reason, moved_by=by
            )
        return self._append_deployment(connection, model, deployed, why)

    def _check_deployed(self, connection: Connection, model: str, deployed: Deployed) -> None:
        release = catalog_queries.find_release(connection, model, deployed.version)
        if release is None:
            raise NotFoundError(
                f"no version {model}@{deployed.version}",
                code="version-not-found",
                hint=f"stemma log {model}",
            )
        if str(release.manifest) != deployed.manifest:
            raise ConflictError(
                f"{model}@{deployed.version} is {release.manifest}, not {deployed.manifest}",
                code="deployed-mismatch",
                hint=f"stemma show {model}@{deployed.version}",
            )
        self._configuration_in(connection, model, deployed.configuration)

    def _append_deployment(
        self, connection: Connection, model: str, deployed: Deployed, why: tuple[str, str, str]
    ) -> Deployment:
        newest = queries.newest_deployments(connection, model)
        record, last = newest[0] if newest else (None, None)
        kind, by, reason = why
        now = self._clock()
        made = DeploymentRecord(
            model=model,
            sequence=1 if last is None else last.sequence + 1,
            version=deployed.version,
            manifest=Digest.parse(deployed.manifest),
            configuration=Digest.parse(deployed.configuration),
            kind=kind,
            previous=record,
            reason=reason,
            # A clock that was set back must not put a deployment before the one it follows.
            deployed_at=now if last is None else max(now, last.since),
            deployed_by=by,
        )
        digest = self._objects.put_record(DEPLOYMENT, canonical.encode(made))
        queries.insert_deployment(connection, deployment_values(digest, made))
        return Deployment(
            model=model,
            deployed=deployed,
            sequence=made.sequence,
            kind=kind,
            since=made.deployed_at,
            by=by,
            reason=reason,
        )


def current_deployment(connection: Connection, model: str) -> Deployment | None:
    """Return what production is to be; ``None`` when nothing of the model is served."""
    newest = queries.newest_deployments(connection, model)
    return newest[0][1] if newest and newest[0][1].kind != WITHDRAW else None


def running(connection: Connection) -> list[Rollout]:
    """Return the rollouts under way, by model."""
    newest = (stored.rollout for stored in queries.newest_rollouts(connection))
    return [rollout for rollout in newest if not rollout.state.is_final]


def refuse_running(connection: Connection, model: str) -> None:
    """Refuse while a rollout of the model is under way.

    Raises:
        ConflictError: If one is (``rollout-running``).
    """
    newest = queries.newest_rollouts(connection, model)
    if newest and not newest[0].rollout.state.is_final:
        raise rollout_running(newest[0].rollout)


def rollout_running(rollout: Rollout) -> ConflictError:
    """Return the error for a rollout that is in the way."""
    return ConflictError(
        f"rollout {rollout.id} of {rollout.model} to {rollout.canary.version} is under way"
        f" ({rollout.state.value}, {rollout.weight_bp / 100:g} %)",
        code="rollout-running",
        hint=f"stemma rollout status {rollout.model}",
    )


def _served(connection: Connection) -> list[Deployment]:
    return [
        deployment
        for _, deployment in queries.newest_deployments(connection)
        if deployment.kind != WITHDRAW
    ]
