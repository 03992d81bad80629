"""Trainings that go wrong, settings that are wrong: recorded honestly, told in one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

_OPENED = 'import os, signal, sys, time\nimport stemma\nwith stemma.run("toy") as run:\n    '
_MODEL = '\n    run.model("model.json")\n'


# how a script ends ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "code", "state", "failure", "says"),
    [
        ('raise ValueError("bad\\nluck")', 1, "failed", "ValueError: bad", "exit code 1"),
        ("sys.exit(3)", 1, "failed", "SystemExit: 3", "exit code 3"),
        ("os._exit(4)", 1, "failed", "exit code 4", "exit code 4"),
        ("os.kill(os.getpid(), 9)", 1, "failed", "killed by SIGKILL", "was killed by SIGKILL"),
        ("raise KeyboardInterrupt", 130, "interrupted", "KeyboardInterrupt", "was interrupted"),
        (
            "os.kill(os.getpid(), 15); time.sleep(9)",
            130,
            "interrupted",
            "terminated (SIGTERM)",
            "was interrupted",
        ),
        ("pass  # no model", 1, "failed", "InvalidInputError: run r-", "exit code 1"),
    ],
    ids=["crash", "exit", "hard exit", "killed", "Ctrl-C", "SIGTERM", "no model"],
)
def test_a_training_that_fails_is_recorded_and_can_never_be_released(
    place: Any, line: str, code: int, state: str, failure: str, says: str
) -> None:
    """A crashed training would vanish, seem to run for ever, or be released."""
    versions = place.versions()
    place.write("script.py", _OPENED + line + "\n")
    answer = place.stemma("run", "--", sys.executable, "script.py")
    assert answer.returncode == code, answer.stderr
    assert answer.stdout.startswith("✗ run r-")
    assert len(answer.stdout.splitlines()) == 1
    error, hint = answer.stderr.splitlines()[-2:]
    assert error.startswith("error: ")
    assert says in error
    assert hint == "hint: stemma log toy --runs"
    assert "stemma.cli" not in answer.stderr
    run = place.runs()[0]
    assert (run.state.value, run.failure[: len(failure)]) == (state, failure)
    place.refused(
        *("release", "toy", "--run", run.id),
        code=12,
        says=f"run {run.id} is {state}",
        hint="stemma log toy --runs",
    )
    assert place.versions() == versions


def test_a_script_that_fails_after_its_run_keeps_the_run_and_says_so(place: Any) -> None:
    """The user would train again, or believe that all went well."""
    place.write("script.py", _OPENED + "pass" + _MODEL + "sys.exit(7)\n")
    answer = place.stemma("run", "--", sys.executable, "script.py")
    run = place.runs()[0]
    assert (answer.returncode, run.state.value) == (1, "finished")
    assert f"ended with exit code 7 after {run.id} was recorded" in answer.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_stemma_run_ends_the_training_and_is_recorded(place: Any, number: int) -> None:
    """The training would go on alone, or its run seem to."""
    place.write("script.py", _OPENED + 'print("up", flush=True)\n    time.sleep(60)\n')
    process = subprocess.Popen(
        [sys.executable, "-m", "stemma.cli.main", "run", "--", sys.executable, "script.py"],
        cwd=place.folder,
        env=place.variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted" in out
    assert "stemma.cli" not in err
    assert place.runs()[0].state.value == "interrupted"


def test_a_killed_stemma_run_leaves_a_run_that_the_next_command_closes(place: Any) -> None:
    """A run would seem to run for ever."""
    place.write("script.py", _OPENED + 'print("up", flush=True)\n    time.sleep(60)\n')
    process = subprocess.Popen(
        [sys.executable, "script.py"],
        cwd=place.folder,
        env=place.variables,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    process.communicate()
    assert place.runs()[0].state.value == "running"
    assert place.run(sys.executable, "train.py").returncode == 0
    states = [run.state.value for run in place.runs()]
    assert "running" not in states
    assert states[1] in {"failed", "interrupted"}


# numbers and evidence ---------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["float('nan')", "float('inf')", "'high'"])
def test_a_metric_that_is_no_number_is_refused(place: Any, value: str) -> None:
    """NaN would pass or fail a gate by chance."""
    versions = place.versions()
    answer = place.python(_OPENED + f'run.metric("accuracy", {value})' + _MODEL)
    place.raised(answer, kind="InvalidInputError", says="metric accuracy is", hint="")
    assert place.runs()[0].state.value == "failed"
    assert place.versions() == versions


def test_nan_in_a_learning_curve_is_left_out_and_told_once(place: Any) -> None:
    """A diverging loss would stop the training."""
    line = 'run.log(loss=float("nan")); run.log(loss=float("inf")); run.log(loss=0.5)'
    answer = place.python(_OPENED + line + _MODEL, variables={"PYTHONWARNINGS": "default"})
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr.count("metric loss is nan, no finite number: left out") == 1
    assert place.runs()[0].state.value == "finished"


@pytest.mark.parametrize(
    ("predict", "says"),
    [
        ("np.full(10, np.nan)", "10 of 10 predictions on toy-test are NaN or infinite"),
        ("[1, 0]", "2 predictions for 10 rows of toy-test"),
    ],
)
def test_answers_that_are_none_are_refused(place: Any, predict: str, says: str) -> None:
    """A model that diverged would be compared by values that equal nothing."""
    test = "test=(np.arange(20.0).reshape(10, 2), np.arange(10) % 2)"
    text = f'run.model("model.json", {test}, predict=lambda X: {predict})\n'
    answer = place.python("import numpy as np\n" + _OPENED + text)
    place.raised(answer, kind="InvalidInputError", says=says, hint="")
    assert place.runs()[0].state.value == "failed"


def test_a_gate_on_what_was_not_measured_refuses(place: Any) -> None:
    """A version would ship because nobody measured it."""
    place.write("stemma.toml", '[model.toy.gates]\nrecall = ">= 0.9"\n')
    assert place.run(sys.executable, "train.py", variables={"WEIGHT": "3"}).returncode == 0
    before = place.versions()
    answer = place.stemma("release", "toy")
    assert answer.returncode == 3
    assert "not measured   needs ≥ 0.9" in answer.stdout
    assert place.versions() == before


def test_a_golden_set_of_training_rows_proves_nothing_and_is_told(place: Any) -> None:
    """A model would be praised for rows that it has seen."""
    text = (
        "import numpy as np\n"
        + _OPENED
        + "X, y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2\n"
        + '    run.data("train", (X, y))\n'
        + '    run.model("model.json", test=(X[:10], y[:10]), predict=lambda X: y[:10])\n'
    )
    answer = place.python(text, variables={"PYTHONWARNINGS": "default"})
    assert answer.returncode == 0
    assert "10 of 10 rows of toy-test are also training rows: they prove nothing" in answer.stderr
    place.write("model.json", '{"weight": 9}')
    assert place.python(text).returncode == 0
    verdict = json.loads(place.stemma("release", "toy", "--dry-run", "--json").stdout)["verdict"]
    assert verdict["level"] == "major", "missing evidence counts as the worst"


# pickles and libraries --------------------------------------------------------------------------


def test_a_pickle_is_marked_and_released_only_where_it_is_allowed(place: Any) -> None:
    """Loading a version would run whatever somebody put into it."""
    text = "import pickle\n" + _OPENED
    text += 'open("m.pkl", "wb").write(pickle.dumps({"a": 1}))\n    run.model("m.pkl")\n'
    answer = place.python(text, variables={"PYTHONWARNINGS": "default"})
    assert answer.returncode == 0, answer.stderr
    assert "the model is a pickle: loading it runs whatever code is inside" in answer.stderr
    versions = place.versions()
    refused = place.stemma("release", "toy")
    assert refused.returncode == 3
    assert "or allow_pickle = true" in refused.stdout
    assert place.versions() == versions
    place.write("stemma.toml", "[model.toy]\nallow_pickle = true\n")
    released = place.stemma("release", "toy", "--json")
    version = json.loads(released.stdout)["version"]
    assert released.returncode == 0
    assert "(a pickle: loading it runs code)" in place.stemma("show", f"toy@{version}").stdout
    loaded = place.python(f'import stemma\nstemma.load("toy@{version}")\n')
    place.raised(loaded, kind="DeniedError", says="is a pickle", hint="stemma.get(")


def test_an_object_that_only_pickle_can_save_is_refused(place: Any) -> None:
    """A pickle would be written because nobody said no."""
    answer = place.python(_OPENED + 'run.model({"a": 1})\n')
    place.raised(answer, kind="InvalidInputError", says="cannot read a model of", hint="pass a")


_HIDE = """\
import os, sys

