# SPDX-License-Identifier: MIT
"""Looks at addresses for a stream header, and at what URLs name: limited in number and rate, and without
raising errors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from operatord_protocol.stream import Hello

from .hello import NoHello, NotAllowed, NotTried, Rules, read_hello, resolve
from .sources.look import check_place, look_at
from .sources.target import Target

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
    frame: Mapping[str, Any] | None = None
    """What the probe says of its pictures."""
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

    async def check(self, target: Target) -> None:
        """See that somebody may look for a probe there. Raises `NotAllowed`.

        That no address is known, or none can be told now, is no reason: names come and go.
        """
        if target.source is not None and target.source.is_local:
            check_place(target.source, self._rules())
            return
        async with self._names:
            try:
                await resolve(target.host, target.port, TIMEOUT, self._rules().allowed)
            except NotAllowed:
                raise
            except NoHello:
                return

    async def look(self, target: Target) -> Seen:
        """Look once, when it is its turn; whatever goes wrong is in what is returned."""
        loop = asyncio.get_running_loop()
        await self._places.acquire()
        over = loop.time() + PACE
        try:
            return await _seen(target, self._rules())
        finally:
            if loop.time() < over:
                loop.call_at(over, self._places.release)
            else:
                self._places.release()


async def _seen(target: Target, rules: Rules) -> Seen:
    try:
        return await _read(target, rules)
    except NotTried as exc:
        return Seen("unknown", error=str(exc), detail=exc.detail)
    except NoHello as exc:
        return Seen("down", error=str(exc), detail=exc.detail)
    except Exception:
        log.exception("a look at %s broke", target.shown)
        return Seen("unknown", error="it could not be looked at; the daemon's log says why")


async def _read(target: Target, rules: Rules) -> Seen:
    """Raises `NoHello`, `NotTried`."""
    if target.source is None:
        greeting = await read_hello(target.host, target.port, TIMEOUT, rules)
        return Seen("up", _frame(greeting.hello))
    found = await look_at(target.source, TIMEOUT, rules)
    return Seen("up" if found.seen else "unknown", found.facts, error=found.doubt)


def _frame(hello: Hello) -> dict[str, Any]:
    described: dict[str, Any] = msgspec.to_builtins(hello)
    return {key: value for key, value in described.items() if key != "type" and value is not None}
