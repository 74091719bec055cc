# SPDX-License-Identifier: MIT
"""How many subnets are left for sessions, and what occupies them when there are none."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from operatord.core.resources import UNLIMITED
from operatord.core.subnets import SubnetPool
from operatord.engines import base
from operatord.machine.routes import Route, host_routes

INTERVAL = 1.0
"""Seconds between two looks at the routes, which come and go with a VPN for one. The kernel would tell by
netlink, which services are often denied; its table is read in a few microseconds."""

log = logging.getLogger(__name__)


class SubnetCount:
    """Counts the subnets of a range that are not in use by networks of the engine or routes of the host."""

    def __init__(
        self,
        engine: base.Engine,
        pool: SubnetPool,
        on_count: Callable[[int, str | None], None],
        *,
        here: bool = True,
    ) -> None:
        """``on_count`` gets how many there are and, if none, what occupies them. Before the engine is first
        asked, all count as free. ``here``: the engine is on this machine, whose routes count.
        """
        self._here = here
        self._engine = engine
        self._pool = pool
        self._on_count = on_count
        self._foreign: list[str] | None = None
        """Networks on the engine that belong to no session; None if it has no networks, or was not asked
        yet."""
        self._doubted = asyncio.Event()
        self._obstacle: str | None = None

    async def ask(self) -> None:
        """Ask the engine which networks it has. Raises `base.EngineError`."""
        in_use = await self._engine.subnets_in_use()
        self._foreign = None if in_use is None else self._pool.others(in_use)

    def tell(self) -> None:
        """Count by the routes that there are now, and tell."""
        if self._foreign is None:
            self._on_count(UNLIMITED, None)
            return
        found = occupants(self._foreign, here=self._here)
        before, self._obstacle = self._obstacle, self._pool.obstacle(found)
        if self._obstacle not in (None, before):
            log.warning("%s", self._obstacle)
        self._on_count(self._pool.usable(found), self._obstacle)

    def doubt(self) -> None:
        """Count again for a request that finds none: by the routes at once, then by the engine's networks."""
        self.tell()
        self._doubted.set()

    async def run(self) -> None:
        """Count when routes have changed, and ask the engine when its list is in doubt; until cancelled."""
        routes = self._routes()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL):
                    await self._doubted.wait()
            if self._doubted.is_set():
                self._doubted.clear()
                with contextlib.suppress(base.EngineError):  # the engine's monitor reports that
                    await self.ask()
                    self.tell()
            elif (now := self._routes()) != routes:
                routes = now
                self.tell()

    def _routes(self) -> list[Route]:
        return host_routes() if self._here else []


def occupants(foreign: list[str], *, here: bool) -> dict[str, str]:
    """Return what has address ranges beside sessions, as CIDR and in words; also routes, if ``here``."""
    networks = {cidr: f"the engine's network {cidr}" for cidr in foreign}
    routes = {
        route.network: f"the route {route.network} by {route.device}"
        for route in (host_routes() if here else ())
    }
    return routes | networks  # a network of the engine has a route as well
