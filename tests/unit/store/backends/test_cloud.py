"""What a bucket answers when it does not let in, is not there, or cannot be reached."""

from __future__ import annotations

import os
import socket
import traceback
from pathlib import Path
from typing import Any

import pytest

from stemma.domain.errors import DeniedError, NotFoundError, UnavailableError
from stemma.store.backends.addresses import parse_address
from stemma.store.backends.base import BlobBackend
from stemma.store.backends.cloud import Waiting, open_cloud
from stemma.store.backends.logins import forget_login, write_login
from stemma.store.backends.opening import open_backend

_ADDRESS = parse_address("s3://nobody-has-this/a")
_BRIEF = Waiting(retry_count=1, retry_seconds=2)


@pytest.fixture(autouse=True)
def _no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Take the tester's own accounts away."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def _open(monkeypatch: pytest.MonkeyPatch, **variables: str) -> BlobBackend:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return open_cloud(_ADDRESS, os.environ, _BRIEF)


def test_without_credentials_nothing_is_asked() -> None:
    """A laptop without an account would wait for minutes, or show a stack of HTTP."""
    with pytest.raises(DeniedError) as caught:
        open_cloud(_ADDRESS, os.environ)
    assert caught.value.code == "no-credentials"
    assert caught.value.hint.startswith("stemma remote login")


@pytest.mark.slow
@pytest.mark.s3
def test_the_files_of_the_aws_command_line_are_read(
    s3_server: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Who has run `aws configure` would have to say it all again."""
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(
        "[default]\naws_access_key_id = x\n[work]\n"
        "aws_access_key_id = test\naws_secret_access_key = test\n"
    )
    (tmp_path / ".aws" / "config").write_text(
        f"[profile work]\nregion = us-east-1\nendpoint_url = {s3_server.url}\n"
    )
    s3_server.make_bucket(_ADDRESS.bucket)
    backend = _open(monkeypatch, AWS_PROFILE="work")
    assert backend.put("a/b", b"x")
    assert backend.get("a/b") == b"x"


@pytest.mark.slow
def test_a_server_that_is_not_there_may_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job would not know that the same command may work later."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    backend = _open(
        monkeypatch,
        AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}",
        AWS_ACCESS_KEY_ID="x",
        AWS_SECRET_ACCESS_KEY="y",  # noqa: S106 - of nobody
    )
    for ask in (lambda: backend.get("a/b"), lambda: backend.put("a/b", b""), backend.list):
        with pytest.raises(UnavailableError) as caught:
            list(ask() or [])  # type: ignore[arg-type]
        assert caught.value.code == "remote-unavailable"
        assert caught.value.is_retryable


@pytest.mark.slow
@pytest.mark.s3
def test_a_bucket_that_is_not_there_is_named(
    s3_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A typing error in the address would look like an empty remote."""
    for name, value in s3_server.variables.items():
        monkeypatch.setenv(name, value)
    backend = open_cloud(parse_address("s3://another-one/a"), os.environ, _BRIEF)
    for ask in (lambda: backend.get("a/b"), lambda: backend.put("a/b", b""), backend.list):
        with pytest.raises(NotFoundError) as caught:
            list(ask() or [])  # type: ignore[arg-type]
        assert caught.value.code == "bucket-not-found"
        assert "another-one" in caught.value.message


@pytest.mark.slow
@pytest.mark.s3
def test_a_stored_key_comes_before_the_environment_and_is_never_shown(
    s3_server: Any, wire: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key of another account would be tried, or a log would hold this one."""
    s3_server.make_bucket("with-a-login")
    address = parse_address("s3://with-a-login/a")
    secret = "very-secret-key"  # noqa: S105 - of nobody
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "of-another-account")
    login = {
        "AWS_ACCESS_KEY_ID": "mine",
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_ENDPOINT_URL": wire.url,
    }
    write_login(address, os.environ, login)
    backend = open_backend(address, os.environ)
    assert backend.put("a/b", b"x")
    assert backend.get("a/b") == b"x"
    assert "Credential=mine/" in wire.signed
    assert "security-token" not in wire.signed
    wire.harm = lambda _number, _method, _path: "403"
    with pytest.raises(DeniedError) as caught:
        backend.get(f"a/{secret}")
    shown = "".join(traceback.format_exception(caught.value))
    assert secret not in shown.replace('backend.get(f"a/{secret}")', "")
    assert "***" in caught.value.message
    assert forget_login(address, os.environ)


def test_machines_without_an_account_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Google's and Azure's libraries would ask a network that is not there for minutes."""
    for name in [name for name in os.environ if name.startswith(("GOOGLE_", "AZURE_", "STORAGE_"))]:
        monkeypatch.delenv(name)
    for url in ("gs://bucket/a", "az://bucket/a"):
        with pytest.raises(DeniedError) as caught:
            open_backend(parse_address(url), os.environ)
        assert caught.value.code == "no-credentials"
        assert caught.value.hint == f"stemma remote login {url}"
