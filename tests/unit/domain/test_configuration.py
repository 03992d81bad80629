"""``[model.NAME.serve]``: read, refused with its key, digested and compared."""

from __future__ import annotations

import tomllib
from dataclasses import fields, replace

import pytest

from stemma.domain import canonical
from stemma.domain.configuration import (
    Configuration,
    configuration_digest,
    diff_configurations,
    parse_configuration,
    period_text,
)
from stemma.domain.errors import InvalidInputError
from stemma.domain.policy import parse_policy

WHOLE = """
env = { OMP_NUM_THREADS = "1", MAX_TOKENS = "512", TOKENIZERS_PARALLELISM = "false" }
env_from = ["STORE_TOKEN", "DB_PASSWORD"]
flags = { explain = true, quiet = false, mode = "fast" }
thresholds = { fraud = 0.85, low = -2, tiny = 1e-9 }
replicas = 3
memory_mib = 512
cpus = 2
timeout_seconds = 5
start_timeout_seconds = 300
methods = ["predict_proba", "predict"]
trust_code = true
record_requests = true
drill_every = "7d"
"""


def parse(text: str) -> Configuration:
    return parse_configuration(tomllib.loads(text), "model.digits.serve")


def test_an_empty_table_is_the_default() -> None:
    """A model without settings could not be served."""
    assert parse("") == Configuration()
    assert parse_policy({}, "model.digits").serve == Configuration()


