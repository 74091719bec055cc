# SPDX-License-Identifier: MIT
"""When a session is to end: its lease, its age and its want of consumers become bounds of its life.

What the scheduler foresees follows from them, and from how long the stream itself lasts.
"""

from __future__ import annotations

from operatord.core import scheduler

from .admission import Admission
from .leases import Leases
from .record import Ending, SessionRecord


class Lifetimes:
    """Sets the bounds of sessions by their requests and the settings; keeps what `IdleWatch` notices."""

    def __init__(self, admission: Admission, leases: Leases) -> None:
        """``admission`` has the settings and hears of expected ends; ``leases`` lets sessions end."""
        self._admission = admission
        self._leases = leases
        self._clock = admission.clock

    # What is asked for

    def extend(self, record: SessionRecord, ttl: float) -> None:
        """Let the lease end ``ttl`` seconds from now."""
        record.ttl = ttl
        self._leases.bound(record, "lease", ttl, _expired(ttl))
        self._foresee(record)

    def begin(self, record: SessionRecord) -> None:
        """The stream of ``record`` is there: it grows old from now on."""
        self._bound_age(record)
        self._foresee(record)

    def resume(self, record: SessionRecord) -> None:
        """Let a session that was taken on from an earlier life end when it was to end."""
        now, wall = self._clock.now(), self._clock.wall()
        if record.params.lease == "connection":
            gone = Ending("expired", "lease", "the connection that held its lease has ended")
            record.ask_end(gone)
        if record.ttl is not None and record.expires is not None:
            left = max(0.0, record.expires - wall)
            self._leases.bound(record, "lease", left, _expired(record.ttl))
        self._bound_age(record)
        if (work := record.expected_seconds) is not None:
            self._expect(record, now + (record.started or wall) + work - wall)

    def _bound_age(self, record: SessionRecord) -> None:
        if (age := self._admission.config.lease.max_age) is not None:
            left = age - (self._clock.wall() - (record.started or self._clock.wall()))
            old = Ending(
                "expired", "max_age", f"it has been running for {age:g} s, the longest time"
            )
            self._leases.bound(record, "max_age", max(0.0, left), old)

    # What the scheduler is told

    def _foresee(self, record: SessionRecord) -> None:
        """Tell the scheduler when a running session is expected to end."""
        if record.phase == "running":
            work = record.expected_seconds
            self._expect(record, work and self._clock.now() + work)

    def _expect(self, record: SessionRecord, over: float | None) -> None:
        """Let it be foreseen that it ends when its stream is ``over``, a moment, or a bound before."""
        ends = [self._leases.end_of(record), over]
        known = min((end for end in ends if end is not None), default=None)
        self._admission.decide(scheduler.Running(record.id, known))

    # What is noticed

    def idle_timeout(self, record: SessionRecord) -> float | None:
        """Return after how many seconds without a consumer a session ends."""
        return self._admission.config.lease.idle_timeout

    def on_idle(self, record: SessionRecord, seconds: float) -> None:
        """Nobody has consumed ``record`` for so long."""
        timeout = self.idle_timeout(record)
        if timeout is not None and not self._leases.bounds(record, "idle"):
            ending = Ending("expired", "idle", f"nobody read from it for {timeout:g} s")
            self._leases.bound(record, "idle", max(0.0, timeout - seconds), ending)

    def on_active(self, record: SessionRecord) -> None:
        """Somebody consumes ``record`` again."""
        self._leases.unbind(record, "idle")


def _expired(ttl: float) -> Ending:
    return Ending("expired", "lease", f"its lease of {ttl:g} s was not extended")
