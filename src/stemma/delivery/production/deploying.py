"""Whether a version can be served at all, and with which configuration.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from stemma.delivery.values import ConfigurationVersion
from stemma.domain.configuration import Configuration, parse_configuration
from stemma.domain.digest import Digest
from stemma.domain.errors import DeniedError, InvalidInputError
from stemma.domain.manifest import Manifest
from stemma.domain.rollout import Deployed

_PREDICT: Final = "predict"
"""What the runtime answers for every loader."""

_SERVED_LOADERS: Final = frozenset({"sklearn", "torch", "onnx"})


def configuration_of(models: Mapping[str, Mapping[str, object]], model: str) -> Configuration:
    """Return the configuration that ``[model.NAME.serve]`` asks for now.

    Args:
        models: Raw ``[model.NAME]`` tables by name.
        model: Name of the model.

    Raises:
        InvalidInputError: If the table has a wrong key, type or value.
    """
    table = models.get(model, {}).get("serve", {})
    where = f"model.{model}.serve"
    if not isinstance(table, Mapping):
        raise InvalidInputError(
            f"{where} must be a table, not {table!r}",
            code="bad-setting",
            hint=f"write [{where}] in stemma.toml",
        )
    return parse_configuration(table, where)


def to_deployed(version: str, manifest: Digest, configuration: ConfigurationVersion) -> Deployed:
    """Name a version together with its configuration."""
    return Deployed(version=version, manifest=str(manifest), configuration=configuration.digest)


def check_servable(label: str, version: str, manifest: Manifest) -> None:
    """Refuse what cannot be served.

    Args:
        label: What the user named, ``digits@1.1.0``.
        version: SemVer text; empty when it was never released.
        manifest: Its manifest.

    Raises:
        InvalidInputError: If it is not released, or no adapter can load it.
        DeniedError: If it holds a pickle, which would run code.
    """
    if not version:
        raise InvalidInputError(
            f"{label} is not released; only releases are served",
            code="not-released",
            hint=f"stemma release {label.partition('@')[0]}",
        )
    if manifest.artifact.is_pickle:
        raise DeniedError(
            f"{label} holds a pickle, and a pickle is never loaded by a server",
            code="pickle-not-served",
            hint="record it without unsafe_pickle=True: skops for scikit-learn, safetensors",
        )
    if manifest.artifact.loader not in _SERVED_LOADERS:
        raise InvalidInputError(
            f"{label} was recorded as plain files, which nothing here can ask for predictions",
            code="not-servable",
            hint="record the live model with run.model(...), or an ONNX file",
        )


def check_methods(label: str, manifest: Manifest, configuration: Configuration) -> None:
    """Refuse a configuration that serves methods the version does not have.

    Raises:
        InvalidInputError: Naming them, and those it has.
    """
    known = sorted({_PREDICT, *manifest.architecture.signature.methods})
    unknown = [name for name in configuration.methods if name not in known]
    if unknown:
        model = label.partition("@")[0]
        raise InvalidInputError(
            f"model.{model}.serve.methods: {label} has no {', '.join(unknown)}",
            code="bad-setting",
            hint=f"it has {', '.join(known)}",
        )
