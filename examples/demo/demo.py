"""``make demo``: record, compare, number, refuse and bring back real models, in one sitting.

Every line that begins with ``$`` is a command that really runs, in a folder of its own.
Twice in a row works; Ctrl-C removes the folder.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
WORKSPACE = Path(os.environ.get("STEMMA_DEMO_FOLDER", HERE.parents[1] / "demo-workspace"))
MARKER = WORKSPACE / ".made-by-the-stemma-demo"
BIN = Path(sys.executable).parent
FIRST = "LogisticRegression(max_iter=500)"
EXIT_FAILED = 1
EXIT_NO = 3


class DemoError(Exception):
    """A step did not end as the story says."""


class Story:
    """Runs commands in the workspace and shows them."""

    def __init__(self) -> None:
        """Start the clock."""
        self.started = time.monotonic()
        self.is_coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("STEMMA_")},
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "STEMMA_FORMAT": "human",
            "PYTHONUNBUFFERED": "1",
        }

    def say(self, text: str) -> None:
        """Print a paragraph of the story."""
        print("\n" + textwrap.fill(text, 88), flush=True)

    def chapter(self, title: str) -> None:
        """Print a heading with the time so far."""
        line = f"── {title} "
        passed = f" {time.monotonic() - self.started:.0f} s"
        heading = f"\n{line}{'─' * (86 - len(line) - len(passed))}{passed}"
        print(f"\033[1m{heading}\033[0m" if self.is_coloured else heading, flush=True)

    def run(self, *command: str, expect: int = 0, cwd: Path = WORKSPACE) -> str:
        """Run a command in the workspace, show both, and insist on its exit code."""
        shown = shlex.join(command)
        print(f"\n  $ {shown}", flush=True)
        result = subprocess.run(
            command,
            cwd=cwd,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        print(textwrap.indent(result.stdout.rstrip(), "  "), flush=True)
        if result.returncode != expect:
            raise DemoError(f"`{shown}` ended with {result.returncode}, not {expect}")
        return result.stdout

    def train(self, estimator: str, imports: str = "") -> None:
        """Put another estimator into train.py, and run it."""
        text = (HERE / "train.py").read_text(encoding="utf-8").replace(FIRST, estimator)
        if imports:
            text = text.replace("from sklearn.linear_model import LogisticRegression", imports)
        (WORKSPACE / "train.py").write_text(text, encoding="utf-8")
        if estimator != FIRST:
            print(f"\n  (train.py now says: estimator = {estimator})", flush=True)
        self.run("stemma", "run", "--", "python", "train.py")


def prepare() -> None:
    """Make the workspace anew; never touch a folder the demo did not make."""
    if WORKSPACE.exists():
        if not MARKER.exists():
            raise DemoError(f"{WORKSPACE} exists and was not made by this demo; move it away")
        shutil.rmtree(WORKSPACE)
    WORKSPACE.mkdir(parents=True)
    MARKER.touch()
    for name in ("train.py", "predict.py", "stemma.toml"):
        shutil.copy(HERE / name, WORKSPACE / name)


def record_and_release(story: Story) -> None:
    """1.0.0, the same again, 1.0.1, 1.1.0, 2.0.0, and a disaster."""
    story.chapter("Record a training run, release it")
    story.run("stemma", "init")
    story.train(FIRST)
    story.run("stemma", "release", "digits", "--channel", "stable")
    story.chapter("The same again is nothing new")
    story.train(FIRST)
    story.run("stemma", "release", "digits")
    story.chapter("The number is chosen from evidence")
    story.train("LogisticRegression(C=0.9, max_iter=500)")
    story.run("stemma", "release", "digits")
    story.train("LogisticRegression(C=0.5, max_iter=500)")
    story.run("stemma", "release", "digits", "--channel", "stable")
    story.train(
        "MLPClassifier((64,), max_iter=300, random_state=0)",
        "from sklearn.neural_network import MLPClassifier",
    )
    story.run("stemma", "release", "digits", "-m", "a neural network")
    story.chapter("A disaster is refused")
    story.train("LogisticRegression(C=0.0001, max_iter=500)")
    story.run("stemma", "release", "digits", expect=EXIT_NO)


def look_back(story: Story) -> None:
    """Log, diff, and which version was stable when."""
    story.chapter("Which version is which, and why")
    story.run("stemma", "log", "digits", "--metric", "accuracy")
    story.run("stemma", "diff", "digits@1.0.0", "digits@1.1.0")
    story.run("stemma", "log", "digits", "--channel", "stable")


def flip_a_bit(story: Story) -> None:
    """Flip one bit in a copy of the store, and see it caught."""
    story.chapter("A flipped bit never gets through")
    copy = WORKSPACE / "damaged-copy"
    shutil.copytree(WORKSPACE / ".stemma", copy / ".stemma")
    largest = max(
        (path for path in (copy / ".stemma" / "objects").rglob("*") if path.is_file()),
        key=lambda path: path.stat().st_size,
    )
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 0b100
    largest.chmod(0o644)
    largest.write_bytes(data)
    story.say(
        f"In a copy of the store, one of the {8 * len(data):,} bits of "
        f"{largest.relative_to(copy)} is flipped. The project itself is untouched."
    )
    report = story.run("stemma", "doctor", expect=EXIT_NO, cwd=copy)
    harmed = re.search(r"harms digits ([0-9.]+[0-9])", report)
    if harmed is None:
        raise DemoError("doctor did not say which version is harmed")
    story.say("Asked for that version, the copy delivers nothing at all; the project is sound.")
    story.run("stemma", "checkout", f"digits@{harmed[1]}", expect=EXIT_FAILED, cwd=copy)
    story.run("stemma", "doctor")


def bring_back(story: Story) -> None:
    """Load ^1 in a fresh process, and in a restored environment."""
    story.chapter("Bring it back: in a fresh process, and in its own environment")
    story.run(
        "python",
        "-c",
        "import stemma; from sklearn.datasets import load_digits; "
        'model = stemma.load("digits@^1"); '
        'print("digits@^1 is", model.version, "and predicts", '
        "model.predict(load_digits().data[:5]).tolist())",
    )
    story.run("stemma", "checkout", "digits@^1", "--to", "back", "--env")
    artifact = next((WORKSPACE / "back" / "artifact").rglob("*.skops"))
    python = next((WORKSPACE / "back").rglob("bin/python"))
    story.run(
        str(python.relative_to(WORKSPACE)), "predict.py", str(artifact.relative_to(WORKSPACE))
    )


def tell() -> None:
    """Tell the whole story."""
    prepare()
    story = Story()
    story.say(
        "Stemma records what made a model, gives it a number computed from evidence, refuses "
        f"what is worse, and brings any version back. Everything below happens in {WORKSPACE}."
    )
    record_and_release(story)
    look_back(story)
    flip_a_bit(story)
    bring_back(story)
    story.chapter("What next")
    print(f"""
  cd {WORKSPACE}
  export PATH={BIN}:$PATH
  stemma status                         what changed since the last version
  stemma show digits@1.1.0              one version, five components
  stemma release digits --pre           keep the disaster as a pre-release, marked as one
  stemma --help                         every verb

  Your own project: `stemma init`, two lines in your training script (see train.py), and
  `stemma run -- python train.py`. No code change: docs/how-to/record-without-code.md.
""")


def main() -> int:
    """Run the demo; on Ctrl-C remove what it made."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        tell()
    except KeyboardInterrupt:
        if MARKER.exists():
            with contextlib.suppress(OSError):
                shutil.rmtree(WORKSPACE)
        print(f"\nstopped; {WORKSPACE} is removed", file=sys.stderr)
        return 130
    except DemoError as error:
        print(f"\nthe demo failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
