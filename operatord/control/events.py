# SPDX-License-Identifier: MIT
"""What happened, in order: a ring of events and the subscriptions that read from it.

A subscription is a cursor into the ring, not a queue: one that does not read costs nothing but its
place, holds up nobody, and is told which events it missed when it reads again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from operatord.runtime.clock import Clock, rfc3339

RING = 10_000
"""Events that can be replayed."""

Send = Callable[[dict[str, Any]], bool]
"""Sends the params of one notification; False when the peer takes no more just now."""


class Event(NamedTuple):
    """One thing that happened."""

    seq: int
    type: str
    session_id: str | None
    params: dict[str, Any]


class Subscription:
    """A reader of the ring: which events it wants, and how far it has read."""

    def __init__(
        self,
        ring: EventLog,
        send: Send,
        cursor: int,
        types: frozenset[str] | None,
        session_id: str | None,
    ) -> None:
        """Read what comes after ``cursor``; None for ``types`` or ``session_id`` means all."""
        self._ring = ring
        self._send = send
        # A number of an earlier life of the daemon: what came after it cannot be known.
        self._strange = cursor if cursor > ring.seq else None
        self._cursor = cursor if self._strange is None else 0
        self._types = types
        self._session_id = session_id

    def pump(self) -> None:
        """Send what is due, until nothing is left or the peer takes no more."""
        oldest = self._ring.oldest
        if self._strange is not None:
            if not self._send(_lost(self._strange + 1, self._strange + 1)):
                return
            self._strange = None
        if self._cursor + 1 < oldest:
            if not self._send(_lost(self._cursor + 1, oldest - 1)):
                return
            self._cursor = oldest - 1
        while self._cursor < self._ring.seq:
            event = self._ring.at(self._cursor + 1)
            if self._wants(event) and not self._send(event.params):
                return
            self._cursor += 1

    def _wants(self, event: Event) -> bool:
        if self._session_id is not None and event.session_id != self._session_id:
            return False
        return self._types is None or event.type in self._types


class EventLog:
    """The ring. ``seq`` grows by one with each event; 0 means that there was none yet."""

    def __init__(self, clock: Clock, size: int = RING) -> None:
        """Keep the newest ``size`` events."""
        self._clock = clock
        self._events: deque[Event] = deque(maxlen=size)
        self._subscriptions: set[Subscription] = set()
        self.seq = 0

    @property
    def oldest(self) -> int:
        """The seq of the oldest event that is kept; past the newest when none is."""
        return self.seq - len(self._events) + 1

    def at(self, seq: int) -> Event:
        """Return a kept event."""
        return self._events[seq - self.oldest]

    def emit(self, type: str, session_id: str | None = None, **fields: Any) -> None:
        """Add an event and pass it on."""
        self.seq += 1
        params = {"seq": self.seq, "time": rfc3339(self._clock.wall()), "type": type}
        if session_id is not None:
            params["session_id"] = session_id
        self._events.append(Event(self.seq, type, session_id, {**params, **fields}))
        for subscription in tuple(self._subscriptions):
            subscription.pump()

    def subscribe(
        self,
        send: Send,
        since: int | None = None,
        types: frozenset[str] | None = None,
        session_id: str | None = None,
    ) -> Subscription:
        """Begin after ``since``, or now. Call `Subscription.pump` for what is due already."""
        cursor = self.seq if since is None else since
        subscription = Subscription(self, send, cursor, types, session_id)
        self._subscriptions.add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Send no more. Idempotent."""
        self._subscriptions.discard(subscription)


def _lost(first: int, last: int) -> dict[str, Any]:
    return {"type": "events.lost", "from": first, "to": last}
