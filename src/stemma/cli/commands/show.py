"""``stemma show``: one version."""

from __future__ import annotations

import click

from stemma.cli.console import Answer, Console
from stemma.cli.exit_codes import ExitCode
from stemma.cli.framework import complete_refs, verb
from stemma.cli.project import opened_hub

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


@verb(
    "show",
    ("The stable version", "stemma show digits"),
    ("Its manifest as YAML", "stemma show digits@1.1.0 --yaml"),
    ("One component", "stemma show digits@^1 --component hyperparameters"),
)
@click.argument("ref", shell_complete=complete_refs)
@click.option("--yaml", "is_yaml", is_flag=True, help="Write the manifest as YAML.")
@click.option("--component", type=click.Choice(_PARTS), help="Show one part of the manifest only.")
def command(console: Console, *, ref: str, is_yaml: bool, component: str | None) -> ExitCode:
    """Show one version: five components, evidence, provenance, gates."""
    import yaml

    from stemma.catalog.yaml_text import to_yaml
    from stemma.cli.plain import plain
    from stemma.cli.version_cards import show_card
    from stemma.cli.versions import load_version

    with opened_hub() as hub:
        loaded = load_version(hub, ref)
    payload = plain(loaded.view)
    if component:
        payload = {component: payload["manifest"][component]}
        if component == "hyperparameters":
            payload["values"] = loaded.facts.hyperparameters
        card = yaml.safe_dump(payload, allow_unicode=True, sort_keys=True).splitlines()
    elif is_yaml:
        card = to_yaml(loaded.view.manifest).splitlines()
    else:
        card = show_card(loaded.view, loaded.facts, loaded.passed)
    console.show(Answer(payload=payload, card=card))
    return ExitCode.DONE
