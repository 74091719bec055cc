# SPDX-License-Identifier: MIT
"""Where peers come from, and how many are connected from there, for `limits.connections_per_address`.

A peer on a Unix socket has no address, so its user stands for it. Whoever has one address of IPv6 has a
whole network of them (RFC 6177), so it is the network that counts.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
from collections import Counter

NETWORK_BITS = 64
"""Of an address of IPv6, those that tell one peer from another."""
_CREDENTIALS = struct.Struct("3i")
"""Process, user and group of a peer (unix(7), SO_PEERCRED)."""


def origin(transport: asyncio.BaseTransport) -> str:
    """Return where a peer comes from, as people would write it."""
    sock = transport.get_extra_info("socket")
    if sock.family == socket.AF_UNIX:
        told = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return f"user {_CREDENTIALS.unpack(told)[1]}"
    peer = transport.get_extra_info("peername")
    if peer is None:
        return "a peer that has gone"
    host = peer[0]
    if sock.family == socket.AF_INET6:
        return str(ipaddress.IPv6Network((host.partition("%")[0], NETWORK_BITS), strict=False))
    return str(host)


class Origins:
    """Counts those who are connected."""

    def __init__(self) -> None:
        """Nobody is."""
        self._counts: Counter[str] = Counter()

    def __getitem__(self, name: str) -> int:
        return self._counts[name]

    def add(self, name: str) -> None:
        """Count one more."""
        self._counts[name] += 1

    def remove(self, name: str) -> None:
        """Count one less."""
        self._counts[name] -= 1
        if not self._counts[name]:
            del self._counts[name]
