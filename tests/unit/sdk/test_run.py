"""Runs from Python: recorded, failed, interrupted, and never in the way of the training."""

# ruff: noqa: PT012, PT031, SIM117 - what is tested is the end of a with block

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from blake3 import blake3
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, Ridge

import stemma
from stemma.domain.digest import Digest
from stemma.domain.errors import ConflictError, InvalidInputError, NoProjectError, StemmaError
from stemma.domain.run import RunRecord, RunState
from stemma.sdk.notices import StemmaWarning
from stemma.server.wiring import open_hub
from stemma.tracking import run_log

Digits = tuple[NDArray[np.float64], NDArray[np.int64]]

pytestmark = [
    pytest.mark.slow,
    # There is no network here, and uv's cache may be empty.
    pytest.mark.filterwarnings("ignore:no hash"),
]


class _Tensor:
    """A number that must be taken out of its graph first, as torch's tensors."""

    def detach(self) -> float:
        """Return the bare number."""
        return 0.125


class _FailureError(Exception):
    """Something in a user's script went wrong."""


def _only_run() -> RunRecord:
    with closing(open_hub()) as hub:
        [record] = hub.list_runs()
        return record


def _row() -> Any:
    return np.array([[0.0], [1.0], [2.0]]), np.array([0.5, 1.5, 2.0])


def test_a_run_records_data_model_metrics_and_parameters(project: Path, digits: Digits) -> None:
    """The record would miss what the script handed over."""
    features, labels = digits
    with stemma.run("digits", reason="a first try") as run:
        run.data("digits-train", (features[:300], labels[:300]), preprocessing=["scaled"])
        model = LogisticRegression(max_iter=3000).fit(features[:300], labels[:300])
        run.model(model, test=(features[300:], labels[300:]))
        run.params(folds=5)
        run.metadata(owner="vision")
        run.metric("fairness", 0.25, slice="group=a", sample_size=7)
        run.licence = "Apache-2.0"
    version = stemma.get(f"digits@{run.id}")
    manifest = version.manifest
    assert _only_run().state is RunState.FINISHED
    assert [(item.name, item.role.value) for item in manifest.datasets.datasets] == [
        ("digits-test", "test"),
        ("digits-train", "training"),
    ]
    assert manifest.provenance.reason == "a first try"
    assert manifest.metadata["owner"] == "vision"
    assert manifest.evidence.licence == "Apache-2.0"
    assert manifest.evidence.golden is not None
    assert manifest.evidence.golden.row_count == 100
    assert version.metrics["fairness[group=a]"] == 0.25
    assert version.metrics == run.metrics
    assert stemma.data(f"digits@{run.id}").arrays()["features"].shape == (300, 64)
    assert stemma.data(f"digits@{run.id}").columns
    assert not list((project / ".stemma" / "tmp").iterdir())
    _check_told(run.id)


def _check_told(run: str) -> None:
    """Check what tracking clients see of that run."""
    with closing(open_hub()) as hub, hub._parts.database.read() as connection:
        told = run_log.run_data(connection, run)
    assert told.params["max_iter"] == "3000"
    assert {point.name: point.value for point in told.metrics}["fairness[group=a]"] == 0.25
    assert told.tags["mlflow.note.content"] == "a first try"
    assert told.tags["mlflow.runName"] == told.record.start.name
    assert [(item.name, item.context) for item in told.inputs] == [
        ("digits-test", "test"),
        ("digits-train", "training"),
    ]


def test_two_runs_of_one_training_have_equal_components(project: Path) -> None:
    """The answer "already is this" would never be said."""
    identities = []
    for _ in range(2):
        with stemma.run("line") as run:
            run.data("rows", _row())
            run.model(Ridge().fit(*_row()), test=([[5.0], [6.0]], [3.0, 4.0]))
        identities.append(stemma.get(f"line@{run.id}").manifest.identities)
    assert identities[0] == identities[1]


