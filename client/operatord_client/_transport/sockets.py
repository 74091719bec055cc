# SPDX-License-Identifier: MIT
"""Connections made, with the operating system's errors turned into sentences of ours."""

from __future__ import annotations

import asyncio
import socket

from operatord_client.address import Address, Tcp, Unix
from operatord_client.errors import Unreachable

STREAM_BUFFER = 1024 * 1024
"""Bytes that an asyncio stream may hold before it stops reading."""


def open_socket(address: Address, timeout: float | None, error: type[Unreachable]) -> socket.socket:
    """Return a connected, blocking socket. Raises ``error`` after at most ``timeout`` seconds."""
    try:
        sock = _connect(address, timeout)
    except OSError as exc:
        raise error(f"nothing answers at {address}: {_reason(exc)}") from exc
    sock.settimeout(None)
    return sock


def _connect(address: Address, timeout: float | None) -> socket.socket:
    if isinstance(address, Tcp):
        sock = socket.create_connection(address, timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect(address.path)
    except BaseException:
        sock.close()
        raise
    return sock


async def open_streams(
    address: Address, timeout: float | None, error: type[Unreachable]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return asyncio's two ends. Raises ``error`` after at most ``timeout`` seconds."""
    try:
        async with asyncio.timeout(timeout):
            if isinstance(address, Unix):
                return await asyncio.open_unix_connection(address.path, limit=STREAM_BUFFER)
            return await asyncio.open_connection(*address, limit=STREAM_BUFFER)
    except OSError as exc:  # TimeoutError is one of them
        raise error(f"nothing answers at {address}: {_reason(exc)}") from exc


def _reason(exc: OSError) -> str:
    if isinstance(exc, TimeoutError):
        return "no answer in time"
    return (exc.strerror or str(exc) or "no connection").lower()
