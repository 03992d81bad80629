"""``stemma show``: one version."""

from __future__ import annotations

import click

from stemma.cli.console import Answer, Console
from stemma.cli.exit_codes import ExitCode
from stemma.cli.framework import complete_refs, verb
from stemma.cli.project import opened_hub, opened_remotes

_PARTS = (
    "architecture",
    "datasets",
    "pipeline",
    "hyperparameters",
    "artifact",
    "environment",
    "evidence",
    "provenance",
)
_TENSOR_COLUMNS = ("tensor", "type", "shape", "size", "file")


@verb(
    "show",
    ("The stable version", "stemma show digits"),
    ("Its manifest as YAML", "stemma show digits@1.1.0 --yaml"),
    ("One component", "stemma show digits@^1 --component hyperparameters"),
    ("The tensors in its files", "stemma show digits-net --tensors"),
)
@click.argument("ref", shell_complete=complete_refs)
@click.option("--yaml", "is_yaml", is_flag=True, help="Write the manifest as YAML.")
@click.option("--component", type=click.Choice(_PARTS), help="Show one part of the manifest only.")
@click.option("--tensors", "has_tensors", is_flag=True, help="List the tensors in its files.")
def command(
    console: Console, *, ref: str, is_yaml: bool, component: str | None, has_tensors: bool
) -> ExitCode:
    """Show one version: five components, evidence, provenance, gates."""
    import yaml

    from stemma.catalog.yaml_text import to_yaml
    from stemma.cli.plain import plain
    from stemma.cli.version_cards import pull_command, show_card
    from stemma.cli.versions import load_version

    if has_tensors:
        console.show(_tensors(ref))
        return ExitCode.DONE
    with opened_hub() as hub:
        loaded = load_version(hub, ref)
    payload = plain(loaded.view)
    hints: list[str] = []
    if component:
        payload = {component: payload["manifest"][component]}
        if component == "hyperparameters" and "params" not in loaded.facts.missing:
            payload["values"] = loaded.facts.hyperparameters
        elif component == "hyperparameters":
            hints = [f"  next: {pull_command(loaded.view, loaded.facts)}"]
        card = yaml.safe_dump(payload, allow_unicode=True, sort_keys=True).splitlines()
    elif is_yaml:
        card = to_yaml(loaded.view.manifest).splitlines()
    else:
        card = show_card(loaded.view, loaded.facts, loaded.passed)
        if loaded.facts.missing:
            payload["missing"] = list(loaded.facts.missing)
    console.show(Answer(payload=payload, card=card, hints=hints))
    return ExitCode.DONE


def _tensors(ref: str) -> Answer:
    """Return name, type, shape, size and file of each tensor; only headers are read."""
    from dataclasses import asdict

    from stemma.cli import render
    from stemma.hub.parts import Parts
    from stemma.hub.tensors import VersionTensors

    with opened_remotes() as hub:
        found = VersionTensors(Parts(hub), hub.resolve(ref)).infos()
    rows = [
        [item.name, item.dtype, _shape(item.shape), str(item.size_bytes), item.file]
        for item in found
    ]
    shown = [[*row[:3], render.size(int(row[3])), row[4]] for row in rows]
    return Answer(
        payload=[asdict(item) for item in found],
        card=render.table([_TENSOR_COLUMNS, *shown]) if shown else ["no tensors in its files"],
        rows=rows,
    )


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "scalar"
