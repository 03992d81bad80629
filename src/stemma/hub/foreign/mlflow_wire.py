"""What a tracking server answers, as far as it is imported.

Every field may be missing: servers of other ages leave out what they do not know, and all of
them leave out what is empty.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class Label(msgspec.Struct, frozen=True):
    """A tag or a param."""

    key: str = ""
    value: str = ""


class ForeignPoint(msgspec.Struct, frozen=True):
    """A point of a metric; of a logged model also by which run, on which dataset."""

    key: str = ""
    value: float = 0.0
    timestamp: int = 0
    step: int = 0
    run_id: str = ""
    dataset_name: str = ""
    dataset_digest: str = ""


class ForeignExperiment(msgspec.Struct, frozen=True):
    """An experiment."""

    experiment_id: str
    name: str
    creation_time: int = 0
    artifact_location: str = ""
    tags: tuple[Label, ...] = ()


class RunInfo(msgspec.Struct, frozen=True):
    """What stands of a run itself."""

    run_id: str
    experiment_id: str = "0"
    run_name: str = ""
    user_id: str = ""
    status: str = "RUNNING"
    start_time: int = 0
    end_time: int = 0
    artifact_uri: str = ""


class ForeignRunData(msgspec.Struct, frozen=True):
    """What a run logged, of metrics the latest points."""

    metrics: tuple[ForeignPoint, ...] = ()
    params: tuple[Label, ...] = ()
    tags: tuple[Label, ...] = ()


class ForeignDataset(msgspec.Struct, frozen=True):
    """A dataset."""

    name: str = ""
    digest: str = ""
    source_type: str = ""
    source: str = ""
    schema: str = ""
    profile: str = ""


class DatasetInput(msgspec.Struct, frozen=True):
    """A dataset that a run read."""

    dataset: ForeignDataset = ForeignDataset()
    tags: tuple[Label, ...] = ()


class ModelLink(msgspec.Struct, frozen=True):
    """A logged model that a run read or made."""

    model_id: str
    step: int = 0


class RunInputs(msgspec.Struct, frozen=True):
    """What a run read."""

    dataset_inputs: tuple[DatasetInput, ...] = ()
    model_inputs: tuple[ModelLink, ...] = ()


class RunOutputs(msgspec.Struct, frozen=True):
    """What a run made."""

    model_outputs: tuple[ModelLink, ...] = ()


class ForeignRun(msgspec.Struct, frozen=True):
    """A run."""

    info: RunInfo
    data: ForeignRunData = ForeignRunData()
    inputs: RunInputs = RunInputs()
    outputs: RunOutputs = RunOutputs()


class ForeignModelInfo(msgspec.Struct, frozen=True):
    """What stands of a logged model itself."""

    model_id: str
    experiment_id: str = "0"
    name: str = ""
    creation_timestamp_ms: int = 0
    last_updated_timestamp_ms: int = 0
    artifact_uri: str = ""
    status: str = "LOGGED_MODEL_STATUS_UNSPECIFIED"
    status_message: str = ""
    model_type: str = ""
    source_run_id: str = ""
    tags: tuple[Label, ...] = ()


class ForeignModelData(msgspec.Struct, frozen=True):
    """What is logged of a logged model."""

    params: tuple[Label, ...] = ()
    metrics: tuple[ForeignPoint, ...] = ()


class ForeignModel(msgspec.Struct, frozen=True):
    """A logged model."""

    info: ForeignModelInfo
    data: ForeignModelData = ForeignModelData()


class ForeignAlias(msgspec.Struct, frozen=True):
    """An alias and the number that it names."""

    alias: str
    version: int


class ForeignRegistered(msgspec.Struct, frozen=True):
    """A registered model."""

    name: str
    creation_timestamp: int = 0
    last_updated_timestamp: int = 0
    description: str = ""
    tags: tuple[Label, ...] = ()
    aliases: tuple[ForeignAlias, ...] = ()


class ForeignVersion(msgspec.Struct, frozen=True):
    """A version of a registered model."""

    name: str
    version: int
    creation_timestamp: int = 0
    last_updated_timestamp: int = 0
    user_id: str = ""
    current_stage: str = "None"
    description: str = ""
    source: str = ""
    run_id: str = ""
    model_id: str = ""
    tags: tuple[Label, ...] = ()


class RegisteredState(msgspec.Struct, frozen=True):
    """A registered model with its versions, to see whether anything of them changed."""

    model: ForeignRegistered
    versions: tuple[ForeignVersion, ...]


class FileEntry(msgspec.Struct, frozen=True):
    """A file or folder among artifacts."""

    path: str
    is_dir: bool = False
    file_size: int = 0


class Experiments(msgspec.Struct, frozen=True):
    """A page of experiments."""

    experiments: tuple[ForeignExperiment, ...] = ()
    next_page_token: str = ""


class OneExperiment(msgspec.Struct, frozen=True):
    """One experiment."""

    experiment: ForeignExperiment


class Runs(msgspec.Struct, frozen=True):
    """A page of runs."""

    runs: tuple[ForeignRun, ...] = ()
    next_page_token: str = ""


class OneRun(msgspec.Struct, frozen=True):
    """One run."""

    run: ForeignRun


class History(msgspec.Struct, frozen=True):
    """A page of a metric's points."""

    metrics: tuple[ForeignPoint, ...] = ()
    next_page_token: str = ""


class Models(msgspec.Struct, frozen=True):
    """A page of logged models."""

    models: tuple[ForeignModel, ...] = ()
    next_page_token: str = ""


class OneModel(msgspec.Struct, frozen=True):
    """One logged model."""

    model: ForeignModel


class RegisteredModels(msgspec.Struct, frozen=True):
    """A page of registered models."""

    registered_models: tuple[ForeignRegistered, ...] = ()
    next_page_token: str = ""


class OneRegistered(msgspec.Struct, frozen=True):
    """One registered model."""

    registered_model: ForeignRegistered


class Versions(msgspec.Struct, frozen=True):
    """A page of versions."""

    model_versions: tuple[ForeignVersion, ...] = ()
    next_page_token: str = ""


class OneVersion(msgspec.Struct, frozen=True):
    """One version."""

    model_version: ForeignVersion


class Files(msgspec.Struct, frozen=True):
    """What a folder of artifacts holds."""

    files: tuple[FileEntry, ...] = ()
    next_page_token: str = ""


class CreatedExperiment(msgspec.Struct, frozen=True):
    """The id of an experiment that was made."""

    experiment_id: str


class Nothing(msgspec.Struct, frozen=True):
    """An answer of which nothing is needed."""


def labels(pairs: Iterable[Label]) -> dict[str, str]:
    """Return tags or params by key."""
    return {pair.key: pair.value for pair in pairs}
