# SPDX-License-Identifier: MIT
"""What happened, in order: a ring of events and the subscriptions that read from it.

A subscription is a cursor into the ring, not a queue: one that does not read costs no memory, holds up
nobody, and learns which events it missed when it reads again.
"""

from __future__ import annotations

import asyncio
import bisect
import math
from abc import ABC, abstractmethod
from time import perf_counter
from typing import Any, NamedTuple, Protocol

from operatord.machine.clock import Clock, rfc3339
from operatord.metering.background import EventMeter

from .journal import Journal

RING = 10_000
"""Events that can be replayed, at least."""
CUT = 10
"""By what part of the ring it grows before it is cut again: an event takes about a kibibyte."""
RESERVED = 1000
"""Numbers that are written down as used before they are."""
MARK = "events.mark"
TOLD_AT_ONCE = 64
"""Subscriptions that are notified before the event loop gets its turn; there may be tens of thousands."""


class Event(NamedTuple):
    """One thing that happened."""

    seq: int
    type: str
    session_id: str | None
    params: dict[str, Any]


class Emit(Protocol):
    """What publishes an event: `EventLog.emit`, for those who need no more of it."""

    def __call__(self, type: str, *, session_id: str | None = None, **fields: Any) -> None:
        """Publish an event of ``type``, of the session if it is of one; ``fields`` go into it."""


class Subscription(ABC):
    """A place in the ring: which events are wanted, and how far they have been read.

    A subclass says how events are sent. There may be tens of thousands: hence ``__slots__`` and only one
    object each, as the garbage collector looks at all of them while nobody is answered.
    """

    __slots__ = ("_cursor", "_ring", "_session_id", "_strange", "_types")

    def __init__(
        self,
        ring: EventLog,
        since: int | None = None,
        types: frozenset[str] | None = None,
        session_id: str | None = None,
    ) -> None:
        """Read what comes after ``since``, or from now on; None for ``types`` or ``session_id`` means all.

        Call `pump` for what is due already.
        """
        cursor = ring.seq if since is None else since
        self._ring = ring
        # A number of an earlier life of the daemon: what came after it cannot be known.
        self._strange = cursor if cursor > ring.seq else None
        self._cursor = cursor if self._strange is None else 0
        self._types = types
        self._session_id = session_id
        ring.add(self)
        if cursor == ring.seq:
            ring.wait(self)

    @abstractmethod
    def send(self, params: dict[str, Any]) -> bool:
        """Send the params of one notification; False when the peer takes no more just now."""

    @abstractmethod
    def due(self) -> None:
        """Have `pump` called when it is its turn, until nothing is left: there are new events."""

    def end(self) -> None:
        """Send no more. Idempotent."""
        self._ring.drop(self)

    def pump(self, until: float = math.inf) -> bool:
        """Send what is due, until nothing is left, the peer takes no more, or `time.perf_counter` passes
        ``until``. Return whether more is left. A peer that takes no more is to say when it does.
        """
        if self._strange is not None:
            if not self._send_lost(self._strange + 1, self._strange + 1):
                return False
            self._strange = None
        while (event := self._ring.after(self._cursor)) is not None:
            if not self._pass(event):
                return False
            if perf_counter() >= until:
                return True
        if self._cursor < self._ring.seq:  # the last numbers of a life that ended without a word
            if not self._send_lost(self._cursor + 1, self._ring.seq):
                return False
            self._cursor = self._ring.seq
        self._ring.wait(self)
        return False

    def _pass(self, event: Event) -> bool:
        """Go on to ``event`` and send it if it is wanted; False when the peer takes no more."""
        if event.seq > self._cursor + 1:
            if not self._send_lost(self._cursor + 1, event.seq - 1):
                return False
            self._cursor = event.seq - 1
        if self._wants(event) and not self.send(event.params):
            return False
        self._cursor = event.seq
        return True

    def _send_lost(self, first: int, last: int) -> bool:
        """Send that events can no longer be had; False when the peer takes no more."""
        sent = self.send({"type": "events.lost", "from": first, "to": last})
        if sent:
            self._ring.meter.lost.add(by=last - first + 1)
        return sent

    def _wants(self, event: Event) -> bool:
        if self._session_id is not None and event.session_id != self._session_id:
            return False
        return self._types is None or event.type in self._types


