"""``stemma checkout``: put a version's parts back on disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import click

from stemma.cli.console import Answer, Console
from stemma.cli.exit_codes import ExitCode
from stemma.cli.framework import complete_refs, verb
from stemma.cli.project import opened_hub, opened_remotes

if TYPE_CHECKING:
    from stemma.cli.restoring import RestoredFile, Wanted
    from stemma.hub.base import Hub, VersionView

_ALIASES = {"architecture": "code", "datasets": "data", "hyperparameters": "params"}


class _Options(TypedDict):
    ref: str
    path: str
    target: Path | None
    only: str
    has_environment: bool
    is_forced: bool
    is_dry_run: bool
    tensor: str


@verb(
    "checkout",
    ("Everything, into digits-1.1.0/", "stemma checkout digits@1.1.0"),
    (
        "The artifact only, into a folder of yours",
        "stemma checkout digits@^1 --only artifact --to out",
    ),
    (
        "One folder and one file",
        "stemma checkout digits@^1 --only data/digits-train,artifact/model.joblib",
    ),
    ("With its environment, to run it again", "stemma checkout digits@1.0.0 --env"),
    ("One file", "stemma checkout digits@1.0.0 code/train.py --to old"),
    ("One tensor", "stemma checkout digits-net@1.0.0 --tensor 0.weight --to weight.npy"),
)
@click.argument("ref", shell_complete=complete_refs)
@click.argument("path", required=False, default="")
@click.option(
    "--to",
    "target",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder to restore into (default: MODEL-VERSION); with --tensor, the file.",
)
@click.option(
    "--only",
    default="",
    metavar="PARTS",
    help="code, data, params, artifact, pipeline, or paths in them; with commas between.",
)
@click.option("--tensor", default="", metavar="NAME", help="Write one tensor as a .npy file.")
@click.option("--env", "has_environment", is_flag=True, help="Also build its environment (.venv).")
@click.option("--force", "is_forced", is_flag=True, help="Overwrite files that differ.")
@click.option("--dry-run", "is_dry_run", is_flag=True, help="Only say what would be written.")
def command(console: Console, **options: Unpack[_Options]) -> ExitCode:
    """Restore code, data, parameters and artifact into a new folder.

    With PATH, as in code/train.py, only that file or folder; with --tensor, a tensor and no more.
    """
    if options["tensor"]:
        console.show(_tensor(options))
        return ExitCode.DONE
    wanted = _wanted(options["only"], options["path"], has_environment=options["has_environment"])
    with opened_hub() as hub:
        view = hub.resolve(options["ref"])
        target = options["target"] or Path(_folder_name(view))
        with hub.reading(view.digest):
            payload, card = _restore(console, hub, view, (target, wanted), options)
            if options["has_environment"] and not options["is_dry_run"]:
                python = _environment(hub, view, target)
                payload["python"] = str(python)
                card.append(f"  environment  {python}")
    console.show(Answer(payload=payload, card=card))
    return ExitCode.DONE


def _folder_name(view: VersionView) -> str:
    return f"{view.model}-{view.version or view.manifest.provenance.run}"


def _wanted(text: str, within: str, *, has_environment: bool) -> Wanted:
    from stemma.cli.restoring import PARTS, Wanted

    names = [_alias(word.strip().strip("/")) for word in text.split(",") if word.strip()]
    for name in names:
        if name.split("/")[0] not in PARTS:
            raise click.UsageError(
                f"no part {name!r}; parts: {', '.join(PARTS)}, or a path in one",
                ctx=click.get_current_context(),
            )
    paths = tuple(name for name in names if "/" in name)
    parts = tuple(name for name in names if "/" not in name) or (() if paths else PARTS)
    return Wanted(
        parts=parts, paths=paths, within=within.strip("/"), has_environment=has_environment
    )


def _alias(name: str) -> str:
    first, slash, rest = name.partition("/")
    return f"{_ALIASES.get(first, first)}{slash}{rest}"


def _restore(
    console: Console,
    hub: Hub,
    view: VersionView,
    where: tuple[Path, Wanted],
    options: _Options,
) -> tuple[dict[str, object], list[str]]:
    from stemma.cli import render, restoring
    from stemma.cli.progress import progress

    target, wanted = where
    files = restoring.plan(hub, view, wanted)
    params = target / "params.json"
    has_params = wanted.has_params
    text = restoring.params_bytes(hub, view.manifest) if has_params else b""
    conflicts = restoring.find_conflicts(target, files)
    if has_params and params.exists() and params.read_bytes() != text:
        conflicts.append("params.json")
    if not options["is_forced"]:
        restoring.refuse_conflicts(target, conflicts, f"stemma checkout {options['ref']}")
    total = sum(file.entry.size_bytes for file in files) + len(text)
    written = 0
    if not options["is_dry_run"]:
        texts = {"params.json": text} if has_params else {}
        with progress(console, f"restoring {view.label}", total) as reporter:
            written = restoring.restore(hub, target, files, texts, reporter.advance)
    mark, joint = (render.NOTED, "would go") if options["is_dry_run"] else (render.DONE, "is")
    amount = f"{render.count(len(files) + has_params, 'file')}, {render.size(total)}"
    card = [f"{mark} {view.label} {joint} in {target}/   {amount}", *_listing(files, len(text))]
    payload: dict[str, object] = {
        "ref": view.label,
        "digest": str(view.digest),
        "target": str(target),
        "files": [file.path for file in files] + (["params.json"] if has_params else []),
        "written": written,
        "size_bytes": total,
    }
    return payload, card


def _listing(files: list[RestoredFile], params_size_bytes: int) -> list[str]:
    """Return one line per part: how many files; parameters are one, or none."""
    from stemma.cli import render

    counts: dict[str, list[int]] = {}
    for file in files:
        counts.setdefault(file.path.split("/")[0], []).append(file.entry.size_bytes)
    lines = [
        (f"{part}/", f"{render.count(len(sizes), 'file')}, {render.size(sum(sizes))}")
        for part, sizes in counts.items()
    ]
    if params_size_bytes:
        lines.append(("params.json", render.size(params_size_bytes)))
    return render.labelled(lines)


def _environment(hub: Hub, view: VersionView, target: Path) -> Path:
    """Build the version's environment in ``target/.venv``; returns its interpreter."""
    from stemma.catalog.capture.environment import restore_environment

    environment = view.manifest.environment
    lock = hub.objects.read_bytes(environment.lock).decode("utf-8")
    return restore_environment(lock, target / ".venv", environment.python)


