# SPDX-License-Identifier: MIT
"""Frames from a session's location, over asyncio's streams: the twin of `frames`.

async with open_frames("tcp://127.0.0.1:40001") as stream:
    async for frame in stream:
        print(frame.seq, len(frame.image), stream.hello)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Self

from operatord_protocol.stream import End, Frame, Hello, StreamError

from ._reception import LocationLike, Reception, address_of
from ._sockets import open_streams
from .errors import LocationUnreachable

READ_BYTES = 512 * 1024
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class AsyncFrameStream:
    """An iterator and context manager over the frames of one stream, up to its end."""

    def __init__(
        self, connect: Callable[[], Awaitable[Streams]], *, timeout: float | None = None
    ) -> None:
        """``connect`` is awaited with the first read; ``timeout`` is the longest silence, seconds."""
        self._connect = connect
        self._timeout = timeout
        self._streams: Streams | None = None
        self._reception = Reception()
        self.received = 0
        """Frames that were taken so far."""

    async def __aenter__(self) -> Self:
        """Connect and wait for the hello. Raises `LocationUnreachable`, `StreamError`."""
        try:
            while self._reception.hello is None:
                await self._read()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Frame:
        """Return the next frame. Raises `LocationUnreachable`; `StreamError` when it is cut off."""
        frames = self._reception.frames
        while not frames:
            if self._reception.end is not None:
                await self.close()
                raise StopAsyncIteration
            self._reception.check()
            await self._read()
        self.received += 1
        return frames.popleft()

    @property
    def hello(self) -> Hello | None:
        """The stream's first line: size, format, rate, count; None before it has come."""
        return self._reception.hello

    @property
    def end(self) -> End | None:
        """The stream's last line: frames sent and dropped; None until all frames were taken."""
        return self._reception.end

    async def close(self) -> None:
        """Disconnect."""
        if self._streams is None:
            return
        _, writer = self._streams
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    async def _read(self) -> None:
        if self._streams is None:
            self._streams = await self._connect()
        reader, _ = self._streams
        try:
            async with asyncio.timeout(self._timeout):
                data = await reader.read(READ_BYTES)
        except TimeoutError as exc:
            raise StreamError("the stream fell silent") from exc
        except OSError as exc:
            raise StreamError("the stream was cut off before its end") from exc
        self._reception.feed(data)


def open_frames(
    location: LocationLike, *, connect_timeout: float | None = 5.0, timeout: float | None = None
) -> AsyncFrameStream:
    """Return the frames of a location whose format is ``json``; ``timeout`` is the longest silence."""

    async def connect() -> Streams:
        return await open_raw(location, connect_timeout=connect_timeout)

    return AsyncFrameStream(connect, timeout=timeout)


async def open_raw(location: LocationLike, *, connect_timeout: float | None = 5.0) -> Streams:
    """Return both ends of a location's bytes, for y4m. Raises `LocationUnreachable`."""
    return await open_streams(address_of(location), connect_timeout, LocationUnreachable)
