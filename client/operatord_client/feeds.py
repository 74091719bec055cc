# SPDX-License-Identifier: MIT
"""What goes on and on: events, and the lines of a log that is followed, each on its own connection."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, Self, TypeVar

from operatord_protocol.messages import Logs, StageLine, Subscribed

from . import notices
from ._connection import Connection
from ._core import decode_result
from .notices import Event, Notice

T = TypeVar("T")


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
        raw = connection.finish(connection.send(method, params), timeout)
        return decode_result(method, raw, type_)
    except BaseException:
        connection.close()
        raise
