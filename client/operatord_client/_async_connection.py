# SPDX-License-Identifier: MIT
"""A control connection on asyncio's streams, shared by any number of tasks of one loop.

There is no task of its own: of the tasks that wait for something, one reads for all of them, and
hands the reading on when it has got what it came for, or is cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Self, TypeVar

from ._core import Call, Core
from ._sockets import open_streams
from .address import Address
from .errors import CallTimeout, ConnectionLost, DaemonUnreachable
from .notices import Notice, Progress

READ_BYTES = 256 * 1024
T = TypeVar("T")


class AsyncConnection:
    """Requests out; answers, progress and notices in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._core = Core()
        self._read_done: asyncio.Event | None = None
        """Set when whoever reads for all has read; None while nobody does."""

    @classmethod
    async def open(cls, address: Address, connect_timeout: float | None) -> Self:
        """Connect. Raises `DaemonUnreachable`."""
        return cls(*await open_streams(address, connect_timeout, DaemonUnreachable))

    async def close(self) -> None:
        """Disconnect; whoever waits gets `ConnectionLost`. May be called again."""
        self._core.lose(ConnectionLost("the connection was closed here"))
        self._writer.close()
        with suppress(OSError):  # the peer was faster
            await self._writer.wait_closed()

    def send(self, method: str, params: Mapping[str, Any]) -> Call:
        """Make a call. Raises `ConnectionLost`."""
        self._core.check()
        call, line = self._core.request(method, params)
        self._writer.write(line)
        return call

    async def finish(self, call: Call, timeout: float | None) -> bytes:
        """Return the call's result as JSON. Raises its `WireError`, `CallTimeout`, `ConnectionLost`."""
        async for _ in self.progress(call, timeout):
            pass
        return call.result()

    async def progress(self, call: Call, timeout: float | None) -> AsyncGenerator[Progress, None]:
        """Yield what is reported of the call until it is answered; a call left early is cancelled."""
        deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout
        async with self._abandoned(call):
            while not (call.done and not call.progress):
                await self._wait(lambda: call.news or None, deadline)
                while call.progress:
                    yield call.progress.popleft()

    async def notice(self) -> Notice:
        """Return the next notice. Raises `ConnectionLost`."""
        return await self._wait(self._core.take_notice, None)

    @asynccontextmanager
    async def _abandoned(self, call: Call) -> AsyncGenerator[None, None]:
        try:
            yield
        except BaseException:
            line = self._core.abandon(call)
            if line and not self._writer.is_closing():
                self._writer.write(line)
            raise

    async def _wait(self, take: Callable[[], T | None], deadline: float | None) -> T:
        """Return what ``take`` gives as soon as it does; read for all while nobody else does."""
        try:
            async with asyncio.timeout_at(deadline):
                while (taken := take()) is None:
                    self._core.check()
                    await (self._read() if self._read_done is None else self._read_done.wait())
                return taken
        except TimeoutError as exc:
            raise CallTimeout("no answer within the time given") from exc

    async def _read(self) -> None:
        done = self._read_done = asyncio.Event()
        try:
            self._core.feed(await self._receive())
        finally:
            self._read_done = None
            done.set()

    async def _receive(self) -> bytes:
        try:
            return await self._reader.read(READ_BYTES)
        except OSError:
            return b""
