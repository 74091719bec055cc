# SPDX-License-Identifier: MIT
"""This machine's routes: address ranges that sessions should not be given."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

TABLE = Path("/proc/net/route")
UP, REJECTS = 0x1, 0x200
"""Flags of a route (linux/route.h): it counts; it leads nowhere, so that nobody is met there."""


class Route(NamedTuple):
    """An IPv4 network, as a CIDR, and the interface that it is reached by."""

    network: str
    device: str


def host_routes() -> list[Route]:
    """Return the IPv4 routes of this machine; none where the kernel does not tell."""
    try:
        return parse_routes(TABLE.read_text("ascii", "replace"))
    except OSError:
        return []


def parse_routes(text: str) -> list[Route]:
    """Return the routes in a table as the kernel writes it, see proc(5); lines of another shape are none.

    Columns are the interface, the network, the gateway, flags and, as the eighth, the mask; the numbers are
    hexadecimal, addresses in the order of the machine.
    """
    return [route for line in text.splitlines()[1:] if (route := _route(line.split())) is not None]


def _route(fields: list[str]) -> Route | None:
    try:
        network, flags, mask = (int(fields[column], 16) for column in (1, 3, 7))
        address = network.to_bytes(4, "little")
    except (LookupError, ValueError, OverflowError):
        return None
    if not flags & UP or flags & REJECTS:
        return None
    return Route(f"{'.'.join(map(str, address))}/{mask.bit_count()}", fields[0])
