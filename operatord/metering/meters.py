# SPDX-License-Identifier: MIT
"""Everything that one daemon counts, made before all that is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .background import EventMeter, LoopMeter, ReconcileMeter
from .engine_calls import EngineMeter
from .instruments import Counter, Distribution
from .sessions import SessionMeter


class Meters:
    """The instruments, by what they count."""

    def __init__(self, now: Callable[[], float]) -> None:
        """``now`` returns monotonic seconds."""
        self.sessions = SessionMeter()
        self.engine = EngineMeter(now)
        self.reconciles = ReconcileMeter()
        self.events = EventMeter()
        self.loop = LoopMeter()

    def instruments(self) -> Iterator[tuple[str, Counter | Distribution]]:
        """Yield each instrument with the name of its family."""
        sessions, engine, reconciles, events = (
            self.sessions, self.engine, self.reconciles, self.events,
        )  # fmt: skip
        yield "operatord_sessions", sessions.living
        yield "operatord_sessions_ended_total", sessions.ended
        yield "operatord_starts_refused_total", sessions.refused
        yield "operatord_start_failures_total", sessions.failures
        yield "operatord_queue_wait_seconds", sessions.waits
        yield "operatord_start_seconds", sessions.starts
        yield "operatord_start_step_seconds", sessions.steps
        yield "operatord_engine_call_seconds", engine.calls
        yield "operatord_engine_errors_total", engine.errors
        yield "operatord_reconcile_seconds", reconciles.seconds
        yield "operatord_orphans_removed_total", reconciles.removed
        yield "operatord_events_total", events.published
        yield "operatord_events_lost_total", events.lost
        yield "operatord_loop_lag_seconds", self.loop.lag
