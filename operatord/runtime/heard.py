# SPDX-License-Identifier: MIT
"""What a stage says of itself, by the reports in its log, and since when it has said nothing else.

The engine's clock is taken for this machine's. Should one of them be set, a report still counts as written
between the look that did not have it yet and the look that has it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from operatord.engines import base

from .clock import Clock
from .reports import report_in

REPORT_LINES = 40
"""Log lines read in search of reports: at one report a second, more than the longest step between looks."""
HELD_UP = 5.0
"""Seconds for which a consumer has to have taken nothing before it is said to hold up the stream."""
MISSED = 3
"""Reports in a row that have to be missing before a stage is taken to hang."""


class Counters(NamedTuple):
    """The counters that matter here."""

    frames: int
    consumers: int
    blocked: int
    every: float | None = None

    @classmethod
    def of(cls, line: base.LogLine) -> Counters | None:
        """Return those in a stage's line; None when it is no report, or lacks one of them."""
        said = report_in(line)
        if said is None or said.frames is None or said.consumers is None or said.blocked is None:
            return None
        return cls(said.frames, said.consumers, said.blocked, said.every)


class Holder(NamedTuple):
    """A consumer that everybody waits for, and for how many seconds."""

    consumer: str
    seconds: float

    @classmethod
    def among(cls, lines: Sequence[base.LogLine]) -> Holder | None:
        """Return the last that is named in lines, for one that has taken nothing for long enough."""
        for line in reversed(lines):
            said = report_in(line) if "held_up_by" in line.line else None
            if said and said.held_up_by and (said.held_up_for or 0.0) >= HELD_UP:
                return cls(said.held_up_by, said.held_up_for or 0.0)
        return None


class Heard:
    """All that has been read of one stage's reports. Times are monotonic, in seconds."""

    def __init__(self, since: float) -> None:
        """Nothing that it has written counts as older than ``since``."""
        self.report: Counters | None = None
        """The newest."""
        self.said = since
        """When that was written …"""
        self.changed = since
        """… and the first of those that are like it."""
        self.holder: Holder | None = None
        """Who was named in what was read last."""
        self._looked = since
        self._newest: base.LogLine | None = None

    def read(self, lines: Sequence[base.LogLine], looked: float, clock: Clock) -> None:
        """Take in the log's last `REPORT_LINES` lines, which were asked for at ``looked``."""
        fresh, cut = list(lines), len(lines) >= REPORT_LINES
        if self._newest in fresh:
            fresh, cut = fresh[fresh.index(self._newest) + 1 :], False
        self.holder = Holder.among(fresh) if fresh else self.holder
        said = [(report, line) for line in fresh if (report := Counters.of(line)) is not None]
        if cut and not said:
            self.report = None  # it writes so much else that its reports are not to be found
        for report, line in said:
            self.said = self._written(line, clock)
            if report != self.report:
                # Whatever came before the first one that is to be had may have been the same.
                begun = cut and self.report is None
                self.report, self.changed = report, self._looked if begun else self.said
        self._looked, self._newest = looked, lines[-1] if lines else self._newest

    def _written(self, line: base.LogLine, clock: Clock) -> float:
        now, age = clock.now(), 0.0
        with contextlib.suppress(ValueError):
            age = clock.wall() - datetime.fromisoformat(line.time).timestamp()
        return min(max(now - age, self._looked), now)

    def is_through(self, count: int | None) -> bool:
        """Tell whether it has passed on all of ``count`` frames; None is no number of them."""
        return self.report is not None and count is not None and self.report.frames >= count

    def is_held_up(self, count: int | None) -> bool:
        """Tell whether everybody waits for its consumers, be it for the last of ``count`` frames."""
        return self.report is not None and (self.report.blocked > 0 or self.is_through(count))

    def quiet_since(self, count: int | None) -> float | None:
        """Return since when it may have kept a consumer waiting; None when it does not, or nobody knows.

        One that is held up keeps nobody waiting as long as it goes on saying so.
        """
        report = self.report
        if report is None or report.consumers == 0:
            return None
        if not self.is_held_up(count):
            return self.changed
        return self.said if report.every is not None else None

    def is_silent(self, now: float) -> bool:
        """Tell whether it hangs: it has not said again what it promised to say."""
        report = self.report
        if report is None or report.every is None or report.consumers == 0:
            return False
        return now - self.said >= MISSED * report.every
