"""The rules of the command line, on real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

Completed = subprocess.CompletedProcess[str]
Stemma = Callable[..., Completed]
pytestmark = pytest.mark.slow

READING = [
    ["status"],
    ["log"],
    ["log", "--runs"],
    ["gc", "--dry-run"],
    ["doctor"],
    ["doctor", "--settings"],
    ["help", "refs"],
    ["init"],
    ["serve", "--stop"],
]
ON_SERVING = [
    ["rollout", "toy"],
    ["rollout", "status", "toy"],
    ["rollout", "abort", "toy"],
    ["rollback", "toy"],
    ["rollback", "toy", "--list"],
    ["rollback", "toy", "--history"],
    ["log", "toy", "--configuration"],
    ["diff", "toy@c1", "toy@c2", "--only", "configuration"],
    ["check", "toy", "--staging"],
    ["serve", "toy"],
]
ON_A_VERSION = [
    ["log", "toy"],
    ["show", "toy"],
    ["diff", "toy", "toy"],
    ["check", "toy"],
    ["checkout", "toy"],
    ["release", "toy"],
]


@pytest.mark.parametrize("arguments", READING, ids=" ".join)
def test_json_is_valid_and_alone_on_success(stemma_here: Stemma, arguments: list[str]) -> None:
    """A script that parses stdout would break on a verb it has not tried yet."""
    answer: Completed = stemma_here(*arguments, "--json")
    assert answer.returncode == 0, answer.stderr
    json.loads(answer.stdout)


@pytest.mark.parametrize("arguments", [*ON_A_VERSION, *ON_SERVING], ids=" ".join)
def test_an_unknown_model_is_exit_5_in_json(stemma_here: Stemma, arguments: list[str]) -> None:
    """A typo would look like a failure of the tool."""
    answer: Completed = stemma_here(*arguments, "--json")
    error = json.loads(answer.stdout)
    assert (answer.returncode, error["code"]) == (5, 5)
    assert set(error) == {"code", "name", "message", "hint", "retryable"}
    assert answer.stderr == ""


@pytest.mark.parametrize(
    "arguments", [*READING[:6], *ON_A_VERSION, *ON_SERVING, ["add", "x"], ["run", "true"]]
)
def test_no_project_is_exit_10_with_the_command_that_helps(
    stemma: Stemma, arguments: list[str]
) -> None:
    """A newcomer would not know what to type."""
    answer: Completed = stemma(*arguments)
    assert answer.returncode == 10
    assert answer.stdout == ""
    assert answer.stderr.splitlines()[-1] == "hint: stemma init"
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["nonsense"], 2),
        (["release"], 2),
        (["log", "toy", "--at", "2026-05-03"], 2),
        (["log", "toy", "--channel", "stable", "--at", "yesterday"], 2),
        (["show", "../etc"], 2),
        (["add", "missing.csv"], 5),
        (["add", "../outside"], 2),
        (["run", "no-such-command-anywhere"], 5),
        (["run", "--set", "novalue", "true"], 2),
        (["run", "--data", "data.csv", "true"], 2),
        (["diff", "toy", "toy", "--only", "nothing"], 2),
        (["diff", "toy@c1", "toy@c2", "--only", "configuration", "--patch"], 2),
        (["rollout"], 2),
        (["rollout", "pause"], 2),
        (["rollout", "toy@1.0.0", "--steps", "25,5"], 2),
        (["rollout", "toy@1.0.0", "--hold", "soon"], 2),
        (["rollout", "toy@1.0.0", "--hold", "2h", "--hold-limit", "1h"], 2),
        (["rollout", "toy@1.0.0", "--detach", "--demo-traffic"], 2),
        (["rollout", "toy@1.0.0", "--log"], 2),
        (["rollout", "abort", "toy", "--steps", "5,100"], 2),
        (["rollback", "toy@1.0.0"], 2),
        (["rollback", "toy", "--to", "other@1.0.0"], 2),
        (["rollback", "toy", "--list", "--drill"], 2),
        (["check", "toy", "--rate", "5"], 2),
        (["check", "toy", "--staging", "--metadata"], 2),
        (["check", "toy", "--staging", "--requests", "missing.jsonl"], 2),
        (["serve", "--stop", "toy"], 2),
        (["serve", "--withdraw"], 2),
        (["serve", "toy", "--host", "192.0.2.1"], 4),
        (["serve", "toy", "--port", "99999"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_bad_input_is_one_clear_error(stemma_here: Stemma, arguments: list[str], code: int) -> None:
    """A wrong word would end in a traceback or in silence."""
    answer: Completed = stemma_here(*arguments)
    assert answer.returncode == code, answer.stderr
    assert answer.stderr.startswith("error: ")
    assert "Traceback" not in answer.stderr
    assert "hint: " in answer.stderr


def test_without_arguments_help_is_shown(stemma: Stemma) -> None:
    """A newcomer's first command would fail."""
    answer: Completed = stemma()
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "Start:" in answer.stdout


