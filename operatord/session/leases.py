# SPDX-License-Identifier: MIT
"""What bounds a session's life: its lease, its age, and a lack of readers. A session may have several bounds;
the soonest ends it. Some time before, subscribers are notified, so that somebody can extend it or connect to
it. A timer alone never ends an unread session: the monitor looks once more first, since the engine may not
have answered for a while.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from operatord.machine.clock import Clock, Timer, rfc3339
from operatord.store.events import Emit

from .record import Ending, SessionRecord

NOTICE = 60.0
"""Seconds before its end that a session is said to be expiring, or a quarter of its time."""

LOOKING = 5.0
"""Seconds by which an end is put off when it waits for a last look."""

Kind = Literal["lease", "idle", "unread", "max_age"]


class Bound(NamedTuple):
    """One reason to end, and when."""

    moment: float
    """On the monotonic clock."""
    notice: float
    """Seconds before it at which it is said."""
    ending: Ending | None
    """None: whoever set the bound ends it, after a last look."""


class _Bounds:
    def __init__(self) -> None:
        self.by_kind: dict[Kind, Bound] = {}
        self.said: set[Kind] = set()
        self.timer: Timer | None = None


class Leases:
    """The bounds of all living sessions."""

    def __init__(
        self,
        clock: Clock,
        emit: Emit,
        end: Callable[[SessionRecord, Ending], None],
    ) -> None:
        """``emit`` publishes an event, ``end`` ends a session."""
        self._clock = clock
        self._emit = emit
        self._end = end
        self._bounds: dict[str, tuple[SessionRecord, _Bounds]] = {}

    def bound(
        self, record: SessionRecord, kind: Kind, seconds: float, ending: Ending | None = None
    ) -> None:
        """Set ``record`` to end ``seconds`` from now; this replaces the bound of the same kind. Without an
        ``ending`` this only announces the end; the caller has to end it.
        """
        _, bounds = self._bounds.setdefault(record.id, (record, _Bounds()))
        notice = min(seconds / 4, NOTICE)
        bounds.by_kind[kind] = Bound(self._clock.now() + seconds, notice, ending)
        bounds.said.discard(kind)
        self._wait(record, bounds)

    def unbind(self, record: SessionRecord, kind: Kind) -> None:
        """Take back that it ends for that reason."""
        if (entry := self._bounds.get(record.id)) and entry[1].by_kind.pop(kind, None):
            self._wait(record, entry[1])

    def bounds(self, record: SessionRecord, kind: Kind) -> bool:
        """Tell whether ``record`` is to end for that reason."""
        entry = self._bounds.get(record.id)
        return entry is not None and kind in entry[1].by_kind

    def forget(self, record: SessionRecord) -> None:
        """It has ended."""
        if entry := self._bounds.pop(record.id, None):
            _cancel(entry[1])

    def end_of(self, record: SessionRecord, but: Kind | None = None) -> float | None:
        """Return the moment by which ``record`` will have ended, on the monotonic clock.

        An end of the kind ``but`` does not count.
        """
        entry = self._bounds.get(record.id)
        bounds = {} if entry is None else entry[1].by_kind
        return min((bound.moment for kind, bound in bounds.items() if kind != but), default=None)

    def _wait(self, record: SessionRecord, bounds: _Bounds) -> None:
        _cancel(bounds)
        now = self._clock.now()
        record.set_end(self.end_of(record), self._clock)
        moments = [
            bound.moment if kind in bounds.said else bound.moment - bound.notice
            for kind, bound in bounds.by_kind.items()
        ]
        if moments:
            wait = min(moments) - now
            bounds.timer = self._clock.call_later(wait, self._due, record, bounds)

    def _due(self, record: SessionRecord, bounds: _Bounds) -> None:
        """Say what is to be said, end what is to be ended."""
        now = self._clock.now()
        for kind, bound in bounds.by_kind.items():
            if kind in bounds.said and bound.moment <= now:
                if bound.ending is not None:
                    self.forget(record)
                    self._end(record, bound.ending)
                    return
                bounds.by_kind[kind] = bound._replace(moment=now + LOOKING)
            if kind not in bounds.said and bound.moment - bound.notice <= now:
                bounds.said.add(kind)
                expires = rfc3339(self._clock.wall() + bound.moment - now)
                self._emit("session.expiring", session_id=record.id, expires=expires, cause=kind)
        self._wait(record, bounds)


def _cancel(bounds: _Bounds) -> None:
    if bounds.timer is not None:
        bounds.timer.cancel()
        bounds.timer = None