def test_release_gives_the_version_and_the_same_again_when_nothing_changed(project: Path) -> None:
    """run.release() would make a new number for nothing."""
    with stemma.run("line") as run:
        run.model(Ridge().fit(*_row()), test=_row())
    assert run.release(message="first").number == "1.0.0"
    with stemma.run("line") as again:
        again.model(Ridge().fit(*_row()), test=_row())
    version = again.release()
    assert version.number == "1.0.0"
    assert stemma.load("line@1.0.0").version == "1.0.0"
    assert "line@1.0.0" in version._repr_html_()
    assert "| version | line@1.0.0 |" in version._repr_markdown_()
    assert version.diff("line@1.0.0").components


def test_an_exception_is_recorded_and_goes_on(project: Path) -> None:
    """A failed training would vanish, or its error be swallowed."""
    with pytest.raises(_FailureError, match="no more memory"), stemma.run("line") as run:
        run.model(Ridge().fit(*_row()))
        raise _FailureError("no more memory")
    record = _only_run()
    assert record.state is RunState.FAILED
    assert record.failure.endswith("no more memory")
    assert "test_run.py" in record.traceback
    with pytest.raises(ConflictError, match="failed: nothing to release"):
        run.release()


@pytest.mark.parametrize("stop", [KeyboardInterrupt, "SIGTERM"])
def test_a_stopped_training_is_interrupted(stop: Any, project: Path) -> None:
    """A stopped training would look finished, or run for ever."""
    expected = SystemExit if stop == "SIGTERM" else stop
    with pytest.raises(expected), stemma.run("line"):
        if stop == "SIGTERM":
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            raise stop
    assert _only_run().state is RunState.INTERRUPTED
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_run_without_a_model_says_so(project: Path) -> None:
    """An empty version would be recorded, or nothing said."""
    with pytest.raises(InvalidInputError, match="recorded no model"), stemma.run("line") as run:
        run.log(loss=1.0)
    assert _only_run().state is RunState.FAILED


def test_logging_never_stops_a_training(project: Path) -> None:
    """Hours of training would be lost over one NaN."""
    with stemma.run("line") as run:
        with pytest.warns(StemmaWarning, match="metric loss is nan") as warned:
            run.log(loss=float("nan"), step=1)
            run.log(loss=float("inf"), step=2)
        assert len(warned) == 1
        assert warned[0].filename == __file__
        run.log(loss=np.float32(0.5), step=3)
        run.log(loss=0.25)
        run.log(loss=_Tensor())  # type: ignore[arg-type]
        run.model(Ridge().fit(*_row()))
    with closing(open_hub()) as hub:
        assert [(point.step, point.value) for point in hub.curve(_only_run().id, "loss")] == [
            (3, 0.5),
            (4, 0.25),
            (5, 0.125),
        ]


def test_a_metric_that_is_not_a_number_is_refused_in_one_line(project: Path) -> None:
    """A gate would be passed or failed by NaN."""
    with pytest.raises(InvalidInputError, match=r"metric bleu\[language=de\] is nan"):
        with stemma.run("line") as run:
            run.metric("bleu", float("nan"), slice="language=de")