class EventLog:
    """The ring. ``seq`` grows by one with each event; 0 means that there was none yet.

    A number is never used twice, not even by a daemon that died before it could write its last events down:
    the next one begins past a mark that was written down before any number below it was used.
    """

    def __init__(
        self,
        clock: Clock,
        journal: Journal | None = None,
        size: int = RING,
        meter: EventMeter | None = None,
    ) -> None:
        """Keep the newest ``size`` events, and go on where ``journal`` ends; ``meter`` counts."""
        self.meter = meter or EventMeter()
        self._clock = clock
        self._journal = journal
        self._size = size
        self._events: list[Event] = []
        self._subscriptions: set[Subscription] = set()
        self._waiting: set[Subscription] = set()
        """Subscriptions that have read everything. The others go on by themselves."""
        self.seq = 0
        self._mark = 0
        if journal is not None:
            self._restore(journal)

    def _restore(self, journal: Journal) -> None:
        for seq, params in journal.events():
            type_, session_id = str(params.get("type")), params.get("session_id")
            self._events.append(Event(seq, type_, session_id, params))
            self.seq = seq
        if (mark := journal.fact(MARK)) is not None:
            known = int(mark) if mark.isdigit() else self.seq + RESERVED
            self.seq = max(self.seq, known)
        self._reserve()

    def _reserve(self) -> None:
        """Write down that the next numbers may have been used."""
        self._mark = self.seq + RESERVED
        if self._journal is not None:
            self._journal.note_fact(MARK, str(self._mark).encode())

    def close(self) -> None:
        """Write down that no number past the last one was used."""
        if self._journal is not None:
            self._journal.note_fact(MARK, str(self.seq).encode())

    def after(self, seq: int) -> Event | None:
        """Return the first event that is kept and comes after ``seq``."""
        oldest = max(0, len(self._events) - self._size)
        index = bisect.bisect_right(self._events, seq, oldest, key=_seq)
        return self._events[index] if index < len(self._events) else None

    def emit(self, type: str, session_id: str | None = None, **fields: Any) -> None:
        """Add an event and pass it on."""
        self.seq += 1
        self.meter.published.add(type)
        if self.seq + RESERVED // 2 > self._mark:
            self._reserve()
        params = {"seq": self.seq, "time": rfc3339(self._clock.wall()), "type": type}
        if session_id is not None:
            params["session_id"] = session_id
        event = Event(self.seq, type, session_id, {**params, **fields})
        self._events.append(event)
        if len(self._events) > self._size + self._size // CUT:
            del self._events[: -self._size]
        if self._journal is not None:
            self._journal.note_event(event.seq, event.params)
        if self._waiting:
            waiting, self._waiting = tuple(self._waiting), set()
            self._tell(waiting)

    def _tell(self, waiting: tuple[Subscription, ...]) -> None:
        for subscription in waiting[:TOLD_AT_ONCE]:
            if subscription in self._subscriptions:
                subscription.due()
        if rest := waiting[TOLD_AT_ONCE:]:
            asyncio.get_running_loop().call_soon(self._tell, rest)

    def wait(self, subscription: Subscription) -> None:
        """Tell a subscription that has read all of the next event."""
        if subscription in self._subscriptions:
            self._waiting.add(subscription)

    def add(self, subscription: Subscription) -> None:
        """Know a subscription, until it is dropped."""
        self._subscriptions.add(subscription)

    def drop(self, subscription: Subscription) -> None:
        """Know it no more. Idempotent."""
        self._subscriptions.discard(subscription)
        self._waiting.discard(subscription)


def _seq(event: Event) -> int:
    return event.seq
