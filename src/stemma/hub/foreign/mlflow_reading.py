"""What there is on a tracking server, page by page.

Invariants:
    * No page is asked for twice in a row: a server that repeats a token is refused.
    * A path that a server names is checked like one that a client uploads to us.

Deleted experiments and runs are not asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar
from urllib.parse import urlsplit

from stemma.domain.artifact import check_artifact_path
from stemma.domain.errors import InvalidInputError, NotFoundError
from stemma.hub.foreign import mlflow_wire as wire
from stemma.hub.foreign.mlflow_address import MlflowAddress
from stemma.hub.foreign.mlflow_client import MlflowClient

_PAGE: Final = 200
_HISTORY_PAGE: Final = 25_000
_FILES_LIMIT: Final = 100_000
_PROXIED: Final = "mlflow-artifacts"


class _Page(Protocol):
    @property
    def next_page_token(self) -> str: ...


PageT = TypeVar("PageT", bound=_Page)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignFile:
    """A file among the artifacts of a run or a logged model.

    Attributes:
        path: Its path there, checked.
        size_bytes: Its size, as the server lists it.
    """

    path: str
    size_bytes: int


def experiments(client: MlflowClient) -> Iterator[wire.ForeignExperiment]:
    """Yield every experiment."""

    def ask(token: str) -> wire.Experiments:
        body = {"max_results": _PAGE, "page_token": token}
        return client.post("experiments/search", body, wire.Experiments)

    for page in _pages(ask):
        yield from page.experiments


def experiment_named(client: MlflowClient, name: str) -> wire.ForeignExperiment:
    """Return one experiment.

    Raises:
        NotFoundError: If there is none of that name.
    """
    query = {"experiment_name": name}
    return client.get("experiments/get-by-name", query, wire.OneExperiment).experiment


def experiment(client: MlflowClient, identity: str) -> wire.ForeignExperiment:
    """Return one experiment by its number there."""
    return client.get("experiments/get", {"experiment_id": identity}, wire.OneExperiment).experiment


def runs(client: MlflowClient, identity: str, filter_text: str = "") -> Iterator[wire.ForeignRun]:
    """Yield the runs of an experiment, by its number there."""

    def ask(token: str) -> wire.Runs:
        body = {
            "experiment_ids": [identity],
            "filter": filter_text,
            "max_results": _PAGE,
            "order_by": ["attributes.start_time ASC"],
            "page_token": token,
        }
        return client.post("runs/search", body, wire.Runs)

    for page in _pages(ask):
        yield from page.runs


def run(client: MlflowClient, identity: str) -> wire.ForeignRun:
    """Return one run."""
    return client.get("runs/get", {"run_id": identity}, wire.OneRun).run


def history(client: MlflowClient, identity: str, name: str) -> Iterator[wire.ForeignPoint]:
    """Yield every point of a metric of a run."""
    query = {"run_id": identity, "metric_key": name}

    def ask(token: str) -> wire.History:
        paged = {**query, "max_results": _HISTORY_PAGE, "page_token": token}
        return client.get("metrics/get-history", paged, wire.History)

    try:
        for page in _pages(ask):
            yield from page.metrics
    except InvalidInputError as error:
        if error.code != "server-refused":
            raise
        # A server that keeps runs in files knows no pages.
        yield from client.get("metrics/get-history", query, wire.History).metrics


def logged_models(client: MlflowClient, identity: str) -> Iterator[wire.ForeignModel]:
    """Yield the logged models of an experiment; none of a server before MLflow 3."""

    def ask(token: str) -> wire.Models:
        body = {"experiment_ids": [identity], "max_results": 50, "page_token": token}
        return client.post("logged-models/search", body, wire.Models)

    try:
        for page in _pages(ask):
            yield from page.models
    except NotFoundError:
        return


def logged_model(client: MlflowClient, identity: str) -> wire.ForeignModel:
    """Return one logged model."""
    return client.get(f"logged-models/{identity}", {}, wire.OneModel).model


def registered_models(client: MlflowClient) -> Iterator[wire.ForeignRegistered]:
    """Yield every registered model."""

    def ask(token: str) -> wire.RegisteredModels:
        query = {"max_results": _PAGE, "page_token": token}
        return client.get("registered-models/search", query, wire.RegisteredModels)

    for page in _pages(ask):
        yield from page.registered_models


def registered_model(client: MlflowClient, name: str) -> wire.ForeignRegistered:
    """Return one registered model."""
    return client.get("registered-models/get", {"name": name}, wire.OneRegistered).registered_model


def versions(client: MlflowClient, name: str) -> list[wire.ForeignVersion]:
    """Return the versions of a registered model, first ones first."""
    quoted = '"' if "'" in name else "'"

    def ask(token: str) -> wire.Versions:
        query = {
            "filter": f"name={quoted}{name}{quoted}",
            "max_results": _PAGE,
            "page_token": token,
        }
        return client.get("model-versions/search", query, wire.Versions)

    found = [version for page in _pages(ask) for version in page.model_versions]
    return sorted((it for it in found if it.name == name), key=lambda it: it.version)


def proxied_root(address: MlflowAddress, uri: str) -> str | None:
    """Return where the server itself gives out artifacts; ``None`` when they lie elsewhere."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return None
    if parts.scheme != _PROXIED or parts.query or parts.fragment:
        return None
    if parts.netloc and parts.netloc.lower() != address.authority.lower():
        return None
    return parts.path.strip("/") or None


def files(client: MlflowClient, root: str) -> Iterator[ForeignFile]:
    """Yield every file below a root of artifacts that the server gives out.

    Raises:
        InvalidInputError: If a path may not be one, or there are too many.
    """
    waiting, count = [""], 0
    while waiting:
        folder = waiting.pop()
        asked = f"{root}/{folder}" if folder else root
        for entry in client.list_files(asked, wire.Files).files:
            count += 1
            if count > _FILES_LIMIT:
                raise InvalidInputError(
                    f"{root} holds more than {_FILES_LIMIT} files", code="too-many-files"
                )
            name = entry.path.removesuffix("/").rpartition("/")[2]
            path = check_artifact_path(f"{folder}/{name}" if folder else name)
            if entry.is_dir:
                waiting.append(path)
            else:
                yield ForeignFile(path=path, size_bytes=max(entry.file_size, 0))


def has_artifacts(client: MlflowClient, identity: str) -> bool:
    """Return whether a run has artifacts, which the server looks up wherever they lie."""
    found = client.get("artifacts/list", {"run_id": identity}, wire.Files)
    return bool(found.files)


def _pages(ask: Callable[[str], PageT]) -> Iterator[PageT]:
    token = ""
    while True:
        page = ask(token)
        yield page
        if not page.next_page_token:
            return
        if page.next_page_token == token:
            raise InvalidInputError("the server gives the same page for ever", code="not-mlflow")
        token = page.next_page_token
