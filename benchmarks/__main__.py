"""``make bench``: run every scenario, or those that are named, and write the results."""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys

from benchmarks import scenarios
from benchmarks.measure import write_result


def main(names: list[str]) -> None:
    """Run the scenarios."""
    known = sorted(module.name for module in pkgutil.iter_modules(scenarios.__path__))
    unknown = [name for name in names if name not in known]
    if unknown:
        sys.exit(f"no scenario {', '.join(unknown)}; there are: {', '.join(known)}")
    for name in names or known:
        print(f"── {name}", flush=True)
        figures = importlib.import_module(f"benchmarks.scenarios.{name}").run()
        path = write_result(name, figures)
        print(json.dumps(figures, indent=2), f"\n→ {path}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
