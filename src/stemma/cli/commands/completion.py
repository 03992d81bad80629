"""``stemma completion``: the script that a shell loads; hidden from help."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from stemma.cli.console import Answer, Console
from stemma.cli.exit_codes import ExitCode
from stemma.cli.framework import app, verb


@verb(
    "completion",
    ("For bash", 'eval "$(stemma completion bash)"'),
    ("For zsh", 'eval "$(stemma completion zsh)"'),
    ("For fish", "stemma completion fish | source"),
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(console: Console, *, shell: str) -> ExitCode:
    """Print the completion script of a shell."""
    completion = get_completion_class(shell)
    if completion is None:
        raise click.UsageError(f"no completion for {shell}")
    script = completion(app, {}, "stemma", "_STEMMA_COMPLETE").source()
    console.show(Answer(payload={"shell": shell, "script": script}, card=script.splitlines()))
    return ExitCode.DONE
