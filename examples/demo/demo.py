"""``make demo``: from a training script to production and back, in one sitting.

Every line that begins with ``$`` is a command that really runs, in a folder of its own.
Twice in a row works; Ctrl-C removes the folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.request
from pathlib import Path
from typing import IO, Any, Self

HERE = Path(__file__).resolve().parent
WORKSPACE = Path(os.environ.get("STEMMA_DEMO_FOLDER", HERE.parents[1] / "demo-workspace"))
MARKER = WORKSPACE / ".made-by-the-stemma-demo"
BIN = Path(sys.executable).parent
FIRST = "LogisticRegression(max_iter=500)"
EXIT_FAILED = 1
EXIT_NO = 3
HTTP_OK = 200
START_SECONDS = 60
USERS_PER_SECOND = 100


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
        lines = []
        with self.start(*command, cwd=cwd, stdout=subprocess.PIPE) as process:
            for line in process.stdout or ():
                print(f"  {line}" if line.strip() else "", end="" if line.strip() else "\n")
                sys.stdout.flush()
                lines.append(line)
        if process.returncode != expect:
            raise DemoError(f"`{shown}` ended with {process.returncode}, not {expect}")
        return "".join(lines)

    def start(self, *command: str, cwd: Path = WORKSPACE, stdout: Any) -> subprocess.Popen[str]:
        """Start a command in the workspace; both its streams go to ``stdout``."""
        return subprocess.Popen(
            command,
            cwd=cwd,
            env=self.environment,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def train(self, estimator: str, imports: str = "", *, has_imputer: bool = True) -> None:
        """Put another estimator into train.py, and run it."""
        text = (HERE / "train.py").read_text(encoding="utf-8").replace(FIRST, estimator)
        if not has_imputer:
            text = text.replace("SimpleImputer(), ", "")
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
    for name in ("train.py", "predict.py", "requests.py", "stemma.toml"):
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
    story.run("stemma", "release", "digits")
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


class Production:
    """The server and its users, in the background while the story goes on."""

    def __init__(self, story: Story) -> None:
        """Prepare; nothing runs before the ``with`` block."""
        self.story = story
        self.port = free_port()
        self.log = WORKSPACE / "server.log"
        self.summary = WORKSPACE / "users.json"
        self.processes: list[subprocess.Popen[str]] = []
        self.files: list[IO[str]] = []

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End users first, then the server with all it started."""
        for process in reversed(self.processes):
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=20)
        for file in self.files:
            file.close()

    def serve(self, ref: str) -> None:
        """Start the server and wait until it answers."""
        command = ("stemma", "serve", ref, "--channel", "stable", "--port", str(self.port))
        print(f"\n  $ {shlex.join(command)} &", flush=True)
        server = self._start(self.log, *command)
        ready = f"http://127.0.0.1:{self.port}/v2/health/ready"
        end = time.monotonic() + START_SECONDS
        while not is_answering(ready):
            if server.poll() is not None or time.monotonic() > end:
                raise DemoError(f"the server did not come up:\n{self.log.read_text()}")
            time.sleep(0.1)
        print(textwrap.indent(self.log.read_text(encoding="utf-8").rstrip(), "  "), flush=True)

    def send_users(self) -> None:
        """Let users come: half of their scans miss a pixel."""
        requests = WORKSPACE / "requests.jsonl"
        self.story.run("python", "requests.py", requests.name)
        traffic = ("python", "-m", "stemma.delivery.load.traffic", "--model", "digits")
        options = ("--requests", requests.name, "--summary", self.summary.name)
        where = ("--url", f"http://127.0.0.1:{self.port}", "--rate", str(USERS_PER_SECOND))
        self._start(WORKSPACE / "users.log", *traffic, *options, *where)

    def count_users(self) -> dict[str, Any]:
        """End the users, and return what they saw."""
        users = self.processes.pop()
        users.terminate()
        users.wait(timeout=30)
        seen: dict[str, Any] = json.loads(self.summary.read_text(encoding="utf-8"))
        return seen

    def _start(self, log: Path, *command: str) -> subprocess.Popen[str]:
        file = log.open("w", encoding="utf-8")
        self.files.append(file)
        process = self.story.start(*command, stdout=file)
        self.processes.append(process)
        return process


def free_port() -> int:
    """Return 8700 when it is free, else another port."""
    for port in (8700, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            number: int = probe.getsockname()[1]
            return number
    raise DemoError("no port is free on 127.0.0.1")


def is_answering(url: str) -> bool:
    """Whether a GET answers 200."""
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:  # noqa: S310 - our own server
            return bool(answer.status == HTTP_OK)
    except OSError:
        return False


def go_to_production(story: Story) -> None:
    """Serve, roll out, be saved from a bad version, roll back, drill."""
    with Production(story) as production:
        story.chapter("Serve it")
        production.serve("digits@1.0.0")
        story.say(
            f"{USERS_PER_SECOND} requests a second come in from now on. Half of the scans miss a "
            "pixel; digits 1.0.0 fills it in."
        )
        production.send_users()
        story.chapter("Roll 1.1.0 out: validated, then 5, 25, 100 % of the users")
        rollout = ("stemma", "rollout")
        how = ("--steps", "5,25,100", "--hold", "6s", "--hold-limit", "60s", "--min-requests", "60")
        story.run(*rollout, "digits@1.1.0", *how)
        bad = release_a_trap(story)
        story.chapter(f"Roll {bad} out: its users find what its test set could not")
        story.run(*rollout, f"digits@{bad}", *how, expect=EXIT_NO)
        story.run(*rollout, "status", "digits", "--log")
        story.chapter("Two in the morning: one command back")
        story.run("stemma", "rollback", "digits")
        story.run("stemma", "rollback", "digits", "--drill")
        story.run("stemma", "status")
        report_users(story, production.count_users())


def release_a_trap(story: Story) -> str:
    """Release a version that passes its gates and fails half of what users send."""
    story.chapter("A version that is fine on its test set")
    story.say(
        "Nobody's test digits miss a pixel, so somebody drops the step that fills them in. "
        "Every gate passes."
    )
    story.train("LogisticRegression(C=0.6, max_iter=500)", has_imputer=False)
    said = story.run("stemma", "release", "digits", "-m", "no imputer: the data is complete")
    number = re.search(r"digits (\d+\.\d+\.\d+)", said)
    if number is None:
        raise DemoError("the release has no number")
    return number[1]


def report_users(story: Story, seen: dict[str, Any]) -> None:
    """Say what the users saw of all this."""
    failed = seen["failed"]
    by_version = ", ".join(f"{name}: {count:,}" for name, count in seen["by_version"].items())
    story.say(
        f"Users sent {seen['sent']:,} requests in {seen['seconds']:.0f} s; {failed} of them "
        f"failed. Answered by {by_version}. What the bad version failed, stable answered."
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
    go_to_production(story)
    story.chapter("What next")
    print(f"""
  cd {WORKSPACE}
  export PATH={BIN}:$PATH
  stemma status                         what changed since the last version, and what serves
  stemma serve                          serve again what was served; then try
  stemma rollout digits@2.0.0 --demo-traffic --hold 20s
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
