"""Entry point: the fast answers first, then the verb, then the one place for errors.

Invariants:
    * ``stemma --version`` imports nothing but ``sys``.
    * No traceback reaches the terminal unless ``STEMMA_DEBUG=1``; an unexpected one is
      written to a file whose name is told.
    * With ``--json`` an error is JSON on stdout, valid and alone.
"""

from __future__ import annotations

import sys

from stemma.cli.version import VERSION

_VERSION_FLAGS = (["--version"], ["-V"])


def main() -> int:
    """Run the command line; returns the exit code."""
    arguments = sys.argv[1:]
    if arguments in _VERSION_FLAGS:
        print(f"stemma {VERSION}")
        return 0
    # Imported here: click costs seven times a bare interpreter's start.
    from stemma.cli.dispatch import dispatch  # noqa: PLC0415

    return dispatch(arguments)


if __name__ == "__main__":
    sys.exit(main())
