# SPDX-License-Identifier: MIT
"""Who is let in, and when."""

from __future__ import annotations

import asyncio
import socket

from operatord.control.wire.listener import Listener


async def test_peers_wait_with_the_system_while_it_is_crowded() -> None:
    """A12: whoever is there already has his turn before newcomers are let in."""
    crowded, asked, let_in = True, asyncio.Event(), asyncio.Event()

    def is_crowded() -> bool:
        asked.set()
        return crowded

    class Peer(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            let_in.set()
            transport.close()

    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    listener = Listener(sock, Peer, is_crowded)
    with socket.create_connection(listener.address):
        for _ in range(3):
            asked.clear()
            await asked.wait()
        assert not let_in.is_set()
        crowded = False
        await let_in.wait()
    listener.close()
