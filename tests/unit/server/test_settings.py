"""Settings: what wins, and that no mistake is passed over."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stemma.domain.errors import InvalidInputError
from stemma.server.settings import load_settings


def _load(root: Path, **variables: str) -> object:
    return load_settings(root, {"XDG_CONFIG_HOME": str(root / "home"), **variables})


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        ("user = 3\n", "bad-setting", "stemma.toml: user is int 3"),
        ("gc_grace_seconds = -1\n", "bad-setting", "it must not be negative"),
        ("lock_timeout_seconds = true\n", "bad-setting", "it must be int"),
        ('usr = "ada"\n', "unknown-setting", "unknown key 'usr'"),
        ("[model]\ndigits = 3\n", "bad-setting", "must hold tables"),
        ("[model.Digits]\n", "bad-name", "[model.Digits]"),
        ('[model."../x"]\n', "bad-name", "[model.../x]"),
        ("[model.digits\n", "bad-settings-file", "line 1"),
        ('database = "postgresql://ada:secret@host/db"\n', "secret-in-settings", "password"),
    ],
)
def test_a_mistake_in_the_file_is_told_whatever_the_environment_says(
    tmp_path: Path, text: str, code: str, told: str
) -> None:
    """It would show up months later, or never: a gate under a misspelled model does not hold."""
    (tmp_path / "stemma.toml").write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInputError) as caught:
        _load(tmp_path, STEMMA_USER="ada")
    assert caught.value.code == code
    assert told in caught.value.message
    assert "secret@" not in caught.value.message


def test_a_mistake_in_pyproject_names_pyproject(tmp_path: Path) -> None:
    """The user would look for it in a stemma.toml that does not exist."""
    (tmp_path / "pyproject.toml").write_text("[tool.stemma]\nuser = 3\n", encoding="utf-8")
    with pytest.raises(InvalidInputError, match=r"pyproject\.toml: user is int 3"):
        _load(tmp_path)


def test_a_folder_in_the_place_of_the_file_is_told(tmp_path: Path) -> None:
    """Its gates would silently not hold."""
    (tmp_path / "stemma.toml").mkdir()
    with pytest.raises(InvalidInputError, match="cannot be read") as caught:
        _load(tmp_path)
    assert caught.value.hint.startswith("ls -ld ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STEMMA_MAY_USE_NETWORK", "maybe"),
        ("STEMMA_LOCK_TIMEOUT_SECONDS", "soon"),
        ("STEMMA_LOCK_TIMEOUT_SECONDS", "-5"),
        ("STEMMA_GC_GRACE_SECONDS", "1e9"),
    ],
)
def test_a_wrong_variable_is_told_with_what_unsets_it(
    tmp_path: Path, name: str, value: str
) -> None:
    """A default would be used in its place."""
    with pytest.raises(InvalidInputError) as caught:
        _load(tmp_path, **{name: value})
    assert caught.value.hint == f"unset {name}"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_the_projects_own_file_is_never_skipped(tmp_path: Path) -> None:
    """A file that cannot be read would count as one without gates."""
    (tmp_path / "stemma.toml").write_text("", encoding="utf-8")
    (tmp_path / "stemma.toml").chmod(0)
    with pytest.raises(InvalidInputError, match="Permission denied"):
        _load(tmp_path)
