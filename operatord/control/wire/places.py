# SPDX-License-Identifier: MIT
"""Limits how many peers may be connected, in all and from one address, and chooses which gives way when there
is no room. A peer that has not logged in gives way to a newcomer: the oldest one of the address with the most
of them. So strangers who hold all connections keep nobody out, since a login takes milliseconds. Peers that
have logged in never give way.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar

from operatord.access.origin import Origin
from operatord.settings.config import Limits
from operatord_protocol.errors import TooManyRequests

log = logging.getLogger(__name__)

RESERVE = 80
"""File descriptors that connections leave for the daemon's own work: engine, logs, verification, and to start
a session, which takes some forty with local processes. `limits.refused` come on top of it."""
KEPT = 8
"""One connection in so many is reserved for this machine, so that other machines, even logged in, cannot keep
out its administrator."""

TOLD_EVERY = 60.0
"""Seconds in which it is said once that newcomers are refused, and after which it is no longer so."""


class Holder(Protocol):
    """A connection."""

    descriptor: int
    source: Origin

    def __hash__(self) -> int:
        """Be itself and no other."""
        ...


T = TypeVar("T", bound=Hashable)
H = TypeVar("H", bound=Holder)


class Newcomers(Generic[T]):
    """Those of whom nobody knows who they are, by where they come from, in the order in which they came."""

    def __init__(self) -> None:
        """There are none."""
        self._networks: dict[T, str] = {}
        self._by_network: dict[str, dict[T, None]] = {}

    def __len__(self) -> int:
        return len(self._networks)

    def of(self, network: str) -> int:
        """Return how many have come from there."""
        return len(self._by_network.get(network, ()))

    def add(self, network: str, who: T) -> None:
        """Add one."""
        self._networks[who] = network
        self._by_network.setdefault(network, {})[who] = None

    def remove(self, who: T) -> None:
        """Forget one. Idempotent."""
        if (network := self._networks.pop(who, None)) is not None:
            there = self._by_network[network]
            del there[who]
            if not there:
                del self._by_network[network]

    def first_to_go(self, network: str | None = None) -> T | None:
        """Return the peer that gives way first, of a network or of the one that has most; None if there is
        none."""
        if network is not None:
            there = self._by_network.get(network)
        else:
            there = max(self._by_network.values(), key=len, default=None)
        return next(iter(there)) if there else None


class Crowding:
    """Says that newcomers are refused: nobody who is served would notice."""

    def __init__(self, now: Callable[[], float]) -> None:
        """It has not happened yet. ``now`` returns seconds on a monotonic clock."""
        self._now = now
        self._last = self._told = -math.inf

    def note(self, why: str, connected: Counter[str]) -> None:
        """Write ``why`` one is refused into the log, and who is connected most, unless that was just said."""
        self._last = now = self._now()
        if now - self._told < TOLD_EVERY:
            return
        self._told = now
        most = "".join(f"; {n} of them are from {whom}" for whom, n in connected.most_common(1))
        log.warning("connections are refused: %s%s", why, most)

    @property
    def warnings(self) -> list[str]:
        """A sentence while it is so."""
        if self._now() - self._last >= TOLD_EVERY:
            return []
        return [
            "connections are refused, for there are too many; the log says why, and who has most of them"
        ]


class Places(Generic[H]):
    """Counts the connections."""

    def __init__(
        self,
        limits: Callable[[], Limits],
        descriptors: int,
        give_way: Callable[[H], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """There are ``descriptors`` for all files; ``give_way`` ends a connection that is none any more."""
        self.crowding = Crowding(now)
        self._limits = limits
        self._descriptors = descriptors
        self._give_way = give_way
        self._networks: Counter[str] = Counter()
        self._newcomers: Newcomers[H] = Newcomers()
        self._count = 0

    @property
    def highest(self) -> int:
        """The first descriptor that a connection may not have.

        The system gives out the lowest one that is free, so a high one tells how many are in use.
        """
        reserve = RESERVE + self._limits().refused
        return max(reserve, self._descriptors - reserve)

    def of(self, network: str) -> int:
        """Return how many connections there are from there."""
        return self._networks[network]

    def take(self, holder: H) -> None:
        """Give a newcomer a place. Raises `TooManyRequests`, which it is to be told."""
        network = holder.source.network
        if why := self._too_many_there(network):
            self._make_room(self._newcomers.first_to_go(network), why)
        if why := self._too_many(holder):
            first = self._newcomers.first_to_go()
            if first is None:
                self.crowding.note(why, self._networks)
            self._make_room(first, why)
        self._count += 1
        self._networks[network] += 1
        self._newcomers.add(network, holder)

    def keep(self, holder: H) -> None:
        """Note that a connection has logged in: it no longer gives way."""
        self._newcomers.remove(holder)

    def free(self, holder: H) -> None:
        """Take back the place of a connection that has one."""
        self._newcomers.remove(holder)
        self._count -= 1
        self._networks[holder.source.network] -= 1
        if not self._networks[holder.source.network]:
            del self._networks[holder.source.network]

    def _make_room(self, newcomer: H | None, why: str) -> None:
        if newcomer is None:
            raise TooManyRequests(why, retry_after=1)
        self.free(newcomer)
        self._give_way(newcomer)

    def _too_many_there(self, network: str) -> str | None:
        most = self._limits().connections_per_address
        if most is None or self._networks[network] < most:
            return None
        return (
            f"there are {most} connections from {network} already: close some, or raise "
            "limits.connections_per_address"
        )

    def _too_many(self, holder: H) -> str | None:
        most = self._limits().connections
        if self._count >= most:
            return f"there are {most} connections already: close some, or raise limits.connections"
        if holder.descriptor >= self.highest:
            return (
                "there are too many connections for the limit on open files, of which some are kept for "
                "sessions: close some, or raise it (LimitNOFILE, ulimit -n)"
            )
        if self._count >= most - most // KEPT and not holder.source.is_local:
            return (
                f"there are {self._count} connections already, and the last {most // KEPT} of "
                "limits.connections are for the daemon's own machine: close some, or raise it"
            )
        return None
