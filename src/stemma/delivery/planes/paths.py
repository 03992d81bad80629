"""Which paths, hosts and origins every data plane serves, and what it says when it refuses.

Invariants:
    * A path belongs to at most one model: ``digits`` never takes what is meant for ``digits2``.
    * Patterns are for a whole path without its query, in the syntax that RE2 and ``re`` share.

Example:
    >>> bool(re.fullmatch(model_pattern("digits"), "/v2/models/digits/infer"))
    True
    >>> bool(re.fullmatch(model_pattern("digits"), "/v2/models/digits2/infer"))
    False
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

LOOPBACK_HOSTS: Final = ("127.0.0.1", "localhost", "[::1]")
"""Names that clients may call a server on this machine by, without the port."""

SLOT_HEADER: Final = "x-stemma-slot"
"""Names the slot that a request of a drill or of staging is to reach."""

UNKNOWN_MODEL_PATTERN: Final = r"/v[12]/models/[^/].*|/models/[^/]+/invocations"
"""Paths that name a model; asked after the patterns of all models that are served."""

REFUSED_HOST: Final = (
    "this server answers to 127.0.0.1, localhost and [::1] only; "
    "the Host header names something else"
)
REFUSED_ORIGIN: Final = "pages of other origins may not call this server (Origin header)"
NOT_RUNNING: Final = "the server is not running, so only models are served; run: stemma serve"

EVERY_HOST: Final = "*"
"""Stands for all names, where callers say who they are and a page cannot do that for them."""

_NAMED_AT_MOST: Final = 50
_ANY_ADDRESS: Final = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - compared with, not bound to


def own_hosts(host: str, allowed: Sequence[str]) -> tuple[str, ...]:
    """Return what clients may call a server that listens at ``host`` by, beside loopback."""
    is_named = host not in {*LOOPBACK_HOSTS, "::1"} | _ANY_ADDRESS
    return tuple(dict.fromkeys((*((host,) if is_named else ()), *allowed)))


def model_pattern(model: str, *, is_default: bool = False) -> str:
    """Return the pattern of all paths of a model.

    Args:
        model: Its name.
        is_default: Whether paths that name no model are its, too.
    """
    name = re.escape(model)
    patterns = [rf"/v2/models/{name}(?:/.*)?", rf"/v1/models/{name}(?:[:/].*)?"]
    patterns.append(rf"/models/{name}/invocations")
    if is_default:
        patterns += ["/invocations", "/ping", "/v2/?", "/v2/health/.*"]
    return "|".join(patterns)


def origin_pattern(hosts: Sequence[str]) -> str:
    """Return the pattern of origins that may call: loopback, and ``hosts``."""
    names = "|".join(re.escape(host) for host in dict.fromkeys((*LOOPBACK_HOSTS, *hosts)))
    return rf"https?://(?:{names})(?::[0-9]+)?"


def unknown_model(served: Sequence[str]) -> str:
    """Return what is said to who asks for a model that is not served."""
    if not served:
        return "no model is served here"
    more = len(served) - _NAMED_AT_MOST
    names = ", ".join(served[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
    return f"no model of that name is served here; served: {names}"


def unknown_slot(model: str) -> str:
    """Return what is said to who names a slot that takes no probes."""
    return f"{model} has no slot of that name for probes ({SLOT_HEADER})"
