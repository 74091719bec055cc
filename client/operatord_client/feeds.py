# SPDX-License-Identifier: MIT
"""Subscriptions: events, and followed log lines, each on its own connection.

A feed is subscribed from the beginning.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Generic, Self, TypeVar

from operatord_protocol.messages import Logs, StageLine, Subscribed

from . import notices
from ._transport import forks
from ._transport.connection import Connection, time_left
from ._transport.core import decode_result
from ._transport.deprecated import renamed
from ._transport.locks import locked
from ._transport.resuming import Bookmark, check_away
from .errors import ClientError, ConnectionLost, WireError
from .notices import Event, Notice

T = TypeVar("T")
Connect = Callable[[], Connection]
Ask = Callable[[Connection], Sequence[T]]


class Feed(Generic[T]):
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
        self._ended = False
        self._connection = self._subscribed()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        if (item := self.take()) is None:
            raise StopIteration
        return item

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self._ended and not self._first

    def open(self) -> None:
        """Do nothing: a blocking feed is subscribed from the beginning."""

    def _subscribed(self) -> Connection:
        connection = self._connect()
        try:
            self._first.extend(self._ask(connection))
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """End the subscription, by disconnecting. A waiting caller gets None."""
        self._ended = True
        self._first.clear()
        self._connection.close()

    def take(self, timeout: float | None = None) -> T | None:
        """Return the next item, None when none came within ``timeout`` seconds, or at the end.

        Raises `ConnectionLost`, and what `open` raises.
        """
        if self._first:
            return self._first.popleft()
        return None if self._ended else self._next(timeout)

    def _next(self, timeout: float | None) -> T | None:
        try:
            notice = self._connection.notice(timeout)
        except ConnectionLost:
            if not self._ended:
                raise
            return None
        if notice is None:
            return None
        if notices.is_end(notice):
            self.close()
            return None
        return self._read(notice)


class LastingFeed(Feed[Event]):
    """Events that continue when the daemon has gone away and come back, none of them twice. Missed events
    follow, or a gap marker if they are no longer available (`Event.lost`). The first connection has to work;
    after that it ends only by `close`, or by a refusal that would repeat, which is raised.
    """

    def __init__(self, connect: Connect, params: Mapping[str, Any], timeout: float | None) -> None:
        """Subscribe with ``params``; each answer may take ``timeout`` seconds."""
        self._bookmark = Bookmark(params)
        self._timeout = timeout
        self._closed = threading.Event()
        self._renewing = threading.Lock()
        self._due: float | None = None
        """When the next attempt to connect is due; it outlives a caller with less time than that."""
        super().__init__(connect, self._subscribe, self._note)
        forks.note(self)

    def after_fork(self) -> None:
        """In a process that was forked, go on with another connection."""
        ended, self._closed, self._renewing = self._ended, threading.Event(), threading.Lock()
        if ended:
            self._closed.set()

    def _note(self, notice: Notice) -> Event:
        return self._bookmark.read(notices.read_event(notice))

    def _subscribe(self, connection: Connection) -> Sequence[Event]:
        subscribed = _subscribe(connection, self._bookmark.params(), self._timeout)
        self._bookmark.subscribed(subscribed.seq)
        return ()

    def close(self) -> None:
        self._closed.set()
        super().close()

    def take(self, timeout: float | None = None) -> Event | None:
        """Return the next event, None when none came within ``timeout`` seconds, or at the end.

        An attempt to connect is not cut short.

        Raises `WireError` for a refusal that is not to be retried, and what `open` raises.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._closed.is_set():
            connection = self._connection
            try:
                return super().take(time_left(deadline))
            except ConnectionLost:
                connection.close()
            if not locked(self._renewing, partial(self._renew, connection, deadline)):
                return None
        return None

    def _renew(self, lost: Connection, deadline: float | None) -> bool:
        """Connect anew unless another thread has; return False when the time is up or the feed is closed."""
        if self._connection is not lost:
            return True
        while self._rested(deadline):
            try:
                self._connection = self._subscribed()
            except (ClientError, WireError) as exc:
                check_away(exc)
                continue
            if not self._closed.is_set():
                return True
            self._connection.close()
        return False

    def _rested(self, deadline: float | None) -> bool:
        """Wait until the next attempt is due; False when the time is up first, or the feed is closed."""
        now = time.monotonic()
        if self._due is None:
            self._due = now + self._bookmark.pause()
        end = self._due if deadline is None else min(self._due, deadline)
        if self._closed.wait(max(0.0, end - now)) or end < self._due:
            return False
        self._due = None
        return True


def lasting_event_feed(
    connect: Connect, params: Mapping[str, Any], timeout: float | None
) -> Feed[Event]:
    """Return the events that the daemon has for ``params``, across its restarts."""
    return LastingFeed(connect, params, timeout)


def _subscribe(
    connection: Connection, params: Mapping[str, Any], timeout: float | None
) -> Subscribed:
    return connection.converse(
        "events.subscribe",
        params,
        timeout,
        lambda raw: decode_result("events.subscribe", raw, Subscribed),
    )


def event_feed(connect: Connect, params: Mapping[str, Any], timeout: float | None) -> Feed[Event]:
    """Return the events that the daemon has for ``params``."""

    def ask(connection: Connection) -> Sequence[Event]:
        _subscribe(connection, params, timeout)
        return ()

    return Feed(connect, ask, notices.read_event)


def log_feed(connect: Connect, params: Mapping[str, Any], timeout: float | None) -> Feed[StageLine]:
    """Return a session's lines, those there are and those to come."""
    following = {**params, "follow": True}

    def ask(connection: Connection) -> Sequence[StageLine]:
        return connection.converse(
            "session.logs",
            following,
            timeout,
            lambda raw: decode_result("session.logs", raw, Logs).lines,
        )

    return Feed(connect, ask, notices.read_line)


@renamed("feeds.open_events", "feeds.event_feed")
def open_events(
    connection: Connection, params: Mapping[str, Any], timeout: float | None
) -> Feed[Event]:
    """Return the events that the daemon has for ``params``. The feed owns the connection."""
    return event_feed(lambda: connection, params, timeout)


@renamed("feeds.open_log", "feeds.log_feed")
def open_log(
    connection: Connection, params: Mapping[str, Any], timeout: float | None
) -> Feed[StageLine]:
    """Return a session's lines, those there are and those to come. The feed owns the connection."""
    return log_feed(lambda: connection, params, timeout)
