# SPDX-License-Identifier: MIT
"""A way for containers to a probe that only the host can reach.

A probe registered as 127.0.0.1, or as a container on somebody else's bridge, cannot be connected to from
a session's network. The relay listens on the host's address in that network and passes bytes on. It
lives as long as its session.
"""

from __future__ import annotations

import asyncio
import contextlib

CHUNK = 256 * 1024


class Relay:
    """Connections to ``address`` become connections to the target."""

    def __init__(self, host: str, port: int) -> None:
        """Pass everything on to ``host``:``port``."""
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def open(self, host: str) -> tuple[str, int]:
        """Listen on ``host`` and return the address. Raises `OSError`."""
        self._server = await asyncio.start_server(self._accept, host, 0, limit=CHUNK)
        address: tuple[str, int] = self._server.sockets[0].getsockname()[:2]
        return address

    async def close(self) -> None:
        """End listening and every connection. Idempotent."""
        if self._server is not None:
            self._server.close()
        tasks = list(self._connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._pass_on(reader, writer)
        finally:
            self._connections.discard(task)
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(*self._target, limit=CHUNK)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, up_writer))
                group.create_task(_pump(up_reader, writer))
        except* OSError:
            pass  # one side went away: so does the other
        finally:
            up_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
