"""Wrong here: a version is asked other rows than its recorded answers belong to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

import stemma
from stemma.delivery.runtime.golden import Golden, agrees, read_golden
from stemma.delivery.slots.golden import GOLDEN_ROWS, make_golden
from stemma.domain.digest import Digest
from stemma.domain.errors import IntegrityError
from stemma.domain.manifest import Manifest
from stemma.server.wiring import init_project
from stemma.store.backends.local import LocalBackend
from stemma.store.index import MemoryChunkIndex
from stemma.store.objects import ObjectStore

pytestmark = [
    pytest.mark.slow,
    # What else was imported in this process decides what the lock warns of.
    pytest.mark.filterwarnings("ignore::stemma.sdk.notices.StemmaWarning"),
]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project that is the current folder; no network."""
    root = tmp_path / "project"
    root.mkdir()
    init_project(root)
    monkeypatch.chdir(root)
    monkeypatch.setenv("STEMMA_MAY_USE_NETWORK", "false")
    for name in ("STEMMA_PROJECT", "STEMMA_COMMAND", "STEMMA_SET"):
        monkeypatch.delenv(name, raising=False)
    return root


def _record(model: Any, test: Any) -> Manifest:
    with stemma.run("golden") as run:
        run.model(model, test=test)
    return stemma.get(f"golden@{run.id}").manifest


def _make(project: Path, manifest: Manifest) -> Golden | None:
    objects = ObjectStore(LocalBackend(project / ".stemma" / "objects"), MemoryChunkIndex())
    objects.rebuild_index()
    target = project / "golden.npz"
    return read_golden(target) if make_golden(objects, manifest, target) else None


def test_an_array_gives_rows_of_every_answer(project: Path) -> None:
    """Eight rows of one class would call a model sound that knows only that class."""
    features = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    labels = np.sort((features[:, 0] > 0).astype(int))
    features[:, 0] = labels * 4 - 2
    model = LogisticRegression().fit(features, labels)
    golden = _make(project, _record(model, (features, labels)))
    assert golden is not None
    assert golden.inputs[""].shape == (GOLDEN_ROWS, 4)
    assert golden.inputs[""].dtype == np.float32
    assert set(golden.predictions.tolist()) == {0, 1}
    assert agrees(golden.predictions, model.predict(golden.inputs[""]), "classification", 0.0)


def test_a_table_of_several_kinds_gets_its_types_back(project: Path) -> None:
    """Numbers stored as text cells must be asked as numbers."""
    size = 300
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "city": random.choice(["Wien", "Graz"], size=size),
            "age": random.integers(18, 90, size=size),
            "is_new": random.random(size) > 0.5,
        }
    )
    frame.loc[:4, "city"] = ""
    labels = np.where(frame["age"] > 40, "old", "young")
    columns = make_column_transformer((OneHotEncoder(), ["city"]), remainder="passthrough")
    model = make_pipeline(columns, LogisticRegression()).fit(frame, labels)
    golden = _make(project, _record(model, (frame, labels)))
    assert golden is not None
    assert {name: column.dtype.kind for name, column in golden.inputs.items()} == {
        "city": "U",
        "age": "i",
        "is_new": "b",
    }
    assert "" not in golden.inputs["city"].tolist()
    rows = pd.DataFrame(dict(golden.inputs))
    assert agrees(golden.predictions, model.predict(rows), "classification", 0.0)


def test_without_a_golden_set_there_is_no_golden_request(project: Path) -> None:
    """A version that was never tested can still be served; nothing is made up for it."""
    features = np.arange(8.0).reshape(4, 2)
    assert _make(project, _record(LogisticRegression().fit(features, [0, 0, 1, 1]), None)) is None


def test_answers_of_other_rows_are_refused(project: Path) -> None:
    """A golden answer that belongs to another row would condemn a sound model."""
    features = np.arange(40.0).reshape(20, 2)
    labels = [0] * 10 + [1] * 10
    model = LogisticRegression().fit(features, labels)
    before = _record(model, (features, np.array(labels)))
    after = _record(model, (features + 1, np.array(labels)))
    assert before.evidence.golden is not None
    assert after.evidence.golden is not None
    mixed = replace(
        after.evidence.golden,
        predictions=Digest.parse(str(before.evidence.golden.predictions)),
    )
    with pytest.raises(IntegrityError, match="were not recorded for the rows"):
        _make(project, replace(after, evidence=replace(after.evidence, golden=mixed)))
