# SPDX-License-Identifier: MIT
"""An upstream that does what a trial wants, and notes what the stage takes from it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import sys
import termios

import msgspec

from .pictures import FRAMES, Pictures, end
from .seen import Fed

_IP_FREEBIND = 15
"""Of linux/in.h; `socket` has no name for it."""
_SEND_BUFFER = 64 * 1024
"""Bytes: what the stage does not take is to show soon."""

MOST_HEARD = 4096
"""Bytes that are kept of what a stage says."""
MOST_READ = 2**20
"""Bytes that are read of what a stage says on one connection."""
MOST_CONNECTIONS = 64
"""That are served at a time; more of them are closed at once."""


class Script(msgspec.Struct, frozen=True):
    """What each connection is sent."""

    count: int | None = FRAMES
    """In its hello; None says none."""
    frames: int = FRAMES
    """That it sends at the most."""
    format: str | None = None
    """That its hello says in place of the one that its frames have."""
    pace: float = 0.0
    """Seconds between two frames."""
    extra: bool = False
    """Its frames have one more part than an image."""
    closes: int = 0
    """So many connections are closed at first, before any hello."""
    cut: bool = False
    """It breaks off in the middle of a frame instead of sending the end."""
    nonsense: bytes | None = None
    """It sends this in place of a stream."""


class Upstream:
    """Listens on an address of this machine, which may be there only a little later."""

    def __init__(self, host: str, script: Script, pictures: Pictures) -> None:
        """Have a port, on which connections are refused until `listen`. Raises `OSError`."""
        self._script, self._pictures = script, pictures
        self._sock = socket.socket()
        self._sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        self._sock.bind((host, 0))
        self.port: int = self._sock.getsockname()[1]
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._served: socket.socket | None = None
        self.connected = asyncio.Event()
        """Somebody has connected."""
        self.go = asyncio.Event()
        """No hello is sent before this is set."""
        self.pour = asyncio.Event()
        """No frame is sent before this is set."""
        self.greeted_at: float | None = None
        """When a hello was sent last, by the loop's clock."""
        self.enough = False
        """It is to end after the frame that it is at."""
        self._connections = self._frames = self._taken = 0
        self._ended = self._flooded = False
        self._heard = b""

    async def listen(self) -> None:
        """Accept connections from now on."""
        self._server = await asyncio.start_server(self._accept, sock=self._sock)

    async def close(self) -> None:
        """Close everything. Idempotent."""
        if self._server is not None:
            self._server.close()
        self._sock.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def seen(self) -> Fed:
        """Return what it has seen so far."""
        return Fed(
            self._connections,
            self._frames,
            self.taken,
            self._ended,
            self._heard.decode("utf-8", "replace"),
            self._flooded,
        )

    @property
    def ended(self) -> bool:
        """Whether the end was sent."""
        return self._ended

    @property
    def taken(self) -> int:
        """Bytes of frames that have arrived at the stage's machine."""
        sock, waiting = self._served, 0
        if sock is not None and sock.fileno() >= 0:
            with contextlib.suppress(OSError):  # tcp(7), SIOCOUTQ
                answer = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
                waiting = int.from_bytes(answer, sys.byteorder)
        return max(0, self._taken - waiting)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._tasks) >= MOST_CONNECTIONS:
            self._flooded = True
            writer.transport.abort()
            return
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError):  # a stage that leaves shows elsewhere
                await self._serve(reader, writer)
        except asyncio.CancelledError:  # asyncio's streams would report it
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        self.connected.set()
        if self._connections <= self._script.closes:
            return
        await self.go.wait()
        writer.transport.set_write_buffer_limits(high=0)
        self._frames = self._taken = 0
        writer.write(self._greeting())
        self.greeted_at = asyncio.get_running_loop().time()
        self._served = _socket_of(writer)
        listening = asyncio.ensure_future(self._listen_to(reader))
        try:
            if self._script.nonsense is None:
                await self._play(writer)
            writer.write_eof()
            await listening  # what is left unread would reset the connection
        finally:
            listening.cancel()

    def _greeting(self) -> bytes:
        script = self._script
        return script.nonsense or self._pictures.hello(script.count, script.format)

    async def _listen_to(self, reader: asyncio.StreamReader) -> None:
        """Note what the stage says, to its end, or until it is too much: then no more is read."""
        read = 0
        with contextlib.suppress(OSError):
            while read <= MOST_READ and (said := await reader.read(4096)):
                read += len(said)
                self._heard += said[: MOST_HEARD - len(self._heard)]
                await asyncio.sleep(0)  # a read of what waits gives nobody a turn
        self._flooded |= read > MOST_READ

    async def _play(self, writer: asyncio.StreamWriter) -> None:
        await self.pour.wait()
        while self._frames < self._script.frames and not self.enough:
            data = self._pictures.frame(self._frames, extra=self._script.extra)
            writer.write(data)
            await writer.drain()
            self._frames += 1
            self._taken += len(data)
            if self._script.pace:
                await asyncio.sleep(self._script.pace)
        if self._script.cut:
            data = self._pictures.frame(self._frames)
            writer.write(data[: len(data) // 2])
        else:
            writer.write(end(self._frames))
            self._ended = True


def _socket_of(writer: asyncio.StreamWriter) -> socket.socket:
    """Return what has the transport's descriptor; it is only asked how far the kernel has got."""
    found: socket.socket = writer.get_extra_info("socket")
    return found