def test_completion_knows_verbs_models_and_versions(stemma: Stemma, project: Path) -> None:
    """Names would have to be typed by heart."""
    run = ["run", "--model", "model.json", "--", sys.executable, "train.py"]
    assert stemma(*run).returncode == 0
    assert stemma("release", "toy", "--channel", "stable").returncode == 0
    for words, expected in [
        ("stemma rel", ["plain,release"]),
        ("stemma show t", ["plain,toy", "plain,toy@stable", "plain,toy@1.0.0"]),
    ]:
        variables = {
            "_STEMMA_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(words.count(" ")),
        }
        answer: Completed = stemma(variables=variables)
        assert answer.stdout.splitlines() == expected, answer.stderr


def test_a_usage_error_is_json_too(stemma: Stemma) -> None:
    """A script would get text where it expects JSON."""
    answer: Completed = stemma("release", "--json", "--no-such-option", "toy")
    assert json.loads(answer.stdout)["code"] == 2


def test_a_wrong_habit_is_answered_with_the_verb(stemma: Stemma) -> None:
    """Who comes from git would have to read the whole help."""
    answer: Completed = stemma("commit", "digits")
    assert answer.returncode == 2
    assert answer.stderr == (
        "error: no verb 'commit'; did you mean release?\nhint: stemma release digits\n"
    )


def test_add_stores_a_file_and_says_when_nothing_changed(stemma: Stemma, project: Path) -> None:
    """A second `add` would look like a second version of the data."""
    subprocess.run(["git", "init", "--quiet"], cwd=project, check=True)
    first: Completed = stemma("add", "data.csv")
    assert first.stdout.startswith("✓ data.csv   1 file, 12 bytes")
    assert "/data.csv" in (project / ".gitignore").read_text()
    second: Completed = stemma("add", "data.csv")
    assert second.stdout == "• data.csv unchanged   1 file, 12 bytes\n"
    (project / "data.csv").write_text("x,y\n9,9\n")
    status: Completed = stemma("status")
    assert "data.csv\tchanged\tdata.csv changed" in status.stdout


def test_a_script_without_stemma_is_recorded_released_and_restored(
    stemma: Stemma, project: Path
) -> None:
    """Training code could not be recorded without changing it."""
    run = ["run", "--model", "model.json", "--data", "data.csv", "--params", "params.yaml"]
    recorded: Completed = stemma(*run, "--", sys.executable, "train.py")
    assert recorded.returncode == 0, recorded.stderr
    assert recorded.stdout.startswith("trained\n✓ run r-")
    released: Completed = stemma("release", "toy", "--channel", "stable")
    assert released.stdout.startswith("✓ toy 1.0.0   first version"), released.stderr
    again: Completed = stemma("release", "toy")
    assert again.stdout.startswith("• toy 1.0.0 already is this")
    for arguments in ON_A_VERSION:
        answer: Completed = stemma(*arguments, "--json")
        assert answer.returncode == 0, answer.stderr
        json.loads(answer.stdout)
    restored = project / "toy-1.0.0"
    assert (restored / "artifact" / "model.json").read_text() == '{"weight": 1}'
    assert (restored / "code" / "train.py").exists()
    assert json.loads((restored / "params.json").read_text())["passed"] == {"rate": 0.5}
    listed: Completed = stemma("checkout", "toy@1.0.0", "--format", "human")
    assert "  params.json  57 bytes" in listed.stdout
    (restored / "artifact" / "model.json").write_text("mine")
    refused: Completed = stemma("checkout", "toy@1.0.0")
    assert refused.returncode == 12
    assert (restored / "artifact" / "model.json").read_text() == "mine"


def test_a_script_given_as_the_command_is_told_what_runs_it(stemma: Stemma, project: Path) -> None:
    """`stemma run train.py` would say that a file which lies there does not exist."""
    answer: Completed = stemma("run", "--name", "toy", "train.py")
    assert answer.returncode == 5
    assert answer.stderr.splitlines()[-1] == "hint: stemma run -- python train.py"


