# SPDX-License-Identifier: MIT
"""What becomes of sessions, counted where it is decided or announced."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from operatord_protocol.messages import PHASES

from .families import counter, distribution

TOTAL = "total"
ENDINGS = {
    "completed": ("done",),
    "stopped": ("client", "shutdown"),
    "failed": (
        "exit", "oom", "start_failed", "start_timeout", "image_missing", "probe", "no_capacity", "disk",
        "engine_lost", "restart", "internal",
    ),
    "expired": ("lease", "unread", "idle", "max_age"),
    "refused": ("deadline", "no_capacity"),
}  # fmt: skip
"""How sessions usually end, by outcome; whatever else comes is counted as well."""
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
        self._expected: set[str] = set()
        self._places: dict[str, tuple[str, str]] = {}
        """For each session that has not ended, its pipeline and phase, by id."""

    def expect(self, pipelines: Iterable[str]) -> None:
        """Have numbers for these pipelines, if only 0: what is not told cannot be watched."""
        for pipeline in pipelines:
            if pipeline not in self._expected:
                self._expect(pipeline)

    def _expect(self, pipeline: str) -> None:
        self._expected.add(pipeline)
        for phase in LIVING:
            self.living.begin(pipeline, phase)
        for outcome, causes in ENDINGS.items():
            for cause in causes:
                self.ended.begin(pipeline, outcome, cause)
        for warm in ("false", "true"):
            self.starts.begin(pipeline, warm)

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
