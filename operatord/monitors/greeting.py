# SPDX-License-Identifier: MIT
"""Whether a stage that has never reported still answers.

A stage that hangs before its first report cannot say that it does, nor whether it has a consumer. But it has
promised to report from its first consumer on, by saying that it listens; and whoever connects is greeted at
once. So it is checked now and then, which counts as no consumer and costs no frame. One that does not answer
check after check, and reports nothing meanwhile, hangs: it serves nobody, be there a consumer or not.
"""

from __future__ import annotations

import asyncio

from operatord.engines.base import Address
from operatord.streams.visit import connect

WAIT = 1.0
"""Seconds for the answer to a check."""
FIRST_PAUSE, LONGEST_PAUSE = 15.0, 600.0
"""Bounds in seconds of the time between checks that are answered: it doubles, as most sessions that nobody
reads are healthy."""


class Greetings:
    """What came of the checks of one stage. Times are monotonic, in seconds."""

    def __init__(self, due: float) -> None:
        """The first check is due at ``due``."""
        self.due = due
        self.silent_since: float | None = None
        """When the first check was made of those that were not answered since the last one that was."""
        self.is_told = False
        """It has been said that it hangs."""
        self._pause = FIRST_PAUSE

    def note(self, asked: float, answered: bool) -> None:
        """Take in what came of a check that was made at ``asked``."""
        if answered:
            self.silent_since, self.due = None, asked + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        elif self.silent_since is None:
            self.silent_since = asked


async def greets(address: Address) -> bool:
    """Tell whether a check is answered. Who does not take connections does not hang: its exit is told."""
    try:
        async with asyncio.timeout(WAIT):
            return await _hears(address)
    except TimeoutError:
        return False
    except OSError:
        return True


async def _hears(address: Address) -> bool:
    reader, writer = await asyncio.open_connection(sock=await connect(address.host, address.port))
    try:
        await reader.read(1)
        return True
    finally:
        writer.close()
