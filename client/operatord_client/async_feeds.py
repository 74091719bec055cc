# SPDX-License-Identifier: MIT
"""What goes on and on, each on its own connection, made when it is first read: the twin of `feeds`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, Self, TypeVar

from operatord_protocol.messages import Logs, StageLine, Subscribed

from . import notices
from ._async_connection import AsyncConnection
from ._core import decode_result
from .notices import Event, Notice

T = TypeVar("T")
Connect = Callable[[], Awaitable[AsyncConnection]]
Ask = Callable[[AsyncConnection], Awaitable[Sequence[T]]]


class AsyncFeed(Generic[T]):
    """An iterator and context manager over one subscription's items.

    It raises `ConnectionLost` when the daemon goes away: only an end that was said is an end.
    """

    def __init__(self, connect: Connect, ask: Ask[T], read: Callable[[Notice], T]) -> None:
        """Give what ``ask`` returns of a connection, then what ``read`` makes of each notice."""
        self._connect = connect
        self._ask = ask
        self._read = read
        self._first: deque[T] = deque()
        self._connection: AsyncConnection | None = None
        self._ended = False

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if (item := await self.take()) is None:
            raise StopAsyncIteration
        return item

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self._ended and not self._first

    async def open(self) -> AsyncConnection:
        """Subscribe, unless that is done. Raises `DaemonUnreachable`, `WireError`."""
        if self._connection is None:
            connection = await self._connect()
            try:
                self._first.extend(await self._ask(connection))
            except BaseException:
                await connection.close()
                raise
            self._connection = connection
        return self._connection

    async def close(self) -> None:
        """End the subscription, by disconnecting."""
        self._ended = True
        self._first.clear()
        if self._connection is not None:
            await self._connection.close()

    async def take(self, timeout: float | None = None) -> T | None:
        """Return the next item, None when none came within ``timeout`` seconds, or at the end.

        Raises `ConnectionLost`, and what `open` raises.
        """
        if self._ended:
            return None
        connection = await self.open()
        if self._first:
            return self._first.popleft()
        return await self._next(connection, timeout)

    async def _next(self, connection: AsyncConnection, timeout: float | None) -> T | None:
        try:
            async with asyncio.timeout(timeout):
                notice = await connection.notice()
        except TimeoutError:
            return None
        if notices.is_end(notice):
            await self.close()
            return None
        return self._read(notice)


def event_feed(
    connect: Connect, params: Mapping[str, Any], timeout: float | None
) -> AsyncFeed[Event]:
    """Return the events that the daemon has for ``params``."""

    async def ask(connection: AsyncConnection) -> Sequence[Event]:
        raw = await connection.finish(connection.send("events.subscribe", params), timeout)
        decode_result("events.subscribe", raw, Subscribed)
        return ()

    return AsyncFeed(connect, ask, notices.read_event)


def log_feed(
    connect: Connect, params: Mapping[str, Any], timeout: float | None
) -> AsyncFeed[StageLine]:
    """Return a session's lines, those there are and those to come."""
    following = {**params, "follow": True}

    async def ask(connection: AsyncConnection) -> Sequence[StageLine]:
        raw = await connection.finish(connection.send("session.logs", following), timeout)
        return decode_result("session.logs", raw, Logs).lines

    return AsyncFeed(connect, ask, notices.read_line)
