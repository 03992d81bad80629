"""What the judge says, in sentences that a person at night understands.

This module decides nothing.
"""

from __future__ import annotations

from stemma.domain.judge_evidence import Counts, surprise


def share_words(rate: float) -> str:
    """Return a rate as people read it: ``12.1 %``, ``0.04 %``."""
    percent = rate * 100
    digits = 0 if percent >= 99.95 or percent == 0 else 1 if percent >= 0.1 else 3  # noqa: PLR2004 - digits worth reading
    return f"{percent:.{digits}f} %"


def latency_words(duration_us: float) -> str:
    """Return a latency as people read it: ``41 ms``, ``0.8 ms``, ``2.5 s``."""
    milliseconds = duration_us / 1000
    if milliseconds >= 1000:  # noqa: PLR2004 - a second
        return f"{milliseconds / 1000:.1f} s"
    return f"{milliseconds:.0f} ms" if milliseconds >= 10 else f"{milliseconds:.1f} ms"  # noqa: PLR2004 - two digits


def evidence_words(value: float, limit: float) -> str:
    """Return how the evidence passed the limit."""
    amount = "more than a million" if value > 1e6 else f"{value:,.0f}"  # noqa: PLR2004 - no one reads on
    return f"evidence {amount} passes the limit of {limit:,.0f}"


def rates_words(counts: Counts, trials: str, *, is_recent: bool) -> str:
    """Return both rates: ``12.1 % of 5,301 canary requests against 0.4 % of stable's``."""
    last = "the last " if is_recent else ""
    return (
        f"{share_words(counts.canary_rate)} of {last}{counts.canary_trials:,.0f} canary {trials}"
        f" against {share_words(counts.stable_rate)} of stable's"
    )


def telling_rates(total: Counts, recent: Counts, trials: str, margin: float) -> str:
    """Return the rates of the stretch that shows best what is wrong: all of it, or the end."""
    is_recent = surprise(recent, margin=margin) > surprise(total, margin=margin)
    return rates_words(recent if is_recent else total, trials, is_recent=is_recent)
