"""``stemma push MODEL@VERSION mlflow://…``: a release as a run, its artifacts and a version.

Invariants:
    * The version is registered last, when every file is there; pushing again finds it by its
      digest and changes nothing, and a push that was cut off goes on in the same run.
    * Files are verified while they are read, and none is sent that is there with its size.
    * Nothing on the server is overwritten or removed.

Metrics come with their whole curves.  MLflow loads a model that its own ``log_model`` wrote, and
those that ``stemma.hub.exposing`` describes to it; others are files there, under ``model/``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar, final

from stemma.catalog import rows as build
from stemma.catalog.capture.work_folder import WorkFolder
from stemma.domain.digest import Digest
from stemma.domain.errors import ConflictError, InvalidInputError, NotFoundError
from stemma.domain.registry import REGISTRY_TAG_LENGTH_LIMIT
from stemma.domain.release import Release
from stemma.domain.tracking import (
    METRICS_LIMIT,
    PARAMS_LIMIT,
    RUN_NAME_TAG,
    Point,
    RunData,
    to_microseconds,
)
from stemma.hub.base import VersionView
from stemma.hub.exposing import describe
from stemma.hub.foreign import mlflow_reading as reading
from stemma.hub.foreign import mlflow_wire as wire
from stemma.hub.foreign.mlflow_address import MlflowAddress
from stemma.hub.foreign.mlflow_client import MlflowClient
from stemma.hub.foreign.mlflow_translate import DIGEST_TAG, MODEL_TAG, VERSION_TAG, fit_key
from stemma.hub.foreign.outcome import ForeignOutcome, ForeignProgress, Tally
from stemma.hub.local import LocalHub
from stemma.hub.local_parts import LocalParts
from stemma.tracking import metric_queries, run_log

_FOLDER: Final = "model"
_CODE: Final = "code"
_MANIFEST: Final = "stemma/manifest.json"
_TEMPORARY: Final = ".stemma/tmp"
_MILLISECOND: Final = 1000
_OWN: Final = "stemma."
_SERVERS_OWN: Final = ("mlflow.parentRunId", "mlflow.log-model.history")
_ItemT = TypeVar("_ItemT")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sent:
    """A file to send.

    Attributes:
        path: Its path among the run's artifacts.
        size_bytes: Its size.
        digest: The stored file; ``None`` for one that is made for the server.
        data: The bytes of such a one.
    """

    path: str
    size_bytes: int
    digest: Digest | None = None
    data: bytes = b""


def push_mlflow(
    parts: LocalParts,
    ref: str,
    address: MlflowAddress,
    environment: Mapping[str, str],
    progress: ForeignProgress,
    *,
    is_dry_run: bool = False,
) -> ForeignOutcome:
    """Export a release.

    Args:
        parts: The services of this project.
        ref: The release.
        address: The server; an experiment or a registered model in it is taken instead of the
            ones that are named like the model.
        environment: Where credentials are looked up.
        progress: Is told how far it is.
        is_dry_run: Only count what would be sent.

    Raises:
        ConflictError: If the version is not released.
        InvalidInputError: If the server does not take artifacts (``artifacts-elsewhere``).
        UnavailableError: If the server does not answer; the same call goes on.
        DeniedError: If it does not let us in.
    """
    view = LocalHub(parts).resolve(ref)
    if view.release is None:
        raise ConflictError(
            f"{view.label} is not released; only a release is exported",
            code="not-released",
            hint=f"stemma release {view.model}",
        )
    with closing(MlflowClient(address, environment)) as client:
        export = _Export(parts, client, view, view.release)
        url = export.send(progress, is_dry_run=is_dry_run)
        tally = export.tally
        return ForeignOutcome(
            server=address.server,
            seen=tally.seen,
            copied=tally.copied,
            file_count=tally.file_count,
            file_bytes=tally.file_bytes,
            request_count=client.request_count,
            left=tuple(tally.left),
            is_dry_run=is_dry_run,
            url=url,
        )


@final
class _Export:
    """One release on its way."""

    def __init__(
        self, parts: LocalParts, client: MlflowClient, view: VersionView, release: Release
    ) -> None:
        self.tally = Tally()
        self._parts = parts
        self._client = client
        self._view = view
        self._release = release
        self._name = client.address.model or view.model
        self._tags = {
            MODEL_TAG: view.model,
            VERSION_TAG: view.version,
            DIGEST_TAG: str(view.digest),
        }

    def send(self, progress: ForeignProgress, *, is_dry_run: bool) -> str:
        """Send what is not there; returns where a person finds it."""
        self.tally.see("version")
        there = self._find_version()
        if there is not None:
            return self._url(there.version)
        files = self._files()
        if is_dry_run:
            self.tally.copy("version")
            self.tally.file_count = len(files)
            self.tally.file_bytes = sum(file.size_bytes for file in files)
            return ""
        experiment = self._experiment()
        run = self._run(experiment)
        self._send_logged(run)
        root = self._root(run.info.artifact_uri)
        self._send_files(root, files, progress)
        identity = run.info.run_id
        end = to_microseconds(self._view.manifest.provenance.ended_at) // _MILLISECOND
        ended = {"run_id": identity, "status": "FINISHED", "end_time": end}
        self._client.post("runs/update", ended, wire.Nothing)
        return self._url(self._register(run))

    # what is there --------------------------------------------------------------------------

    def _find_version(self) -> wire.ForeignVersion | None:
        for version in reading.versions(self._client, self._name):
            if wire.labels(version.tags).get(DIGEST_TAG) == str(self._view.digest):
                return version
        return None

    def _experiment(self) -> wire.ForeignExperiment:
        name = self._client.address.experiment or self._view.model
        try:
            found = reading.experiment_named(self._client, name)
        except NotFoundError:
            made = self._client.post("experiments/create", {"name": name}, wire.CreatedExperiment)
            found = reading.experiment(self._client, made.experiment_id)
        # Before a run is made that could hold no files.
        self._root(found.artifact_location)
        return found

    def _run(self, experiment: wire.ForeignExperiment) -> wire.ForeignRun:
        asked = f"tags.`{DIGEST_TAG}` = '{self._view.digest}'"
        for run in reading.runs(self._client, experiment.experiment_id, asked):
            return run
        provenance = self._view.manifest.provenance
        tags = {**self._tags, RUN_NAME_TAG: f"{self._view.model} {self._view.version}"}
        body = {
            "experiment_id": experiment.experiment_id,
            "start_time": to_microseconds(provenance.started_at) // _MILLISECOND,
            "run_name": tags[RUN_NAME_TAG],
            "user_id": provenance.created_by,
            "tags": _labels(tags),
        }
        made = self._client.post("runs/create", body, wire.OneRun).run
        self.tally.copy("run")
        return made

    def _root(self, uri: str) -> str:
        root = reading.proxied_root(self._client.address, uri)
        if root is None:
            server = self._client.address.server
            raise InvalidInputError(
                f"{server} keeps artifacts at {uri[:200]!r} and takes none itself",
                code="artifacts-elsewhere",
                hint="start it with --serve-artifacts --artifacts-destination PLACE",
            )
        return root

    # what is sent ---------------------------------------------------------------------------

    def _send_logged(self, run: wire.ForeignRun) -> None:
        data, points = self._logged()
        identity = run.info.run_id
        params = list(data.params.items()) if data is not None else self._hyperparameters()
        tags = {} if data is None else {key: it for key, it in data.tags.items() if _goes(key)}
        for some in _batches(params, PARAMS_LIMIT):
            self._log(identity, params=_labels(dict(some)))
        for some_tags in _batches(list(tags.items()), PARAMS_LIMIT):
            self._log(identity, tags=_labels(dict(some_tags)))
        for some_points in _batches(points, METRICS_LIMIT):
            self._log(identity, metrics=[_metric(point) for point in some_points])
        datasets = [] if data is None else _datasets(data)
        if datasets:
            body = {"run_id": identity, "datasets": datasets}
            self._client.post("runs/log-inputs", body, wire.Nothing)

    def _log(self, identity: str, **kinds: list[dict[str, object]]) -> None:
        self._client.post("runs/log-batch", {"run_id": identity, **kinds}, wire.Nothing)

    def _logged(self) -> tuple[RunData | None, list[Point]]:
        """Return what the run logged; of a release that was pulled, the manifest's metrics."""
        manifest = self._view.manifest
        run = manifest.provenance.run
        with self._parts.database.read() as connection:
            found = run_log.runs_data(connection, [run])
            names = metric_queries.metric_names(connection, run) if found else []
            points = [
                point
                for name in names
                for point, _ in metric_queries.history(connection, run, name, _ALL, None)
            ]
        at_us = to_microseconds(manifest.provenance.ended_at)
        known = set(names)
        points += [
            Point(
                f"{metric.name}[{metric.slice}]" if metric.slice else metric.name, value, 0, at_us
            )
            for metric in manifest.evidence.metrics
            for value in [float(metric.value)]
            if metric.slice or metric.name not in known
        ]
        return (found[0] if found else None), points

    def _hyperparameters(self) -> list[tuple[str, str]]:
        facts = LocalHub(self._parts).facts(self._view)
        return [(fit_key(name), str(value)) for name, value in facts.hyperparameters.items()]

    def _files(self) -> list[_Sent]:
        manifest, objects = self._view.manifest, self._parts.objects
        made = {_MANIFEST: objects.read_record(build.MANIFEST, self._view.digest)}
        made |= {f"{_FOLDER}/{name}": data for name, data in describe(manifest).items()}
        found = [_Sent(path=path, size_bytes=len(data), data=data) for path, data in made.items()]
        trees = ((_FOLDER, manifest.artifact.content), (_CODE, manifest.architecture.content))
        for folder, tree in trees:
            for entry in objects.read_tree(tree).entries:
                path = f"{folder}/{entry.path}"
                if entry.digest is not None and path not in made:
                    sent = _Sent(path=path, size_bytes=entry.size_bytes, digest=entry.digest)
                    found.append(sent)
        return found

    def _send_files(self, root: str, files: Sequence[_Sent], progress: ForeignProgress) -> None:
        there = {file.path: file.size_bytes for file in reading.files(self._client, root)}
        wanted = [file for file in files if there.get(file.path) != file.size_bytes]
        work = WorkFolder(self._parts.root / _TEMPORARY, self._view.manifest.provenance.run)
        with closing(work):
            for count, file in enumerate(wanted, 1):
                progress.at(f"file {count} of {len(wanted)}")
                source = work.path / "sent"
                self._write(file, source)
                self._client.upload(f"{root}/{file.path}", source)
                source.unlink()
                progress.advance(file.size_bytes)
                self.tally.file_count += 1
                self.tally.file_bytes += file.size_bytes

    def _write(self, file: _Sent, target: Path) -> None:
        if file.digest is None:
            target.write_bytes(file.data)
        else:
            self._parts.objects.export_file(file.digest, target)

    def _register(self, run: wire.ForeignRun) -> int:
        try:
            body: dict[str, object] = {"name": self._name}
            self._client.post("registered-models/create", body, wire.Nothing)
            self.tally.copy("registered model")
        except InvalidInputError as error:
            if error.code != "exists-there":
                raise
        body = {
            "name": self._name,
            "source": f"{run.info.artifact_uri}/{_FOLDER}",
            "run_id": run.info.run_id,
            "description": self._release.message[:REGISTRY_TAG_LENGTH_LIMIT],
            "tags": _labels(self._tags),
        }
        made = self._client.post("model-versions/create", body, wire.OneVersion)
        self.tally.copy("version")
        return made.model_version.version

    def _url(self, number: int) -> str:
        return f"{self._client.address.url}/#/models/{self._name}/versions/{number}"


