"""From captured parts to a manifest: stores their bytes and computes every identity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from stemma.catalog.capture.base import (
    CapturedCode,
    CapturedDataset,
    CapturedEnvironment,
    CapturedModel,
    CapturedPredictions,
)
from stemma.domain.component import Stage
from stemma.domain.manifest import Manifest, Metric, Provenance
from stemma.store.objects import ObjectStore


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

    def set_model(self, model: CapturedModel) -> None:
        """Keep the model."""

    def add_dataset(self, dataset: CapturedDataset) -> None:
        """Keep a dataset; name and role must be new."""

    def set_predictions(self, predictions: CapturedPredictions) -> None:
        """Keep the predictions on the golden set, and their metrics."""

    def set_code(self, code: CapturedCode) -> None:
        """Keep the source files."""

    def set_environment(self, environment: CapturedEnvironment) -> None:
        """Keep the environment."""

    def set_pipeline(
        self,
        command: Sequence[str],
        *,
        stages: Sequence[Stage] = (),
        configuration: Sequence[Path] = (),
    ) -> None:
        """Keep how it was run."""

    def set_hyperparameters(
        self, passed: Mapping[str, object], defaulted: Mapping[str, object] | None = None
    ) -> None:
        """Keep hyperparameters beyond the model's own; they win over the model's."""

    def add_metric(self, metric: Metric) -> None:
        """Keep a metric; the last one of a key wins."""

    def add_service(self, metric: Metric) -> None:
        """Keep a measure of service level or resource use."""

    def set_licence(self, licence: str, *, personal_data: str = "") -> None:
        """Declare the licence and how personal the data is."""

    def set_metadata(self, metadata: Mapping[str, str | bool | int | list[str]]) -> None:
        """Keep metadata; later calls add to it."""

    def build(self, provenance: Provenance) -> Manifest:
        """Store everything and return the manifest."""
        raise NotImplementedError
