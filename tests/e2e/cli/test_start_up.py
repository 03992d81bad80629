"""What a start may cost: the answer to `--version` needs no framework."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROBE = """
import sys
sys.argv = ["stemma", *sys.argv[1:]]
from stemma.cli.main import main
main()
print(*sorted(sys.modules), file=sys.stderr)
"""


def _modules(*arguments: str, cwd: Path) -> set[str]:
    answer = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(answer.stderr.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("arguments", "forbidden"),
    [
        (["--version"], {"click", "json", "typing", "pathlib", "sqlalchemy", "msgspec"}),
        (["--help"], {"numpy", "sqlalchemy", "msgspec", "alembic", "yaml", "typing_extensions"}),
        (["release", "--help"], {"numpy", "sqlalchemy", "msgspec", "typing_extensions"}),
        (["rollout", "--help"], {"numpy", "sqlalchemy", "msgspec", "typing_extensions"}),
        (["serve", "--help"], {"numpy", "sqlalchemy", "msgspec", "starlette", "uvicorn"}),
        (["help", "refs"], {"numpy", "sqlalchemy", "msgspec"}),
    ],
)
def test_a_start_loads_only_what_it_needs(
    arguments: list[str], forbidden: set[str], tmp_path: Path
) -> None:
    """Every call would wait half a second for a database it does not open."""
    assert not forbidden & _modules(*arguments, cwd=tmp_path)


@pytest.mark.slow
def test_status_answers_without_opening_the_database(project: Path) -> None:
    """`status` in a prompt would be too slow to keep."""
    _modules("status", cwd=project)
    assert not {"numpy", "sqlalchemy", "msgspec"} & _modules("status", cwd=project)
