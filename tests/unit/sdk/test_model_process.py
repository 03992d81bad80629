"""Wrong here: a process is ready with a wrong model, or dies without saying why."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from stemma.catalog.capture.base import CapturedModel
from stemma.delivery.runtime.golden import write_golden
from stemma.delivery.runtime.model import PREDICT
from stemma.delivery.runtime.spec import ProcessSpec, encode_spec
from stemma.domain.errors import ConflictError, DeniedError, GateFailedError, InvalidInputError
from stemma.sdk.model_process import open_socket, prepare
from stemma.sdk.served_models import load_candidates

_START_SECONDS = 30
Columns = dict[str, NDArray[Any]]


class Maker:
    """Makes specifications of models that were captured as ``run.model`` does."""

    def __init__(self, capture: Callable[..., CapturedModel], folder: Path) -> None:
        """Write into ``folder``."""
        self._capture = capture
        self._folder = folder

    def __call__(
        self,
        model: Any,
        inputs: Columns | None = None,
        answers: Any = None,
        *,
        sample: Any = None,
        **options: Any,
    ) -> ProcessSpec:
        """Capture a model; ``inputs`` and ``answers`` become its golden request."""
        captured = self._capture(model, sample=sample)
        golden = ""
        if inputs is not None:
            golden = str(self._folder / "golden.npz")
            write_golden(Path(golden), inputs, np.asarray(answers))
        known: dict[str, Any] = {
            "model": "digits",
            "version": "1.2.0",
            "manifest": "sha256:" + "0" * 64,
            "loader": captured.loader,
            "family": captured.family,
            "files": tuple(captured.files),
            "artifact_folder": str(next(iter(captured.files.values())).parent),
            "golden": golden,
            "task": "classification",
            "signature": captured.signature,
            "labels": captured.labels,
            "is_pickle": captured.is_pickle,
            "sockets": ("/nowhere/0.sock",),
        }
        return ProcessSpec(**(known | options))


@pytest.fixture
def make_spec(capture: Callable[..., CapturedModel], tmp_path: Path) -> Maker:
    """Make a specification."""
    return Maker(capture, tmp_path)


_ROWS = np.random.default_rng(0).normal(size=(60, 3))
_CLASSES = (_ROWS[:, 0] > 0).astype(int)


@pytest.mark.slow
def test_a_model_is_ready_when_it_gave_its_golden_answer(make_spec: Maker) -> None:
    """This is what ready means."""
    model = LogisticRegression().fit(_ROWS, _CLASSES)
    ready = prepare(make_spec(model, {"": _ROWS[:8]}, model.predict(_ROWS[:8])))
    assert ready.is_quick
    assert ready.model.methods[0] == PREDICT
    assert "predict_proba" in ready.model.methods


def test_another_answer_is_a_refusal_that_shows_it(make_spec: Maker) -> None:
    """A model that answers otherwise than it was released must never serve."""
    model = LogisticRegression().fit(_ROWS, _CLASSES)
    answers = model.predict(_ROWS[:8])
    answers[3] = 7
    with pytest.raises(GateFailedError, match=r"row 3: 7 recorded, [01] answered"):
        prepare(make_spec(model, {"": _ROWS[:8]}, answers))


def test_a_damaged_golden_file_is_a_refusal(make_spec: Maker, tmp_path: Path) -> None:
    """Without a golden request nothing is proven."""
    model = LogisticRegression().fit(_ROWS, _CLASSES)
    spec = make_spec(model, {"": _ROWS[:8]}, model.predict(_ROWS[:8]))
    (tmp_path / "golden.npz").write_bytes(b"torn")
    with pytest.raises(GateFailedError, match="golden request failed"):
        prepare(spec)


@pytest.mark.slow
def test_a_model_of_a_table_is_asked_with_a_table(make_spec: Maker) -> None:
    """Columns chosen by name exist only in a table."""
    frame = pd.DataFrame({"city": ["Wien", "Graz"] * 10, "age": np.arange(20)})
    labels = np.where(frame["age"] > 9, "old", "young")
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["city"]), remainder=StandardScaler()
    )
    model = make_pipeline(columns, LogisticRegression()).fit(frame, labels)
    inputs: Columns = {
        "city": frame["city"].to_numpy().astype(np.str_)[:8],
        "age": frame["age"].to_numpy()[:8],
    }
    spec = make_spec(model, inputs, labels[:8].astype(np.str_), sample=frame)
    ready = prepare(spec)
    asked = {"city": np.array(["Wien", None], dtype=object), "age": np.array([3, 18])}
    assert ready.model.answer(asked, PREDICT).tolist() == ["young", "old"]


def test_text_and_numbers_of_other_models_are_answered(make_spec: Maker) -> None:
    """Not every model classifies a matrix."""
    texts = np.array(["good day", "bad day", "good night", "bad night"])
    model = make_pipeline(CountVectorizer(), LogisticRegression()).fit(texts, [1, 0, 1, 0])
    ready = prepare(make_spec(model, {"": texts}, [1, 0, 1, 0]))
    assert ready.model.answer({"X": np.array(["good"], dtype=object)}, PREDICT).tolist() == [1]
    line = LinearRegression().fit(_ROWS, _ROWS[:, 0])
    answers = line.predict(_ROWS[:8])
    assert prepare(make_spec(line, {"": _ROWS[:8]}, answers * 1.00001, task="regression"))
    with pytest.raises(GateFailedError, match="golden answer"):
        prepare(make_spec(line, {"": _ROWS[:8]}, answers * 1.1, task="regression"))


def test_pickles_and_plain_files_are_refused(make_spec: Maker) -> None:
    """A pickle runs whatever is inside; a plain file cannot be asked."""
    model = LogisticRegression().fit(_ROWS, _CLASSES)
    with pytest.raises(DeniedError, match="is a pickle"):
        load_candidates(make_spec(model, is_pickle=True))
    with pytest.raises(InvalidInputError, match="plain files"):
        load_candidates(make_spec(model, loader="file"))


@pytest.mark.slow
def test_onnx_gives_its_outputs_and_its_classes(make_spec: Maker) -> None:
    """Every output of the graph can be asked for; ``predict`` is the class."""
    convert = pytest.importorskip("skl2onnx").to_onnx
    model = LogisticRegression().fit(_ROWS.astype(np.float32), _CLASSES)
    proto = convert(model, _ROWS[:1].astype(np.float32))
    ready = prepare(make_spec(proto, {"": _ROWS[:8]}, _CLASSES[:8] * 0 + model.predict(_ROWS[:8])))
    rows = {"X": _ROWS[:4].astype(np.float32)}
    label, scores = ready.model.infer(rows, tuple(value.name for value in ready.model.outputs))
    assert label.tolist() == model.predict(_ROWS[:4]).tolist()
    np.testing.assert_allclose(scores, model.predict_proba(_ROWS[:4]), rtol=1e-4)


@pytest.fixture
def own_modules(tmp_path: Path) -> Iterator[None]:
    """Forget modules of recorded code: later tests would record them as their own."""
    yield
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.slow
@pytest.mark.usefixtures("own_modules")
def test_torch_needs_code_that_is_trusted_and_finds_how_it_was_asked(
    make_spec: Maker, tmp_path: Path
) -> None:
    """Its class is in the recorded code; whether it answers classes is in the golden answer."""
    torch: Any = pytest.importorskip("torch")
    code = tmp_path / "code"
    code.mkdir()
    (code / "net.py").write_text(
        "import torch\n\n\nclass Net(torch.nn.Sequential):\n"
        "    def __init__(self) -> None:\n        super().__init__(torch.nn.Linear(3, 2))\n"
    )
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 2)).eval()
    with torch.no_grad():
        logits = module(torch.as_tensor(_ROWS[:8], dtype=torch.float32)).numpy()
    options: dict[str, Any] = {"family": "net.Net", "code_folder": str(code)}
    golden = ({"": _ROWS[:8].astype(np.float32)}, logits.argmax(axis=1))
    sample = _ROWS[:8].astype(np.float32)
    with pytest.raises(DeniedError, match="not trusted"):
        prepare(make_spec(module, *golden, sample=sample, **options))
    for task in ("classification", "other"):
        spec = make_spec(module, *golden, sample=sample, task=task, is_code_trusted=True, **options)
        ready = prepare(spec)
        assert ready.model.answer({"input": sample}, PREDICT).tolist() == golden[1].tolist()
        (output,) = ready.model.infer({"input": sample}, ("output",))
        np.testing.assert_allclose(output, logits, rtol=1e-5)


@pytest.fixture
def sockets() -> Iterator[Path]:
    """A folder with a name that is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="stemma-") as folder:
        yield Path(folder)


