"""``stemma help``: a verb's help, or a topic."""

from __future__ import annotations

import click

from stemma.cli.console import Answer, Console
from stemma.cli.exit_codes import ExitCode
from stemma.cli.framework import app, verb
from stemma.cli.topics import topics
from stemma.cli.verbs import all_verbs, suggest_verb


@verb(
    "help",
    ("How refs are written", "stemma help refs"),
    ("What exit codes mean", "stemma help exit-codes"),
    ("Options of a verb", "stemma help release"),
)
@click.argument("word", required=False, default="")
def command(console: Console, *, word: str) -> ExitCode:
    """Explain a verb, or one of: refs, gates, exit-codes, environment."""
    context = click.get_current_context()
    known = topics()
    if word in known:
        text = known[word]
    elif word in all_verbs():
        verb_command = app.get_command(context, word)
        if verb_command is None:
            raise click.UsageError(f"no verb {word!r}")
        child = click.Context(verb_command, info_name=word, parent=context.parent)
        text = verb_command.get_help(child)
    elif not word:
        text = app.get_help(context.parent or context)
    else:
        error = click.UsageError(f"no verb or topic {word!r}; topics: {', '.join(known)}")
        error.add_note(f"stemma help {suggest_verb(word) or 'refs'}")
        raise error
    console.show(Answer(payload={"topic": word, "text": text}, card=text.rstrip().splitlines()))
    return ExitCode.DONE
