# SPDX-License-Identifier: MIT
"""Reads a location: what is said there first, the hello, and whatever comes after it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from operatord.gateway.pictures.cutter import Cutter, Picture
from operatord_client.async_frames import async_open_raw
from operatord_client.errors import LocationUnreachable
from operatord_protocol.messages import Location
from operatord_protocol.stream import CHECK, End, Hello, StreamError

from .budget import Budget

CONNECT_SECONDS = 5.0
HELLO_SECONDS = 10.0
"""Seconds for the hello, which a location has said to the daemon before anybody is told of it."""
GOODBYE_SECONDS = 1.0
NO_MEMORY = "there is no memory for more pictures of this size now"
READ_BYTES = 256 * 1024
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
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cutter: Cutter
    ) -> None:
        """Own the connection, from which ``cutter`` has had all that was read."""
        self._reader, self._writer, self._cutter = reader, writer, cutter
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

    @property
    def frame_bytes(self) -> int:
        """The most bytes that a frame may have."""
        return self._cutter.limit

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
        return _after_hello(await _fed(self._reader, self._cutter))

    async def await_hello(self) -> None:
        """Read until there is a hello. Raises `StreamError`."""
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                while self._cutter.hello is None:
                    self._found += _after_hello(await _fed(self._reader, self._cutter))
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


@asynccontextmanager
async def opened(location: Location, budget: Budget, first: bytes = b"") -> AsyncIterator[Reading]:
    """Yield a connection to a location, at which ``first`` has been said, with its hello.

    Who is silent is sent frames, and for a moment they cost nobody anything (PROTOCOL, section 7): what is
    to be said can wait until the hello has told what the stage knows.

    Raises `StreamError`, also if nobody is there, or there is no memory for its pictures.
    """
    try:
        reader, writer = await async_open_raw(location, connect_timeout=CONNECT_SECONDS)
    except LocationUnreachable as exc:
        raise StreamError("this stream is no longer served") from exc
    reading = Reading(reader, writer, Cutter())
    try:
        writer.write(first)
        await reading.await_hello()
        # One frame that comes, and one that has come.
        if (room := budget.take(2 * reading.frame_bytes)) is None:
            raise StreamError(NO_MEMORY)
        with room:
            yield reading
    finally:
        await reading.close()


async def _fed(reader: asyncio.StreamReader, cutter: Cutter) -> list[Hello | Picture | End]:
    """Return what the next bytes complete. Raises `StreamError`."""
    try:
        data = await reader.read(READ_BYTES)
    except OSError as exc:
        raise StreamError(f"the stream was cut off: {exc.strerror or exc}") from exc
    return cutter.feed(data) if data else [cutter.finish()]


def _after_hello(found: list[Hello | Picture | End]) -> list[Picture | End]:
    return [each for each in found if not isinstance(each, Hello)]
