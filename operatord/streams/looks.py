# SPDX-License-Identifier: MIT
"""Looks at addresses for a stream header: so many at a time and a second, and none breaks its asker."""

from __future__ import annotations

import asyncio
import logging
from typing import Literal, NamedTuple

from operatord_protocol.stream import Hello

from .hello import NoHello, NotTried, read_hello

log = logging.getLogger(__name__)

TIMEOUT = 2.0
"""Seconds that an address has to say hello, and a name service to say what the address is."""
AT_ONCE = 16
"""Looks under way: each takes a descriptor, and a moment of the event loop."""
PACE = 0.25
"""Seconds that a look keeps its place at least. With `AT_ONCE`, 64 addresses a second: enough for a list of
probes, and slow for whoever wants to know what listens in a network."""

State = Literal["up", "down", "unknown"]


class Seen(NamedTuple):
    """What a look has shown."""

    state: State
    hello: Hello | None = None
    error: str | None = None
    """What whoever asks is told …"""
    detail: str | None = None
    """… and what the daemon's log is."""


class Looks:
    """All that look at addresses share the places."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(AT_ONCE)

    async def look(self, host: str, port: int) -> Seen:
        """Look once, when it is its turn; whatever goes wrong is in what is returned."""
        loop = asyncio.get_running_loop()
        await self._places.acquire()
        over = loop.time() + PACE
        try:
            return await _seen(host, port)
        finally:
            if loop.time() < over:
                loop.call_at(over, self._places.release)
            else:
                self._places.release()


async def _seen(host: str, port: int) -> Seen:
    try:
        return Seen("up", await read_hello(host, port, TIMEOUT))
    except NotTried as exc:
        return Seen("unknown", error=str(exc), detail=exc.detail)
    except NoHello as exc:
        return Seen("down", error=str(exc), detail=exc.detail)
    except Exception:
        log.exception("a look at %s:%d broke", host, port)
        return Seen("unknown", error="it could not be looked at; the daemon's log says why")
