# SPDX-License-Identifier: MIT
"""A gate without a daemon, stages without a session, and who is still there of either."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
from daemon_lab import PATIENCE, Json

from operatord.gate.link import PROGRAM, SOCKET

HOST = "127.0.0.1"
TOKEN = "opens"
OPEN = b'{"type":"open","token":"opens"}\n'
MUCH = bytes(range(256)) * 4096 * 24
"""More than gate and kernel hold."""

Way = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class LoneGate:
    """The process, as a daemon has it."""

    def __init__(self, folder: Path, linger: float = 60.0) -> None:
        self.folder = folder
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(folder / SOCKET))
        listener.listen()
        command = [sys.executable, "-IS", str(PROGRAM), str(folder), str(linger)]
        self.process = subprocess.Popen(command, stdin=listener.fileno())
        listener.close()
        self.heard: list[Json] = []
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def connect(self) -> None:
        self.reader, self.writer = await asyncio.open_unix_connection(str(self.folder / SOCKET))
        assert json.loads(await self.reader.readline())["pid"] == self.process.pid

    async def ask(self, **line: Any) -> Json:
        self.writer.write(json.dumps(line).encode() + b"\n")
        while True:
            said: Json = json.loads(await self.reader.readline())
            if "event" not in said:
                return said
            self.heard.append(said)

    async def open(self, port: int, door: str = "s/stream", **terms: Any) -> int:
        """Open a door to a port of this machine; return its own."""
        usual: Json = {
            "door": door, "listen": HOST, "port": 0, "target": [HOST, port], "allow": "token",
            "token": hashlib.sha256(TOKEN.encode()).hexdigest(), "requesters": [], "most": 64,
        }  # fmt: skip
        said = await self.ask(do="open", **{**usual, **terms})
        assert said["ok"], said
        return int(said["port"])

    async def ended(self) -> int:
        async with asyncio.timeout(PATIENCE):
            return await asyncio.to_thread(self.process.wait)

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()
        self.process.kill()
        await self.ended()


@contextlib.asynccontextmanager
async def a_gate(folder: Path, linger: float = 60.0) -> AsyncIterator[LoneGate]:
    gate = LoneGate(folder, linger)
    await gate.connect()
    try:
        async with asyncio.timeout(PATIENCE):
            yield gate
    finally:
        await gate.close()


@contextlib.asynccontextmanager
async def a_stage(serve: Serve) -> AsyncIterator[int]:
    """Serve each connection; give the port."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await serve(reader, writer)
        writer.close()

    server = await asyncio.start_server(accept, HOST, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@contextlib.asynccontextmanager
async def at(port: int, first: bytes = b"", *, host: str = HOST, **more: Any) -> AsyncIterator[Way]:
    """Connect, and say something first."""
    reader, writer = await asyncio.open_connection(host, port, limit=1 << 26, **more)
    writer.write(first)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def gates_of(state_dir: Path) -> list[int]:
    """Return the ids of the living gates of a state directory."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if str(PROGRAM) in words and str(state_dir) in words:
                found.append(process.pid)
    return found
