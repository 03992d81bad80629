"""Loading and releasing: verified bytes, no pickles, clear refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

import stemma
from stemma.domain.errors import (
    DeniedError,
    GateFailedError,
    InvalidInputError,
    NotFoundError,
)
from stemma.sdk.notices import StemmaWarning

pytestmark = [
    pytest.mark.slow,
    # What other tests of this process import (torch) is in the environment too.
    pytest.mark.filterwarnings("ignore:no hash"),
]

FEATURES = np.arange(40.0).reshape(20, 2)
LABELS = np.array([0, 1] * 10)


def _record(model: object, **options: object) -> str:
    with stemma.run("line") as run:
        run.model(model, **options)  # type: ignore[arg-type]
    return f"line@{run.id}"


def test_a_file_changed_in_the_cache_is_written_anew(project: Path) -> None:
    """A tampered copy would be loaded in place of what was recorded."""
    ref = _record(Ridge().fit(FEATURES, LABELS))
    version = stemma.get(ref)
    file = version.path() / "model.skops"
    content = file.read_bytes()
    file.chmod(0o644)
    file.write_bytes(content[:-1] + b"x")
    (version.path() / "extra.py").write_text("")
    assert file.read_bytes() == content
    assert stemma.load(ref).version == version.run
    assert not (version.path() / "extra.py").exists()


def test_a_pickle_is_kept_but_never_loaded(project: Path) -> None:
    """Loading a version would run its author's code."""
    (project / "stemma.toml").write_text("[model.line]\nallow_pickle = true\n")
    with pytest.warns(StemmaWarning, match="the model is a pickle"):
        ref = _record({"weights": [1, 2]}, unsafe_pickle=True)
    with pytest.raises(DeniedError, match="is a pickle") as failure:
        stemma.load(ref)
    assert "path()" in failure.value.hint
    assert stemma.get(ref).files == ("model.pkl",)


def test_a_failed_gate_refuses_and_changes_nothing(project: Path) -> None:
    """A bad model would be released by the SDK although the command line refuses it."""
    (project / "stemma.toml").write_text('[model.line.gates]\naccuracy = ">= 0.99"\n')
    rows = (FEATURES, LABELS)
    ref = _record(LogisticRegression(max_iter=5000).fit(*rows), test=rows)
    with pytest.raises(GateFailedError, match=r"accuracy is 0\.\d+, needs ≥ 0\.99"):
        stemma.release("line")
    assert stemma.get(ref).number == ""
    assert stemma.release("line", pre=True).number.startswith("1.0.0-")


def test_what_does_not_exist_is_said(project: Path) -> None:
    """The user would see a traceback without a next step."""
    _record(Ridge().fit(FEATURES, LABELS))
    with pytest.raises(NotFoundError):
        stemma.get("lime@1.0.0")
    with pytest.raises(NotFoundError, match="no dataset is called rows"):
        stemma.data("rows")
    with pytest.raises(InvalidInputError, match="bump is 'huge'"):
        stemma.release("line", bump="huge")


def test_a_version_knows_its_names_files_and_channels(project: Path) -> None:
    """A script could not write down what it serves."""
    with stemma.run("line") as run:
        run.model(Ridge().fit([[0.0], [1.0]], [0.0, 1.0]))
    version = run.release(channel="stable")
    found = stemma.get("line@stable")
    assert (found.model, found.number, found.run) == ("line", "1.0.0", run.id)
    assert found.digest == version.digest
    assert found.channels == ("stable",)
    assert found.files == ("model.skops",)
    assert repr(found).startswith("<Version line@1.0.0: Ridge")
    assert found.load().version == "1.0.0"
    with pytest.raises(InvalidInputError, match="bump is 'tiny'"):
        stemma.release("line", "tiny")
