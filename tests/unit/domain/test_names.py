"""Names of models and channels."""

from __future__ import annotations

import pytest

from stemma.domain.errors import InvalidInputError
from stemma.domain.names import NAME_LENGTH_LIMIT, check_channel_name, check_model_name


@pytest.mark.parametrize("name", ["digits", "a", "bert-base.v2", "team_model-3", "a" * 64])
def test_ordinary_model_names_are_allowed(name: str) -> None:
    """Users could not name their model."""
    assert check_model_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        ".hidden",
        "a/b",
        "a\\b",
        "/etc",
        "Digits",
        "dígits",
        "di gits",
        "1digits",
        "a--b",
        "a.",
        "a..b",
        "-a",
        "a\n",
        "a@b",
        "digits\x00",
        "ﬁnance",
        "a:b",
        "~",
    ],
)
def test_names_that_are_unsafe_in_a_path_are_refused(name: str) -> None:
    """A name could leave the store's folder, or collide with another by case or Unicode form."""
    with pytest.raises(InvalidInputError, match="is not allowed") as caught:
        check_model_name(name)
    assert caught.value.code == "bad-name"
    assert caught.value.hint


def test_a_refused_name_comes_with_a_proposal() -> None:
    """The user would have to guess."""
    with pytest.raises(InvalidInputError) as caught:
        check_model_name("My Digits!")
    assert caught.value.hint == "my-digits would do"
    with pytest.raises(InvalidInputError) as caught:
        check_model_name("数字")
    assert caught.value.hint == "digits would do"


@pytest.mark.parametrize("name", ["con", "nul.txt", "com1", "lpt9"])
def test_device_names_are_reserved(name: str) -> None:
    """A store made on Linux could not be opened on Windows."""
    with pytest.raises(InvalidInputError, match="reserved") as caught:
        check_model_name(name)
    assert caught.value.code == "reserved-name"


def test_the_project_can_reserve_words() -> None:
    """Name rules of the project would not hold at creation."""
    with pytest.raises(InvalidInputError, match="reserved"):
        check_model_name("test", reserved=("test",))


def test_names_have_a_length_limit() -> None:
    """A name could exceed what file systems and URLs allow."""
    with pytest.raises(InvalidInputError, match="65 characters"):
        check_model_name("a" * (NAME_LENGTH_LIMIT + 1))


@pytest.mark.parametrize("name", ["stable", "canary", "previous", "eu-west-1"])
def test_ordinary_channel_names_are_allowed(name: str) -> None:
    """Users could not name their channel."""
    assert check_channel_name(name) == name


@pytest.mark.parametrize("name", ["r-7f3c", "r-", "latest", "newest", "1.0.0", "a.b", "", "Stable"])
def test_channel_names_that_read_as_something_else_are_refused(name: str) -> None:
    """``digits@NAME`` would be ambiguous."""
    with pytest.raises(InvalidInputError):
        check_channel_name(name)


def test_the_project_can_rule_channel_names() -> None:
    """The name rules of ``stemma.toml`` would not hold at creation."""
    assert check_channel_name("eu-stable", pattern="(eu|us)-[a-z]+") == "eu-stable"
    with pytest.raises(InvalidInputError, match="the rule of this model"):
        check_channel_name("eu-stable-2", pattern="(eu|us)-[a-z]+")
    with pytest.raises(InvalidInputError, match="reserved"):
        check_channel_name("beta", reserved=("beta",))
