# SPDX-License-Identifier: MIT
"""Peers between being accepted and the end of their TLS handshake, which has a time limit. They hold
descriptors and memory, and are not identified yet. So their number is limited; beyond that, the address with
the most of them loses the one that has been silent longest.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable
from typing import Any

from operatord.alerts import send_alerts
from operatord.tls_memory import keep_small
from operatord_protocol import codec
from operatord_protocol.errors import ParseError

from .places import Newcomers

SECONDS = 2.0
"""Seconds that a handshake may take, from the connection on, and the end of a connection with TLS."""
MOST = 128
"""Peers that may be in it at once, on all listeners."""
HINT_SECONDS = 0.5
"""Seconds that a peer without TLS gets to read the hint that TLS is needed, and to disconnect."""
HINT_READS = 16
"""Pieces of what it has sent that are read and thrown away meanwhile: to close with unread input would reset
the connection, and the hint would not be read."""
BUFFER = 64 * 1024
"""Bytes that asyncio reads of a connection with TLS at a time: 256 KiB by itself, for which it would make and
drop a buffer with each connection."""
SSLProtocol.max_size = BUFFER
send_alerts()
keep_small()
RECORD = b"\x16"
"""The first byte of a handshake's record (RFC 8446, section 5.1)."""
NEEDS_TLS = (
    "this port speaks TLS, and what came is not encrypted: connect with TLS "
    "(operatorctl --address tls://HOST:PORT --ca FILE); the connection is closed"
)


class Handshakes:
    """Those who are in it, of the whole server."""

    def __init__(
        self, connected: Callable[[str], int], per_address: Callable[[], int | None]
    ) -> None:
        """``connected`` tells how many connections a network has, and ``per_address`` how many it may."""
        self._connected = connected
        self._per_address = per_address
        self._going: Newcomers[asyncio.Task[Any]] = Newcomers()

    def begin(self, network: str, task: asyncio.Task[Any], *, crowded: bool) -> None:
        """Allow ``task`` to shake hands; if there are too many, or it is ``crowded``, cancel another one."""
        most = self._per_address()
        if most is not None and self._connected(network) + self._going.of(network) >= most:
            self._end(self._going.first_to_go(network))
        if crowded or len(self._going) >= MOST:
            self._end(self._going.first_to_go())
        self._going.add(network, task)
        task.add_done_callback(self._going.remove)

    def _end(self, task: asyncio.Task[Any] | None) -> None:
        if task is not None:
            self._going.remove(task)
            task.cancel("too many handshakes at once")


async def shake(
    peer: socket.socket, protocol: Callable[[], asyncio.BaseProtocol], context: ssl.SSLContext
) -> None:
    """Make ``peer`` the transport of a new ``protocol``, with TLS. Raises `OSError`, `ssl.SSLError`."""
    async with asyncio.timeout(SECONDS):
        if not await _speaks_tls(peer):
            await _hint(peer)
            told = ssl.SSLError("what came is plain text")
            told.reason = "PLAIN_TEXT"
            raise told
        await asyncio.get_running_loop().connect_accepted_socket(
            protocol, peer, ssl=context,
            ssl_handshake_timeout=SECONDS, ssl_shutdown_timeout=SECONDS,
        )  # fmt: skip


async def _speaks_tls(peer: socket.socket) -> bool:
    """Return whether what comes first is a handshake; who is silent costs nothing yet. Raises `OSError`."""
    loop = asyncio.get_running_loop()
    came = loop.create_future()

    def ready() -> None:
        loop.remove_reader(peer)
        if not came.done():  # it may have to go in the same moment
            came.set_result(None)

    loop.add_reader(peer, ready)
    try:
        await came
    finally:
        loop.remove_reader(peer)
    first = peer.recv(1, socket.MSG_PEEK)
    if not first:
        raise ConnectionResetError("it has gone without a word")
    return first == RECORD


async def _hint(peer: socket.socket) -> None:
    """Say in plain text that TLS is needed. Raises `OSError`."""
    peer.send(codec.encode_error("plain", None, ParseError(NEEDS_TLS)))
    peer.shutdown(socket.SHUT_WR)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(HINT_SECONDS):
            for _ in range(HINT_READS):
                if not await asyncio.get_running_loop().sock_recv(peer, 1 << 16):
                    return
