# SPDX-License-Identifier: MIT
"""A connection to a daemon for whoever speaks the protocol's lines without a client, as a gateway does."""

from __future__ import annotations

import asyncio

from ._transport.sockets import open_streams
from .address import AddressLike, parse_address
from .errors import DaemonUnreachable


async def async_open_lines(
    address: AddressLike | None = None, *, connect_timeout: float | None = 5.0
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return asyncio's two ends of a connection to ``address``, see `parse_address`; nothing is sent yet.

    Raises `DaemonUnreachable` after at most ``connect_timeout`` seconds, and `ValueError`.
    """
    return await open_streams(parse_address(address), connect_timeout, DaemonUnreachable)
