"""``stemma.get``, ``stemma.load`` and ``stemma.release``: versions as objects.

Invariants:
    * A model is loaded from bytes that were verified on the way, never from a pickle.
    * Code that came with a version runs only when the caller says ``trust_code=True``.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from typing_extensions import override

from stemma.domain.errors import DeniedError, GateFailedError, InvalidInputError
from stemma.domain.manifest import Manifest
from stemma.domain.release import GateResult
from stemma.domain.verdict import Level
from stemma.hub.base import (
    ReleaseOutcome,
    ReleaseRequest,
    ReleaseStatus,
    VersionDiff,
    VersionView,
)
from stemma.hub.local import LocalHub
from stemma.hub.parts import Owner
from stemma.sdk.adapters.base import LoadRequest
from stemma.sdk.adapters.registry import adapter_named
from stemma.sdk.lineage import note_parent
from stemma.sdk.materials import materialise
from stemma.sdk.tensors import TensorInfo, Tensors
from stemma.server.wiring import open_hub

_COMPUTED: Final = "auto"
_SHOWN_METRICS: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """What the caller allows and offers when loading.

    Attributes:
        into: Object that takes the state (torch).
        trust: Type names beyond scikit-learn's own that may be constructed.
        is_code_trusted: Whether the version's code may be imported.
    """

    into: object
    trust: tuple[str, ...]
    is_code_trusted: bool


class Version:
    """One version of a model, and how it came to its number.

    Attributes:
        outcome: What ``release`` decided; ``None`` when the version was looked up.
    """

    def __init__(self, view: VersionView, outcome: ReleaseOutcome | None = None) -> None:
        """Stand for what a ref named."""
        self._view = view
        self._tensors = Tensors(view)
        self.outcome = outcome

    @property
    def model(self) -> str:
        """Name of the model."""
        return self._view.model

    @property
    def number(self) -> str:
        """SemVer text, e.g. ``1.1.0``; empty for a run that is not released."""
        return self._view.version

    @property
    def run(self) -> str:
        """Id of the run it was recorded by."""
        return self._view.manifest.provenance.run

    @property
    def digest(self) -> str:
        """sha256 of the manifest: the version's identity."""
        return str(self._view.digest)

    @property
    def manifest(self) -> Manifest:
        """The whole record."""
        return self._view.manifest

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics by key, e.g. ``{"accuracy": 0.9722, "recall[class=8]": 0.923}``."""
        return {metric.key: metric.number for metric in self.manifest.evidence.metrics}

    @property
    def files(self) -> tuple[str, ...]:
        """Relative paths of the artifact's files."""
        return tuple(file.path for file in self.manifest.artifact.files)

    @property
    def channels(self) -> tuple[str, ...]:
        """Channels that pointed here when it was looked up."""
        return self._view.channels

    def path(self) -> Path:
        """Return a folder with the artifact's files, verified; not to be written to."""
        with closing(open_hub()) as hub:
            return _materialise(hub, self._view, "artifact")

    def load(
        self, *, into: object = None, trust: Sequence[str] = (), trust_code: bool = False
    ) -> Any:
        """Return the native object; see ``stemma.load``."""
        with closing(open_hub()) as hub:
            return _load(
                hub,
                self._view,
                LoadOptions(into=into, trust=tuple(trust), is_code_trusted=trust_code),
            )

    def tensors(self) -> tuple[TensorInfo, ...]:
        """List the tensors of its files: name, type, shape, size and file; reads headers only."""
        return self._tensors.infos()

    def tensor(self, name: str, *, framework: str = "numpy") -> Any:
        """Read one tensor and nothing else, verified; from a remote when it is not here.

        Args:
            name: Its name in the file, or ``FILE:NAME`` where several files have one of that name.
            framework: ``numpy``, which gets ``bfloat16`` and 8-bit floats as ``float32``, or
                ``torch``, which gets the type that is stored.

        Raises:
            NotFoundError: If there is none, or its file is neither here nor on a remote.
            IntegrityError: If the stored bytes are damaged.
        """
        return self._tensors.read(name, framework)

    def diff(self, other: Version | str) -> VersionDiff:
        """Compare with another version, component by component; this one is the earlier."""
        after = other if isinstance(other, str) else other._view.label  # noqa: SLF001 - own class
        with closing(open_hub()) as hub:
            return hub.diff(self._view.label, after)

    @override
    def __repr__(self) -> str:
        """Show what it is."""
        return f"<Version {self._view.label}: {self.manifest.architecture.summary}>"

    def _rows(self) -> list[tuple[str, str]]:
        manifest = self.manifest
        metrics = [f"{key} {value:.4f}" for key, value in self.metrics.items() if "[" not in key]
        architecture = manifest.architecture
        return [
            ("version", self._view.label),
            ("channels", ", ".join(self.channels) or "none"),
            (
                "architecture",
                f"{architecture.summary}, {architecture.parameter_count:,} parameters",
            ),
            ("data", ", ".join(item.name for item in manifest.datasets.datasets) or "none"),
            ("artifact", f"{', '.join(self.files)} ({manifest.artifact.size_bytes:,} bytes)"),
            ("metrics", ", ".join(metrics[:_SHOWN_METRICS]) or "none"),
            ("recorded", f"{manifest.provenance.ended_at:%Y-%m-%d %H:%M} UTC"),
        ]

    def _repr_html_(self) -> str:
        """Show a table in a notebook."""
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
            f"<td style='text-align:left'>{html.escape(value)}</td></tr>"
            for name, value in self._rows()
        )
        return f"<table>{rows}</table>"

    def _repr_markdown_(self) -> str:
        """Show a table where only Markdown is shown."""
        rows = "\n".join(
            f"| {name} | {value.replace('|', chr(92) + '|')} |" for name, value in self._rows()
        )
        return f"| | |\n|---|---|\n{rows}"


