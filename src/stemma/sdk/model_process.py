"""One process that serves one version: ``python -m stemma.sdk.model_process SPEC.json REPLICA``.

It opens its socket, is live at once, loads the model, asks the golden request, and is ready when
the golden answer came.

Invariants:
    * It runs in the version's own environment: of Stemma it imports nothing that needs a
      database, a command line or a web framework.
    * What it says last on stderr before it fails is ``stemma: CODE: MESSAGE``.
    * SIGTERM lets requests under way finish, for at most five seconds.

Exit codes: 0 asked to stop, 3 the golden answer did not come, 4 the model cannot be loaded,
5 the specification or the socket is wrong.

``--port N`` also listens on 127.0.0.1, for clients that cannot speak to a Unix socket.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import importlib.util
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvicorn

from stemma.delivery.runtime.application import QUICK_SECONDS, Application
from stemma.delivery.runtime.golden import Golden, agrees, read_golden
from stemma.delivery.runtime.model import PREDICT, Ready, ServedModel, ask
from stemma.delivery.runtime.recorder import Recorder
from stemma.delivery.runtime.spec import ProcessSpec, decode_spec
from stemma.domain.errors import (
    ConflictError,
    GateFailedError,
    InvalidInputError,
    StemmaError,
    UnavailableError,
)
from stemma.sdk.served_models import load_candidates

GOLDEN_FAILED: Final = 3
"""Exit code: the golden answer did not come."""

CANNOT_LOAD: Final = 4
"""Exit code: the model cannot be loaded."""

BAD_SPECIFICATION: Final = 5
"""Exit code: specification or socket."""

_PRIVATE_UMASK: Final = 0o177
_GRACE_SECONDS: Final = 5
_SHOWN_SECONDS: Final = 0.5
_IDLE_SECONDS: Final = 3600
_BACKLOG: Final = 2048
_TIMED_RUNS: Final = 3

_log = logging.getLogger("stemma.model_process")


@dataclass(slots=True)
class _Outcome:
    """How the process ends."""

    code: int = 0
    error: StemmaError | None = None


def main(arguments: Sequence[str]) -> int:
    """Serve until asked to stop; return the exit code."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    parser = argparse.ArgumentParser(prog="stemma.sdk.model_process")
    parser.add_argument("specification", type=Path)
    parser.add_argument("replica", type=int)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        spec = read_spec(options.specification)
        path = _socket_path(spec, options.replica)
        sockets = [open_socket(path)]
        if options.port:
            sockets.append(_open_port(options.port))
    except StemmaError as error:
        _say(error)
        return BAD_SPECIFICATION
    inode = path.stat().st_ino
    recorder = Recorder(Path(spec.record_folder), options.replica) if spec.record_folder else None
    application = Application(spec, recorder)
    outcome = _run(spec, application, sockets)
    with suppress(FileNotFoundError):
        # Another process may have taken the place by now.
        if path.stat().st_ino == inode:
            path.unlink()
    application.close()
    if outcome.error is not None:
        _say(outcome.error)
    if application.busy:
        # A prediction that never ends would keep the interpreter waiting for its thread.
        sys.stderr.flush()
        os._exit(outcome.code)
    return outcome.code


def read_spec(path: Path) -> ProcessSpec:
    """Read a specification.

    Raises:
        InvalidInputError: If it cannot be read or is none.
    """
    try:
        return decode_spec(path.read_bytes())
    except OSError as error:
        raise InvalidInputError(
            f"{path}: {error.strerror or error}", code="bad-specification", hint=f"ls -l {path}"
        ) from error


def open_socket(path: Path) -> socket.socket:
    """Listen on a Unix socket that only this user may use; a stale one is removed.

    Raises:
        ConflictError: If another process listens there.
        InvalidInputError: If there is no such place.
    """
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _answers(probe, path):
            raise ConflictError(
                f"another process listens on {path}", code="socket-in-use", hint=f"fuser {path}"
            )
        path.unlink(missing_ok=True)
        before = os.umask(_PRIVATE_UMASK)
        try:
            listening.bind(str(path))
        finally:
            os.umask(before)
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise InvalidInputError(
            f"cannot listen on {path}: {error.strerror or error}",
            code="bad-socket",
            hint=f"ls -ld {path.parent}; a socket's path has at most 107 bytes",
        ) from error
    except StemmaError:
        listening.close()
        raise
    finally:
        probe.close()
    return listening


