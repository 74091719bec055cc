# SPDX-License-Identifier: MIT
"""How long ago something was, although the clock may have been set since, or the machine rebooted.

The time of day is for people: a machine without a battery begins in 1970 and is set right by the network, at
any moment and by decades. So leases count by the monotonic clock, which runs evenly from the machine's boot
and is the same for one daemon and the next. Only after another boot is the time of day all there is. Then the
smaller of two possible ages counts: a session that lives on needlessly for a while does less harm than one
that is cut off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from operatord.machine.clock import Clock
from operatord_protocol.messages import Phase

if TYPE_CHECKING:
    from .record import SessionRecord

SET = 60.0
"""Seconds by which the two clocks may differ before that is logged."""
LONGEST = 30 * 86400.0
"""Seconds that may have passed, by the time of day, between two boots; with more the clock has been set."""


class Written(msgspec.Struct, frozen=True):
    """Moments of a session on the monotonic clock, and when they were written down, by all clocks."""

    boot: str
    """The id of the boot that the moments count from; empty where it is not known."""
    now: float
    wall: float
    moments: dict[Phase, float]
    lease_end: float | None = None
    """When a lease with a time ends."""

    @classmethod
    def of(cls, record: SessionRecord, clock: Clock) -> Written:
        """Return what a later life of the daemon has to know."""
        now, wall = clock.now(), clock.wall()
        return cls(clock.boot(), now, wall, dict(record.moments), record.lease_end)


def guessed(phases: dict[Phase, float], lease_end: float | None) -> Written:
    """Return moments from times of day, which is all that rows of older daemons have."""
    wall = max(phases.values())
    moments: dict[Phase, float] = {phase: at - wall for phase, at in phases.items()}
    return Written("", 0.0, wall, moments, None if lease_end is None else lease_end - wall)


class Passed(NamedTuple):
    """Time that has passed between two lives of the daemon."""

    seconds: float
    doubt: str | None = None
    """A sentence for the log where the clocks contradict each other."""


def passed_since(written: Written, clock: Clock) -> Passed:
    """Return how long ago ``written`` was."""
    now, by_day = clock.now(), clock.wall() - written.wall
    same_boot = bool(written.boot) and written.boot == clock.boot() and now >= written.now
    if same_boot:
        seconds = now - written.now
        return Passed(seconds, _contradiction(by_day, seconds))
    # At least as long as the machine has been up since, where that is another boot.
    least = now if written.boot else 0.0
    if least - SET <= by_day <= LONGEST:
        return Passed(max(by_day, least))
    return Passed(least, _contradiction(by_day, least))


def _contradiction(by_day: float, seconds: float) -> str | None:
    if abs(by_day - seconds) <= SET:
        return None
    return (
        f"by the time of day {by_day:.0f} s have passed since the daemon last wrote, by the monotonic clock "
        f"{seconds:.0f} s: the clock was set, or the machine slept; leases go by the smaller age"
    )


def recall(record: SessionRecord, clock: Clock) -> str | None:
    """Put the moments of ``record``, of an earlier life, on this one's clock; return what is in doubt."""
    written = record.written
    if written is None:
        return None
    seconds, doubt = passed_since(written, clock)
    shift = clock.now() - seconds - written.now
    record.moments = {phase: moment + shift for phase, moment in written.moments.items()}
    if written.lease_end is not None:
        record.lease_end = written.lease_end + shift
    return doubt
