"""Configurations: immutable, numbered per model, each a record in the store and a row.

Invariants:
    * A configuration that the model had before is that one, not a new one.
    * What is read comes from the record (verified by sha256), and its row is checked
      against it.

It does not read ``stemma.toml``; see ``stemma.domain.configuration``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from stemma.catalog.delivery_rows import CONFIGURATION, configuration_values
from stemma.catalog.release_verbs import compare_row
from stemma.catalog.service import CatalogService
from stemma.db.engine import Connection, Database
from stemma.db.rows import Value
from stemma.delivery.records import queries
from stemma.delivery.values import ConfigurationVersion, Deployment
from stemma.domain import canonical
from stemma.domain.configuration import Configuration, configuration_digest
from stemma.domain.delivery_records import ConfigurationRecord
from stemma.domain.digest import Digest
from stemma.domain.errors import NotFoundError
from stemma.domain.names import check_model_name
from stemma.store.objects import ObjectStore

WITHDRAW = "withdraw"
"""Kind of the deployment after which nothing of the model is served."""


class ConfigurationVerbs:
    """Verbs on configurations."""

    def __init__(
        self,
        database: Database,
        objects: ObjectStore,
        catalog: CatalogService,
        *,
        clock: Callable[[], datetime],
    ) -> None:
        """Stand on rows, records and the catalog of one project."""
        self._database = database
        self._objects = objects
        self._catalog = catalog
        self._clock = clock
        self._read_records: dict[Digest, ConfigurationRecord] = {}

    def put_configuration(
        self, model: str, configuration: Configuration, *, by: str
    ) -> ConfigurationVersion:
        """Add a configuration to the model's history, unless it is there.

        Raises:
            InvalidInputError: If the model's name is not allowed.
        """
        check_model_name(model)
        digest = configuration_digest(configuration)
        with self._database.read() as connection:
            known = self._find_configuration(connection, model, str(digest))
        if known is not None:
            return known
        with self._database.write() as connection:
            found = queries.configuration_rows(connection, model)
            if any(row["digest"] == str(digest) for row in found):
                return self._configuration_in(connection, model, str(digest))
            newest = found[0] if found else None
            made = ConfigurationRecord(
                model=model,
                sequence=len(found) + 1,
                digest=digest,
                configuration=configuration,
                previous=None if newest is None else Digest.parse(str(newest["record"])),
                created_at=self._clock(),
                created_by=by,
            )
            record = self._objects.put_record(CONFIGURATION, canonical.encode(made))
            queries.insert_configuration(connection, configuration_values(record, made))
        return _version(made, ())

    def configuration(self, model: str, digest: str) -> ConfigurationVersion:
        """Return the model's configuration with that sha256.

        Raises:
            NotFoundError: If the model never had it.
            IntegrityError: If record or row are not what was written.
        """
        with self._database.read() as connection:
            return self._configuration_in(connection, model, digest)

    def configurations(self, model: str) -> list[ConfigurationVersion]:
        """Return the model's configurations, newest first."""
        with self._database.read() as connection:
            history = queries.deployment_rows(connection, model)
            return [
                self._read_configuration(row, history)
                for row in queries.configuration_rows(connection, model)
            ]

    def _configuration_in(
        self, connection: Connection, model: str, digest: str
    ) -> ConfigurationVersion:
        found = self._find_configuration(connection, model, digest)
        if found is None:
            raise NotFoundError(
                f"{model} never had a configuration {digest}",
                code="configuration-not-found",
                hint=f"stemma status {model}",
            )
        return found

    def _find_configuration(
        self, connection: Connection, model: str, digest: str
    ) -> ConfigurationVersion | None:
        rows = queries.configuration_rows(connection, model)
        row = next((row for row in rows if row["digest"] == digest), None)
        if row is None:
            return None
        return self._read_configuration(row, queries.deployment_rows(connection, model))

    def _read_configuration(
        self, row: dict[str, Value], history: Iterable[Deployment]
    ) -> ConfigurationVersion:
        record = Digest.parse(str(row["record"]))
        made = self._read_records.get(record)
        if made is None:
            data = self._objects.read_record(CONFIGURATION, record)
            made = canonical.decode(data, ConfigurationRecord, what="configuration")
            self._read_records[record] = made  # immutable, so it never goes stale
        compare_row("configurations", str(record), row, configuration_values(record, made))
        live = [
            deployment.deployed.version
            for deployment in history
            if deployment.kind != WITHDRAW and deployment.deployed.configuration == str(made.digest)
        ]
        return _version(made, tuple(dict.fromkeys(reversed(live))))


def _version(made: ConfigurationRecord, proven_with: tuple[str, ...]) -> ConfigurationVersion:
    return ConfigurationVersion(
        model=made.model,
        number=made.sequence,
        digest=str(made.digest),
        configuration=made.configuration,
        created_at=made.created_at,
        by=made.created_by,
        proven_with=proven_with,
    )
