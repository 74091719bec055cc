# SPDX-License-Identifier: MIT
"""What a stage tells the daemon once a second: its counters, and who holds up the stream."""

from __future__ import annotations

import time

from operatord_stage.stage import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from operatord_stage.audience import Audience
    from operatord_stage.backlog import Backlog
    from operatord_stage.terms import Terms

REPORT_EVERY = 1
"""Seconds between reports."""
HELD_UP = 1.0
"""Seconds without taking anything after which a report names a consumer."""
COUNTERS = ("frames", "dropped", "consumers", "blocked")
"""The numbers in a report."""


class Reports:
    """Prints reports, each second while there is something to tell."""

    def __init__(self, terms: Terms, audience: Audience, backlog: Backlog) -> None:
        self.figures: dict[str, object] = {}  # more members for a report
        self.due = time.monotonic() + REPORT_EVERY
        self._terms, self._audience, self._backlog = terms, audience, backlog
        self._reported = (0, 0, 0, 0)

    def report(self) -> None:
        """Print the counters for the daemon, and who holds up the stream."""
        now = time.monotonic()
        self._reported = self._counters()
        self.due = now + REPORT_EVERY
        said: dict[str, object] = dict(zip(COUNTERS, self._reported, strict=True))
        said["every"] = REPORT_EVERY
        blocked = self._audience.waited_for(now)
        if resting := [peer for peer in blocked if now - peer.moved_at >= HELD_UP]:
            longest = min(resting, key=lambda peer: peer.moved_at)
            said |= {"held_up_by": longest.name, "held_up_for": round(now - longest.moved_at, 1)}
        report: dict[str, object] = {"type": "report", "stage": self._terms.stage, **said}
        try:
            say(**{**report, **self.figures, **report})  # no figure takes a counter's place
        except (
            TypeError,
            ValueError,
        ):  # a figure for which JSON has no word must not end the stream
            say(**report)

    def has_news(self) -> bool:
        """Tell whether to report: while somebody consumes, also that nothing has changed.

        A stage that is held up would otherwise be as silent as one that hangs.
        """
        counters = self._counters()
        return bool(counters[2]) or counters != self._reported

    def _counters(self) -> tuple[int, int, int, int]:
        consumers = len(self._audience.consumers())
        frames = self._backlog.sent if consumers else self._backlog.passed
        blocked = len(self._audience.waited_for(time.monotonic()))
        return frames, self._audience.dropped, consumers + self._terms.takes_all, blocked