def test_a_socket_is_private_and_a_stale_one_is_replaced(sockets: Path) -> None:
    """Other users of the machine may not ask; a killed process must not block its successor."""
    first = open_socket(sockets / "0.sock")
    assert stat.S_IMODE((sockets / "0.sock").stat().st_mode) == 0o600
    with pytest.raises(ConflictError, match="another process listens"):
        open_socket(sockets / "0.sock")
    first.close()
    open_socket(sockets / "0.sock").close()
    with pytest.raises(InvalidInputError, match="cannot listen"):
        open_socket(sockets / "missing" / "0.sock")


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=5)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def _ask(path: Path, method: str, target: str, body: bytes = b"") -> tuple[int, Any]:
    connection = _UnixConnection(path)
    try:
        connection.request(method, target, body)
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read() or b"null")
    finally:
        connection.close()


Start = Callable[[ProcessSpec], subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start model processes; none is left."""
    running: list[subprocess.Popen[str]] = []

    def begin(spec: ProcessSpec) -> subprocess.Popen[str]:
        file = tmp_path / "specification.json"
        file.write_bytes(encode_spec(spec))
        process = subprocess.Popen(
            [sys.executable, "-m", "stemma.sdk.model_process", str(file), "0"],
            stderr=subprocess.PIPE,
            text=True,
            env=dict(os.environ) | {"OMP_NUM_THREADS": "1"},
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def _await_status(path: Path, wanted: int) -> Any:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        try:
            status, found = _ask(path, "GET", "/v2/health/ready")
        except OSError:
            time.sleep(0.02)
            continue
        if status == wanted:
            return found
        time.sleep(0.02)
    return pytest.fail(f"never {wanted}")


@pytest.mark.slow
def test_a_process_serves_until_it_is_asked_to_stop(
    make_spec: Maker, start: Start, sockets: Path
) -> None:
    """From its start to its end it does what the supervisor counts on."""
    model = LogisticRegression().fit(_ROWS, _CLASSES)
    place = sockets / "0.sock"
    process = start(
        make_spec(model, {"": _ROWS[:8]}, model.predict(_ROWS[:8]), sockets=(str(place),))
    )
    assert _await_status(place, 200)["ready"] is True
    body = msgspec.json.encode({"instances": _ROWS[:5].tolist()})
    assert _ask(place, "POST", "/v1/models/digits:predict", body) == (
        200,
        {"predictions": model.predict(_ROWS[:5]).tolist()},
    )
    status, found = _ask(place, "POST", "/v1/models/digits:predict_proba", body)
    assert status == 200
    np.testing.assert_allclose(found["predictions"], model.predict_proba(_ROWS[:5]))
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=6) == 0
    assert not place.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({}, 3, "stemma: golden-mismatch: digits 1.2.0 did not give its golden answer"),
        ({"is_pickle": True}, 4, "stemma: pickle-not-loaded:"),
        ({"files": ("missing.skops",)}, 4, "stemma: pickle-not-loaded:"),
        ({"sockets": ()}, 5, "stemma: bad-specification: specification: sockets is empty"),
    ],
)
def test_a_process_that_fails_says_why_last(
    make_spec: Maker,
    start: Start,
    sockets: Path,
    changes: dict[str, Any],
    code: int,
    said: str,
) -> None:
    """The last line and the exit code are what ``stemma status`` shows."""
    model = LogisticRegression().fit(_ROWS, _CLASSES)
    known = {"sockets": (str(sockets / "0.sock"),)}
    spec = make_spec(model, {"": _ROWS[:8]}, model.predict(_ROWS[:8]) + 1, **(known | changes))
    process = start(spec)
    if code == 3:
        assert "golden answer" in _await_status(sockets / "0.sock", 500)["error"]
    assert process.stderr is not None
    lines = process.stderr.read().splitlines()
    assert process.wait(timeout=_START_SECONDS) == code
    assert lines[-1].startswith(said)
