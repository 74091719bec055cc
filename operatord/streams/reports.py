# SPDX-License-Identifier: MIT
"""Parses and checks what stages report on their standard output. A stage may be any program. A member with a
value out of its range is left out, and the rest of the report counts. Nothing else of a report is kept or
passed on.

Whoever follows a stage reads the end of its log now and then. `ReportLog` finds its new lines, and
`StageReports` knows since when its reports have not changed. The engine's clock counts as this machine's. If
one of them is set, a report still counts as written between the look that did not have it and the look that
has it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from operatord.engines.base import LogLine
from operatord.machine.clock import Clock
from operatord_protocol import stage_lines
from operatord_protocol.stage_lines import LARGEST

LONGEST_SILENCE = 86_400.0
"""Seconds between two reports that a stage can promise at most: a day."""
REPORT_LINES = 40
"""Log lines read in search of reports: at one report a second, more than the longest step between looks."""
HELD_UP = 5.0
"""Seconds for which a consumer has to take nothing before it is reported as holding up the stream."""
MISSED = 3
"""Missing reports in a row after which a stage counts as hanging."""

Count = Annotated[int, Meta(ge=0, le=LARGEST)]
Seconds = Annotated[float, Meta(gt=0, le=LONGEST_SILENCE)]
Share = Annotated[float, Meta(ge=0, le=1)]
Peer = Annotated[str, Meta(pattern=r"^[0-9A-Za-z.:_%\[\]-]{1,64}\Z")]
"""An address, as a stage names who has connected."""


class Report(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A stage's counters, each None where it has not said a value of that range.

    A further member of reports is a further line here.
    """

    frames: Count | None = None
    """Frames passed on."""
    dropped: Count | None = None
    consumers: Count | None = None
    blocked: Count | None = None
    """Of the consumers, those that everybody waits for."""
    every: Seconds | None = None
    """Longest time in seconds between two reports while it has a consumer; None if it promises nothing."""
    dice_mean: Share | None = None
    """How well its masks agree with the truth of its probe."""
    held_up_by: Peer | None = None
    """The consumer that everybody has waited for longest …"""
    held_up_for: Seconds | None = None
    """… and for how many seconds it has taken nothing."""

    def figures(self) -> dict[str, float]:
        """Return what it has counted, as the wire has it: neither promises nor names."""
        said: dict[str, float] = msgspec.to_builtins(self)
        return {name: number for name, number in said.items() if name not in _NO_FIGURES}


_NO_FIGURES = {"every", "held_up_by", "held_up_for"}


# One line, and one look


def report_in(line: LogLine) -> Report | None:
    """Return the report that a stage's line is; None when it is none."""
    said = _object_in(line)
    return checked(said) if said.get("type") == "report" else None


def is_listening(line: LogLine) -> bool:
    """Tell whether a stage says in this line that it listens."""
    return _object_in(line).get("type") == "listening"


def is_for_people(line: LogLine) -> bool:
    """Tell whether a line is none of those with which a stage speaks to the daemon."""
    return line.stream != "stdout" or stage_lines.is_for_people(line.line)


def newest_report(lines: Sequence[LogLine]) -> Report | None:
    """Return the last report among ``lines``."""
    return next((said for line in reversed(lines) if (said := report_in(line)) is not None), None)


def checked(said: Mapping[str, Any]) -> Report:
    """Return what of ``said`` is a value of its member's range."""
    found: dict[str, Any] = {}
    for name in Report.__struct_fields__:
        if isinstance(value := said.get(name), int | float | str):
            with contextlib.suppress(msgspec.ValidationError, UnicodeEncodeError):
                found[name] = getattr(msgspec.convert({name: value}, Report), name)
    return Report(**found)


def _object_in(line: LogLine) -> dict[str, Any]:
    return stage_lines.object_in(line.line) if line.stream == "stdout" else {}


# From look to look


class Reported(NamedTuple):
    """A report, with the time that the engine has of its line."""

    report: Report
    time: str


class NewLines(NamedTuple):
    """What a stage has written since its log was read last."""

    lines: Sequence[LogLine]
    reports: Sequence[Reported]
    """Those among the lines, oldest first."""

    @property
    def is_cut(self) -> bool:
        """Whether it may have written more in the meantime than was read."""
        return len(self.lines) >= REPORT_LINES

    @property
    def says_that_it_listens(self) -> bool:
        """Whether one of the lines says so."""
        return any(map(is_listening, self.lines))


