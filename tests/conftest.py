"""Settings of every test: property tests are deterministic and never fail for a slow machine."""

from __future__ import annotations

import signal

from hypothesis import settings

settings.register_profile("deterministic", derandomize=True, deadline=None)
settings.load_profile("deterministic")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs deaf to Ctrl-C, and the commands under test inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
