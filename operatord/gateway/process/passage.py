# SPDX-License-Identifier: MIT
"""The socket between the gateway and the daemon that has started it: settings come by it, connections go.

A connection is one end of a pair of sockets, which is handed over with the line that says whose it is. So the
daemon listens nowhere for the gateway, and nobody else can say such lines.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from typing import Any

from operatord_protocol.errors import DaemonUnavailable

MESSAGE_BYTES = 128 * 1024
"""Longest message of settings."""
ALIVE, ALIVE_EVERY = b"alive", 2.0
"""A sign of life, and seconds between two."""
SECONDS = 5.0
"""Time for the daemon to take a connection."""
STREAM_BUFFER = 1024 * 1024
"""Bytes that a connection may hold before it is read no more."""
AWAY = "the daemon takes no connections just now; try again"


class Passage:
    """The gateway's end."""

    def __init__(self, sock: socket.socket) -> None:
        """Own ``sock``, of messages."""
        sock.setblocking(False)
        self._sock = sock
        self._turn = asyncio.Lock()

    async def said(self) -> dict[str, Any] | None:
        """Return the daemon's next message; None once it has gone."""
        try:
            text = await asyncio.get_running_loop().sock_recv(self._sock, MESSAGE_BYTES)
        except OSError:
            return None
        return dict(json.loads(text)) if text else None

    async def live(self) -> None:
        """Give the daemon signs of life, from the event loop, until it has gone or this is cancelled."""
        with contextlib.suppress(OSError):
            while True:
                with contextlib.suppress(BlockingIOError):  # it has much to read
                    self._sock.send(ALIVE)
                await asyncio.sleep(ALIVE_EVERY)

    async def connect(self, line: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return a connection that the daemon takes for that of the client in ``line``.

        Raises `DaemonUnavailable`.
        """
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                async with asyncio.timeout(SECONDS), self._turn:
                    await self._hand_over(line, theirs)
            return await asyncio.open_unix_connection(sock=ours, limit=STREAM_BUFFER)
        except BaseException as exc:
            ours.close()
            if isinstance(exc, OSError):  # TimeoutError is one of them
                raise DaemonUnavailable(AWAY) from exc
            raise

    async def _hand_over(self, line: bytes, theirs: socket.socket) -> None:
        while True:
            try:
                socket.send_fds(self._sock, [line], [theirs.fileno()])
                return
            except BlockingIOError:
                await self._room()

    async def _room(self) -> None:
        """Return when there is room for a message."""
        loop = asyncio.get_running_loop()
        came: asyncio.Future[None] = loop.create_future()

        def ready() -> None:
            if not came.done():
                came.set_result(None)

        loop.add_writer(self._sock, ready)
        try:
            await came
        finally:
            loop.remove_writer(self._sock)