def _tensor(options: _Options) -> Answer:
    """Write one tensor; ``bfloat16`` and 8-bit floats as ``float32``, for numpy lacks them."""
    import io
    import shlex

    import numpy as np

    from stemma.cli import render
    from stemma.cli.restoring import write_beside
    from stemma.hub.parts import Parts
    from stemma.hub.tensors import VersionTensors

    if options["path"] or options["only"] or options["has_environment"]:
        raise click.UsageError(
            "--tensor goes with neither PATH nor --only nor --env", ctx=click.get_current_context()
        )
    name = options["tensor"]
    target = options["target"] or Path(f"{_file_name(name)}.npy")
    with opened_remotes() as hub:
        view = hub.resolve(options["ref"])
        with hub.reading(view.digest):
            read = VersionTensors(Parts(hub), view).read(name)
    array = read.array()
    data = io.BytesIO()
    np.save(data, array, allow_pickle=False)
    if not options["is_dry_run"]:
        write_beside(
            target,
            data.getvalue(),
            shlex.join(["stemma", "checkout", options["ref"], "--tensor", name]),
            is_forced=options["is_forced"],
        )
    what = f"{array.dtype} {'×'.join(map(str, array.shape)) or 'scalar'}"
    widened = "" if read.place.dtype == str(array.dtype) else f", stored as {read.place.dtype}"
    mark, joint = (render.NOTED, "would go") if options["is_dry_run"] else (render.DONE, "is")
    return Answer(
        payload={
            "ref": view.label,
            "digest": str(view.digest),
            "tensor": name,
            "target": str(target),
            "dtype": str(array.dtype),
            "stored_dtype": read.place.dtype,
            "shape": list(array.shape),
            "size_bytes": array.nbytes,
        },
        card=[f"{mark} {name} of {view.label} {joint} in {target}   {what}{widened}"],
    )


def _file_name(tensor: str) -> str:
    """Return a tensor's name as the name of a file in this folder."""
    return "".join(sign if sign.isalnum() or sign in "._-" else "_" for sign in tensor).lstrip(".")
