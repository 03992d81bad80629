"""Where settings files lie, the one that wins first; imports the standard library only.

Apart from ``stemma.server.settings``, because ``stemma status`` looks at their times on
every call and reads none.
"""

from __future__ import annotations

import os.path
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

PROJECT_FILE: Final = "stemma.toml"


class SettingsFiles(NamedTuple):
    """Every file that settings may come from.

    Attributes:
        project: ``stemma.toml``.
        tool: ``pyproject.toml``, read when there is no ``stemma.toml``.
        user: The user's ``config.toml``.
        machine: The machine's ``config.toml``.
    """

    project: Path
    tool: Path
    user: Path
    machine: Path


def settings_files(root: Path, variables: Mapping[str, str]) -> SettingsFiles:
    """Return the settings files of the project at ``root``, whether they exist or not."""
    # Not Path.home(), which raises for a user without a home, as many containers have.
    home = Path(variables.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"))  # noqa: PTH111
    return SettingsFiles(
        project=root / PROJECT_FILE,
        tool=root / "pyproject.toml",
        user=home / "stemma" / "config.toml",
        machine=Path("/etc/stemma/config.toml"),
    )