def test_a_frame_and_files_are_datasets(project: Path) -> None:
    """Only arrays could be recorded."""
    frame = pd.DataFrame({"size": [1.0, 2.0, 3.0], "kind": ["a", "b", "a"]})
    (project / "extra.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with stemma.run("line") as run:
        run.data("table", (frame, [1, 2, 3]))
        run.data("extra", "extra.csv", role="validation")
        run.model(Ridge().fit(*_row()))
    table = stemma.data("table")
    assert [(spec.name, spec.dtype) for spec in table.columns[:2]] == [
        ("size", "float64"),
        ("kind", "str"),
    ]
    assert table.to_pandas().drop(columns="label").equals(frame.astype({"kind": object})) or list(
        table.to_pandas()["kind"]
    ) == ["a", "b", "a"]
    assert stemma.data("extra").path().read_text(encoding="utf-8") == "a,b\n1,2\n"


def test_a_wrong_role_names_the_right_ones(project: Path) -> None:
    """The user would guess."""
    with pytest.raises(InvalidInputError, match="role 'train'") as failure:
        with stemma.run("line") as run:
            run.data("rows", _row(), role="train")
    assert "training" in failure.value.hint


def test_a_second_model_is_refused(project: Path) -> None:
    """Which of two models a version holds would be chance."""
    with pytest.raises(ConflictError, match="has a model already"), stemma.run("line") as run:
        run.model(Ridge().fit(*_row()))
        run.model(Ridge().fit(*_row()))


def test_predict_says_how_to_ask_what_has_no_adapter(project: Path) -> None:
    """A model of one's own kind could not be measured."""
    features, labels = _row()
    with stemma.run("line") as run:
        run.model(
            Ridge().fit(features, labels),
            test=(features, labels),
            predict=lambda rows: [0.5 for _ in rows],
            test_name="golden",
        )
    assert run.metrics["mae"] == pytest.approx(np.abs(labels - 0.5).mean())


def test_nothing_is_recorded_on_another_rank(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight processes of one training would make eight runs."""
    monkeypatch.setenv("RANK", "1")
    with stemma.run("line") as run:
        run.data("rows", _row())
        run.log(loss=1.0)
        run.model(Ridge().fit(*_row()))
    with closing(open_hub()) as hub:
        assert hub.list_runs() == []
    assert run.id == ""


def test_a_forked_child_does_not_end_its_parents_run(project: Path) -> None:
    """A data loader's worker would finish the training's run."""
    with stemma.run("line") as run:
        child = os.fork()
        if child == 0:
            run.log(loss=1.0)
            run.__exit__(None, None, None)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert _only_run().state is RunState.RUNNING
        run.model(Ridge().fit(*_row()))
    assert _only_run().state is RunState.FINISHED


def test_recording_outside_of_the_block_is_refused(project: Path) -> None:
    """What was handed over after the end would be lost silently."""
    with stemma.run("line") as run:
        run.model(Ridge().fit(*_row()))
    with pytest.raises(ConflictError, match="has ended"):
        run.metric("accuracy", 1.0)


def test_no_project_here_is_said_before_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour of training would end in "no project"."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STEMMA_PROJECT", raising=False)
    with pytest.raises(NoProjectError), stemma.run("line"):
        pytest.fail("the block was entered")


def test_values_set_on_the_command_line_are_recorded_and_unused_ones_told(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--set would be ignored silently."""
    monkeypatch.setenv("STEMMA_SET", json.dumps({"alpha": 2.0, "beta": 1}))
    with pytest.warns(StemmaWarning, match="--set beta was not used"), stemma.run("line") as run:
        run.model(Ridge(alpha=run.settings.get("alpha", 1.0)).fit(*_row()))
    assert _hyperparameters(run.id)["alpha"] == 2.0


def _hyperparameters(run: str) -> dict[str, object]:
    with closing(open_hub()) as hub:
        return hub.facts(hub.resolve(f"line@{run}")).hyperparameters


@pytest.fixture
def script(project: Path) -> Path:
    """A training script in a file of its own."""
    path = project / "train.py"
    path.write_text(
        textwrap.dedent(
            """
            import sys
            import numpy as np, stemma
            from sklearn.linear_model import Ridge
            with stemma.run("line") as run:
                run.model(Ridge().fit(np.array([[0.], [1.]]), [0., 1.]))
            """
        ),
        encoding="utf-8",
    )
    return path


def test_a_script_is_the_pipeline_of_its_run(script: Path) -> None:
    """Nobody could tell what made a version."""
    subprocess.run([sys.executable, script.name, "--fast"], cwd=script.parent, check=True)
    manifest = stemma.get(f"line@{_only_run().id}").manifest
    assert manifest.pipeline.script == "train.py"
    assert manifest.pipeline.command[-2:] == ("train.py", "--fast")
    assert manifest.architecture.entry_point == "train.py"


_EDITED = """
import pathlib
import numpy as np, stemma
from sklearn.linear_model import Ridge
class Own(Ridge):
    note = "ran"
with stemma.run("line") as run:
    me = pathlib.Path(__file__)
    me.write_text("# edited\\n\\n\\n\\n\\n" + me.read_text().replace('"ran"', '"edited"'))
    run.model(Own().fit(np.array([[0.], [1.]]), [0., 1.]))
@stemma.run("line")
def train():
    return Own().fit(np.array([[0.], [1.]]), [0., 1.])
train()
"""


def test_a_script_edited_while_it_trains_is_recorded_as_it_ran(script: Path) -> None:
    """A version would hold a script that never made it, and another architecture."""
    script.write_text(_EDITED, encoding="utf-8")
    answer = subprocess.run(
        [sys.executable, script.name],
        cwd=script.parent,
        check=True,
        capture_output=True,
        text=True,
    )
    assert answer.stderr.count("train.py changed during the run: recorded as at its start") == 2
    with closing(open_hub()) as hub:
        first, second = (hub.resolve(f"line@{run.id}").manifest for run in hub.list_runs())
        tree = hub.objects.read_tree(first.architecture.content)
        [entry] = tree.entries
        assert entry.digest == Digest.blake3(blake3(_EDITED.encode()).hexdigest())
    assert first.architecture.identity == second.architecture.identity


_NOTEBOOK = """
import sys, types
main = sys.modules["__main__"]
del main.__file__
In = [""]
main.get_ipython = lambda: types.SimpleNamespace(user_ns={"In": In})
cells = [
    "import numpy as np, stemma\\nfrom sklearn.linear_model import Ridge",
    "alpha = 0.5",
    "with stemma.run('line') as run:\\n"
    "    run.model(Ridge(alpha=alpha).fit(np.array([[0.], [1.]]), [0., 1.]))",
]
for cell in cells:
    In.append(cell)
    exec(cell, main.__dict__)
"""


def test_the_cells_of_a_notebook_are_the_code_of_its_run(project: Path) -> None:
    """A model trained in a notebook could not be made again."""
    notebook = project.parent / "notebook.py"
    notebook.write_text(_NOTEBOOK, encoding="utf-8")
    subprocess.run([sys.executable, str(notebook)], cwd=project, check=True)
    with closing(open_hub()) as hub:
        manifest = hub.resolve(f"line@{_only_run().id}").manifest
        folder = project / "out"
        hub.objects.export_tree(manifest.architecture.content, folder)
    assert manifest.architecture.entry_point == "cells.py"
    assert manifest.pipeline.script == "cells.py"
    text = (folder / "cells.py").read_text(encoding="utf-8")
    assert "alpha = 0.5\n\nwith stemma.run" in text
    assert "notebook.py" not in [path.name for path in folder.iterdir()]


def test_a_recording_that_fails_leaves_a_failed_run_and_its_error(project: Path) -> None:
    """A version that could not be stored would look like a run that still goes on."""
    file = project / "model.bin"
    file.write_bytes(b"model")
    with pytest.raises(StemmaError, match=r"model\.bin"), stemma.run("line") as run:
        run.model(file)
        file.unlink()
    record = _only_run()
    assert record.state is RunState.FAILED
    assert run.id == record.id
    assert list((project / ".stemma" / "tmp").iterdir()) == []


def test_a_file_has_no_answers_of_its_own(project: Path) -> None:
    """A golden set would be silently left out."""
    (project / "model.bin").write_bytes(b"model")
    with pytest.raises(InvalidInputError, match="cannot be asked for predictions"):
        with stemma.run("line") as run:
            run.model("model.bin", test=_row())


def test_exit_with_success_inside_the_block_finishes_the_run(project: Path) -> None:
    """sys.exit(0) at the end of a script would fail its run."""
    with pytest.raises(SystemExit), stemma.run("line") as run:
        assert repr(run) == f"<Run {run.id} of line: not recorded>"
        assert run.metrics == {}
        run.model(Ridge().fit(*_row()))
        sys.exit(0)
    assert _only_run().state is RunState.FINISHED
    with pytest.raises(InvalidInputError, match="metric bleu is no number"):
        with stemma.run("line") as other:
            other.metric("bleu", "high")  # type: ignore[arg-type]