class ReportLog:
    """A stage's log, read look by look: each line counts once."""

    def __init__(self) -> None:
        """Nothing has been read."""
        self._last: LogLine | None = None

    def read(self, lines: Sequence[LogLine]) -> NewLines:
        """Take in the log's last `REPORT_LINES` lines; return those that were not there before."""
        places = range(len(lines) - 1, -1, -1)
        known = next((place for place in places if lines[place] == self._last), -1)
        fresh = lines[known + 1 :]
        self._last = lines[-1] if lines else self._last
        said = ((report_in(line), line.time) for line in fresh)
        return NewLines(
            fresh, [Reported(report, time) for report, time in said if report is not None]
        )


class Counters(NamedTuple):
    """The counters by which a stream is told to move."""

    frames: int
    consumers: int
    blocked: int
    every: float | None = None

    @classmethod
    def of(cls, report: Report) -> Counters | None:
        """Return those of a report; None when it lacks one of them."""
        frames, consumers, blocked = report.frames, report.consumers, report.blocked
        if frames is None or consumers is None or blocked is None:
            return None
        return cls(frames, consumers, blocked, report.every)


class Holder(NamedTuple):
    """A consumer that everybody waits for, and for how many seconds."""

    consumer: str
    seconds: float

    @classmethod
    def among(cls, said: Sequence[Reported]) -> Holder | None:
        """Return the last that is named in reports, for one that has taken nothing for long enough."""
        for report, _ in reversed(said):
            if report.held_up_by and (report.held_up_for or 0.0) >= HELD_UP:
                return cls(report.held_up_by, report.held_up_for or 0.0)
        return None


class StageReports:
    """All that has been read of one stage's reports. Times are monotonic, in seconds."""

    def __init__(self, since: float) -> None:
        """Nothing that it has written counts as older than ``since``."""
        self.newest: Counters | None = None
        """The counters of the newest report that has all of them."""
        self.said = since
        """When that was written …"""
        self.changed = since
        """… and the first of those that are like it."""
        self.holder: Holder | None = None
        """Who was named in what was read last."""
        self._log = ReportLog()
        self._looked = since
        self.is_unheard = False
        """It has promised reports, by saying that it listens, and none has come."""

    def read(self, lines: Sequence[LogLine], looked: float, clock: Clock) -> None:
        """Take in the log's last `REPORT_LINES` lines, which were asked for at ``looked``."""
        new = self._log.read(lines)
        listens = self.is_unheard or new.says_that_it_listens
        self.is_unheard = listens and not (new.is_cut or new.reports)
        if new.lines:
            self.holder = Holder.among(new.reports)
        said = [
            (found, time)
            for report, time in new.reports
            if (found := Counters.of(report)) is not None
        ]
        if new.is_cut and not said:
            self.newest = None  # it writes so much else that its reports are not to be found
        for counters, time in said:
            self.said = self._written(time, clock)
            if counters != self.newest:
                # Whatever came before the first one that is to be had may have been the same.
                begun = new.is_cut and self.newest is None
                self.newest, self.changed = counters, self._looked if begun else self.said
        self._looked = looked

    def _written(self, time: str, clock: Clock) -> float:
        now, age = clock.now(), 0.0
        with contextlib.suppress(ValueError):
            age = clock.wall() - datetime.fromisoformat(time).timestamp()
        return min(max(now - age, self._looked), now)

    def is_through(self, count: int | None) -> bool:
        """Tell whether it has passed on all of ``count`` frames; None is no number of them."""
        return self.newest is not None and count is not None and self.newest.frames >= count

    def is_held_up(self, count: int | None) -> bool:
        """Tell whether everybody waits for its consumers, be it for the last of ``count`` frames."""
        return self.newest is not None and (self.newest.blocked > 0 or self.is_through(count))

    def quiet_since(self, count: int | None) -> float | None:
        """Return since when it may have kept a consumer waiting; None when it does not, or nobody knows.

        One that is held up keeps nobody waiting as long as it goes on saying so.
        """
        newest = self.newest
        if newest is None or newest.consumers == 0:
            return None
        if not self.is_held_up(count):
            return self.changed
        return self.said if newest.every is not None else None

    def is_silent(self, now: float) -> bool:
        """Tell whether it hangs: it has not said again what it promised to say."""
        newest = self.newest
        if newest is None or newest.every is None or newest.consumers == 0:
            return False
        return now - self.said >= MISSED * newest.every