def prepare(
    spec: ProcessSpec, load: Callable[[ProcessSpec], Sequence[ServedModel]] = load_candidates
) -> Ready:
    """Load the model and ask the golden request.

    Raises:
        GateFailedError: If the golden answer did not come.
        StemmaError: If the model cannot be loaded.
    """
    candidates = load(spec)
    if not spec.golden:
        _log.warning("%s %s has no golden set: ready unproven", spec.model, spec.version)
        return Ready(model=candidates[0], is_quick=False)
    try:
        golden = read_golden(Path(spec.golden))
        inputs = golden.fitted_to(spec.signature)
        answers = [ask(lambda model=model: model.answer(inputs, PREDICT)) for model in candidates]  # type: ignore[misc]
    except StemmaError as error:
        raise GateFailedError(
            f"the golden request failed: {error.message}", code=error.code, hint=error.hint
        ) from error
    for model, answer in zip(candidates, answers, strict=True):
        if agrees(golden.predictions, answer, spec.task, spec.tolerance):
            seconds = min(_seconds(model, inputs) for _ in range(_TIMED_RUNS))
            _log.info("golden answer in %.2f ms", seconds * 1000)
            return Ready(model=model, is_quick=seconds < QUICK_SECONDS)
    raise _mismatch(spec, golden, answers[0])


def _mismatch(spec: ProcessSpec, golden: Golden, answer: Any) -> GateFailedError:
    pairs = zip(golden.predictions.tolist(), answer.tolist(), strict=False)
    shown = [
        f"row {number}: {was!s:.60} recorded, {is_now!s:.60} answered"
        for number, (was, is_now) in enumerate(pairs)
        if str(was) != str(is_now)
    ]
    detail = f"{len(answer)} answers for {len(golden.predictions)} rows" if not shown else shown[0]
    return GateFailedError(
        f"{spec.model} {spec.version} did not give its golden answer; {detail}",
        code="golden-mismatch",
        hint="its environment or files differ from the recorded ones, or its test answers were "
        "made with predict=…, which is not recorded",
    )


def _seconds(model: ServedModel, inputs: Any) -> float:
    started = time.perf_counter()
    model.answer(inputs, PREDICT)
    return time.perf_counter() - started


def _run(spec: ProcessSpec, application: Application, sockets: list[socket.socket]) -> _Outcome:
    outcome = _Outcome()
    # uvicorn raises the signal that stopped it again once it is done: ours then does nothing.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(spec, application, sockets, outcome))
    return outcome


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if importlib.util.find_spec("uvloop") is None:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module(
        "uvloop"
    ).new_event_loop
    return factory


async def _serve(
    spec: ProcessSpec, application: Application, sockets: list[socket.socket], outcome: _Outcome
) -> None:
    config = uvicorn.Config(
        application,
        http="auto",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        # The data plane keeps connections; one closed as it sends would cost a request.
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    server = uvicorn.Server(config)
    loop = asyncio.get_running_loop()

    def stop() -> None:
        server.should_exit = True

    def work() -> None:
        outcome.code, outcome.error = _prepare(spec, application)
        if outcome.error is not None:
            # Long enough for a probe to read why.
            time.sleep(_SHOWN_SECONDS)
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(stop)

    # A daemon: SIGTERM while a model loads must not wait for it.
    threading.Thread(target=work, name="prepare", daemon=True).start()
    await server.serve(sockets=sockets)


def _prepare(spec: ProcessSpec, application: Application) -> tuple[int, StemmaError | None]:
    started = time.perf_counter()
    failure: StemmaError
    try:
        ready = prepare(spec)
    except GateFailedError as error:
        code, failure = GOLDEN_FAILED, error
    except StemmaError as error:
        code, failure = CANNOT_LOAD, error
    except Exception as error:  # noqa: BLE001 - the edge to foreign code: a library may raise anything
        _log.exception("the model cannot be loaded")
        text = " ".join(str(error).split())
        code = CANNOT_LOAD
        failure = UnavailableError(f"{type(error).__name__}: {text}", code="cannot-load")
    else:
        # What is loaded now stays: a collection that walks all of it stops every request.
        gc.collect()
        gc.freeze()
        application.become_ready(ready)
        kind = "answers in place" if ready.is_quick else "answers in threads"
        _log.info(
            "%s %s is ready after %.2f s; %s",
            spec.model,
            spec.version,
            time.perf_counter() - started,
            kind,
        )
        return 0, None
    application.fail(failure.message)
    return code, failure


def _socket_path(spec: ProcessSpec, replica: int) -> Path:
    if not 0 <= replica < len(spec.sockets):
        raise InvalidInputError(
            f"replica {replica} of {len(spec.sockets)}",
            code="bad-specification",
            hint="replicas count from 0",
        )
    return Path(spec.sockets[replica])


def _answers(probe: socket.socket, path: Path) -> bool:
    try:
        probe.connect(str(path))
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    return True


def _open_port(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise ConflictError(
            f"cannot listen on port {port}: {error.strerror or error}",
            code="port-in-use",
            hint="choose another port",
        ) from error
    return listening


def _say(error: StemmaError) -> None:
    sys.stderr.write(f"stemma: {error.code}: {error.message}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
