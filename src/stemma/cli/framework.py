"""How verbs are declared: options that every verb has, examples in help, lazy loading.

Invariants:
    * Help and completion of the group read ``stemma.cli.verbs`` only; a verb's module is
      imported when that verb is run, helped or completed.
    * Every verb takes ``--json``, ``--format``, ``--progress`` and ``--color``.
    * A verb receives a ``Console`` and returns an ``ExitCode``.

Importing this module imports click.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from stemma.cli.console import Format, ProgressMode, check_variables, make_console
from stemma.cli.verbs import GROUPS, all_verbs, suggest_verb
from stemma.cli.version import VERSION

if TYPE_CHECKING:
    from typing_extensions import override
else:
    # Importing typing_extensions would cost twice a bare interpreter's start.
    def override(method: object) -> object:
        """Mark a method for the type checker only."""
        return method


SEE_ALSO: Final = "refs, gates, exit-codes, environment"
_COMMON: Final = ("is_json", "format_name", "progress_name", "colour")


def _common_options() -> list[click.Option]:
    return [
        click.Option(
            ["--json", "is_json"], is_flag=True, help="Write JSON alone to stdout, errors too."
        ),
        click.Option(
            ["--format", "format_name"],
            type=click.Choice([item.value for item in Format]),
            help="How answers are written (auto: for people on a terminal, else TSV).",
        ),
        click.Option(
            ["--progress", "progress_name"],
            type=click.Choice([item.value for item in ProgressMode]),
            help="How progress is written to stderr.",
        ),
        click.Option(
            ["--color", "colour"],
            type=click.Choice(["auto", "always", "never"]),
            default="auto",
            show_default=False,
            help="Whether to colour; NO_COLOR and FORCE_COLOR are respected.",
        ),
    ]


class Verb(click.Command):
    """A verb: its own options, the common ones, and examples.

    Attributes:
        examples: Pairs of what it is for and the command line; three or more.
    """

    examples: tuple[tuple[str, str], ...] = ()

    @override
    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the verb's own parameters, then the common ones, then help."""
        own = [param for param in super().get_params(ctx) if param.name != "help"]
        helps = [param for param in super().get_params(ctx) if param.name == "help"]
        return [*own, *_common_options(), *helps]

    @override
    def invoke(self, ctx: click.Context) -> object:
        """Make the console from the common options and hand it to the verb."""
        common = {name: ctx.params.pop(name, None) for name in _COMMON}
        check_variables()
        ctx.obj = make_console(
            format_name=common["format_name"] or "",
            progress_name=common["progress_name"] or "",
            colour=common["colour"] or "auto",
            is_json=bool(common["is_json"]),
        )
        return super().invoke(ctx)

    @override
    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click calls it so
        """Write the examples, each with what it is for."""
        with formatter.section("Examples"):
            formatter.write_dl([(command, purpose) for purpose, command in self.examples])


def verb(
    name: str, *examples: tuple[str, str], has_command_tail: bool = False
) -> Callable[[Callable[..., Any]], Verb]:
    """Declare a verb.

    Args:
        name: Its name.
        examples: Pairs of what it is for and the command line.
        has_command_tail: Everything from the first argument on belongs to another command.
    """
    settings: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
    if has_command_tail:
        settings["allow_interspersed_args"] = False

    def declare(function: Callable[..., Any]) -> Verb:
        command = click.command(name, cls=Verb, context_settings=settings)(click.pass_obj(function))
        command.examples = examples
        return command

    return declare


class StemmaGroup(click.Group):
    """The command ``stemma``: verbs by task, loaded when needed."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click calls it so
        """Return the verbs in the order of help."""
        return [name for group in GROUPS.values() for name in group]

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click calls it so
        """Import and return a verb; ``None`` when there is none of that name."""
        entry = all_verbs().get(cmd_name)
        if entry is None:
            return None
        module = importlib.import_module(f"stemma.cli.commands.{entry.module}")
        command: click.Command = module.command
        return command

    @override
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb, or say which one was probably meant."""
        word = args[0]
        if not word.startswith("-") and word not in all_verbs():
            meant = suggest_verb(word)
            rest = " ".join(args[1:])
            near = f"; did you mean {meant}?" if meant else ""
            error = click.UsageError(f"no verb {word!r}{near}", ctx=ctx)
            error.add_note(f"stemma {meant} {rest}".rstrip() if meant else "stemma --help")
            raise error
        return super().resolve_command(ctx, args)

    @override
    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click calls it so
        """Write the verbs by task."""
        formatter.write_text(f"stemma {VERSION}: versions AI models end to end.")
        for title, verbs in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(name, entry.summary) for name, entry in verbs.items()])
        formatter.write_paragraph()
        formatter.write_text("stemma VERB --help shows options and examples.")
        formatter.write_text(f"stemma help TOPIC explains {SEE_ALSO}.")


@click.command(
    "stemma",
    cls=StemmaGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--version", "is_version", is_flag=True, help="Print the version.")
@click.pass_context
def app(ctx: click.Context, *, is_version: bool) -> None:
    """Version AI models end to end."""
    if is_version:
        click.echo(f"stemma {VERSION}")
        ctx.exit(0)
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def complete_refs(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> Sequence[str]:
    """Complete names of models, versions and channels; silent when there is no project."""
    from stemma.cli.project import complete  # noqa: PLC0415 - only completion opens the project

    return complete(incomplete)


def complete_models(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> Sequence[str]:
    """Complete names of models; silent when there is no project."""
    from stemma.cli import project  # noqa: PLC0415 - only completion opens the project

    return project.complete_models(incomplete)
