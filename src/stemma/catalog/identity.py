"""When two components are the same: identities as pure functions of what was captured.

Invariants (decision: ``docs/decisions/accepted/0002-component-identity.md``):
    * Equal meaning gives equal identity, whatever the container, the time or the machine.
    * Architecture covers what the model *is*; pipeline covers how it was *made*.  A script
      that holds both counts with its model classes here and with its bytes there.

This module reads no files and stores nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Final

from stemma.catalog.capture.base import CapturedEnvironment, CapturedModel
from stemma.catalog.capture.hyperparameters import to_json_value
from stemma.catalog.capture.source import normal_form
from stemma.domain import canonical
from stemma.domain.component import Dataset, Stage
from stemma.domain.digest import Digest
from stemma.store.hashing import hash_bytes

_INTERPRETER: Final = re.compile(r"(python|pypy)[0-9.]*(\.exe)?")


def architecture_identity(model: CapturedModel | None, modules: Mapping[str, str]) -> Digest:
    """Digest family, structure, signature, labels, tokens and the source that defines the model.

    Args:
        model: What the adapter read; ``None`` when no model was recorded.
        modules: Source text of the imported modules that define it, by path.
    """
    if model is None:
        return hash_bytes(canonical.encode({}))
    return hash_bytes(
        canonical.encode(
            {
                "family": model.family,
                "labels": list(model.labels),
                "modules": {path: normal_form(text) for path, text in modules.items()},
                "signature": canonical.to_plain(model.signature),
                "source": {name: normal_form(text) for name, text in model.defining_source.items()},
                "special_tokens": list(model.special_tokens),
                "structure": canonical.to_plain(model.structure),
                "tokens": list(model.tokens),
            }
        )
    )


def pipeline_identity(
    files: Mapping[str, Digest], script: str, command: Sequence[str], stages: Sequence[Stage]
) -> Digest:
    """Digest the bytes of scripts and configuration, the command and the declared stages."""
    return hash_bytes(
        canonical.encode(
            {
                "command": list(command),
                "files": {path: str(digest) for path, digest in files.items()},
                "script": script,
                "stages": [canonical.to_plain(stage) for stage in stages],
            }
        )
    )


def datasets_identity(datasets: Sequence[Dataset]) -> Digest:
    """Digest role, name, content and preprocessing of each dataset."""
    rows = [
        [dataset.role.value, dataset.name, str(dataset.identity), list(dataset.preprocessing)]
        for dataset in datasets
    ]
    return hash_bytes(canonical.encode(rows))


def artifact_identity(model: CapturedModel, other_files: Mapping[str, Digest]) -> Digest:
    """Digest tensors and configuration, and the bytes of every file they do not cover."""
    configuration = json.dumps(
        to_json_value(model.configuration), ensure_ascii=True, allow_nan=False, sort_keys=True
    )
    return hash_bytes(
        canonical.encode(
            {
                "configuration": configuration,
                "files": {path: str(digest) for path, digest in other_files.items()},
                "tensors": dict(model.tensors),
            }
        )
    )


def environment_identity(environment: CapturedEnvironment) -> Digest:
    """Digest Python's minor version and every ``name==version``."""
    return hash_bytes(
        canonical.encode(
            {
                "packages": [f"{p.name}=={p.version}" for p in environment.packages],
                "python": ".".join(environment.python.split(".")[:2]),
            }
        )
    )


def normal_command(command: Sequence[str], project_root: PurePath) -> tuple[str, ...]:
    """Return the command as it reads on any machine: no interpreter path, no project path."""
    words = list(command)
    if words and _INTERPRETER.fullmatch(PurePath(words[0]).name.lower()):
        words[0] = "python"
    return tuple(_relative(word, project_root) for word in words)


def _relative(word: str, project_root: PurePath) -> str:
    path = PurePath(word)
    if path.is_absolute() and path.is_relative_to(project_root):
        return path.relative_to(project_root).as_posix()
    return word
