"""Runs a command line and turns whatever ends it into lines and an exit code.

This is the process's edge: the only place that catches everything.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from itertools import pairwise

import click

from stemma.cli.console import Console, Format, make_console, make_streams_safe
from stemma.cli.exit_codes import ExitCode, exit_code_for
from stemma.cli.framework import app
from stemma.domain.errors import StemmaError

_DEBUG_VARIABLE = "STEMMA_DEBUG"
_ENDLESS_WORD = re.compile(r"(\S{200})\S{600,}(\S{200})")
"""A word that fills a screen: nobody could read the line."""


def dispatch(arguments: Sequence[str]) -> int:
    """Run the command line ``stemma arguments…``; returns the exit code."""
    make_streams_safe()
    console = make_console(is_json=_wants_json(arguments))
    try:
        answer = app.main(list(arguments), prog_name="stemma", standalone_mode=False)
        sys.stdout.flush()
        code = answer if isinstance(answer, int) else ExitCode.DONE
    except click.exceptions.Exit as error:
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        code = ExitCode.INTERRUPTED
        _report(console, code, "interrupted", "interrupted", "")
    except click.ClickException as error:
        code = _usage_error(console, error)
    except StemmaError as error:
        code = _stemma_error(console, error)
    except BrokenPipeError:
        # The reader has seen enough (`stemma log | head`); nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = ExitCode.DONE
    except OSError as error:
        code = _os_error(console, error)
    except Exception as error:  # noqa: BLE001 - the process's edge
        code = _unexpected(console, error)
    return int(code)


def _wants_json(arguments: Sequence[str]) -> bool:
    """Whether the command line asks for JSON, even one that cannot be parsed."""
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    pairs = pairwise(own)
    return "--json" in own or "--format=json" in own or ("--format", "json") in pairs


def _usage_error(console: Console, error: click.ClickException) -> int:
    notes = getattr(error, "__notes__", [])
    hint = notes[0] if notes else ""
    context = getattr(error, "ctx", None)
    if not hint and isinstance(context, click.Context):
        hint = f"{context.command_path} --help"
    _report(console, ExitCode.USAGE, "usage", error.format_message(), hint)
    return ExitCode.USAGE


def _stemma_error(console: Console, error: StemmaError) -> int:
    code = exit_code_for(error)
    _report(console, code, error.code, error.message, error.hint, is_retryable=error.is_retryable)
    _trace(error)
    return code


def _os_error(console: Console, error: OSError) -> int:
    """Report a file or folder that cannot be used: no fault of ours, nor of the command line."""
    from stemma.store.backends.local import translate_os_error  # noqa: PLC0415 - rarely needed

    place = f"use {error.filename}" if error.filename is not None else "go on"
    return _stemma_error(console, translate_os_error(error, place))


def _unexpected(console: Console, error: Exception) -> int:
    what = f"{type(error).__name__}: {error}".splitlines()[0]
    hint = "" if _trace(error) else f"cat {_keep_traceback(error)}"
    _report(console, ExitCode.FAILED, "internal", f"a fault in stemma: {what}", hint)
    return ExitCode.FAILED


def _trace(error: Exception) -> bool:
    """Show the traceback when it was asked for."""
    if not os.environ.get(_DEBUG_VARIABLE):
        return False
    sys.excepthook(type(error), error, error.__traceback__)
    return True


def _keep_traceback(error: Exception) -> str:
    import tempfile  # noqa: PLC0415 - a start without a fault need not pay for it
    import traceback  # noqa: PLC0415

    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", prefix="stemma-", suffix=".traceback", delete=False
    ) as file:
        traceback.print_exception(error, file=file)
        return file.name


def _readable(text: str) -> str:
    """Leave the middle out of a word that fills a screen, such as a name of 10,000 characters."""
    return _ENDLESS_WORD.sub(r"\1…\2", text)


def _report(
    console: Console,
    code: ExitCode,
    name: str,
    message: str,
    hint: str,
    *,
    is_retryable: bool = False,
) -> None:
    message, hint = _readable(message), _readable(hint)
    if console.format is Format.JSON:
        console.write_json(
            {
                "code": int(code),
                "name": name,
                "message": message,
                "hint": hint,
                "retryable": is_retryable,
            }
        )
    else:
        console.show_error(message, hint)
