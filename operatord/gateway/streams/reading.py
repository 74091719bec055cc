# SPDX-License-Identifier: MIT
"""Reads a location: what is said there first, the hello, and whatever comes after it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from operatord.gateway.pictures.cutter import Cutter, Picture
from operatord_client.address import Address
from operatord_client.async_frames import async_open_raw
from operatord_client.errors import LocationUnreachable
from operatord_protocol.messages import Location
from operatord_protocol.stream import CHECK, End, Hello, StreamError, require_stream

from .budget import Budget, BudgetShare

CONNECT_SECONDS = 5.0
HELLO_SECONDS = 10.0
"""Seconds for the hello, which a location has said to the daemon before anybody is told of it."""
GOODBYE_SECONDS = 1.0
NO_MEMORY = "there is no memory for more pictures of this size now"
READ_BYTES = 128 * 1024
"""Read at once: of the smallest frames, that is what takes a few milliseconds to cut."""
KERNEL_BYTES = 512 * 1024
"""What the kernel keeps of a stream of which only the newest frame is wanted: the rest would be old."""

CONSUME = b'{"type":"consume"}\n'
LIVE = b'{"type":"consume","policy":"live"}\n'
"""Frames are dropped for this consumer, and nobody waits for it."""
WATCH = b'{"type":"watch"}\n'
"""As that; and frames neither begin nor go on for it, but only for others."""


class Reading:
    """A connection to a location, whose hello has come."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, room: BudgetShare
    ) -> None:
        """Own the connection, of which nothing was read. ``room`` grows with the frames."""
        self._reader, self._writer, self._room = reader, writer, room
        self._cutter = Cutter()
        self._found: list[Picture | End] = []

    @property
    def hello(self) -> Hello:
        """What the location has said first."""
        assert self._cutter.hello is not None
        return self._cutter.hello

    @property
    def hello_line(self) -> bytes:
        """The same, as a line of ``format=json``."""
        return self._cutter.hello_line

    @property
    def knows_watch(self) -> bool:
        """Whether the stage has said that it knows spectators."""
        return self._cutter.knows_watch

    def say(self, line: bytes) -> None:
        """Say something more."""
        self._writer.write(line)

    def keep_little(self) -> None:
        """Have the kernel keep little of what comes and is not read yet."""
        connection = self._writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BYTES)

    async def more(self) -> list[Picture | End]:
        """Return what is whole of the next that comes, which may be nothing. Raises `StreamError`."""
        if self._found:
            found, self._found = self._found, []
            return found
        return await self._read()

    async def await_hello(self) -> None:
        """Read until there is a hello. Raises `StreamError`."""
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                while self._cutter.hello is None:
                    self._found += await self._read()
        except TimeoutError as exc:
            raise StreamError(f"the stage has sent no hello for {HELLO_SECONDS:g} s") from exc

    async def leave_as_check(self) -> None:
        """Say that this was only a look, and wait until the stage has understood that: it closes then."""
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(GOODBYE_SECONDS):
                self._writer.write(CHECK)
                if self._writer.can_write_eof():
                    self._writer.write_eof()
                while await self._reader.read(READ_BYTES):
                    pass

    async def close(self) -> None:
        """Disconnect."""
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()

    async def _read(self) -> list[Picture | End]:
        """Return what the next bytes complete, but for the hello. Raises `StreamError`."""
        try:
            data = await self._reader.read(READ_BYTES)
        except OSError as exc:
            raise StreamError(f"the stream was cut off: {exc.strerror or exc}") from exc
        found = self._cutter.feed(data) if data else [self._cutter.finish()]
        # One frame that comes, and one that has come.
        if not self._room.grow_to(2 * self._cutter.largest):
            raise StreamError(NO_MEMORY)
        return [each for each in found if not isinstance(each, Hello)]


class Opener:
    """Connects to locations, for all who share the memory that their pictures may take."""

    def __init__(self, daemon: Address | None = None) -> None:
        """``daemon`` is where locations are from: with TLS, they show the same certificate."""
        self.budget = Budget()
        self._daemon = daemon

    @asynccontextmanager
    async def opened(self, location: Location, first: bytes = b"") -> AsyncIterator[Reading]:
        """Yield a connection to a location, at which ``first`` has been said, with its hello.

        Who is silent is sent frames, and for a moment they cost nobody anything (PROTOCOL, section 7): what
        is to be said can wait until the hello has told what the stage knows.

        Raises `StreamError`, also if nobody is there.
        """
        require_stream(location.format)
        try:
            reader, writer = await async_open_raw(
                location, connect_timeout=CONNECT_SECONDS, daemon=self._daemon
            )
        except LocationUnreachable as exc:
            raise StreamError("this stream is no longer served") from exc
        with BudgetShare(self.budget) as room:
            reading = Reading(reader, writer, room)
            try:
                writer.write(first)
                await reading.await_hello()
                yield reading
            finally:
                await reading.close()
