"""What an import from, or an export to, somebody else's server did."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from stemma.domain.errors import StemmaError


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftBehind:
    """Something that was not copied, while the rest was.

    Attributes:
        what: ``run 7f3c…``, ``registered model churn``.
        code: Stable machine name of the reason.
        detail: The reason in words.
        hint: What helps; may be empty.
        is_refused: Whether it failed; else it lies where it cannot be copied from.
    """

    what: str
    code: str
    detail: str
    hint: str = ""
    is_refused: bool = True


@dataclass(slots=True, kw_only=True)
class Tally:
    """How much was looked at, and how much was new or had changed.

    Attributes:
        seen: By noun, e.g. ``{"run": 40}``.
        copied: By noun.
        file_count: Files that were copied.
        file_bytes: Their size.
        left: What was not copied.
    """

    seen: dict[str, int] = field(default_factory=dict)
    copied: dict[str, int] = field(default_factory=dict)
    file_count: int = 0
    file_bytes: int = 0
    left: list[LeftBehind] = field(default_factory=list)

    def see(self, noun: str) -> None:
        """Count one that was looked at."""
        self.seen[noun] = self.seen.get(noun, 0) + 1

    def copy(self, noun: str) -> None:
        """Count one that was copied."""
        self.copied[noun] = self.copied.get(noun, 0) + 1

    def refuse(self, what: str, error: StemmaError) -> None:
        """Note what failed."""
        self.left.append(
            LeftBehind(what=what, code=error.code, detail=error.message, hint=error.hint)
        )

    def leave(self, what: str, uri: str) -> None:
        """Note artifacts that lie where they cannot be copied from."""
        self.left.append(
            LeftBehind(
                what=what,
                code="artifacts-elsewhere",
                detail=f"its artifacts lie at {uri[:200]}, which the server does not give out",
                hint="start it with --serve-artifacts and let runs log to mlflow-artifacts:/",
                is_refused=False,
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignOutcome:
    """What an import or export did.

    Attributes:
        server: Address of the server.
        seen: How much was looked at, by noun.
        copied: How much was new or had changed, by noun.
        file_count: Files that were copied.
        file_bytes: Their size.
        request_count: How many times the server was asked.
        left: What was not copied.
        is_dry_run: Nothing was written.
        url: Where a person finds what was exported; empty for an import.
    """

    server: str
    seen: dict[str, int]
    copied: dict[str, int]
    file_count: int
    file_bytes: int
    request_count: int
    left: tuple[LeftBehind, ...]
    is_dry_run: bool = False
    url: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether nothing failed."""
        return not any(item.is_refused for item in self.left)


class ForeignProgress(Protocol):
    """Told how far an import or export is."""

    def at(self, doing: str) -> None:
        """Take in what is being done, with counts."""
        ...

    def advance(self, size_bytes: int) -> None:
        """Count bytes that were copied."""
        ...
