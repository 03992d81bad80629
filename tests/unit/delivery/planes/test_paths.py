"""Paths that a model answers, and what is said to others."""

from __future__ import annotations

import re

import pytest

from stemma.delivery.planes.paths import model_pattern, origin_pattern, own_hosts, unknown_model


@pytest.mark.parametrize(
    ("path", "is_its"),
    [
        ("/v2/models/a.b-c", True),
        ("/v2/models/a.b-c/infer", True),
        ("/v2/models/a.b-c/versions/1.0.0/infer", True),
        ("/v1/models/a.b-c:predict", True),
        ("/models/a.b-c/invocations", True),
        ("/v2/models/a.b-c2/infer", False),
        ("/v2/models/aXb-c/infer", False),
        ("/v2/models/a.b-c-d", False),
        ("/x/v2/models/a.b-c", False),
        ("/ping", False),
    ],
)
def test_a_path_belongs_to_the_model_it_names(path: str, *, is_its: bool) -> None:
    """A request would be answered by another model."""
    assert bool(re.fullmatch(model_pattern("a.b-c"), path)) is is_its


def test_the_first_model_answers_paths_that_name_none() -> None:
    """A client that knows only ``/invocations`` would get nothing."""
    pattern = model_pattern("digits", is_default=True)
    for path in ("/invocations", "/ping", "/v2", "/v2/health/live"):
        assert re.fullmatch(pattern, path)
    assert not re.fullmatch(pattern, "/v2/models")


def test_origins_are_matched_whole() -> None:
    """A look-alike host would pass for this machine."""
    pattern = origin_pattern(("gpu.lan",))
    for origin in ("http://localhost", "https://[::1]:8700", "http://gpu.lan:1"):
        assert re.fullmatch(pattern, origin)
    for origin in ("http://localhost.evil", "http://gpuxlan", "null", "http://localhost:1/x"):
        assert not re.fullmatch(pattern, origin)


def test_a_server_answers_to_the_name_it_listens_at() -> None:
    """Loopback and any-address name no host that a client could use."""
    assert own_hosts("127.0.0.1", ()) == own_hosts("::", ()) == ()
    assert own_hosts("gpu.lan", ("x", "gpu.lan")) == ("gpu.lan", "x")


def test_served_models_are_named_up_to_a_limit() -> None:
    """A thousand models would make an answer of many pages."""
    assert unknown_model([]) == "no model is served here"
    assert unknown_model([f"m{number}" for number in range(60)]).endswith("m49 and 10 more")
