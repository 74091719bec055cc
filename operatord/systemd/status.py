# SPDX-License-Identifier: MIT
"""The line that ``systemctl status`` shows of the daemon: its sessions, and whether the engine answers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from operatord.core.phases import TRANSITIONS
from operatord.store.events import EventLog, Subscription

SOON = 0.2
"""Seconds after a change until the line is written anew: what a burst changes is one line."""


def status_line(phases: Iterable[str], engine: str, state: str) -> str:
    """Return it, from the phase of each living session."""
    counts = Counter(phases)
    sessions = ", ".join(f"{counts[phase]} {phase}" for phase in TRANSITIONS if counts[phase])
    return f"sessions: {sessions or 'none'}; engine {engine}: {state}"


class StatusLine(Subscription):
    """Has the line written anew, soon, when anything has happened."""

    __slots__ = ("_timer", "_write")

    def __init__(self, events: EventLog, write: Callable[[], None]) -> None:
        """Call ``write`` after events, and after `due`, until `end`."""
        self._write = write
        self._timer: asyncio.TimerHandle | None = None
        super().__init__(events)

    def send(self, params: dict[str, Any]) -> bool:
        """Pass over one event: that there was one is enough."""
        return True

    def due(self) -> None:
        """Have the line written soon."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SOON, self._now)

    def end(self) -> None:
        """Have it written no more. Idempotent."""
        super().end()
        if self._timer is not None:
            self._timer.cancel()

    def _now(self) -> None:
        self._timer = None
        self.pump()
        self._write()
