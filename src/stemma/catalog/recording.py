"""From captured parts to a manifest: stores their bytes and computes every identity.

Invariants:
    * Every digest the manifest holds is in the store, durably, before ``build`` returns.
    * A part that was not captured is an empty component, never a made-up value.
    * Equal parts give equal identities: recording the same training twice differs in
      provenance only.

This module stores no record and no row; ``stemma.catalog.service`` does.

Example:
    >>> recorder = Recorder(objects, Path(), "digits")  # doctest: +SKIP
    >>> recorder.set_model(captured)  # doctest: +SKIP
    >>> manifest = recorder.build(provenance)  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from stemma.catalog.assembly import Parts, assemble
from stemma.catalog.capture.base import (
    CapturedCode,
    CapturedDataset,
    CapturedEnvironment,
    CapturedModel,
    CapturedPredictions,
)
from stemma.catalog.capture.rows import ROW_DIGEST_BYTES
from stemma.catalog.identity import normal_command
from stemma.domain.component import Stage
from stemma.domain.digest import Digest
from stemma.domain.errors import InvalidInputError
from stemma.domain.manifest import Manifest, Metric, Provenance
from stemma.domain.tree import check_paths
from stemma.store.objects import ObjectStore


@final
class Recorder:
    """Collects the parts of one run, then builds its manifest.

    Attributes:
        model: Name of the model.
        warnings: What the user should know, one line each.
    """

    def __init__(self, objects: ObjectStore, project_root: Path, model: str) -> None:
        """Start empty."""
        self.model = model
        self.warnings: list[str] = []
        self._objects = objects
        self._root = project_root.resolve()
        self._parts = Parts(root=self._root)
        self._metrics: dict[str, Metric] = {}
        self._service: dict[str, Metric] = {}

    @property
    def loader(self) -> str:
        """What reads the recorded model back; empty while there is none."""
        return self._parts.model.loader if self._parts.model is not None else ""

    def set_model(self, model: CapturedModel) -> None:
        """Keep the model; the last one wins."""
        self._parts.model = model
        if model.is_pickle:
            self.warnings.append("the model is a pickle: loading it runs whatever code is inside")

    def add_dataset(self, dataset: CapturedDataset) -> None:
        """Keep a dataset.

        Raises:
            InvalidInputError: If another dataset of that name was recorded, or the name could
                not be a folder beside the others' when the version is checked out.
        """
        self.add_datasets([dataset])

    def add_datasets(self, datasets: Sequence[CapturedDataset]) -> None:
        """Keep datasets, as ``add_dataset`` does; their names are compared but once."""
        check_paths({*self._parts.datasets, *(dataset.name for dataset in datasets)})
        for dataset in datasets:
            self._keep(dataset)

    def _keep(self, dataset: CapturedDataset) -> None:
        known = self._parts.datasets.get(dataset.name)
        if known is not None and (known.role, known.canonical_digest) != (
            dataset.role,
            dataset.canonical_digest,
        ):
            raise InvalidInputError(
                f"dataset {dataset.name} was recorded before with other content or role "
                f"({known.role.value}, {dataset.role.value})",
                code="dataset-twice",
                hint=f'give it another name: run.data("{dataset.name}-2", ...)',
            )
        self._parts.datasets[dataset.name] = dataset

    def set_predictions(self, predictions: CapturedPredictions) -> None:
        """Keep the predictions on the golden set, and their metrics.

        Raises:
            InvalidInputError: If the arrays do not belong together or hold objects.
        """
        _check_predictions(predictions)
        self._parts.predictions = predictions
        for metric in predictions.metrics:
            self.add_metric(metric)

    def set_code(self, code: CapturedCode) -> None:
        """Keep the source files."""
        self._parts.code = code
        for note in code.notes:
            self.warnings.append(note)

    def set_environment(self, environment: CapturedEnvironment) -> None:
        """Keep the environment."""
        self._parts.environment = environment
        for note in environment.notes:
            self.warnings.append(note)

    def set_pipeline(
        self,
        command: Sequence[str],
        *,
        stages: Sequence[Stage] = (),
        configuration: Sequence[Path] = (),
    ) -> None:
        """Keep how it was run."""
        self._parts.command = normal_command(command, self._root)
        self._parts.stages = tuple(stages)
        self._parts.configuration = tuple(configuration)

    def set_hyperparameters(
        self, passed: Mapping[str, object], defaulted: Mapping[str, object] | None = None
    ) -> None:
        """Keep hyperparameters beyond the model's own; they win over the model's."""
        self._parts.passed |= passed
        self._parts.defaulted |= defaulted or {}

    def add_metric(self, metric: Metric) -> None:
        """Keep a metric; the last one of a key wins."""
        self._metrics[metric.key] = metric

    def add_service(self, metric: Metric) -> None:
        """Keep a measure of service level or resource use."""
        self._service[metric.key] = metric

    def set_licence(self, licence: str, *, personal_data: str = "") -> None:
        """Declare the licence and how personal the data is; empty leaves what was declared."""
        self._parts.licence = licence or self._parts.licence
        self._parts.personal_data = personal_data or self._parts.personal_data

    def set_metadata(self, metadata: Mapping[str, str | bool | int | list[str]]) -> None:
        """Keep metadata; later calls add to it."""
        self._parts.metadata |= metadata

    def set_earlier(self, manifests: Sequence[Digest]) -> None:
        """Name versions that this one may resemble, beside its parents: it is stored smaller."""
        self._parts.earlier = tuple(manifests)

    def build(self, provenance: Provenance) -> Manifest:
        """Store everything and return the manifest.

        Raises:
            ConflictError: If a file changed since it was captured (``file-changed``).
            InvalidInputError: If a name may not be in a version, or predictions name a
                dataset that was not recorded.
        """
        self._parts.metrics = tuple(metric for _, metric in sorted(self._metrics.items()))
        self._parts.service = tuple(metric for _, metric in sorted(self._service.items()))
        manifest, warnings = assemble(self._objects, self.model, self._parts, provenance)
        self.warnings += warnings
        return manifest


def _check_predictions(predictions: CapturedPredictions) -> None:
    digests = predictions.row_digests
    if digests.dtype != np.uint8 or digests.shape[1:] != (ROW_DIGEST_BYTES,):
        raise _bad_predictions(
            predictions, f"row digests are {digests.dtype} of shape {digests.shape}"
        )
    parts: dict[str, NDArray[np.generic] | None] = {
        "predictions": predictions.predictions,
        "labels": predictions.labels,
        "scores": predictions.scores,
        "slices": predictions.slices,
    }
    for name, array in parts.items():
        if array is None:
            continue
        if len(array) != len(digests):
            raise _bad_predictions(predictions, f"{len(array)} {name} for {len(digests)} rows")
        if array.dtype.kind not in "biufUS":
            raise _bad_predictions(predictions, f"{name} are of type {array.dtype}")


def _bad_predictions(predictions: CapturedPredictions, fault: str) -> InvalidInputError:
    return InvalidInputError(
        f"predictions on {predictions.dataset}: {fault}",
        code="bad-predictions",
        hint="give one number or text per row of the test set",
    )
