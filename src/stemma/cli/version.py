"""The version as a constant: reading it from package metadata would cost 40 ms at each start.

A test compares it with the installed distribution's metadata.
"""

from __future__ import annotations

VERSION = "0.1.0.dev0"
