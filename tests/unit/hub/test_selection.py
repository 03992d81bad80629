"""What ``--only`` means."""

from __future__ import annotations

import pytest

from stemma.domain.errors import InvalidInputError
from stemma.hub.selection import Selection, is_under, may_hold, parse_selection


def test_components_and_paths_may_stand_side_by_side() -> None:
    """One of both would be fetched, or all."""
    assert parse_selection(["artifact", "data/train/a.csv", "code/"]) == Selection(
        components=("artifact", "architecture", "pipeline"), paths=("data/train/a.csv",)
    )


def test_names_of_the_manifest_mean_the_folders_of_a_checkout() -> None:
    """A path copied from ``show`` would not be found."""
    found = parse_selection(["datasets/train", "pipeline/prepare.py", "architecture/net.py"])
    assert found.paths == ("data/train", "code/prepare.py", "code/net.py")


@pytest.mark.parametrize("name", ["weights.bin", "params/depth", "environment/lock", "/", "../x"])
def test_what_is_neither_is_refused(name: str) -> None:
    """Nothing would be fetched, and nobody told."""
    with pytest.raises(InvalidInputError, match="is no component, nor a path in one"):
        parse_selection([name])


def test_a_name_that_begins_like_a_folder_is_not_in_it() -> None:
    """``data/train`` would bring ``data/train-large`` along."""
    assert is_under("data/train/a.csv", "data/train")
    assert not is_under("data/train-large/a.csv", "data/train")
    assert may_hold("data/train", "data/train/a.csv")
    assert not may_hold("data/train", "data/train-large/a.csv")
