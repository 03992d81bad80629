"""Where an installed distribution came from, when it was not an index (PEP 610)."""

from __future__ import annotations

import json
from importlib.metadata import Distribution
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from stemma.catalog.capture.git import without_credentials


class Origin(NamedTuple):
    """Where a distribution came from; all empty when it came from an index.

    ``address`` installs it again (``git+https://…@commit``, ``https://….whl``); ``folder`` is
    the local folder it was installed from, which no other machine has.
    """

    address: str = ""
    folder: Path | None = None
    is_editable: bool = False


def read_origin(distribution: Distribution) -> Origin:
    """Read a distribution's ``direct_url.json``; an unreadable one counts as none."""
    try:
        record = json.loads(distribution.read_text("direct_url.json") or "{}")
    except (OSError, ValueError):
        return Origin()
    if not isinstance(record, dict) or not isinstance(record.get("url"), str):
        return Origin()
    url = record["url"]
    vcs = record.get("vcs_info")
    if isinstance(vcs, dict) and vcs.get("commit_id"):
        return Origin(
            address=f"{vcs.get('vcs', 'git')}+{without_credentials(url)}@{vcs['commit_id']}"
        )
    directory = record.get("dir_info")
    if isinstance(directory, dict):
        return Origin(
            folder=Path(unquote(urlsplit(url).path)), is_editable=bool(directory.get("editable"))
        )
    # A wheel from a local folder counts as from an index: its version names it well enough.
    is_remote = urlsplit(url).scheme in {"http", "https"}
    return Origin(address=without_credentials(url) if is_remote else "")
