"""Imports what a tracking server holds: experiments, runs, logged models and the registry.

Invariants:
    * Importing again changes nothing here unless something changed there, and asks for the
      points and files of what changed only; an import that was cut off goes on.
    * What is brought whole is marked with what it looked like there, in the transaction that
      makes it whole; a run that may still be logging is looked at every time.
    * What was deleted here stays deleted.  What cannot be imported is named, and does not keep
      the rest from coming.

Only registered models as a whole, with their runs, come by ``models:/NAME``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Final, TypeVar, final

from stemma.domain.digest import Digest
from stemma.domain.errors import (
    ConflictError,
    DeniedError,
    InvalidInputError,
    LockedError,
    NotFoundError,
    StemmaError,
    UnavailableError,
)
from stemma.domain.tracking import parse_run_id
from stemma.hub.foreign import mlflow_reading as reading
from stemma.hub.foreign import mlflow_translate as translate
from stemma.hub.foreign import mlflow_wire as wire
from stemma.hub.foreign.mlflow_client import MlflowClient
from stemma.hub.foreign.mlflow_files import ArtifactImport
from stemma.hub.foreign.outcome import ForeignProgress, LeftBehind, Tally
from stemma.hub.local_parts import LocalParts
from stemma.tracking import imports, logged_models

_GROUP: Final = 100
_ItemT = TypeVar("_ItemT")


@final
class TrackingImport:
    """One import of experiments with their runs and logged models."""

    def __init__(
        self,
        parts: LocalParts,
        client: MlflowClient,
        tally: Tally,
        progress: ForeignProgress,
        *,
        is_dry_run: bool = False,
        is_repair: bool = False,
    ) -> None:
        """Prepare an import.

        Args:
            parts: The services of this project.
            client: The server.
            tally: Counts what is done.
            progress: Is told of it.
            is_dry_run: Only count what would be copied.
            is_repair: Look again at what was brought whole.
        """
        self.parts = parts
        self.client = client
        self.tally = tally
        self.is_dry_run = is_dry_run
        self.is_repair = is_repair
        self._progress = progress
        self._files = ArtifactImport(parts, client, tally, progress)
        self._experiments: dict[str, int] = {}

    # experiments ----------------------------------------------------------------------------

    def bring_experiment(self, found: wire.ForeignExperiment) -> None:
        """Import an experiment with its runs and logged models."""
        with self.noting(f"experiment {found.name}") as is_done:
            self._place(found)
        if not is_done():
            return
        for group in _groups(reading.runs(self.client, found.experiment_id)):
            self.bring_runs(group)
        for model in reading.logged_models(self.client, found.experiment_id):
            self.bring_logged_model(model)

    def _place(self, found: wire.ForeignExperiment) -> int:
        """Return the number of an experiment here, which is made if need be."""
        known = self._experiments.get(found.experiment_id)
        if known is not None:
            return known
        self.tally.see("experiment")
        number = -1
        if not self.is_dry_run:
            tags, now = wire.labels(found.tags), self.parts.clock()
            with self.parts.database.write() as connection:
                made = imports.put_experiment(connection, found.name, tags, now)
            number = made.id
            if made.created_at == now:
                self.tally.copy("experiment")
        self._experiments[found.experiment_id] = number
        return number

    def _origin(self, identity: str) -> translate.Origin:
        number = self._experiments.get(identity)
        if number is None:
            number = self._place(reading.experiment(self.client, identity))
        return translate.Origin(server=self.client.address.server, experiment=number)

    # runs -----------------------------------------------------------------------------------

    def bring_runs(self, found: Sequence[wire.ForeignRun]) -> None:
        """Import runs, of which those that are here as they are there are left alone."""
        ids = [f"r-{run.info.run_id.removeprefix('r-')}" for run in found]
        with self.parts.database.read() as connection:
            there = imports.run_tags(connection, ids)
        for identity, run in zip(ids, found, strict=True):
            self.tally.see("run")
            if self.is_ours(run.data.tags):
                continue
            tags = there.get(identity, {})
            is_same = tags.get(imports.STATE_TAG) == translate.state_of(run)
            if is_same and not translate.is_open(run) and not self.is_repair:
                if imports.LEFT_TAG in tags:
                    self.tally.leave(f"run {identity}", tags[imports.LEFT_TAG])
                continue
            if self.is_dry_run:
                self.tally.copy("run")
                continue
            with self.noting(f"run {identity}"):
                self._bring_run(run, tags, is_same=is_same)
            self._tell()

    def _bring_run(self, run: wire.ForeignRun, tags: dict[str, str], *, is_same: bool) -> None:
        data = translate.run_data(run, self._origin(run.info.experiment_id))
        identity = data.record.id
        if self._is_deleted(identity):
            return
        points = [
            point
            for metric in run.data.metrics
            for point in translate.points(
                reading.history(self.client, run.info.run_id, metric.key), metric.key
            )
        ]
        uri = run.info.artifact_uri
        root = reading.proxied_root(self.client.address, uri)
        files = [] if root is None else list(reading.files(self.client, root))
        # Files of a run that ended are taken to stay as they are until it is opened again.
        end = "" if translate.is_open(run) else f"{run.info.status} {run.info.end_time}"
        may_have_changed = self.is_repair or not (end and tags.get(imports.FILES_TAG) == end)
        begun = {imports.FILES_TAG: end} if end and not tags else {}
        marks = {imports.STATE_TAG: translate.state_of(run), imports.FILES_TAG: end}
        if root is None and uri and self._has_artifacts(run.info.run_id):
            self.tally.leave(f"run {identity}", uri)
            marks[imports.LEFT_TAG] = uri
        known = begun if files else marks
        with self.parts.database.write() as connection:
            now = self.parts.clock()
            imports.put_run(connection, replace(data, tags={**data.tags, **known}), points, now)
        if root is not None and files:
            self._files.bring(
                identity, root, files, may_have_changed=bool(tags) and may_have_changed
            )
            with self.parts.database.write() as connection:
                imports.mark_run(connection, identity, marks)
        if not is_same:
            self.tally.copy("run")

    def _has_artifacts(self, identity: str) -> bool:
        try:
            return reading.has_artifacts(self.client, identity)
        except (InvalidInputError, NotFoundError, DeniedError, UnavailableError) as error:
            if error.code == "server-silent":
                raise
            return True  # the server itself cannot look: they lie elsewhere

    def _is_deleted(self, identity: str) -> bool:
        with self.parts.database.read() as connection:
            is_deleted = imports.is_deleted(connection, identity)
        if is_deleted:
            self._note_deleted(f"run {identity}")
        return is_deleted

    # logged models --------------------------------------------------------------------------

    def bring_logged_model(self, found: wire.ForeignModel) -> None:
        """Import a logged model, unless it is here as it is there."""
        self.tally.see("logged model")
        identity, state = found.info.model_id, translate.state_of(found)
        with self.parts.database.read() as connection:
            there = logged_models.get_many(connection, [identity])
        tags = there[0].tags if there else {}
        if tags.get(imports.STATE_TAG) == state and not self.is_repair:
            if imports.LEFT_TAG in tags:
                self.tally.leave(f"logged model {identity}", tags[imports.LEFT_TAG])
            return
        if there and there[0].deleted_at is not None:
            self._note_deleted(f"logged model {identity}")
        elif self.is_dry_run:
            self.tally.copy("logged model")
        else:
            with self.noting(f"logged model {identity}"):
                self._bring_logged_model(found, state)
            self._tell()

    def _bring_logged_model(self, found: wire.ForeignModel, state: str) -> None:
        model = translate.logged_model(found, self._origin(found.info.experiment_id))
        now = self.parts.clock()
        with self.parts.database.write() as connection:
            there = imports.put_logged_model(connection, model, now)
        root = reading.proxied_root(self.client.address, found.info.artifact_uri)
        if root is None:
            uri = found.info.artifact_uri
            self.tally.leave(f"logged model {model.id}", uri)
            with self.parts.database.write() as connection:
                imports.leave_logged_model(connection, model, state, uri)
        else:
            files = list(reading.files(self.client, root))
            # A model that is ready there stays as it is; until then it may be written.
            is_unsure = self.is_repair or not (there.is_frozen or model.is_frozen)
            self._files.bring(model.id, root, files, may_have_changed=is_unsure)
            with self.parts.database.write() as connection:
                imports.finish_logged_model(connection, model, state)
        self.tally.copy("logged model")

    # by id ----------------------------------------------------------------------------------

    def bring_sources(self, found: wire.ForeignVersion) -> None:
        """Import the run and the logged model of a version."""
        identity, run = translate.logged_model_of(found), found.run_id
        model = reading.logged_model(self.client, identity) if identity else None
        if model is not None:
            run = model.info.source_run_id or run
        if run:
            parse_run_id(run)
            self.bring_runs([reading.run(self.client, run)])
        if model is not None:
            self.bring_logged_model(model)

    # parts ----------------------------------------------------------------------------------

    def is_ours(self, tags: Iterable[wire.Label]) -> bool:
        """Return whether these are the tags of a release of this project that was exported."""
        text = wire.labels(tags).get(translate.DIGEST_TAG, "")
        try:
            return bool(text and self.parts.catalog.versions_of(Digest.parse(text)))
        except InvalidInputError:
            return False

    def noting(self, what: str) -> Noting:
        """Return a block of which an error about one thing is noted, and not raised."""
        return Noting(self.tally, what)

    def _note_deleted(self, what: str) -> None:
        self.tally.left.append(
            LeftBehind(
                what=what, code="deleted-here", detail="it was deleted here", is_refused=False
            )
        )

    def _tell(self) -> None:
        seen = ", ".join(f"{count} {noun}s" for noun, count in self.tally.seen.items())
        self._progress.at(f"{seen}, {self.tally.file_count} files")


@final
class Noting:
    """A block about one thing: what is wrong with that alone is noted."""

    def __init__(self, tally: Tally, what: str) -> None:
        """Note it under this name."""
        self._tally = tally
        self._what = what
        self._is_done = False

    def __enter__(self) -> Callable[[], bool]:
        """Return what says, afterwards, whether all went well."""
        return lambda: self._is_done

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        """Note an error that is about this thing; raise any other."""
        self._is_done = error is None
        if not isinstance(error, StemmaError) or not _is_about_one(error):
            return False
        self._tally.refuse(self._what, error)
        return True


def _is_about_one(error: StemmaError) -> bool:
    """Return whether other things may well go better."""
    if isinstance(error, UnavailableError):
        return error.code == "server-failed"
    return isinstance(
        error, InvalidInputError | NotFoundError | ConflictError | DeniedError
    ) and not isinstance(error, LockedError)


def _groups(items: Iterable[_ItemT]) -> Iterator[list[_ItemT]]:
    iterator = iter(items)
    return iter(lambda: list(islice(iterator, _GROUP)), [])
