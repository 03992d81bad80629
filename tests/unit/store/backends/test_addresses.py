"""Addresses of remotes: what is understood, and what must never be stored."""

from __future__ import annotations

from pathlib import Path

import pytest

from stemma.domain.errors import InvalidInputError
from stemma.store.backends.addresses import parse_address
from stemma.store.backends.local import LocalBackend
from stemma.store.backends.opening import open_backend


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/a/b/", "s3://bucket/a/b"),
        ("gs://bucket/a", "gs://bucket/a"),
        ("az://container/a", "az://container/a"),
        ("/mnt/models", "/mnt/models"),
        ("/mnt/../models/", "/models"),
        ("file:///mnt/my%20models", "/mnt/my models"),
        ("shared", "/project/shared"),
        ("../shared", "/shared"),
    ],
)
def test_an_address_is_kept_in_one_form(text: str, url: str) -> None:
    """Two spellings of one place would be two remotes."""
    assert parse_address(text, folder=Path("/project")).url == url


@pytest.mark.parametrize(
    "text",
    [
        "s3://key:very-secret@bucket/a",
        "s3://key@bucket/a",
        "az://container/a?sig=very-secret",
        "gs://bucket/a#very-secret",
        "https://user:very-secret@host/a",
    ],
)
def test_a_secret_in_an_address_is_refused_and_not_repeated(text: str) -> None:
    """Git would see the secret, and so would every log of the refusal."""
    with pytest.raises(InvalidInputError) as caught:
        parse_address(text)
    assert caught.value.code == "secret-in-settings"
    assert "very-secret" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize(
    "text",
    ["", "ftp://host/a", "https://host/a", "s3://", "s3:///a", "s3://A B/c", "file://host/a"],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    """A typing error would make a folder of that name."""
    with pytest.raises(InvalidInputError) as caught:
        parse_address(text)
    assert caught.value.code == "bad-remote-url"


def test_a_folder_needs_no_cloud_library(tmp_path: Path) -> None:
    """The base package would need an extra for a disk."""
    assert isinstance(open_backend(parse_address(str(tmp_path)), {}), LocalBackend)
