"""Keys that login stores: for the user alone, for one address, and never shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stemma.domain.errors import DeniedError, InvalidInputError
from stemma.store.backends.addresses import parse_address
from stemma.store.backends.logins import forget_login, parse_login, read_login, write_login

_ADDRESS = parse_address("s3://bucket/team")
_TOLD = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "very-secret"}


@pytest.fixture
def user(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path / "home")}


def test_a_key_is_kept_for_one_address_and_for_the_user_alone(user: dict[str, str]) -> None:
    """Everybody on the machine could read it, or it would be sent to another bucket."""
    path = write_login(_ADDRESS, user, {**_TOLD, "AWS_SESSION_TOKEN": ""})
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert read_login(_ADDRESS, user) == _TOLD
    assert read_login(parse_address("s3://bucket/other"), user) == {}
    assert forget_login(_ADDRESS, user)
    assert not forget_login(_ADDRESS, user)
    assert read_login(_ADDRESS, user) == {}


def test_a_file_that_others_can_read_is_refused(user: dict[str, str]) -> None:
    """A backup that was unpacked with wide permissions would go on being used."""
    path = write_login(_ADDRESS, user, _TOLD)
    path.chmod(0o644)
    with pytest.raises(DeniedError) as caught:
        read_login(_ADDRESS, user)
    assert caught.value.code == "login-exposed"
    assert caught.value.hint == f"chmod 600 {path}"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"variables": 3}', '{"variables": {"X": "y"}}'])
def test_a_damaged_file_names_the_way_out(user: dict[str, str], text: str) -> None:
    """A stack of the JSON parser would be all that one sees."""
    write_login(_ADDRESS, user, _TOLD).write_text(text)
    with pytest.raises(InvalidInputError) as caught:
        read_login(_ADDRESS, user)
    assert caught.value.code == "bad-login"


@pytest.mark.parametrize(
    "told", [{}, {"AWS_ACCESS_KEY_ID": "id"}, {**_TOLD, "PASSWORD": "hidden-word"}]
)
def test_what_cannot_open_the_address_is_refused_without_showing_it(
    user: dict[str, str], told: dict[str, str]
) -> None:
    """The key would be in the log of the job that stored it."""
    with pytest.raises(InvalidInputError) as caught:
        write_login(_ADDRESS, user, told)
    assert "AWS_SECRET_ACCESS_KEY" in caught.value.message
    assert not {"very-secret", "hidden-word"} & set(caught.value.message.split())
    assert read_login(_ADDRESS, user) == {}


def test_lines_as_other_tools_write_them_are_read() -> None:
    """Who has a file of variables would have to rewrite it."""
    key = json.dumps({"client_email": "a@b", "private_key": "x=y\n"})
    assert parse_login(
        f"# mine\n\nexport A_B='c=d'\n X = 3\nGOOGLE_SERVICE_ACCOUNT_KEY={key}\n".replace(
            " = ", "="
        )
    ) == {"A_B": "c=d", "X": "3", "GOOGLE_SERVICE_ACCOUNT_KEY": key}
    with pytest.raises(InvalidInputError) as caught:
        parse_login("very-secret")
    assert "very-secret" not in caught.value.message