_ALL: Final = 2**31 - 1


def _goes(key: str) -> bool:
    return not key.startswith(_OWN) and key not in {RUN_NAME_TAG, *_SERVERS_OWN}


def _labels(pairs: Mapping[str, str]) -> list[dict[str, object]]:
    return [{"key": key, "value": value} for key, value in pairs.items()]


def _metric(point: Point) -> dict[str, object]:
    name, value, step, logged_at_us = point
    # JSON has no NaN; the text of it is what MLflow's own client sends.
    number: object = value if value == value else "NaN"  # noqa: PLR0124 - NaN alone differs
    return {
        "key": fit_key(name),
        "value": number,
        "step": step,
        "timestamp": logged_at_us // _MILLISECOND,
    }


def _datasets(data: RunData) -> list[dict[str, object]]:
    return [
        {
            "dataset": {
                "name": item.name,
                "digest": item.digest,
                "source_type": item.source_type or "unknown",
                "source": item.source or "{}",
                "schema": item.schema,
                "profile": item.profile,
            },
            "tags": _labels(item.tags),
        }
        for item in data.inputs
    ]


def _batches(items: Iterable[_ItemT], size: int) -> list[list[_ItemT]]:
    iterator = iter(items)
    return list(iter(lambda: list(islice(iterator, size)), []))
