# SPDX-License-Identifier: MIT
"""Subnets as a resource: which /28 the next session gets.

An engine's own default pools end at about thirty networks, so the daemon hands out its own: a /28 has
room for the gateway and thirteen stages, and a /16 holds 4096 of them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from itertools import chain

PREFIX = 28
SHORTEST_ROUTE = 8
"""A route to more addresses than the largest private range has is a default route, or half of one, as VPNs
write it. It overlaps with everything and is ignored."""
OBSTACLES = 3
"""How many of those that are in the way are named."""

IPv4Network = ipaddress.IPv4Network


class SubnetsExhausted(Exception):
    """Every subnet of the range is held by a session or overlaps with another network."""


class SubnetPool:
    """Which subnets of a range are held. Round-robin, so that a subnet just freed rests a while."""

    def __init__(self, cidr: str) -> None:
        """Hand out /28s of ``cidr``, itself at least a /28."""
        self._range = ipaddress.IPv4Network(cidr)
        self._count: int = 2 ** (PREFIX - self._range.prefixlen)
        self._held: set[int] = set()
        self._next = 0

    @property
    def capacity(self) -> int:
        """How many subnets the range has."""
        return self._count

    @property
    def held(self) -> int:
        """How many are handed out."""
        return len(self._held)

    def take(self, foreign: Iterable[str] = ()) -> str:
        """Return a subnet that nobody holds and that overlaps with none of ``foreign``.

        Raises `SubnetsExhausted`.
        """
        blocked = [self._span(net) for net in _parse(foreign) if net.overlaps(self._range)]
        for index in chain(range(self._next, self._count), range(self._next)):
            if index in self._held or any(low <= index <= high for low, high in blocked):
                continue
            self._held.add(index)
            self._next = (index + 1) % self._count
            return str(self._subnet(index))
        raise SubnetsExhausted(f"no /{PREFIX} is left in {self._range}")

    def usable(self, foreign: Iterable[str] = ()) -> int:
        """Return how many could be handed out in all: those that overlap with none of ``foreign``."""
        blocked: set[int] = set()
        for net in _parse(foreign):
            if net.overlaps(self._range):
                low, high = self._span(net)
                blocked.update(range(max(low, 0), min(high, self._count - 1) + 1))
        return self._count - len(blocked - self._held)

    def others(self, in_use: Iterable[str]) -> list[str]:
        """Return those of ``in_use`` that are not handed out."""
        held = {str(self._subnet(index)) for index in self._held}
        return [cidr for cidr in in_use if cidr not in held]

    def obstacle(self, occupants: Mapping[str, str]) -> str | None:
        """Return, as a sentence, which of ``occupants`` (words by CIDR) leave no subnet over, and what to do.

        None when some are left, or sessions hold them all.
        """
        usable = self.usable(occupants)
        if usable > len(self._held) or usable == self._count:
            return None
        held = {self._subnet(index) for index in self._held}
        found = [
            (net.prefixlen, words)
            for cidr, words in occupants.items()
            for net in _parse([cidr])
            if net.overlaps(self._range) and net not in held
        ]
        widest = [words for _, words in sorted(found)]
        more = ["others"] if len(widest) > OBSTACLES else []
        named = " and ".join([*widest[:OBSTACLES], *more])
        return (
            f"no address range is left for a session's network: `subnets` ({self._range}) is taken up by "
            f"{named}; set it to a range that nothing else uses, or ask again when that is gone"
        )

    def hold(self, subnet: str) -> None:
        """Hold ``subnet`` until it is given back. One outside of the range is ignored."""
        net = ipaddress.IPv4Network(subnet)
        if net.subnet_of(self._range):
            self._held.update(range(self._span(net)[0], self._span(net)[1] + 1))

    def give_back(self, subnet: str) -> None:
        """Give ``subnet`` back. Idempotent."""
        self._held.discard(self._span(ipaddress.IPv4Network(subnet))[0])

    def _subnet(self, index: int) -> IPv4Network:
        base = int(self._range.network_address) + index * 2 ** (32 - PREFIX)
        return ipaddress.IPv4Network((base, PREFIX))

    def _span(self, net: IPv4Network) -> tuple[int, int]:
        """Return the first and last index that ``net`` touches."""
        start, size = int(self._range.network_address), 2 ** (32 - PREFIX)
        low, high = int(net.network_address) - start, int(net.broadcast_address) - start
        return low // size, high // size


def _parse(cidrs: Iterable[str]) -> list[IPv4Network]:
    nets = [ipaddress.ip_network(cidr, strict=False) for cidr in cidrs]
    return [net for net in nets if isinstance(net, IPv4Network) and net.prefixlen >= SHORTEST_ROUTE]
