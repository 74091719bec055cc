# SPDX-License-Identifier: MIT
"""Checks an address: connect, send the check line, read the stream's header, disconnect. Frames begin with
the first consumer, and a client that is silent for too long counts as one. So the line is sent right after
the connect, before the event loop does anything else, and a late visit checks whether it was treated as a
consumer.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
import time
from collections.abc import Callable
from typing import NamedTuple

from operatord_protocol.stream import CHECK, HEADER_BYTES, OPENIGTLINK, Hello, parse_hello

from .openigtlink import read_greeting

PATIENCE = 0.2
"""Seconds for which a stage that knows no checks takes nobody for a consumer (PROTOCOL, section 7)."""
AFTERMATH = 0.25
"""Seconds in which something would follow the header, for who was taken for a consumer."""

Address = tuple[socket.AddressFamily, str]
Parse = Callable[[bytes], Hello]


class Visit(NamedTuple):
    """What a check has found."""

    hello: Hello | None
    """None where another protocol is spoken, which has been proven, too."""
    served: bool = False
    """The visit was so late that it counted as a consumer: it was sent frames that no other consumer gets."""


async def visit(host: str, port: int, parse: Parse = parse_hello, serves: str = "stream") -> Visit:
    """Check an address, whose first line ``parse`` understands; or which ``serves`` another protocol.

    Raises `OSError`, `StreamError`, and what `asyncio.StreamReader.readuntil` does.
    """
    begun = time.monotonic()
    sock = await connect(host, port)
    late = time.monotonic() - begun > PATIENCE
    reader, writer = await asyncio.open_connection(sock=sock, limit=HEADER_BYTES)
    try:
        hello = None
        if serves == OPENIGTLINK:
            await read_greeting(reader)
        else:
            hello = parse((await reader.readuntil(b"\n"))[:-1])
        late = late or _silence(sock) > PATIENCE
        return Visit(hello, late and await _is_served(reader, writer))
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def connect(host: str, port: int) -> socket.socket:
    """Return a connection to the first address of a host that takes one; it has said that it is a check.

    Raises `OSError`.
    """
    *others, last = await _addresses(host, port)
    for address in others:
        with contextlib.suppress(OSError):
            return await _introduce(address, port)
    return await _introduce(last, port)


async def _addresses(host: str, port: int) -> list[Address]:
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            socket.inet_pton(family, host)
            return [(family, host)]
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(family, str(address[0])) for family, _, _, _, address in found]


async def _introduce(address: Address, port: int) -> socket.socket:
    """Connect and say that this is a check: on this machine, where that takes no time, in one go."""
    family, host = address
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        code = sock.connect_ex((host, port))
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, f"cannot connect to {host}:{port}")
        try:
            sock.send(CHECK)
        except BlockingIOError:
            loop = asyncio.get_running_loop()
            await loop.sock_connect(sock, (host, port))
            sock.send(CHECK)  # a fresh socket takes it whole
    except BaseException:
        sock.close()
        raise
    return sock


def _silence(sock: socket.socket) -> float:
    """Return for how many seconds nothing has arrived (``tcpi_last_data_recv`` of tcp_info)."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 56)
    milliseconds: int = struct.unpack_from("I", info, 52)[0]
    return milliseconds / 1000


async def _is_served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Tell whether anything follows the header. A stage that knows what a check is closes instead."""
    if writer.can_write_eof():
        writer.write_eof()
    try:
        async with asyncio.timeout(AFTERMATH):
            return await reader.read(1) != b""
    except (TimeoutError, OSError):
        return False
