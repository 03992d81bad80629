"""Texts of ``stemma help TOPIC``."""

from __future__ import annotations

from typing import Final

from stemma.cli.exit_codes import MEANINGS

_REFS: Final = """\
A ref names a version of a model:

  digits              the channel stable, else the newest release
  digits@1.1.0        one release
  digits@^1           the newest release of 1.x (also ~1.2, 1.x, ">=1.4,<2")
  digits@stable       where the channel stable points (any channel)
  digits@r-7f3c       the run whose id begins so, released or not; r-7f3c alone will do
  digits@sha256:ab12  the version whose manifest begins so

Move a channel: stemma release digits@1.0.0 --channel stable
Remove it:      stemma release digits --drop-channel trial
Ask its past:   stemma log digits --channel stable --at 2026-05-03
"""

_GATES: Final = """\
Gates are conditions in stemma.toml that a version must meet to be released:

  [model.digits.gates]
  accuracy = ">= 0.965"
  "recall[class=*]" = ">= 0.90"          every class
  [model.digits.metadata]
  owner = { type = "str" }               must be there
  [model.digits.budgets]
  latency_p99_ms = 10                    at most

What was not measured does not pass.
A significant loss against the last release fails the gate `regression`.
`stemma check digits@r-7f3c` answers in one table and exits 3 on a no.
`stemma release digits --pre` keeps a refused version as a pre-release,
which may be on any channel but stable.
"""

_ENVIRONMENT: Final = """\
Flags win over these variables, these win over stemma.toml:

  STEMMA_PROJECT           folder of the project, instead of looking upward from here
  STEMMA_FORMAT            auto, human, agent, json or quiet, as --format
  STEMMA_PROGRESS          auto, bar, lines, json or none, as --progress
  STEMMA_USER              name written into runs and releases
  STEMMA_DATABASE          SQLAlchemy URL of the database
  STEMMA_MAY_USE_NETWORK   whether locking an environment may ask the package index
  STEMMA_DEBUG             1: show tracebacks
  NO_COLOR                 no colour; FORCE_COLOR and CLICOLOR_FORCE: always colour
  AI_AGENT, AGENT          set: write plain TSV even on a terminal

stemma doctor --settings shows each setting with its origin.
A command under `stemma run` sees STEMMA_INVOCATION, STEMMA_PROJECT, STEMMA_COMMAND,
STEMMA_SET and STEMMA_REASON.
"""


def topics() -> dict[str, str]:
    """Return every topic's text by name."""
    codes = "\n".join(f"  {int(code):>3}  {meaning}" for code, meaning in MEANINGS.items())
    return {
        "refs": _REFS,
        "gates": _GATES,
        "exit-codes": f"Exit codes; an unknown one means failure:\n\n{codes}\n",
        "environment": _ENVIRONMENT,
    }