def test_every_key_reaches_its_field() -> None:
    """A setting would be read and have no effect."""
    assert parse(WHOLE) == Configuration(
        variables={
            "OMP_NUM_THREADS": "1",
            "MAX_TOKENS": "512",
            "TOKENIZERS_PARALLELISM": "false",
        },
        inherited=("DB_PASSWORD", "STORE_TOKEN"),
        flags={"explain": "true", "quiet": "false", "mode": "fast"},
        thresholds={"fraud": "0.85", "low": "-2", "tiny": "1e-09"},
        replicas=3,
        memory_mib=512,
        cpus=2,
        timeout_seconds=5,
        start_timeout_seconds=300,
        methods=("predict_proba", "predict"),
        is_code_trusted=True,
        is_recording=True,
        drill_every_seconds=7 * 86_400,
    )
    default = Configuration()
    for item in fields(Configuration):
        assert getattr(parse(WHOLE), item.name) != getattr(default, item.name), item.name


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("replica = 2", "model.digits.serve.replica:"),
        ("replicas = 0", "model.digits.serve.replicas:"),
        ("replicas = 65", "model.digits.serve.replicas:"),
        ("replicas = true", "model.digits.serve.replicas:"),
        ("replicas = 1.5", "model.digits.serve.replicas:"),
        ("memory_mib = 63", "model.digits.serve.memory_mib:"),
        ("cpus = 100000", "model.digits.serve.cpus:"),
        ("timeout_seconds = 86401", "model.digits.serve.timeout_seconds:"),
        ("start_timeout_seconds = -1", "model.digits.serve.start_timeout_seconds:"),
        ('trust_code = "yes"', "model.digits.serve.trust_code:"),
        ("record_requests = 1", "model.digits.serve.record_requests:"),
        ("drill_every = 7", "model.digits.serve.drill_every:"),
        ('drill_every = "7 days"', "model.digits.serve.drill_every:"),
        ('drill_every = "0d"', "model.digits.serve.drill_every:"),
        ('drill_every = "30s"', "model.digits.serve.drill_every:"),
        ('env = ["A"]', "model.digits.serve.env:"),
        ("env = { A = 1 }", "model.digits.serve.env.A:"),
        ('env = { "A B" = "1" }', 'model.digits.serve.env."A B":'),
        ('env = { A = "\\u0000" }', "model.digits.serve.env.A:"),
        ('env = { STEMMA_FLAG_X = "1" }', "model.digits.serve.env.STEMMA_FLAG_X:"),
        ('env_from = "A"', "model.digits.serve.env_from:"),
        ('env_from = ["A", "A"]', "model.digits.serve.env_from:"),
        ('env_from = ["A=B"]', "model.digits.serve.env_from:"),
        ('env = { A = "1" }\nenv_from = ["A"]', "model.digits.serve.env_from:"),
        ("flags = { a = 1 }", "model.digits.serve.flags.a:"),
        ('flags = { "a-b" = true }', "model.digits.serve.flags.a-b:"),
        ("flags = { a = true, A = false }", "model.digits.serve.flags.A:"),
        ("thresholds = { a = true }", "model.digits.serve.thresholds.a:"),
        ('thresholds = { a = "1" }', "model.digits.serve.thresholds.a:"),
        ("thresholds = { a = inf }", "model.digits.serve.thresholds.a:"),
        ("thresholds = { a = nan }", "model.digits.serve.thresholds.a:"),
        ('methods = "predict"', "model.digits.serve.methods:"),
        ('methods = ["predict", "predict"]', "model.digits.serve.methods:"),
        ('methods = ["a/b"]', "model.digits.serve.methods:"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_key(text: str, where: str) -> None:
    """A typing mistake would be found in production."""
    with pytest.raises(InvalidInputError) as caught:
        parse(text)
    assert caught.value.message.startswith(where)
    assert caught.value.hint
    with pytest.raises(InvalidInputError):
        parse_policy({"serve": tomllib.loads(text)}, "model.digits")


@pytest.mark.parametrize(
    "line",
    [
        'AWS_SECRET_ACCESS_KEY = "x"',
        'OPENAI_API_KEY = "x"',
        'apikey = "x"',
        'KEY = "x"',
        'HF_TOKEN = "x"',
        'CLIENT_SECRET = "x"',
        'PGPASSWORD = "x"',
        'DB_PASSWD = "x"',
        'GOOGLE_CREDENTIALS = "x"',
        'DATABASE = "postgresql://ada:hunter2@db.example/app"',
    ],
)
def test_a_secret_is_refused_with_a_way_that_works(line: str) -> None:
    """A password would be stored in plain text, for ever."""
    name = line.split(" ", 1)[0]
    with pytest.raises(InvalidInputError) as caught:
        parse(f"env = {{ {line} }}")
    assert caught.value.code == "secret-in-settings"
    assert "hunter2" not in caught.value.message
    assert parse(caught.value.hint.split(" takes")[0]).inherited == (name,)


@pytest.mark.parametrize(
    "line",
    [
        'MONKEY = "1"',
        'KEYBOARD = "de"',
        'DB_PASSWORD_FILE = "/run/secrets/db"',
        'HOME_PAGE = "https://example.org/a:b@c"',
        'EMPTY = ""',
    ],
)
def test_what_only_resembles_a_secret_is_accepted(line: str) -> None:
    """A harmless variable could not be set."""
    assert parse(f"env = {{ {line} }}").variables


def test_equal_configurations_have_equal_digests() -> None:
    """One configuration would have two numbers."""
    one = parse('env = { A = "1", B = "2" }\nenv_from = ["X", "Y"]')
    two = parse('env_from = ["Y", "X"]\nenv = { B = "2", A = "1" }')
    assert configuration_digest(one) == configuration_digest(two)
    whole = parse(WHOLE)
    assert canonical.decode(canonical.encode(whole), Configuration) == whole


def test_the_digest_of_a_configuration_is_for_ever() -> None:
    """Every stored deployment would name a configuration that is not found."""
    assert str(configuration_digest(Configuration())) == (
        "sha256:df250fb5ad21e29d3f3e8d244a31403a5f2a5b394e67d85fe5d8eef7a46c651a"
    )


@pytest.mark.parametrize("item", fields(Configuration), ids=lambda item: item.name)
def test_every_setting_counts_in_digest_and_diff(item: object) -> None:
    """A changed setting would go unnoticed."""
    name = getattr(item, "name")  # noqa: B009
    changed = replace(Configuration(), **{name: getattr(parse(WHOLE), name)})
    assert configuration_digest(changed) != configuration_digest(Configuration())
    assert diff_configurations(Configuration(), changed)


def test_a_diff_names_keys_as_they_are_written() -> None:
    """Nobody could find in ``stemma.toml`` what has changed."""
    before = parse('env = { A = "1", B = "2" }\nreplicas = 2')
    after = parse(
        'env = { A = "1", B = "3", C = "4" }\nenv_from = ["X"]\ntrust_code = true\n'
        'drill_every = "12h"\nthresholds = { fraud = 0.9 }'
    )
    assert diff_configurations(before, after) == [
        ("drill_every", "", "12h"),
        ("env.B", "2", "3"),
        ("env.C", "", "4"),
        ("env_from", "", "X"),
        ("replicas", "2", "1"),
        ("thresholds.fraud", "", "0.9"),
        ("trust_code", "false", "true"),
    ]
    assert diff_configurations(after, after) == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, ""),
        (60, "1m"),
        (5400, "90m"),
        (43_200, "12h"),
        (172_800, "2d"),
        (604_800, "1w"),
        (7, "7s"),
    ],
)
def test_a_period_is_written_in_its_largest_whole_unit(seconds: int, text: str) -> None:
    """A week would be shown as 604800."""
    assert period_text(seconds) == text
