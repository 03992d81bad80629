"""``stemma serve``: the server in the foreground, or a version into the one that runs."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final, TypedDict, Unpack

import click

from stemma.cli.console import Answer, Console, Format
from stemma.cli.exit_codes import ExitCode
from stemma.cli.framework import complete_refs, verb
from stemma.cli.project import find_root, opened_delivery

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stemma.cli.project import DeliveryHub
    from stemma.delivery.values import ModelServing, ServerView, ServingView

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 8700
_LOOK_SECONDS: Final = 0.2
_ROUTE_SECONDS: Final = 5.0
"""A route is in force a moment after the process is ready; it is waited for no longer."""


class _Options(TypedDict):
    refs: tuple[str, ...]
    channel: str
    port: int
    host: str
    plane: str
    is_stopping: bool
    is_withdrawing: bool
    reason: str


@verb(
    "serve",
    ("Serve a version and call it stable", "stemma serve digits@1.0.0 --channel stable"),
    ("Again what was served before; track runs of MLflow's client", "stemma serve"),
    ("Several models, on another port", "stemma serve digits churn --port 9000"),
    ("No longer serve a model", "stemma serve digits --withdraw"),
    ("End the server and all it started", "stemma serve --stop"),
)
@click.argument("refs", metavar="[REF]…", nargs=-1, shell_complete=complete_refs)
@click.option(
    "--channel",
    type=click.Choice(["stable"]),
    default=None,
    help="Let this channel point to what is served.",
)
@click.option(
    "--port",
    default=DEFAULT_PORT,
    show_default=True,
    envvar="STEMMA_SERVE_PORT",
    show_envvar=True,
    type=click.IntRange(1, 65535),
    help="Port to answer on.",
)
@click.option("--host", default=DEFAULT_HOST, show_default=True, help="Address to answer on.")
@click.option(
    "--plane",
    type=click.Choice(["auto", "envoy", "builtin"]),
    default="auto",
    show_default=True,
    help="What spreads the requests; auto: Envoy where it is installed.",
)
@click.option("--stop", "is_stopping", is_flag=True, help="End the server and all it started.")
@click.option(
    "--withdraw", "is_withdrawing", is_flag=True, help="No longer serve the models named."
)
@click.option("-m", "--reason", default="", help="Why, in your words; stored.")
def command(console: Console, **options: Unpack[_Options]) -> ExitCode:
    """Serve versions and track runs until Ctrl-C; without REF, what was served before.

    While a server runs, REF goes into that one. Where another version of the model serves
    already, roll out instead.
    """
    if options["is_stopping"]:
        return _stop(console, options)
    if options["is_withdrawing"]:
        return _withdraw(console, options)
    root = find_root()
    if not _is_running(root):
        return _serve(console, root, options)
    with opened_delivery() as hub:
        return _deploy_into(console, hub, hub.serving(), options)


def _is_running(root: Path) -> bool:
    """Whether a server of the project runs; opens no database, which the server will."""
    from stemma.delivery.layout import ServeLayout
    from stemma.delivery.server_file import is_server_running

    return is_server_running(ServeLayout(state=root / ".stemma"))


def _serve(console: Console, root: Path, options: _Options) -> ExitCode:
    """Run the server until it is stopped."""
    import signal

    from stemma.cli.telling import telling

    serving = _import_server()
    asked = serving.ServeOptions(
        refs=options["refs"],
        is_stable=options["channel"] == "stable",
        host=options["host"],
        port=options["port"],
        plane=options["plane"],
        reason=options["reason"],
    )
    with telling(console) as teller:
        is_read = console.format in {Format.HUMAN, Format.AGENT}
        told: Callable[[str], None] = console.say if is_read else teller
        try:
            ended_by = serving.serve(root, asked, told)
        except KeyboardInterrupt:
            # Before the server listens to signals, or after.
            ended_by = signal.SIGINT
    console.show(Answer(payload={"stopped": True}, card=["• stopped"]))
    return ExitCode.INTERRUPTED if ended_by == signal.SIGINT else ExitCode.DONE


def _import_server() -> Any:
    """Import the server, late: it brings the data plane and the web parts, which only it needs."""
    import gc

    # None of what is imported is garbage: looking for some costs an eighth of the start, and
    # again at each later look.
    gc.disable()
    serving = importlib.import_module("stemma.server.serving")
    gc.freeze()
    gc.enable()
    return serving


def _stop(console: Console, options: _Options) -> ExitCode:
    from stemma.cli import render

    if options["refs"] or options["is_withdrawing"]:
        raise click.UsageError(
            "--stop ends the whole server; it takes no REF and no --withdraw",
            ctx=click.get_current_context(),
        )
    root = find_root()
    serving: Any = importlib.import_module("stemma.server.serving")
    was_running = bool(serving.stop(root))
    said = f"{render.DONE} stopped" if was_running else f"{render.NOTED} no server runs"
    console.show(Answer(payload={"stopped": was_running}, card=[said]))
    return ExitCode.DONE


def _withdraw(console: Console, options: _Options) -> ExitCode:
    from stemma.cli import render

    models = [ref.partition("@")[0] for ref in options["refs"]]
    if not models or options["channel"]:
        raise click.UsageError(
            "--withdraw needs a MODEL, and moves no channel", ctx=click.get_current_context()
        )
    with opened_delivery() as hub:
        for model in models:
            hub.withdraw(model, reason=options["reason"])
    card = [f"{render.DONE} {model} is no longer served" for model in models]
    console.show(Answer(payload={"withdrawn": models}, card=card))
    return ExitCode.DONE


def _deploy_into(
    console: Console, hub: DeliveryHub, view: ServingView, options: _Options
) -> ExitCode:
    """Deploy into the server that runs; without REF, refuse to start a second one."""
    from stemma.domain.errors import ConflictError

    server = view.server
    if not options["refs"]:
        raise ConflictError(
            f"a server of this project runs already: pid {server.pid}, {server.address}",
            code="server-running",
            hint="stemma serve MODEL@VERSION adds to it; stemma serve --stop ends it",
        )
    is_stable = options["channel"] == "stable"
    # All of them first: when one is refused nothing has changed, and nobody has waited.
    for ref in options["refs"]:
        hub.check_deploy(ref, is_stable=is_stable)
    models = [
        hub.deploy(ref, is_stable=is_stable, reason=options["reason"]).model
        for ref in options["refs"]
    ]
    found = [wait_until_ready(console, hub, model) for model in models]
    _show_deployed(console, server, found)
    is_ready = all(_is_ready(model) for model in found)
    return ExitCode.DONE if is_ready else ExitCode.FAILED


def _is_ready(model: ModelServing) -> bool:
    from stemma.cli.serving_cards import stable_slot
    from stemma.delivery.slots.base import SlotState

    slot = stable_slot(model)
    return slot is not None and slot.state is SlotState.READY


def wait_until_ready(console: Console, hub: DeliveryHub, model: str) -> ModelServing:
    """Wait until a model's processes are ready, are given up, or the server is gone."""
    import time

    from stemma.cli.serving_cards import stable_slot
    from stemma.cli.telling import telling
    from stemma.delivery.slots.base import SlotState

    with telling(console) as told:
        while True:
            view = hub.serving()
            found = next(item for item in view.models if item.deployment.model == model)
            slot = stable_slot(found)
            is_over = slot is not None and slot.state in {SlotState.READY, SlotState.FAILED}
            if is_over or not view.server.is_running:
                if _is_ready(found):
                    _wait_for_route(view.server.address, model)
                return found
            state = slot.state.value if slot is not None else "waiting for the server"
            told(f"{model} {found.deployment.deployed.version}: {state}")
            time.sleep(_LOOK_SECONDS)


