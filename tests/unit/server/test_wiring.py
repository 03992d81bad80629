"""Making and finding a project."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir, closing
from pathlib import Path

import pytest

from stemma.delivery.layout import ServeLayout
from stemma.delivery.server_file import server_lock
from stemma.domain.errors import ConflictError, NoProjectError
from stemma.server.wiring import find_project, init_project, open_hub, rebuild_project


@pytest.fixture
def inside(tmp_path: Path) -> Iterator[Path]:
    """Work in an empty folder."""
    with chdir(tmp_path):
        yield tmp_path


def test_a_project_is_made_in_a_relative_folder(inside: Path) -> None:
    """A script that calls ``init_project(Path("."))`` would be told of a broken database."""
    assert init_project(Path())
    assert not init_project(Path())
    with closing(open_hub(Path())) as hub:
        assert hub.list_models() == []


def test_a_project_is_found_from_a_folder_below(inside: Path) -> None:
    """Verbs would work in the project's top folder only."""
    init_project(inside)
    below = inside / "a" / "b"
    below.mkdir(parents=True)
    assert find_project(below) == inside.resolve()


def test_the_database_is_not_made_again_under_a_server(inside: Path) -> None:
    """A server would go on with rows that are gone, and move traffic by them."""
    init_project(inside)
    with (
        server_lock(ServeLayout(state=inside.resolve() / ".stemma")),
        pytest.raises(ConflictError) as caught,
    ):
        rebuild_project(inside)
    assert caught.value.code == "server-running"
    assert rebuild_project(inside)["releases"] == 0


def test_no_project_names_the_command_that_makes_one(inside: Path) -> None:
    """A newcomer would not know what to type."""
    with pytest.raises(NoProjectError) as caught:
        find_project(inside)
    assert caught.value.hint == "stemma init"


@pytest.mark.slow
def test_the_project_variable_may_be_relative(inside: Path) -> None:
    """`STEMMA_PROJECT=.. stemma status` would be told of a broken database."""
    init_project(inside)
    below = inside / "below"
    below.mkdir()
    answer = subprocess.run(
        [sys.executable, "-m", "stemma.cli.main", "log", "--json"],
        cwd=below,
        env={**os.environ, "STEMMA_PROJECT": ".."},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (answer.returncode, answer.stdout) == (0, "[]\n"), answer.stderr
