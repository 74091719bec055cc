# SPDX-License-Identifier: MIT
"""A location of a test's own: it says what it is told to, and what it hears is kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from operatord_protocol.messages import Location

PATIENCE = 30.0
WIDTH, HEIGHT = 8, 4
SIZE = WIDTH * HEIGHT


def line(**said: Any) -> bytes:
    return json.dumps(said, separators=(",", ":")).encode() + b"\n"


def hello(**more: Any) -> bytes:
    usual = {"stream": "s", "width": WIDTH, "height": HEIGHT, "format": "gray8", "fps": 5}
    return line(type="hello", **{**usual, **more})


def frame(seq: int, mask: bytes | None = None) -> bytes:
    """Return a frame whose pixels are its number."""
    parts = [{"name": "image", "bytes": SIZE}]
    parts += [] if mask is None else [{"name": "mask", "bytes": SIZE}]
    return (
        line(type="frame", seq=seq, pts=seq / 5, parts=parts) + bytes([seq] * SIZE) + (mask or b"")
    )


def end(frames: int) -> bytes:
    return line(type="end", frames=frames, dropped=0)


class Stage:
    """Whoever connects gets the hello, and then what `say` sends; each is in `peers`."""

    def __init__(self, first: bytes) -> None:
        self.first = first
        self.peers: list[asyncio.StreamWriter] = []
        self.heard: list[bytes] = []
        """Lines, from whoever."""
        self.connections = 0
        self._changed = asyncio.Condition()
        self.location: Location

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self.first)
        self.peers.append(writer)
        self.connections += 1
        await self._change()
        with suppress(OSError):
            while said := await reader.readline():
                self.heard.append(said)
                await self._change()
        self.peers.remove(writer)
        writer.close()
        await self._change()

    async def _change(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def say(self, *messages: bytes) -> None:
        for writer in self.peers:
            writer.write(b"".join(messages))

    async def hears(self, *lines: bytes) -> None:
        """Wait until it has heard exactly these."""
        await self._until(lambda: self.heard == list(lines))

    async def has(self, peers: int) -> None:
        """Wait until so many are connected."""
        await self._until(lambda: len(self.peers) == peers)

    async def _until(self, holds: Any) -> None:
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(holds)


@asynccontextmanager
async def a_stage(first: bytes) -> AsyncIterator[Stage]:
    stage = Stage(first)
    server = await asyncio.start_server(stage.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    stage.location = Location("127.0.0.1", port, f"tcp://127.0.0.1:{port}", "json")
    try:
        yield stage
    finally:
        server.close()
        for peer in stage.peers:
            peer.close()
        await stage.has(0)
