# SPDX-License-Identifier: MIT
"""Subscriptions: events, and followed log lines, each on its own connection.

The twin of `feeds`, but a feed is subscribed by ``async with``, by its `open`, or when it is first read.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, Self, TypeVar

from operatord_protocol.messages import Logs, StageLine, Subscribed

from . import notices
from ._transport.async_connection import AsyncConnection
from ._transport.core import decode_result
from ._transport.resuming import Bookmark, check_away
from .errors import ClientError, ConnectionLost, WireError
from .notices import Event, Notice

T = TypeVar("T")
Connect = Callable[[], Awaitable[AsyncConnection]]
Ask = Callable[[AsyncConnection], Awaitable[Sequence[T]]]


class AsyncFeed(Generic[T]):
    """An iterator and context manager over one subscription's items.

    It raises `ConnectionLost` when the daemon goes away; only an end that the daemon announced ends the
    iteration.
    """

    def __init__(self, connect: Connect, ask: Ask[T], read: Callable[[Notice], T]) -> None:
        """Subscribe with ``ask``, then yield what ``read`` makes of each notice."""
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

    async def open(self) -> None:
        """Subscribe, unless that is done. Raises `DaemonUnreachable`, `WireError`."""
        await self._opened()

    async def _opened(self) -> AsyncConnection:
        if self._connection is None:
            connection = await self._connect()
            try:
                self._first.extend(await self._ask(connection))
            except BaseException:
                await connection.close()
                raise
            self._connection = connection
            if self._ended:  # while it was made
                await self.close()
        return self._connection

    async def close(self) -> None:
        """End the subscription, by disconnecting. A waiting caller gets None."""
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
        connection = await self._opened()
        if self._first:
            return self._first.popleft()
        return await self._next(connection, timeout)

    async def _next(self, connection: AsyncConnection, timeout: float | None) -> T | None:
        try:
            notice = await connection.notice(timeout)
        except ConnectionLost:
            if not self._ended:
                raise
            return None
        if notice is None:
            return None
        if notices.is_end(notice):
            await self.close()
            return None
        return self._read(notice)


class AsyncLastingFeed(AsyncFeed[Event]):
    """Events that continue when the daemon has gone away and come back, none of them twice. Missed events
    follow, or a gap marker if they are no longer available (`Event.lost`). The first connection has to work;
    after that it ends only by `close`, or by a refusal that would repeat, which is raised.
    """

    def __init__(self, connect: Connect, params: Mapping[str, Any], timeout: float | None) -> None:
        """Subscribe with ``params``; each answer may take ``timeout`` seconds."""
        self._bookmark = Bookmark(params)
        self._timeout = timeout
        self._begun = False
        super().__init__(connect, self._subscribe, self._note)

    def _note(self, notice: Notice) -> Event:
        return self._bookmark.read(notices.read_event(notice))

    async def _subscribe(self, connection: AsyncConnection) -> Sequence[Event]:
        subscribed = await _subscribe(connection, self._bookmark.params(), self._timeout)
        self._bookmark.subscribed(subscribed.seq)
        self._begun = True
        return ()

    async def take(self, timeout: float | None = None) -> Event | None:
        """Return the next event, None when none came within ``timeout`` seconds, or at the end.

        Raises `WireError` for a refusal that is not to be retried, and what `open` raises.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                return await self._take()
        return None

    async def _take(self) -> Event | None:
        while not self._ended:
            try:
                return await self._next(await self._opened(), None)
            except (ClientError, WireError) as exc:
                if not self._begun:
                    raise
                await self._drop()
                if not self._ended:
                    check_away(exc)
                    await asyncio.sleep(self._bookmark.pause())
        await self._drop()
        return None

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


def lasting_event_feed(
    connect: Connect, params: Mapping[str, Any], timeout: float | None
) -> AsyncFeed[Event]:
    """Return the events that the daemon has for ``params``, across its restarts."""
    return AsyncLastingFeed(connect, params, timeout)


async def _subscribe(
    connection: AsyncConnection, params: Mapping[str, Any], timeout: float | None
) -> Subscribed:
    return await connection.converse(
        "events.subscribe",
        params,
        timeout,
        lambda raw: decode_result("events.subscribe", raw, Subscribed),
    )


def event_feed(
    connect: Connect, params: Mapping[str, Any], timeout: float | None
) -> AsyncFeed[Event]:
    """Return the events that the daemon has for ``params``."""

    async def ask(connection: AsyncConnection) -> Sequence[Event]:
        await _subscribe(connection, params, timeout)
        return ()

    return AsyncFeed(connect, ask, notices.read_event)


def log_feed(
    connect: Connect, params: Mapping[str, Any], timeout: float | None
) -> AsyncFeed[StageLine]:
    """Return a session's lines, those there are and those to come."""
    following = {**params, "follow": True}

    async def ask(connection: AsyncConnection) -> Sequence[StageLine]:
        return await connection.converse(
            "session.logs",
            following,
            timeout,
            lambda raw: decode_result("session.logs", raw, Logs).lines,
        )

    return AsyncFeed(connect, ask, notices.read_line)
