"""From a slot's specification to what starts its processes: files, environment, overlay.

Invariants:
    * Everything a process is started with was verified in this very call.
    * An error names the version it is about.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stemma.delivery.layout import ServeLayout
from stemma.delivery.runtime.spec import ProcessSpec, encode_spec
from stemma.delivery.slots.base import SlotSpec
from stemma.delivery.slots.environments import ensure_environment
from stemma.delivery.slots.files import replace_bytes
from stemma.delivery.slots.materialise import (
    ARTIFACT_FOLDER,
    CODE_FOLDER,
    GOLDEN_FILE,
    materialise_version,
)
from stemma.delivery.slots.overlay import LAUNCHER, ensure_overlay
from stemma.delivery.slots.process import Launch, child_environment
from stemma.delivery.slots.sockets import socket_paths
from stemma.domain.errors import StemmaError
from stemma.domain.manifest import Manifest
from stemma.store.backends.local import translated_os_errors
from stemma.store.objects import ObjectStore

if TYPE_CHECKING:
    from collections.abc import Iterator

_THREAD_VARIABLES: Final = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"),
)
_NOT_A_NAME: Final = re.compile(r"[^A-Z0-9_]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Launcher:
    """Prepares slots in one serving folder; safe to use from several threads.

    Attributes:
        objects: Content store.
        layout: Where everything is made.
        load_manifest: From a manifest's digest to the manifest, verified.
        is_offline: Never ask the package index.
        variables: The variables a process may get some of; ours by default.
    """

    objects: ObjectStore
    layout: ServeLayout
    load_manifest: Callable[[str], Manifest]
    is_offline: bool = False
    variables: Mapping[str, str] | None = None

    def prepare(self, spec: SlotSpec) -> Launch:
        """Make or verify what the slot needs, and write its ``specification.json``.

        Raises:
            StemmaError: Naming the version: ``IntegrityError`` for damage in the store too,
                ``UnavailableError`` when packages are missing and no network answers.
        """
        with _naming(f"{spec.model} {spec.version}"):
            manifest = self.load_manifest(spec.manifest)
            folder = materialise_version(self.objects, manifest, spec.manifest, self.layout)
            environment = manifest.environment
            lock = self.objects.read_bytes(environment.lock).decode("utf-8")
            python = ensure_environment(
                lock,
                str(environment.identity),
                environment.python,
                self.layout,
                is_offline=self.is_offline,
            )
            minor = ".".join(environment.python.split(".")[:2])
            overlay = ensure_overlay(minor, self.layout, is_offline=self.is_offline)
            specification = self._write_specification(spec, manifest, folder)
        # Isolated (-I): neither the user's site-packages nor PYTHON variables get in. Compiled
        # modules go to the environment: nothing is written beside a version's own code.
        compiled = self.layout.environment(str(environment.identity)) / ".compiled"
        return Launch(
            command=(
                *(str(python), "-I", "-X", f"pycache_prefix={compiled}"),
                *(str(overlay / LAUNCHER), str(specification)),
            ),
            environment=process_environment(
                spec, os.environ if self.variables is None else self.variables
            ),
            memory_mib=spec.configuration.memory_mib,
        )

    def _write_specification(self, spec: SlotSpec, manifest: Manifest, folder: Path) -> Path:
        configuration, golden = spec.configuration, folder / GOLDEN_FILE
        content = ProcessSpec(
            model=spec.model,
            version=spec.version,
            manifest=spec.manifest,
            loader=manifest.artifact.loader,
            family=manifest.architecture.family,
            entry_point=manifest.architecture.entry_point,
            files=tuple(file.path for file in manifest.artifact.files),
            artifact_folder=str(folder / ARTIFACT_FOLDER),
            code_folder=str(folder / CODE_FOLDER) if any((folder / CODE_FOLDER).iterdir()) else "",
            golden=str(golden) if golden.exists() else "",
            task=manifest.evidence.golden.task if manifest.evidence.golden else "other",
            signature=manifest.architecture.signature,
            labels=manifest.architecture.labels,
            methods=configuration.methods,
            sockets=socket_paths(self.layout, spec.name, configuration.replicas),
            is_code_trusted=configuration.is_code_trusted,
            is_pickle=manifest.artifact.is_pickle,
            record_folder=str(self.layout.root / "recorded" / spec.model)
            if configuration.is_recording
            else "",
            cpus=configuration.cpus,
        )
        path = self.layout.slot(spec.name) / "specification.json"
        with translated_os_errors(f"write {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_bytes(path, encode_spec(content))
        return path


def process_environment(spec: SlotSpec, own: Mapping[str, str]) -> dict[str, str]:
    """Return every environment variable of a slot's processes.

    Few of our own, so that a process is the same whoever starts it; a configured variable
    wins over the limits of threads, and nothing wins over what says which version this is.
    """
    configuration = spec.configuration
    threads = dict.fromkeys(_THREAD_VARIABLES, str(configuration.cpus))
    named = {
        **{f"STEMMA_FLAG_{_upper(name)}": text for name, text in configuration.flags.items()},
        **{
            f"STEMMA_THRESHOLD_{_upper(name)}": text
            for name, text in configuration.thresholds.items()
        },
        "STEMMA_MODEL": spec.model,
        "STEMMA_VERSION": spec.version,
    }
    inherited = child_environment(own, configuration.inherited)
    return threads | inherited | dict(configuration.variables) | named


def _upper(name: str) -> str:
    return _NOT_A_NAME.sub("_", name.upper())


@contextmanager
def _naming(version: str) -> Iterator[None]:
    """Put the version's name before the message of an error."""
    try:
        yield
    except StemmaError as error:
        raise type(error)(
            f"{version}: {error.message}", code=error.code, hint=error.hint
        ) from error
