"""Takes in what a script hands over: datasets, a model, its answers on a golden set.

Invariants:
    * The rows of a golden set and of a training set are digested by the same function from
      the same kind of arrays, so a shared row is found.
    * Nothing is stored here; files are written into the folder that is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stemma.catalog.capture.artifact import capture_model_path
from stemma.catalog.capture.base import CapturedDataset, CapturedModel, CapturedPredictions
from stemma.catalog.capture.data import capture_dataset_arrays, capture_dataset_path
from stemma.domain.component import ANY_SIZE, DatasetRole, ValueSpec
from stemma.domain.errors import InvalidInputError
from stemma.sdk.adapters.arrays import Table, as_array, as_table, split_pair
from stemma.sdk.adapters.base import Answers, CaptureRequest, ModelAdapter
from stemma.sdk.adapters.pickled import capture_pickle
from stemma.sdk.adapters.registry import adapter_for, find_adapter
from stemma.sdk.datasets import Dataset
from stemma.sdk.measure import measure


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOffer:
    """What ``run.model`` was called with.

    Attributes:
        model: The live object, or a path.
        test: ``(X, y)`` or ``X``; ``None`` without a golden set.
        predict: Asks the model; ``None``: the adapter does.
        interface: Declared methods.
        optimizer: torch optimizer.
        is_pickle_allowed: ``unsafe_pickle=True``.
        test_name: Name of the golden set.
        sources: Where the text that runs is kept, by resolved source file.
    """

    model: object
    test: object
    predict: Callable[[Any], object] | None
    interface: tuple[str, ...]
    optimizer: object
    is_pickle_allowed: bool
    test_name: str
    sources: Mapping[Path, Path]


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenModel:
    """A model as it will be recorded.

    Attributes:
        model: The model.
        golden: Its golden set; ``None`` without.
        predictions: Its answers there; ``None`` without.
    """

    model: CapturedModel
    golden: CapturedDataset | None = None
    predictions: CapturedPredictions | None = None


def take_dataset(
    name: str, value: object, role: str, preprocessing: Sequence[str], folder: Path
) -> CapturedDataset:
    """Read a dataset from arrays, a DataFrame, a path or what ``stemma.data`` returned.

    Raises:
        InvalidInputError: If the role is unknown or the value cannot be read.
        NotFoundError: If there is nothing at the path.
    """
    try:
        purpose = DatasetRole(role)
    except ValueError as error:
        allowed = ", ".join(known.value for known in DatasetRole)
        raise InvalidInputError(
            f"dataset {name} has the role {role!r}", code="unknown-role", hint=f"use {allowed}"
        ) from error
    if isinstance(value, Dataset):
        found = capture_dataset_path(name, value.path(), purpose, preprocessing)
        return replace(found, source=value.source)
    if isinstance(value, str | Path):
        return capture_dataset_path(name, Path(value), purpose, preprocessing)
    return _take_table(name, as_table(value), purpose, preprocessing, folder)


def _take_table(
    name: str, table: Table, role: DatasetRole, preprocessing: Sequence[str], folder: Path
) -> CapturedDataset:
    captured = capture_dataset_arrays(
        name,
        table.features,
        table.labels,
        work_folder=folder,
        role=role,
        column_names=tuple(table.column_dtypes),
        preprocessing=preprocessing,
    )
    # Columns of several kinds are stored as text cells; the schema says what they were.
    columns = tuple(
        ValueSpec(name=column, dtype=dtype, shape=(ANY_SIZE,))
        for column, dtype in table.column_dtypes.items()
    )
    return replace(captured, columns=(*columns, *captured.columns[len(columns) :]))


def take_model(offer: ModelOffer, folder: Path, *, default_test_name: str) -> TakenModel:
    """Read a model and, when there is a golden set, its answers there.

    Raises:
        InvalidInputError: If it cannot be read, asked or saved, or a library is missing.
        NotFoundError: If there is nothing at the path.
    """
    sample, _ = split_pair(offer.test)
    request = CaptureRequest(
        model=offer.model,
        folder=folder,
        sample=sample,
        interface=offer.interface,
        optimizer=offer.optimizer,
        is_pickle_allowed=offer.is_pickle_allowed,
        sources=offer.sources,
    )
    adapter = find_adapter(offer.model)
    captured = _capture(adapter, request)
    if offer.test is None:
        return TakenModel(model=captured)
    table = as_table(offer.test)
    name = offer.test_name or default_test_name
    golden = _take_table(name, table, DatasetRole.TEST, (), folder)
    if golden.row_digests is None:
        raise InvalidInputError(
            f"golden set {name} has too many rows to tell them apart",
            code="golden-set-too-large",
            hint="take a sample of a few thousand rows",
        )
    answers = _ask(adapter, offer, sample, table)
    predictions = measure(name, golden.row_digests, answers, table.labels)
    return TakenModel(model=captured, golden=golden, predictions=predictions)


def _capture(adapter: ModelAdapter | None, request: CaptureRequest) -> CapturedModel:
    if adapter is not None:
        return adapter.capture(request)
    if isinstance(request.model, str | Path):
        return capture_model_path(Path(request.model))
    if request.is_pickle_allowed:
        return capture_pickle(request)
    return adapter_for(request.model).capture(request)


def _ask(adapter: ModelAdapter | None, offer: ModelOffer, inputs: object, table: Table) -> Answers:
    if offer.predict is not None:
        return Answers(predictions=as_array(offer.predict(inputs)))
    if adapter is None:
        raise InvalidInputError(
            "a model of this kind cannot be asked for predictions",
            code="no-predict",
            hint="run.model(model, test=(X, y), predict=lambda X: …) says how to ask it",
        )
    return adapter.answer(offer.model, inputs, table.labels)
