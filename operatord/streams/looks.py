# SPDX-License-Identifier: MIT
"""Looks at addresses for a stream header: limited in number and rate, and without raising errors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Literal, NamedTuple

from operatord_protocol.stream import Hello

from .hello import NoHello, NotAllowed, NotTried, Rules, read_hello, resolve

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
    """… and what operators and the daemon's log are."""


class Looks:
    """All that look at addresses share the places."""

    def __init__(self, rules: Callable[[], Rules]) -> None:
        """``rules`` are asked for at each look, so that a reload takes effect."""
        self._rules = rules
        self._places = asyncio.Semaphore(AT_ONCE)
        self._names = asyncio.Semaphore(AT_ONCE)

    async def check(self, host: str, port: int) -> None:
        """See that somebody may be looked for at a host. Raises `NotAllowed`.

        That no address is known, or none can be told now, is no reason: names come and go.
        """
        async with self._names:
            try:
                await resolve(host, port, TIMEOUT, self._rules().allowed)
            except NotAllowed:
                raise
            except NoHello:
                return

    async def look(self, host: str, port: int) -> Seen:
        """Look once, when it is its turn; whatever goes wrong is in what is returned."""
        loop = asyncio.get_running_loop()
        await self._places.acquire()
        over = loop.time() + PACE
        try:
            return await _seen(host, port, self._rules())
        finally:
            if loop.time() < over:
                loop.call_at(over, self._places.release)
            else:
                self._places.release()


async def _seen(host: str, port: int, rules: Rules) -> Seen:
    try:
        return Seen("up", (await read_hello(host, port, TIMEOUT, rules)).hello)
    except NotTried as exc:
        return Seen("unknown", error=str(exc), detail=exc.detail)
    except NoHello as exc:
        return Seen("down", error=str(exc), detail=exc.detail)
    except Exception:
        log.exception("a look at %s:%d broke", host, port)
        return Seen("unknown", error="it could not be looked at; the daemon's log says why")
