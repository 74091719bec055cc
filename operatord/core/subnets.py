# SPDX-License-Identifier: MIT
"""Subnets as a resource: which /28 the next session gets.

An engine's own default pools end at about thirty networks, so the daemon hands out its own: a /28 has
room for the gateway and thirteen stages, and a /16 holds 4096 of them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from itertools import chain

PREFIX = 28

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

    def hold(self, subnet: str) -> None:
        """Hand ``subnet`` out to nobody until it is given back. One outside of the range is ignored."""
        net = ipaddress.IPv4Network(subnet)
        if net.subnet_of(self._range):
            self._held.update(range(self._span(net)[0], self._span(net)[1] + 1))

    def give_back(self, subnet: str) -> None:
        """Let ``subnet`` be handed out again. Idempotent."""
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
    # A default route overlaps with everything and forbids nothing.
    return [net for net in nets if isinstance(net, IPv4Network) and net.prefixlen > 0]
