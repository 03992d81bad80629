"""Remotes in a settings file: added and removed without touching anything else."""

from __future__ import annotations

from pathlib import Path

import pytest

from stemma.domain.errors import InvalidInputError
from stemma.hub.remote_tables import add_table, remove_table
from stemma.server.settings import load_settings

_TEXT = """\
# our settings
user = "ada"   # me

[model.toy]
interface = ["predict"]
"""


def test_a_remote_comes_and_goes_and_leaves_the_rest_as_it_was(tmp_path: Path) -> None:
    """A person's comments would be lost."""
    path = tmp_path / "stemma.toml"
    path.write_text(_TEXT)
    add_table(tmp_path, "origin", "s3://bucket/a")
    add_table(tmp_path, "backup", '/mnt/a "b"')
    assert path.read_text().startswith(_TEXT)
    assert load_settings(tmp_path, {}).remotes == {
        "origin": "s3://bucket/a",
        "backup": '/mnt/a "b"',
    }
    remove_table(tmp_path, "origin")
    assert load_settings(tmp_path, {}).remotes == {"backup": '/mnt/a "b"'}
    remove_table(tmp_path, "backup")
    assert path.read_text() == _TEXT


def test_settings_in_pyproject_stay_there(tmp_path: Path) -> None:
    """A new stemma.toml would switch off every setting that pyproject.toml holds."""
    path = tmp_path / "pyproject.toml"
    path.write_text('[tool.stemma]\nuser = "ada"\n')
    add_table(tmp_path, "origin", "s3://bucket/a")
    assert not (tmp_path / "stemma.toml").exists()
    settings = load_settings(tmp_path, {})
    assert (settings.user, settings.remotes) == ("ada", {"origin": "s3://bucket/a"})
    remove_table(tmp_path, "origin")
    assert path.read_text() == '[tool.stemma]\nuser = "ada"\n'


@pytest.mark.parametrize(
    "text", ['remote.origin.url = "/a"\n', '[remote]\norigin = {url = "/a"}\n']
)
def test_a_layout_a_program_should_not_edit_is_left_to_the_person(
    tmp_path: Path, text: str
) -> None:
    """The file would lose something, or stop being TOML."""
    path = tmp_path / "stemma.toml"
    path.write_text(text)
    assert load_settings(tmp_path, {}).remotes == {"origin": "/a"}
    with pytest.raises(InvalidInputError):
        remove_table(tmp_path, "origin")
    assert path.read_text() == text


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('[remote.origin]\nurl = "s3://key:very-secret@bucket"\n', "secret-in-settings"),
        ("[remote.origin]\n", "bad-setting"),
        ('[remote.origin]\nurl = "/a"\npassword = "very-secret"\n', "bad-setting"),
        ("remote = 3\n", "bad-setting"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, text: str, code: str) -> None:
    """A secret would rest in a file that git sees."""
    (tmp_path / "stemma.toml").write_text(text)
    with pytest.raises(InvalidInputError) as caught:
        load_settings(tmp_path, {})
    assert caught.value.code == code
    assert "very-secret" not in caught.value.message
