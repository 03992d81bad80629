"""``stemma run``: run a command and record what it trained."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import click

from stemma.cli.console import Answer, Console, Format
from stemma.cli.exit_codes import ExitCode
from stemma.cli.framework import verb
from stemma.cli.project import opened_hub

if TYPE_CHECKING:
    from stemma.cli.child import ChildEnd
    from stemma.cli.recording import FileRun, RunFiles
    from stemma.domain.run import RunRecord
    from stemma.hub.base import Hub


class _Options(TypedDict):
    command_line: tuple[str, ...]
    settings: tuple[str, ...]
    artifact: Path | None
    data: tuple[str, ...]
    params: Path | None
    name: str
    reason: str
    repeat: int
    is_quiet: bool


@verb(
    "run",
    ("A script that uses stemma.run", "stemma run -- python train.py"),
    ("Override a value", "stemma run --set C=0.5 -- python train.py"),
    (
        "Without touching the code",
        "stemma run --model model.onnx --data data/ --params params.yaml -- python train.py",
    ),
    ("Say why, three times over", 'stemma run -m "try seeds" --repeat 3 -- python train.py'),
    has_command_tail=True,
)
@click.argument("command_line", metavar="CMD…", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option(
    "--set", "settings", multiple=True, metavar="K=V", help="Override a hyperparameter; repeatable."
)
@click.option(
    "--model",
    "artifact",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File or folder the command writes: record it, the code stays as it is.",
)
@click.option(
    "--data",
    multiple=True,
    metavar="[ROLE:][NAME=]PATH",
    help="Data the command reads; ROLE is training, validation or test; repeatable.",
)
@click.option(
    "--params",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Parameter file (YAML, JSON or TOML).",
)
@click.option("--name", default="", metavar="MODEL", help="Model that the run is of.")
@click.option("-m", "--reason", default="", help="Why this run, in your words.")
@click.option("--repeat", default=1, type=click.IntRange(1, 1000), help="Run it N times.")
@click.option("-q", "--quiet", "is_quiet", is_flag=True, help="Do not print the run's card.")
def command(console: Console, **options: Unpack[_Options]) -> ExitCode:
    """Run a command and record all five components and the environment.

    Everything from CMD on belongs to the command.
    """
    answers: list[Answer] = []
    code = ExitCode.DONE
    with opened_hub() as hub:
        files = _files(hub, options)
        for _ in range(options["repeat"]):
            code, made = _run_once(console, hub, files)
            answers += made
            if code is not ExitCode.DONE:
                break
    if console.format is Format.JSON:
        runs = [answer.payload for answer in answers]
        console.show(Answer(payload={"exit_code": int(code), "runs": runs}))
    elif not options["is_quiet"]:
        for answer in answers:
            console.show(answer)
    return code


def _files(hub: Hub, options: _Options) -> RunFiles:
    """Check everything that can be checked before hours of training."""
    from stemma.cli.recording import RunFiles, choose_model, parse_data
    from stemma.domain.errors import InvalidInputError, NotFoundError

    is_from_files = options["artifact"] is not None
    if not is_from_files and (options["data"] or options["params"]):
        raise InvalidInputError(
            "--data and --params record a run only together with --model",
            code="no-model-file",
            hint="stemma run --model model.onnx --data data/ -- python train.py",
        )
    datasets = tuple(parse_data(text) for text in options["data"])
    missing = [
        path
        for path in (options["params"], *(d.path for d in datasets))
        if path and not path.exists()
    ]
    if missing:
        raise NotFoundError(
            f"no {missing[0]}", code="file-not-found", hint=f"ls {missing[0].parent}"
        )
    model = options["name"]
    if is_from_files or model:
        model = choose_model(hub, model, is_from_files=is_from_files)
    return RunFiles(
        model=model,
        command=options["command_line"],
        artifact=options["artifact"],
        datasets=datasets,
        params=options["params"],
        settings=dict(parse_setting(text) for text in options["settings"]),
        reason=options["reason"],
        invocation="",
    )


def parse_setting(text: str) -> tuple[str, object]:
    """Read ``k=v``; the value is JSON where it can be (0.5, true, [1, 2]), else text.

    Raises:
        InvalidInputError: If there is no ``=``.
    """
    from stemma.domain.errors import InvalidInputError

    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InvalidInputError(f"--set {text!r} is not k=v", code="bad-set", hint="--set C=0.5")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _run_once(console: Console, hub: Hub, files: RunFiles) -> tuple[ExitCode, list[Answer]]:
    from dataclasses import replace

    from stemma.cli.child import run_child
    from stemma.cli.recording import FileRun

    files = replace(files, invocation=uuid.uuid4().hex)
    own_run = FileRun(hub, files) if files.artifact is not None else None
    end: ChildEnd | None = None
    try:
        end = run_child(
            files.command,
            _variables(hub, files),
            is_stdout_ours=console.format in {Format.JSON, Format.QUIET},
        )
    finally:
        if own_run is not None and (end is None or end.has_failed):
            hub.fail_run(
                own_run.id,
                end.words if end is not None else "the command could not be started",
                is_interrupted=end is not None and end.was_interrupted,
            )
            own_run.close()
    if own_run is not None and not end.has_failed:
        _record(console, hub, own_run)
    return _account(console, hub, files, end)


def _variables(hub: Hub, files: RunFiles) -> dict[str, str]:
    return {
        "STEMMA_INVOCATION": files.invocation,
        "STEMMA_PROJECT": str(hub.project_root),
        "STEMMA_COMMAND": json.dumps(files.command),
        "STEMMA_SET": json.dumps(files.settings),
        "STEMMA_REASON": files.reason,
    }


def _record(console: Console, hub: Hub, run: FileRun) -> None:
    """Record from files; when that fails, the run has failed."""
    from stemma.domain.errors import StemmaError

    try:
        notes = run.finish()
    except StemmaError as error:
        hub.fail_run(run.id, f"not recorded: {error.message}")
        raise
    finally:
        run.close()
    for note in notes:
        console.warn(note)


def _account(
    console: Console, hub: Hub, files: RunFiles, end: ChildEnd
) -> tuple[ExitCode, list[Answer]]:
    """Say what was recorded; a run that is still open belongs to a process that died."""
    from stemma.domain.run import RunState

    records = hub.list_runs(invocation=files.invocation, limit=1000)[::-1]
    closed = [
        hub.fail_run(record.id, end.words, is_interrupted=end.was_interrupted)
        if record.state is RunState.RUNNING
        else record
        for record in records
    ]
    answers = [_answer(hub, record) for record in closed]
    if end.has_failed:
        if not closed:
            answers += _failed_unrecorded(console, hub, files, end)
        console.show_failure(*_failure(files, closed, end))
        return (ExitCode.INTERRUPTED if end.was_interrupted else ExitCode.FAILED), answers
    if not closed:
        console.show_failure(
            "the command ended well but recorded no run",
            "use stemma.run(…) in it, or: stemma run --model FILE -- " + " ".join(files.command),
        )
        return ExitCode.FAILED, answers
    is_done = all(record.state is RunState.FINISHED for record in closed)
    return (ExitCode.DONE if is_done else ExitCode.FAILED), answers


def _failure(files: RunFiles, records: Sequence[RunRecord], end: ChildEnd) -> tuple[str, str]:
    """Say how the command failed, and where to look; a run it finished before stays."""
    from stemma.domain.run import RunState

    what = f"{files.command[0]} {end.sentence}"
    hint = f"stemma log {records[0].start.model} --runs" if records else ""
    finished = [record.id for record in records if record.state is RunState.FINISHED]
    if finished:
        return f"{what} after {', '.join(finished)} was recorded", hint
    return f"{what}; nothing to release", hint


def _failed_unrecorded(
    console: Console, hub: Hub, files: RunFiles, end: ChildEnd
) -> Sequence[Answer]:
    """Keep a failed run of a command that died before it recorded one."""
    from dataclasses import replace

    from stemma.cli.recording import choose_model, start_run
    from stemma.domain.errors import InvalidInputError

    try:
        named = replace(files, model=choose_model(hub, files.model))
    except InvalidInputError:
        console.warn("it named no model, so the failed run is not recorded (see --name)")
        return []
    run = start_run(hub, named)
    return [_answer(hub, hub.fail_run(run, end.words, is_interrupted=end.was_interrupted))]


def _answer(hub: Hub, record: RunRecord) -> Answer:
    from stemma.cli.plain import plain
    from stemma.cli.version_cards import failed_run_line, run_card
    from stemma.cli.versions import load_version
    from stemma.domain.axis_behaviour import foresee_missing_evidence
    from stemma.domain.run import RunState

    payload = plain(record)
    if record.state is not RunState.FINISHED:
        return Answer(payload=payload, card=[failed_run_line(record)])
    loaded = load_version(hub, f"{record.start.model}@{record.id}")
    manifest = loaded.view.manifest
    payload["metrics"] = {m.key: m.number for m in manifest.evidence.metrics}
    payload["missing_evidence"] = foresee_missing_evidence(manifest, hub.policy(record.start.model))
    note = payload["missing_evidence"]
    return Answer(
        payload=payload,
        card=run_card(record, loaded.facts, loaded.passed),
        hints=[
            *([f"  note: {note}"] if note else []),
            f"  next: stemma release {record.start.model}",
        ],
    )
