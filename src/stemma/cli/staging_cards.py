"""What ``stemma check --staging`` says: one line, then one row per result.

Invariants:
    * Pure: made from a ``StagingReport`` only.
    * What requests were replayed, and how, stands beside every figure made from them.
"""

from __future__ import annotations

from stemma.cli import render
from stemma.cli.cards import check_rows
from stemma.delivery.values import StagingReport


def staging_card(report: StagingReport) -> list[str]:
    """Answer whether a version may be deployed."""
    failed = [result for result in report.results if not result.has_passed]
    if not report.results:
        head = f"{render.DONE} {report.label} may be deployed: nothing was asked"
    elif failed:
        what = render.count(len(failed), "check")
        head = f"{render.REFUSED} {report.label} may not be deployed: {what} failed"
    else:
        count = len(report.results)
        head = f"{render.DONE} {report.label} may be deployed   {count} of {count} passed"
    lines = [head, *render.table(check_rows(report.results, has_marks=True), indent=2)]
    return [*lines, *render.labelled([("load", load_text(report))])]


def load_text(report: StagingReport) -> str:
    """Say which requests were replayed, how, and what came of it."""
    if not report.requests:
        return "no requests were sent"
    kind = f" {report.source}" if report.source else ""
    rate = f" at {report.rate_per_second:.3g} a second" if report.rate_per_second else ""
    pattern = f", spaced as {report.pattern}" if report.pattern else ""
    parts = [f"{report.requests:,}{kind} requests{rate}{pattern}"]
    parts += [f"p99 {report.latency_p99_ms:.1f} ms"] if report.latency_p99_ms else []
    parts += [f"{report.memory_mib:.0f} MiB"] if report.memory_mib else []
    return "   ".join(parts)
