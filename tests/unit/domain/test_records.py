"""Digests, metrics and the schemas of records: what is refused when it is read."""

from __future__ import annotations

import copy
from datetime import UTC, datetime

import pytest

from stemma.domain.digest import Algorithm, Digest
from stemma.domain.errors import InvalidInputError
from stemma.domain.manifest import Metric
from stemma.domain.release import ChannelMove, Release
from stemma.domain.verdict import Level

ZERO = Digest.sha256("0" * 64)
MOMENT = datetime(2026, 5, 3, tzinfo=UTC)


def test_a_digest_reads_back_and_behaves_as_a_value() -> None:
    """Content could not be looked up by its digest."""
    assert Digest.parse(str(ZERO)) == ZERO
    assert copy.deepcopy(ZERO) == ZERO
    assert len({ZERO, Digest.parse(str(ZERO))}) == 1
    assert Digest.blake3("0" * 64) != ZERO
    assert str(ZERO) != ZERO
    assert Digest.blake3("f" * 64) < ZERO
    assert ZERO.short == "00000000"
    assert repr(ZERO) == f"Digest.parse('{ZERO}')"
    assert Digest(Algorithm.MD5, "0" * 32).algorithm is Algorithm.MD5


def test_a_digest_never_changes() -> None:
    """An identity could be altered in memory."""
    with pytest.raises(AttributeError, match="immutable"):
        ZERO.hex = "1" * 64


@pytest.mark.parametrize(
    "text", ["", "sha256", "sha1:00", "sha256:00", "sha256:" + "G" * 64, "sha256:" + "A" * 64]
)
def test_a_malformed_digest_is_refused(text: str) -> None:
    """A truncated digest would name nothing, or another thing."""
    with pytest.raises(InvalidInputError, match="not a") as caught:
        Digest.parse(text)
    assert caught.value.code == "bad-digest"


@pytest.mark.parametrize(
    ("value", "code"),
    [("nan", "metric-not-finite"), ("-inf", "metric-not-finite"), ("high", "bad-metric")],
)
def test_a_metric_must_be_a_finite_number(value: str, code: str) -> None:
    """A gate would compare with NaN and pass or fail by accident."""
    with pytest.raises(InvalidInputError, match=r"metric recall\[class=8\]") as caught:
        Metric(name="recall", slice="class=8", value=value)
    assert caught.value.code == code


def test_records_of_another_schema_are_refused() -> None:
    """A newer program's record would be half understood."""
    with pytest.raises(InvalidInputError, match="release schema") as caught:
        Release(
            model="digits",
            version="1.0.0",
            manifest=ZERO,
            sequence=1,
            level=Level.MAJOR,
            released_at=MOMENT,
            released_by="ada",
            schema="stemma.release/2",
        )
    assert caught.value.code == "unknown-schema"
    with pytest.raises(InvalidInputError, match="channel move schema"):
        ChannelMove(
            model="digits",
            channel="stable",
            version="1.0.0",
            manifest=ZERO,
            sequence=1,
            moved_at=MOMENT,
            moved_by="ada",
            schema="stemma.channel-move/2",
        )
