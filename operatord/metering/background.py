# SPDX-License-Identifier: MIT
"""Counts of what the daemon does unasked: comparing with the engine, publishing events, and being late."""

from __future__ import annotations

import asyncio

from .families import counter, distribution

PERIOD = 1.0
"""Seconds between looks at how late the event loop is."""


class ReconcileMeter:
    """What comparing the sessions with the engine came to."""

    def __init__(self) -> None:
        self.seconds = distribution("operatord_reconcile_seconds")
        self.removed = counter("operatord_orphans_removed_total")
        self.orphans = 0
        """Objects without a session, when last compared."""


class EventMeter:
    """What was published, and what somebody has missed of it."""

    def __init__(self) -> None:
        self.published = counter("operatord_events_total")
        self.lost = counter("operatord_events_lost_total")


class LoopMeter:
    """How late the event loop is: everybody waits for so long."""

    def __init__(self) -> None:
        self.lag = distribution("operatord_loop_lag_seconds")

    async def run(self) -> None:
        """Look once a second, until cancelled."""
        now = asyncio.get_running_loop().time
        while True:
            due = now() + PERIOD
            await asyncio.sleep(PERIOD)
            self.lag.observe(max(0.0, now() - due))
