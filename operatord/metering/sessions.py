# SPDX-License-Identifier: MIT
"""What becomes of sessions, counted where it is decided or announced."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from operatord_protocol.messages import PHASES

from .families import counter, distribution

TOTAL = "total"
LIVING = tuple(phase for phase in PHASES if phase != "ended")


class SessionMeter:
    """Counts the sessions of one daemon."""

    def __init__(self) -> None:
        self.living = counter("operatord_sessions")
        self.ended = counter("operatord_sessions_ended_total")
        self.refused = counter("operatord_starts_refused_total")
        self.failures = counter("operatord_start_failures_total")
        self.waits = distribution("operatord_queue_wait_seconds")
        self.starts = distribution("operatord_start_seconds")
        self.steps = distribution("operatord_start_step_seconds")
        self._places: dict[str, tuple[str, str]] = {}
        """For each session that has not ended, its pipeline and phase, by id."""

    def expect(self, pipelines: Iterable[str]) -> None:
        """Have a number for each phase of these pipelines, if only 0: what is not told cannot be watched."""
        for pipeline in pipelines:
            for phase in LIVING:
                self.living.sums.setdefault((pipeline, phase), 0)

    def moved(self, session_id: str, pipeline: str, phase: str) -> None:
        """Note that a session has come to a phase, or was found in it."""
        before, place = self._places.pop(session_id, None), (pipeline, phase)
        if before is not None:
            self.living.add(*before, by=-1)
        if phase != "ended":
            self._places[session_id] = place
            self.living.add(*place)

    def started(self, pipeline: str, timings: Mapping[str, float], *, warm: bool) -> None:
        """Note a start that worked, by its timings in milliseconds; steps within steps are left out."""
        how = "true" if warm else "false"
        self.starts.observe(timings[TOTAL] / 1000, pipeline, how)
        for step, took in timings.items():
            if step != TOTAL and "." not in step:
                self.steps.observe(took / 1000, step, how)
