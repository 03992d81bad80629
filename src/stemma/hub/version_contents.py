"""What a version names: the trees and files that must be there to read all of it.

Invariants:
    * Every digest of a manifest is a stored tree or file, except identities, the files that
      its artifact's tree names already, and who and where it came from.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from stemma.domain import canonical
from stemma.domain.digest import Algorithm, Digest
from stemma.domain.errors import InvalidInputError
from stemma.domain.manifest import Manifest
from stemma.store.transfer import Content

COMPONENTS: Final = (
    "architecture",
    "datasets",
    "pipeline",
    "hyperparameters",
    "artifact",
    "environment",
    "evidence",
)
"""Parts of a manifest that name contents."""

_PASSED_OVER: Final = frozenset({"identity", "files"})
_REQUIRED: Final = frozenset({"content", "lock", "predictions"})


def contents_of(manifest: Manifest, only: Collection[str] = ()) -> list[Content]:
    """Return the contents of a version, or of some of its components."""
    plain = canonical.to_plain(manifest)
    found: dict[Digest, Content] = {}
    for name in only or COMPONENTS:
        for content in _walk(plain[name] if isinstance(plain, dict) else None, ""):
            known = found.get(content.digest)
            if known is None or content.is_required:
                found[content.digest] = content
    return list(found.values())


def _walk(value: object, field: str) -> Iterator[Content]:
    match value:
        case dict():
            for name, item in value.items():
                if name not in _PASSED_OVER:
                    yield from _walk(item, name)
        case list():
            for item in value:
                yield from _walk(item, field)
        case str():
            try:
                digest = Digest.parse(value)
            except InvalidInputError:
                return
            if digest.algorithm is Algorithm.BLAKE3:
                yield Content(digest, field in _REQUIRED)
        case _:
            return