def _wait_for_route(address: str, model: str) -> None:
    """Wait until requests reach the model: who is told that it serves may ask at once."""
    import http.client
    import time
    from contextlib import closing, suppress
    from http import HTTPStatus
    from urllib.parse import urlsplit

    end = time.monotonic() + _ROUTE_SECONDS
    while time.monotonic() < end:
        connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=1)
        with closing(connection), suppress(OSError, http.client.HTTPException):
            connection.request("GET", f"/v2/models/{model}/ready")
            if connection.getresponse().status == HTTPStatus.OK:
                return
        time.sleep(_LOOK_SECONDS / 10)


def _show_deployed(console: Console, server: ServerView, found: list[ModelServing]) -> None:
    from stemma.cli.serving_cards import predict_url, ready_line, stable_slot

    rows, lines, payload = [], [], []
    for model in found:
        name, version = model.deployment.model, model.deployment.deployed.version
        slot, url = stable_slot(model), predict_url(server.address, name)
        state = slot.state.value if slot is not None else "not there yet"
        detail = slot.detail if slot is not None else ""
        rows.append([url, name, version, state, detail])
        payload.append(
            {"model": name, "version": version, "url": url, "state": state, "detail": detail}
        )
        why = f": {detail}" if detail else ""
        failed = f"✗ {name} {version} {state}{why}"
        lines.append(ready_line(server, model) if _is_ready(model) else failed)
    said = f"  in the server that runs already (pid {server.pid})"
    console.show(
        Answer(payload={"pid": server.pid, "models": payload}, card=lines, rows=rows, hints=[said])
    )