class Hide:
    names = set(os.environ.get("HIDE", "-").split(","))
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hide())
"""


@pytest.mark.parametrize(
    ("hidden", "library", "extra"),
    [("skops", "skops", "sklearn"), ("onnx", "onnx", "onnx")],
)
def test_a_missing_library_is_named_with_what_installs_it(
    place: Any, tmp_path: Path, hidden: str, library: str, extra: str
) -> None:
    """An ImportError from inside of Stemma would be all the user sees."""
    hiding = tmp_path / "hiding"
    hiding.mkdir()
    (hiding / "sitecustomize.py").write_text(_HIDE)
    place.write("model.onnx", b"\x08\x0a")
    line = 'run.model("model.onnx")\n'
    if extra == "sklearn":
        line = (
            "from sklearn.tree import DecisionTreeClassifier as T\n"
            "    run.model(T().fit([[0], [1]], [0, 1]))\n"
        )
    hide = {"PYTHONPATH": str(hiding), "HIDE": hidden}
    answer = place.python(_OPENED + line, variables=hide)
    place.raised(
        answer,
        kind="InvalidInputError",
        says=f"need the package {library}, which is not installed",
        hint=f"pip install 'stemma-ml[{extra}]'",
    )
    assert place.runs()[0].state.value == "failed"


# settings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ('[model.toy]\nintreface = ["predict"]\n', "model.toy.intreface: no such", "did you mean"),
        ('[model.toy.gates]\naccuracy = ">> 0.9"\n', "model.toy.gates.accuracy", "a gate reads"),
        ("[modle.toy]\n", "stemma.toml: unknown key 'modle'", "did you mean 'model'?"),
        ("[model.toy\n", "stemma.toml is not TOML: ", "edit "),
        ("user = 3\n", "stemma.toml: user is int 3", "edit stemma.toml"),
    ],
)
def test_a_wrong_settings_file_is_told_with_file_key_and_what_is_allowed(
    place: Any, text: str | bytes, says: str, hint: str
) -> None:
    """A gate that nobody reads would hold nothing back."""
    place.write("stemma.toml", text)
    place.refused("release", "toy", code=2, says=says, hint=hint)


def test_a_wrong_policy_is_told_before_the_training(place: Any) -> None:
    """Hours of training would be lost for a typing error."""
    place.write("stemma.toml", '[model.toy.gates]\naccuracy = ">> 0.9"\n')
    answer = place.python(_OPENED + 'print("trained")\n')
    place.raised(answer, kind="InvalidInputError", says="gates.accuracy", hint="a gate reads like")
    assert answer.stdout == ""


@pytest.mark.parametrize(
    ("name", "value", "code", "hint"),
    [
        ("STEMMA_PROJECT", "/nonexistent", 10, "stemma init"),
        ("STEMMA_FORMAT", "xml", 2, "unset STEMMA_FORMAT"),
        ("STEMMA_MAY_USE_NETWORK", "maybe", 2, "unset STEMMA_MAY_USE_NETWORK"),
        ("STEMMA_LOCK_TIMEOUT_SECONDS", "-5", 2, "unset STEMMA_LOCK_TIMEOUT_SECONDS"),
        ("STEMMA_DATABASE", "mysql://host/db", 2, "use sqlite:////"),
    ],
)
def test_a_wrong_variable_is_named(place: Any, name: str, value: str, code: int, hint: str) -> None:
    """A default would be used, and nobody know why."""
    place.refused("log", "toy", code=code, says=value, hint=hint, variables={name: value})


@pytest.mark.parametrize("name", ["STEMMA_COMMAND", "STEMMA_SET"])
def test_a_wrong_variable_for_the_script_is_named(place: Any, name: str) -> None:
    """JSON's own message would be all the user sees."""
    answer = place.run(sys.executable, "train.py", variables={name: "{"})
    place.raised(answer, kind="InvalidInputError", says=name, hint=f"unset {name}")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody without a home")
def test_a_user_without_name_and_home_can_work(place: Any, tmp_path: Path) -> None:
    """In a container that runs as some number, every command would be a fault."""
    tmp_path.chmod(0o755)
    for path in [place.folder, *place.folder.rglob("*")]:
        os.chown(path, 12345, 12345, follow_symlinks=False)
    variables = {key: value for key, value in place.variables.items() if key != "HOME"}
    nobody = replace(place, variables=variables)
    try:
        answer = nobody.stemma("log", "toy", user=12345, group=12345, extra_groups=[])
    except PermissionError:
        pytest.skip("that user cannot reach the interpreter")
    assert answer.returncode == 0, answer.stderr
