"""Names, sources and stages of the registry: what clients may send, and what they may not."""

from __future__ import annotations

import pytest

from stemma.domain.errors import InvalidInputError
from stemma.domain.names import (
    check_channel_name,
    check_model_name,
    fit_channel_name,
    fit_model_name,
)
from stemma.domain.registry import (
    LoggedModelFolder,
    ModelStage,
    RunFolder,
    VersionFiles,
    check_description,
    check_registered_name,
    parse_number,
    parse_source,
    parse_stage,
)


@pytest.mark.parametrize(
    ("name", "fitted"),
    [
        ("clf", "clf"),
        ("Iris_Classifier", "iris_classifier"),
        ("my model (v2)", "my-model-v2"),
        ("2024-churn", "model-2024-churn"),
        ("r-abcd", "model-r-abcd"),
        ("con.x", "model-con.x"),
        ("a..b", "a-b"),
    ],
)
def test_any_name_is_made_to_fit(name: str, fitted: str) -> None:
    """A model registered by an MLflow user could not be released."""
    assert fit_model_name(name) == fitted
    assert check_model_name(fitted) == fitted


def test_names_without_letters_and_long_names_stay_apart() -> None:
    """Two models would become one."""
    odd = ["模型", "..", "型", "x" * 200, "x" * 201, "-"]
    assert len({check_model_name(fit_model_name(name)) for name in odd}) == len(odd)


@pytest.mark.parametrize("name", ["Champion", "prod_v2", "2x", "_", "channel"])
def test_any_alias_fits_a_channel(name: str) -> None:
    """An alias would be refused for an upper-case letter."""
    assert check_channel_name(fit_channel_name(name))


def test_files_of_runs_and_logged_models_are_sources() -> None:
    """What log_model returns could not be registered."""
    folder = parse_source("mlflow-artifacts:/0/r-7f3c/artifacts/model/a b")
    assert folder == RunFolder("0", "r-7f3c", "model/a b")
    assert str(folder) == "mlflow-artifacts:/0/r-7f3c/artifacts/model/a b"
    assert str(RunFolder("1", "r-1", "")) == "mlflow-artifacts:/1/r-1/artifacts"
    assert parse_source("runs:/r-7f3c/model") == RunFolder("", "r-7f3c", "model")
    logged = LoggedModelFolder("m-ab")
    assert parse_source("models:/m-ab") == logged
    assert parse_source("mlflow-artifacts:/3/models/m-ab/artifacts") == logged
    assert parse_source("models:/my clf/3") == VersionFiles("my clf", 3)


@pytest.mark.parametrize(
    "source",
    [
        "",
        "/etc/passwd",
        "file:///etc/passwd",
        "http://host/x",
        "local:/x",
        "dbfs:/x",
        "s3://bucket/x",
        "models:/clf",
        "models:/clf/x",
        "models:/clf/0",
        "runs:/nothing/model",
        "mlflow-artifacts://host/0/r-7f3c/artifacts",
        "mlflow-artifacts:/0/r-7f3c/other",
        "mlflow-artifacts:/x/r-7f3c/artifacts",
        "mlflow-artifacts:/0/models/m-xyz/artifacts",
        "mlflow-artifacts:/0/r-7f3c/artifacts/../../x",
        "mlflow-artifacts:/0/r-7f3c/artifacts/%2e%2e/x",
        "mlflow-artifacts:/0/r-7f3c/artifacts/%252e%252e/x",
        "mlflow-artifacts:/0/r-7f3c/artifacts/%2525252525252525252e",
        "mlflow-artifacts:/0/r-7f3c/artifacts/a%2fb",
        "mlflow-artifacts:/0/r-7f3c/artifacts/a\\b",
        "mlflow-artifacts:/0/r-7f3c/artifacts/a?x=1",
        "mlflow-artifacts:/0/r-7f3c/artifacts/a\0b",
        "mlflow-artifacts:/0/r-7f3c/artifacts/" + "a" * 3000,
    ],
)
def test_no_other_place_is_a_source(source: str) -> None:
    """A client could have the server read any file or address."""
    with pytest.raises(InvalidInputError):
        parse_source(source)


def test_registered_names_stages_and_numbers_are_checked() -> None:
    """A name with a slash could never be loaded again."""
    assert check_registered_name("模型 (v2)") == "模型 (v2)"
    for name in ("", " ", ".", "..", "a/b", "a:b", "a\0", "x" * 256):
        with pytest.raises(InvalidInputError):
            check_registered_name(name)
    assert parse_stage("production") is ModelStage.PRODUCTION
    assert parse_number("12") == 12
    for stage in ("deleted", "live"):
        with pytest.raises(InvalidInputError):
            parse_stage(stage)
    for number in ("0", "-1", "1.2", "x", "1" * 40):
        with pytest.raises(InvalidInputError):
            parse_number(number)
    assert check_description("x") == "x"
    with pytest.raises(InvalidInputError):
        check_description("x" * 100_001)