def get(ref: str) -> Version:
    """Look up a version.

    Args:
        ref: ``digits@1.1.0``, ``digits@^1``, ``digits@stable``, ``digits@r-7f3c``, ``digits``.

    Raises:
        NotFoundError: If nothing has that name.
    """
    with closing(open_hub()) as hub:
        return Version(hub.resolve(ref))


def load(
    ref: str, *, into: object = None, trust: Sequence[str] = (), trust_code: bool = False
) -> Any:
    """Load a model: the native object, with its number as ``.version`` where it takes one.

    Args:
        ref: As for ``stemma.get``.
        into: torch module that takes the state; without, its tensors by name are returned.
        trust: Type names beyond scikit-learn's own that a skops file may construct.
        trust_code: Import the model's class from the code recorded with it, which runs that code.

    Returns:
        A scikit-learn estimator, the torch module, an ``onnxruntime.InferenceSession``, or the
        path of the file or folder for a model that was recorded as it is.

    Raises:
        NotFoundError: If nothing has that name.
        DeniedError: If it is a pickle, or holds a type that is not trusted.
        IntegrityError: If the stored bytes are damaged.
    """
    with closing(open_hub()) as hub:
        return _load(
            hub,
            hub.resolve(ref),
            LoadOptions(into=into, trust=tuple(trust), is_code_trusted=trust_code),
        )


def _materialise(
    hub: LocalHub, view: VersionView, component: Literal["artifact", "architecture"]
) -> Path:
    manifest = view.manifest
    part = manifest.artifact if component == "artifact" else manifest.architecture
    owner = Owner(what=f"the {component} of {view.label}", ref=view.label, component=component)
    with hub.reading(view.digest):
        return materialise(hub, part.content, owner)


def _load(hub: LocalHub, view: VersionView, options: LoadOptions) -> Any:
    artifact = view.manifest.artifact
    if artifact.is_pickle:
        raise DeniedError(
            f"{view.label} is a pickle: loading it runs whatever code is inside",
            code="pickle-not-loaded",
            hint=f"stemma.get({view.label!r}).path() gives the file, if you trust who made it",
        )
    note_parent(view.digest)
    folder = _materialise(hub, view, "artifact")
    if artifact.loader == "file":
        return folder / artifact.files[0].path if len(artifact.files) == 1 else folder
    architecture = view.manifest.architecture
    code = _materialise(hub, view, "architecture") if options.is_code_trusted else None
    native = adapter_named(artifact.loader).load(
        LoadRequest(
            folder=folder,
            files=tuple(file.path for file in artifact.files),
            code_folder=code,
            family=architecture.family,
            entry_point=architecture.entry_point,
            into=options.into,
            trust=options.trust,
        )
    )
    with suppress(AttributeError):
        native.version = view.version or view.manifest.provenance.run  # type: ignore[attr-defined]
    return native


def release(  # noqa: PLR0913 - the options of `stemma release`, named at the call
    model: str,
    bump: str = _COMPUTED,
    message: str | None = None,
    *,
    run: str = "",
    pre: bool = False,
    reason: str = "",
    channel: str = "",
) -> Version:
    """Release the newest finished run of a model, or a named one.

    Args:
        model: Name of the model.
        bump: ``auto`` takes the level computed from the evidence; ``patch``, ``minor`` or
            ``major`` sets it, and a lower one than computed needs ``reason``.
        message: Your words on this release.
        run: Run to release; without, the newest finished one.
        pre: Release as a pre-release, gates notwithstanding.
        reason: Why another level than the computed one.
        channel: Channel to move to the release.

    Returns:
        The release; when nothing has changed, the version that already is this.

    Raises:
        NotFoundError: If there is no finished run.
        GateFailedError: If a gate refuses it; nothing has changed then.
    """
    request = ReleaseRequest(
        model=model,
        run=run,
        bump=_level(bump),
        override_reason=reason,
        is_prerelease=pre,
        message=message or "",
        channel=channel,
    )
    with closing(open_hub()) as hub:
        outcome = hub.release(request)
        if outcome.status is ReleaseStatus.REFUSED:
            raise _refusal(model, outcome)
        return Version(hub.resolve(f"{model}@{outcome.version}"), outcome)


def _level(bump: str) -> Level | None:
    if bump == _COMPUTED:
        return None
    allowed = [Level.PATCH.value, Level.MINOR.value, Level.MAJOR.value]
    if bump not in allowed:
        raise InvalidInputError(
            f"bump is {bump!r}", code="bad-bump", hint=f"use {_COMPUTED}, {', '.join(allowed)}"
        )
    return Level(bump)


def _refusal(model: str, outcome: ReleaseOutcome) -> GateFailedError:
    failed = [result for result in outcome.gates if not result.has_passed]
    return GateFailedError(
        f"{model} not released: {'; '.join(_shown(result) for result in failed)}",
        code="gates-failed",
        hint=f"stemma release {model} --pre keeps it as a pre-release",
    )


def _shown(result: GateResult) -> str:
    return f"{result.gate} is {result.actual}, needs {result.needed}"
