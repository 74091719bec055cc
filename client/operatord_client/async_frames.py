# SPDX-License-Identifier: MIT
"""Frames from a session's location, over asyncio's streams.

    async with async_open_frames("tcp://127.0.0.1:40001") as stream:
        async for frame in stream:
            print(frame.seq, len(frame.image), stream.hello.width)
    print(stream.end)

The twin of `frames`, but a stream is connected by ``async with``, by its `open`, or when it is first read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from typing import Self

from operatord_protocol.stream import End, Frame, Hello, StreamError

from ._recording.tape import Tape
from ._transport import forks
from ._transport.deprecated import renamed
from ._transport.reception import (
    GLANCE,
    SKIM,
    LocationLike,
    Policy,
    Reception,
    address_of,
    first_words,
    require_policy,
    require_stream,
)
from ._transport.sockets import open_streams
from .address import Address
from .errors import LocationUnreachable
from .options import Recorded

RawStream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
"""A stream's bytes: asyncio's two ends of a connection."""
Streams = RawStream  # its old name, for one more version
READ_BYTES = 512 * 1024


class AsyncFrameStream:
    """An iterator and context manager over the frames of one stream, up to its end."""

    def __init__(
        self, connect: Callable[[], Awaitable[RawStream]], *, timeout: float | None = None
    ) -> None:
        """``connect`` is awaited with the first read; ``timeout`` is the longest silence, in seconds."""
        self._connect = connect
        self._timeout = timeout
        self._raw: RawStream | None = None
        self._reception = Reception()
        self.received = 0
        """Frames that were taken so far."""
        self.skipped = 0
        """Frames that `latest` has passed over."""
        self._ahead = b""  # bytes that have come, and were not looked at
        self.why_cut: Callable[[], Awaitable[str]] = _unknown
        """Awaited when the stream is cut off, which may take a moment: the reason, or an empty string."""
        forks.note(self)

    def after_fork(self) -> None:
        """After a fork, leave the connection to the parent: this process no longer reads it."""
        if self._raw is not None:
            self._reception.close(forks.INHERITED)
            forks.leave_alone(self._raw)
            self._raw = None

    async def __aenter__(self) -> Self:
        """Open it, see `open`."""
        try:
            await self.open()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Frame:
        """Return the next frame. Raises as `open`, and `StreamError` when the stream is cut off."""
        frames = self._reception.frames
        while not frames:
            if self._reception.end is not None:
                await self.close()
                raise StopAsyncIteration
            self._reception.check()
            await self._read()
        self.received += 1
        return frames.popleft()

    async def latest(self) -> Frame | None:
        """Return the newest frame that has come, and pass over those before it; wait for one if none has come
        since the last that was taken. None after the stream's end. Raises as `open`, and `StreamError` when
        the stream is cut off.

        For who takes longer over a frame than the stream takes for the next one. Others that read the stream
        wait meanwhile, unless this one is read with the policy ``live``.
        """
        await self.open()
        await self._skim()
        return await anext(self, None)

    async def open(self) -> None:
        """Connect and wait for the hello, unless it has come. Raises `LocationUnreachable`, `StreamError`."""
        while self._reception.hello is None:
            self._reception.check()
            await self._read()

    @property
    def hello(self) -> Hello:
        """The stream's first line: size, format, rate, count. Raises `StreamError` before `open`."""
        if self._reception.hello is None:
            raise StreamError(
                "the hello has not come yet: read in `async with`, or await open() first"
            )
        return self._reception.hello

    @property
    def end(self) -> End | None:
        """The stream's last line: frames sent and dropped; None until all frames were taken."""
        return self._reception.end

    async def close(self) -> None:
        """Disconnect. Readers get a `StreamError` after the frames that had already come."""
        self._reception.close()
        if self._raw is None:
            return
        _, writer = self._raw
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    async def _connected(self) -> RawStream:
        self._raw = await self._connect()
        try:
            self._reception.check()
        except StreamError:  # it was closed meanwhile
            await self.close()
            raise
        return self._raw

    async def _skim(self) -> None:
        """Take what has come, and keep the newest frame of it, with the error that follows it."""
        until = time.monotonic() + SKIM
        self.skipped += self._reception.keep_newest()
        while self._reception.may_go_on and time.monotonic() < until and await self._glance():
            try:
                await self._read()
            except StreamError as exc:
                self._reception.fail(exc)
            self.skipped += self._reception.keep_newest()

    async def _glance(self) -> bool:
        """Tell whether more comes at once, or the end."""
        try:
            self._ahead = await self._received(GLANCE)
        except TimeoutError:
            return False
        except OSError:  # whoever reads is told again
            pass
        return True

    async def _received(self, timeout: float | None) -> bytes:
        """Return what has come, if it comes in time. Raises `OSError`."""
        reader, _ = self._raw or await self._connected()
        if self._ahead:
            data, self._ahead = self._ahead, b""
            return data
        async with asyncio.timeout(timeout):
            return await reader.read(READ_BYTES)

    async def _read(self) -> None:
        try:
            data = await self._received(self._timeout)
        except OSError as exc:  # TimeoutError is one of them
            if self._reception.is_cut(b"", exc):
                self._reception.reason = await self.why_cut()
            raise self._reception.broken(exc) from exc
        if self._reception.is_cut(data):
            self._reception.reason = await self.why_cut()
        self._reception.feed(data)


