# SPDX-License-Identifier: MIT
"""When a session is to end: its lease, its maximum age and a lack of consumers bound its life. From these
bounds and the stream's own length follows the end that the scheduler expects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from operatord.core.scheduling import scheduler
from operatord.machine.clock import Clock
from operatord.session.leases import LOOKING, Leases
from operatord.session.record import Ending, SessionRecord
from operatord.settings.current import CurrentSettings

from .admission import Admission

CONNECTION_GONE = Ending("expired", "lease", "the connection that held its lease has ended")
ORPHANED = 10.0
"""Seconds without a reader after which a session ends whose lease was a connection that broke when the daemon
died. Its reader may not have noticed the death, and still wants the stream."""


class ExpiryHooks(NamedTuple):
    """What `Expiry` has others do."""

    end: Callable[[SessionRecord, Ending], None]
    """Ends a session at once."""
    note: Callable[[SessionRecord], None]
    """Writes a session down as it is now."""


class Expiry:
    """Sets the bounds of sessions by their requests and the settings; keeps what `IdleWatch` notices."""

    def __init__(
        self,
        settings: CurrentSettings,
        clock: Clock,
        admission: Admission,
        leases: Leases,
        hooks: ExpiryHooks,
    ) -> None:
        """``admission`` hears of expected ends; ``leases`` ends sessions when their time has come."""
        self._settings = settings
        self._clock = clock
        self._admission = admission
        self._leases = leases
        self._hooks = hooks
        self._max_age = settings.config.lease.max_age
        """The one by which sessions are bounded now."""

    def configure(self, running: Iterable[SessionRecord]) -> None:
        """Bound the ages of running sessions by the new settings."""
        if self._max_age == self._settings.config.lease.max_age:
            return
        self._max_age = self._settings.config.lease.max_age
        for record in running:
            self._leases.unbind(record, "max_age")
            self._bound_age(record)
            self._foresee(record)

    # What is asked for

    def ask(self, record: SessionRecord) -> None:
        """``record`` is asked for: note when that is, and how long it may go without a reader.

        With a lease of another kind, the requester looks after the session that way, read or not.
        """
        record.moments = {"queued": self._clock.now()}
        if record.params.lease == "pinned":
            record.unread_limit = self._settings.config.lease.unread_timeout

    def extend(self, record: SessionRecord, ttl: float) -> None:
        """Set the lease to end ``ttl`` seconds from now."""
        record.ttl, record.lease_end = ttl, self._clock.now() + ttl
        self._bound_lease(record)
        self._foresee(record)

    def begin(self, record: SessionRecord) -> None:
        """The stream of ``record`` is there: it grows old from now on."""
        self._bound_age(record)
        self._bound_unread(record)
        self._foresee(record)

    def resume(self, record: SessionRecord) -> None:
        """Set the bounds that a session had in an earlier life of the daemon."""
        if record.params.lease == "connection":
            record.orphaned = True
            # A reader that is seen cancels the end; if the last stage reports no readers, none is seen.
            self._leases.bound(record, "lease", ORPHANED + LOOKING, CONNECTION_GONE)
        said = record.expires
        self._bound_lease(record)
        self._bound_age(record)
        self._bound_unread(record)
        if said is not None and record.end is not None:
            record.expires = self._clock.put_right(said, record.end)
        if record.expected_seconds is not None:
            self._foresee(record)

    def wait_on(self, record: SessionRecord) -> None:
        """Set the lease as the bound of a request that waits since an earlier life of the daemon."""
        self._bound_lease(record)

    def _age(self, record: SessionRecord) -> float:
        now = self._clock.now()
        return now - record.moments.get("running", now)

    def _bound_lease(self, record: SessionRecord) -> None:
        if record.ttl is not None and record.lease_end is not None:
            left = max(0.0, record.lease_end - self._clock.now())
            ending = Ending("expired", "lease", f"its lease of {record.ttl:g} s was not extended")
            self._leases.bound(record, "lease", left, ending)

    def _bound_age(self, record: SessionRecord) -> None:
        if (age := self._max_age) is not None:
            left = max(0.0, age - self._age(record))
            old = Ending(
                "expired", "max_age", f"it has been running for {age:g} s, the longest time"
            )
            self._leases.bound(record, "max_age", left, old)

    def _bound_unread(self, record: SessionRecord) -> None:
        if (limit := record.unread_limit) is not None:
            record.unread = True
            self._leases.bound(record, "unread", max(0.0, limit - self._age(record)))

    # What the scheduler is told

    def _foresee(self, record: SessionRecord) -> None:
        """Tell the scheduler that a running session ends when its stream is over, or by a bound before.

        A lack of readers is not expected: hardly any session ends that way.
        """
        if record.phase != "running":
            return
        work = record.expected_seconds
        over = None if work is None else self._clock.now() - self._age(record) + work
        ends = [self._leases.end_of(record, but="unread"), over]
        known = min((end for end in ends if end is not None), default=None)
        self._admission.decide(scheduler.Running(record.id, known))

    # What is noticed

    def idle_timeout(self, record: SessionRecord) -> float | None:
        """Return after how many seconds without a consumer a session ends."""
        timeout = self._settings.config.lease.idle_timeout
        if record.orphaned:
            return ORPHANED if timeout is None else min(timeout, ORPHANED)
        return timeout

    def unread_limit(self, record: SessionRecord) -> float | None:
        """Return the age at which a never-read session ends; None once somebody has read."""
        return record.unread_limit

    def on_idle(self, record: SessionRecord, seconds: float) -> None:
        """Nobody has consumed ``record`` for so long."""
        timeout = self.idle_timeout(record)
        if timeout is None:
            return
        if seconds >= timeout:
            idle = Ending("expired", "idle", f"nobody read from it for {timeout:g} s")
            self._hooks.end(record, CONNECTION_GONE if record.orphaned else idle)
        elif not self._leases.bounds(record, "idle"):
            self._leases.bound(record, "idle", timeout - seconds)

    def on_consumed(self, record: SessionRecord) -> None:
        """Somebody consumes ``record`` now."""
        if record.orphaned:
            self._leases.unbind(record, "lease")

    def on_active(self, record: SessionRecord) -> None:
        """Somebody consumes ``record`` again."""
        self._leases.unbind(record, "idle")

    def on_read(self, record: SessionRecord) -> None:
        """Somebody has read from ``record``: it no longer ends for being unread."""
        record.unread_limit, record.unread = None, False
        self._leases.unbind(record, "unread")
        self._hooks.note(record)

    def on_unread(self, record: SessionRecord, sure: bool) -> None:
        """Nobody has read from ``record`` as far as is known; with ``sure``, nobody has at all."""
        limit = record.unread_limit
        if limit is None:
            return
        if not sure:
            record.unread = False
            self._leases.unbind(record, "unread")
        elif self._age(record) >= limit:
            self._hooks.end(
                record, Ending("expired", "unread", f"nobody has read from it in {limit:g} s")
            )
        elif not self._leases.bounds(record, "unread"):
            self._bound_unread(record)
