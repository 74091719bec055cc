# SPDX-License-Identifier: MIT
"""What goes on and on: events, and the lines of a log that is followed, each on its own connection."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Generic, Self, TypeVar

from operatord_protocol.messages import Logs, StageLine, Subscribed

from . import notices
from ._connection import Connection, time_left
from ._core import decode_result
from ._locks import locked
from ._resuming import Bookmark, check_away
from .errors import ClientError, ConnectionLost, WireError
from .notices import Event, Notice

T = TypeVar("T")
Connect = Callable[[], Connection]


class Feed(Generic[T]):
    """An iterator and context manager over one subscription's items.

    It raises `ConnectionLost` when the daemon goes away: only an end that was said is an end.
    """

    def __init__(
        self, connection: Connection, read: Callable[[Notice], T], first: Iterable[T] = ()
    ) -> None:
        """Own ``connection``; give ``first``, then what ``read`` makes of each notice."""
        self._connection = connection
        self._read = read
        self._first = deque(first)
        self._ended = False

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

    def close(self) -> None:
        """End the subscription, by disconnecting."""
        self._ended = True
        self._first.clear()
        self._connection.close()

    def take(self, timeout: float | None = None) -> T | None:
        """Return the next item, None when none came within ``timeout`` seconds, or at the end.

        Raises `ConnectionLost`.
        """
        if self._first:
            return self._first.popleft()
        notice = None if self._ended else self._connection.notice(timeout)
        if notice is None:
            return None
        if notices.is_end(notice):
            self.close()
            return None
        return self._read(notice)


class LastingFeed(Feed[Event]):
    """Events that are read on when the daemon has gone away and come back, none of them twice.

    What happened meanwhile follows, or where it can no longer be had a gap marker (`Event.lost`). The
    first connection has to work; from then on only `close` ends it, and refusals that another attempt would
    meet again, which are raised.
    """

    def __init__(self, connect: Connect, params: Mapping[str, Any], timeout: float | None) -> None:
        """Subscribe with ``params``; each answer may take ``timeout`` seconds."""
        self._connect = connect
        self._bookmark = Bookmark(params)
        self._timeout = timeout
        self._closed = threading.Event()
        self._renewing = threading.Lock()
        super().__init__(self._subscribed(), self._note)

    def _note(self, notice: Notice) -> Event:
        return self._bookmark.read(notices.read_event(notice))

    def _subscribed(self) -> Connection:
        connection, params = self._connect(), self._bookmark.params()
        answer = _ask(connection, "events.subscribe", params, self._timeout, Subscribed)
        self._bookmark.subscribed(answer.seq)
        return connection

    def close(self) -> None:
        """End the subscription, by disconnecting. Whoever waits for an event gets None."""
        self._closed.set()
        super().close()

    def take(self, timeout: float | None = None) -> Event | None:
        """Return the next event, None when none came within ``timeout`` seconds, or at the end.

        An attempt to connect is not cut short. Raises `WireError` for a refusal that is not to be retried.
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
        while not self._closed.is_set():
            pause, left = self._bookmark.pause(), time_left(deadline)
            if self._closed.wait(pause if left is None else min(pause, left)):
                break
            if left is not None and left < pause:
                return False
            try:
                self._connection = self._subscribed()
            except (ClientError, WireError) as exc:
                check_away(exc)
                continue
            if not self._closed.is_set():
                return True
            self._connection.close()
        return False


def open_events(
    connection: Connection, params: Mapping[str, Any], timeout: float | None
) -> Feed[Event]:
    """Return the events that the daemon has for ``params``. The feed owns the connection."""
    _ask(connection, "events.subscribe", params, timeout, Subscribed)
    return Feed(connection, notices.read_event)


def open_log(
    connection: Connection, params: Mapping[str, Any], timeout: float | None
) -> Feed[StageLine]:
    """Return a session's lines, those there are and those to come. The feed owns the connection."""
    logs = _ask(connection, "session.logs", {**params, "follow": True}, timeout, Logs)
    return Feed(connection, notices.read_line, logs.lines)


def _ask(
    connection: Connection,
    method: str,
    params: Mapping[str, Any],
    timeout: float | None,
    type_: type[T],
) -> T:
    try:
        return connection.converse(
            method, params, timeout, lambda raw: decode_result(method, raw, type_)
        )
    except BaseException:
        connection.close()
        raise
