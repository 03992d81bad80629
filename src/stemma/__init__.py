"""Stemma versions AI models end to end; ``import stemma`` gives the SDK's names.

    with stemma.run("digits") as run:
        run.data("digits-train", (X, y))
        run.model(model, test=(X_test, y_test))
    run.release()

Invariants:
    * Importing this package imports nothing else: each name loads what it needs when it is
      first used, so ``import stemma`` costs next to nothing.

``stemma.client`` (predictions of a served model) comes with serving and is not here yet.
"""

__version__ = "0.1.0.dev0"

_HOMES = {
    "data": "stemma.sdk.datasets",
    "get": "stemma.sdk.versions",
    "load": "stemma.sdk.versions",
    "release": "stemma.sdk.versions",
    "run": "stemma.sdk.plan",
    "runs": "stemma.sdk.runs",
    "settings": "stemma.sdk.settings",
}

__all__ = ["__version__", "data", "get", "load", "release", "run", "runs", "settings"]

# The types of these names are in __init__.pyi: importing them here, even for the type checker
# alone, would make every layer below that imports the package depend on the SDK.


def __getattr__(name: str) -> object:
    """Load one of the names on first use."""
    home = _HOMES.get(name)
    if home is None:
        message = f"module 'stemma' has no attribute {name!r}"
        raise AttributeError(message)
    import importlib  # noqa: PLC0415 - not before a name is asked for

    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