async def _unknown() -> str:
    return ""


def async_open_frames(
    location: LocationLike,
    *,
    connect_timeout: float | None = 5.0,
    timeout: float | None = None,
    daemon: Address | None = None,
    policy: Policy | None = None,
) -> AsyncFrameStream:
    """Return the frames of a location whose format is ``json``; ``timeout`` is the longest silence (s).

    With ``policy="live"`` nobody waits for this reader, who misses frames instead. ``daemon`` is where a
    location with TLS is from, which shows the same certificate; without it, its files are those that the
    environment names for `tls://`. Raises `ValueError` for another policy; connecting raises
    `LocationUnreachable`.
    """

    async def locate() -> LocationLike:
        return location

    limit = connect_timeout
    return open_located(
        locate,
        connect_timeout=limit,
        timeout=timeout,
        daemon=daemon,
        policy=policy,
        why_refused=_unknown,
    )


def open_located(  # noqa: PLR0913 - they are those of opening, and one more
    locate: Callable[[], Awaitable[LocationLike]],
    *,
    connect_timeout: float | None,
    timeout: float | None,
    daemon: Address | None = None,
    policy: Policy | None = None,
    why_refused: Callable[[], Awaitable[str]],
) -> AsyncFrameStream:
    """As `async_open_frames`, at what ``locate`` returns; connecting also raises what that does.

    ``why_refused`` is asked when nothing answers there; the sentence that it has, if any, is raised as a
    `StreamError`.
    """
    require_policy(policy)

    async def connect() -> RawStream:
        location = require_stream(await locate())
        try:
            return await _opened(location, daemon, connect_timeout, policy)
        except LocationUnreachable as exc:
            if reason := await why_refused():
                raise StreamError(reason) from exc
            raise

    return AsyncFrameStream(connect, timeout=timeout)


async def async_open_raw(
    location: LocationLike,
    *,
    connect_timeout: float | None = 5.0,
    daemon: Address | None = None,
) -> RawStream:
    """Return the bytes of a location, for y4m; ``daemon`` as for `async_open_frames`.

    Raises `LocationUnreachable`.
    """
    return await _opened(location, daemon, connect_timeout)


async def async_record_located(
    locate: Callable[[], Awaitable[LocationLike]],
    tape: Tape,
    *,
    connect_timeout: float | None,
    timeout: float | None,
    daemon: Address | None = None,
) -> Recorded:
    """Record the stream at what ``locate`` returns; return how far it came.

    Raises as `open_located`, and `StreamError`, `OSError`.
    """
    with tape:
        location = require_stream(await locate())
        raw = await async_open_raw(location, connect_timeout=connect_timeout, daemon=daemon)
        with closing(raw[1]):
            while not tape.done and not tape.is_over:
                try:
                    async with asyncio.timeout(tape.patience(timeout)):
                        data = await raw[0].read(READ_BYTES)
                except OSError as exc:  # TimeoutError is one of them
                    if tape.is_over:
                        break
                    raise Reception().broken(exc) from exc
                await _fed(tape, data)
                tape.tell()
    return tape.so_far


async def _opened(
    location: LocationLike,
    daemon: Address | None,
    timeout: float | None,
    policy: Policy | None = None,
) -> RawStream:
    """Return a connection that has said what is wanted first. Raises `LocationUnreachable`."""
    reader, writer = await open_streams(address_of(location, daemon), timeout, LocationUnreachable)
    writer.write(first_words(location, policy))
    return reader, writer


async def _fed(tape: Tape, data: bytes) -> None:
    """Write in a thread, since a disk may be slow. Return when it is written, however often it is cancelled:
    nothing else may happen to the file meanwhile.
    """
    writing = asyncio.ensure_future(asyncio.to_thread(tape.feed, data))
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        while not writing.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait((writing,))
        writing.exception()  # the cancellation is what counts, and this is looked at
        raise


open_frames = renamed("async_frames.open_frames", "async_open_frames")(async_open_frames)
open_raw = renamed("async_frames.open_raw", "async_open_raw")(async_open_raw)