def test_a_mistyped_metric_is_not_an_empty_column(stemma: Stemma, project: Path) -> None:
    """The user would believe that accuracy was never measured."""
    (project / "measured.py").write_text(
        "import stemma\n"
        "with stemma.run('toy') as run:\n"
        "    run.metric('accuracy', 0.9)\n"
        "    run.model('train.py')\n"
    )
    assert stemma("run", "--", sys.executable, "measured.py").returncode == 0
    assert stemma("release", "toy").returncode == 0
    answer: Completed = stemma("log", "toy", "--metric", "acuracy", "--format", "human")
    assert "no version here has acuracy; did you mean accuracy?" in answer.stderr
    answer = stemma("log", "toy", "--metric", "accuracy", "--format", "human")
    assert "did you mean" not in answer.stderr


def test_json_keeps_the_childs_output_off_stdout(stemma: Stemma, project: Path) -> None:
    """A training that prints would break every script around it."""
    answer: Completed = stemma(
        "run", "--json", "--model", "model.json", "--", sys.executable, "train.py"
    )
    assert json.loads(answer.stdout)["runs"][0]["state"] == "finished", answer.stderr
    assert "trained" in answer.stderr


def test_a_crash_is_recorded_as_failed_and_cannot_be_released(
    stemma: Stemma, project: Path
) -> None:
    """A crashed training would vanish, or worse, be released."""
    answer: Completed = stemma(
        "run", "--name", "toy", "--", sys.executable, "-c", "raise SystemExit(7)"
    )
    assert answer.returncode == 1
    assert "exit code 7" in answer.stderr
    runs: Completed = stemma("log", "toy", "--runs", "--json")
    assert [run["state"] for run in json.loads(runs.stdout)] == ["failed"]
    assert stemma("release", "toy").returncode not in {0, 3}


def test_a_command_that_records_nothing_is_told(stemma: Stemma, project: Path) -> None:
    """The user would believe that the run was recorded."""
    answer: Completed = stemma("run", "true")
    assert answer.returncode == 1
    assert "recorded no run" in answer.stderr


def test_ctrl_c_ends_the_child_and_leaves_an_interrupted_run(project: Path, tmp_path: Path) -> None:
    """Ctrl-C would leave a training running, or a run that seems to run for ever."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "stemma.cli.main", "run", "--name", "toy", "--"),
            *(sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"),
        ],
        cwd=project,
        env={**os.environ, "STEMMA_USER": "ada"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "interrupted" in out
    assert "stemma.cli" not in err


def test_a_closed_pipe_is_no_error(project: Path) -> None:
    """`stemma help refs | head -1` would end with a traceback."""
    line = f"{sys.executable} -m stemma.cli.main help refs | head -1"
    answer = subprocess.run(
        ["/bin/sh", "-c", line], cwd=project, capture_output=True, text=True, check=True
    )
    assert answer.stderr == ""


def test_two_at_once_both_record(stemma: Stemma, project: Path) -> None:
    """Two trainings on one machine would lock each other out."""
    command = [sys.executable, "-m", "stemma.cli.main", "add", "data.csv", "--json"]
    both = [
        subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    deadline = time.monotonic() + 60
    for process in both:
        out, err = process.communicate(timeout=max(1, deadline - time.monotonic()))
        assert process.returncode == 0, err
        json.loads(out)


def test_gc_asks_only_a_person(stemma: Stemma, project: Path) -> None:
    """A script would hang at a question nobody sees."""
    stemma("add", "data.csv")
    (project / "data.csv").write_text("other\n")
    stemma("add", "data.csv")
    answer: Completed = stemma("gc", "--grace", "0")
    if answer.returncode != 0:
        assert answer.returncode == 2
        assert "--yes" in answer.stderr
        assert stemma("gc", "--grace", "0", "--yes").returncode == 0


def test_an_ascii_terminal_gets_ascii(stemma: Stemma, project: Path) -> None:
    """The answer would be lost in UnicodeEncodeError."""
    answer: Completed = stemma("init", variables={"PYTHONIOENCODING": "ascii"})
    assert answer.stdout == "* Already a project: nothing to do\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_is_printed_for_each_shell(stemma_here: Stemma, shell: str) -> None:
    """The line that people put in their shell's start-up file would break every new shell."""
    answer: Completed = stemma_here("completion", shell)
    assert answer.returncode == 0, answer.stderr
    assert f"_STEMMA_COMPLETE={shell}_complete" in answer.stdout
