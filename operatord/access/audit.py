# SPDX-License-Identifier: MIT
"""Who did what, as lines of JSON in a logger of their own: logins, refusals, starts, stops, extensions,
probes registered and removed, draining and its end, reloads.

Each has ``audit`` (what it is), ``user``, ``role`` (null before login) and ``from`` (where that comes from).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

from .identity import Identity
from .origin import Origin

log = logging.getLogger("operatord.audit")

REFUSALS = 20
"""Refusals that are written in a second, over all connections: who asks in vain a hundred thousand times is
not to fill the disk. Those that were left out are counted in the ``missed`` of the next one."""
LOGINS = 20
"""Logins of one user that are written in a second, in the same way: those of others are never left out."""


class Bound:
    """So many lines in a second."""

    def __init__(self, most: int) -> None:
        """Count from the first line on."""
        self._most = most
        self._since = 0.0
        self._written = self._missed = 0

    def take(self, now: float) -> dict[str, int] | None:
        """Return what a line tells of those that were left out before it; None if it is one of them."""
        if now >= self._since + 1.0:
            self._since, self._written = now, 0
        if self._written >= self._most:
            self._missed += 1
            return None
        self._written += 1
        missed, self._missed = self._missed, 0
        return {"missed": missed} if missed else {}


class Audit:
    """Writes the lines."""

    def __init__(self, now: Callable[[], float]) -> None:
        """``now`` returns seconds on a monotonic clock."""
        self._now = now
        self._refusals = Bound(REFUSALS)
        self._logins: dict[str, Bound] = {}
        """By user: as many as there are in settings, tokens and certificates with a role."""

    def note(self, what: str, who: Identity, origin: Origin, **more: Any) -> None:
        """Write that ``who``, from ``origin``, did something."""
        known = {"audit": what, "user": who.user, "role": who.role, "from": str(origin)}
        log.info("%s", json.dumps({**known, **more}))

    def refused(self, who: Identity, origin: Origin, **more: Any) -> None:
        """Write that something was refused, unless that is too often now."""
        if (missed := self._refusals.take(self._now())) is not None:
            self.note("refused", who, origin, **more, **missed)

    def login(self, who: Identity, origin: Origin, **more: Any) -> None:
        """Write that somebody has logged in, unless that is too often now."""
        bound = self._logins.setdefault(who.user, Bound(LOGINS))
        if (missed := bound.take(self._now())) is not None:
            self.note("login", who, origin, **more, **missed)
