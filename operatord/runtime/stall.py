# SPDX-License-Identifier: MIT
"""Notices running sessions whose frames have stopped though somebody waits for them.

The stages tell, by the reports in their logs. A session has stalled when its last stage has a consumer, is
held up by none (``blocked``), and has passed on nothing for the time given. A consumer that is connected and
does not read is no stall: it holds up the last stage, and so, by back-pressure, all before it.

Whose fault it is shows in the order of the stream. A stage that is held up has frames that the next one
does not take. So the first stage that stands still and is not held up is the one that does not deliver; with
a registered probe, the first stage stands for that as well.

A process that hangs cannot say that it does. The last stage's newest report is believed: one that was held up
when it hung counts as held up for good.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest

import msgspec

from operatord.engines import base

from .clock import Clock
from .record import SessionRecord
from .usage import Rounds, Sessions, Tempo, Visited

log = logging.getLogger(__name__)

SHORTEST_STEP, LONGEST_STEP = 0.25, 15.0
"""Bounds in seconds of the time between two looks, half of the timeout."""
REPORT_LINES = 40
"""Log lines read in search of reports: at one report a second, more than the longest step."""
FRAMES = 3
"""Intervals between frames that a slow stream may take before it counts as stalled."""

Emit = Callable[..., None]


class Report(msgspec.Struct, frozen=True):
    """The counters that matter here."""

    frames: int
    """Frames passed on."""
    consumers: int
    blocked: int
    """Of the consumers, those that everybody waits for."""


_decode = msgspec.json.Decoder(Report).decode


class _Stream(Visited):
    """With what the stages said last."""

    def __init__(self, record: SessionRecord, clock: Clock) -> None:
        super().__init__(record, clock)
        self.newest: base.LogLine | None = None
        """The newest line of the last stage that has been read."""
        self.report: Report | None = None
        """The last stage's newest report."""
        self.since = clock.now()
        """Monotonic time of the look from which on all its reports were alike."""
        self.before: dict[str, Report] = {}
        """What the stages said when the last one was first seen to stand still."""
        self.told: int | None = None
        """The number of frames at which it was said to have stalled."""

    def read(self, lines: Sequence[base.LogLine], now: float) -> None:
        """Take in what the last stage has said since the last look."""
        fresh, follows = list(lines), len(lines) < REPORT_LINES
        if self.newest in fresh:
            fresh, follows = fresh[fresh.index(self.newest) + 1 :], True
        said = [report for line in fresh if (report := report_in(line)) is not None]
        if not (said or follows):
            self.report = None  # it writes so much else that its reports are not to be found
        # Whoever came, left, or took something in between is in one of the reports between.
        if any(report != self.report for report in said):
            self.report, self.since, self.before = said[-1], now, {}
        self.newest = lines[-1] if lines else self.newest

    @property
    def is_waited_for(self) -> bool:
        """Whether somebody wants frames that are still to come."""
        return (
            self.report is not None
            and self.report.consumers > 0
            and self.report.blocked == 0
            and not _is_through(self.record, self.report)
        )


class StallWatch:
    """Says of running sessions that their frames have stopped: once, until they have moved again.

    It looks at the last stage only, and at the others while that stands still. What a stage that gives
    no reports, or none with ``blocked``, is doing is not known: its session is never said to have stalled.
    """

    def __init__(
        self,
        engine: base.Engine,
        sessions: Sessions,
        timeout: Callable[[], float | None],
        emit: Emit,
        tempo: Tempo | None = None,
    ) -> None:
        """``timeout`` is asked at each look; None: nothing is looked for, and the engine not asked."""
        self._engine = engine
        self._timeout = timeout
        self._emit = emit
        self._clock = (tempo := tempo or Tempo()).clock
        self._rounds = Rounds(sessions, lambda r: _Stream(r, self._clock), self._look, tempo)

    async def run(self) -> None:
        """Watch until cancelled."""
        await self._rounds.run()

    async def _look(self, visit: _Stream) -> None:
        timeout, record = self._timeout(), visit.record
        step = LONGEST_STEP if timeout is None else timeout / 2
        visit.due = self._clock.now() + min(max(step, SHORTEST_STEP), LONGEST_STEP)
        if timeout is None:
            return
        visit.read(await self._lines(record, record.base_stages[-1]), self._clock.now())
        if visit.runs and visit.is_waited_for and self._clock.now() > visit.since:
            await self._suspect(visit, max(timeout, FRAMES / record.fps if record.fps else 0.0))

    async def _suspect(self, visit: _Stream, patience: float) -> None:
        """Look at all stages of a session that stands still, and say so when it has for too long."""
        assert visit.report is not None
        if visit.told == visit.report.frames:
            return
        found = await self._reports(visit.record)
        quiet = self._clock.now() - visit.since
        if quiet < patience:
            visit.due = min(visit.due, visit.since + patience)
        before, visit.before = visit.before, found | visit.before
        if quiet < patience or not visit.runs:
            return
        stage = at_fault(visit.record, before, found)
        if stage is not None:
            visit.told = visit.report.frames
            self._say(visit.record, stage, quiet)

    def _say(self, record: SessionRecord, stage: str, seconds: float) -> None:
        log.warning("session %s has stalled for %.0f s at the stage %s", record.id, seconds, stage)
        self._emit("session.stalled", session_id=record.id, stage=stage, seconds=round(seconds, 3))

    async def _reports(self, record: SessionRecord) -> dict[str, Report]:
        """Return the newest report of each stage that gives any."""
        found: dict[str, Report] = {}
        for stage in record.base_stages:
            reports = [report_in(line) for line in await self._lines(record, stage)]
            report = next((each for each in reversed(reports) if each is not None), None)
            if report is not None:
                found[stage] = report
        return found

    async def _lines(self, record: SessionRecord, stage: str) -> list[base.LogLine]:
        container_id = record.containers[stage]
        return await self._rounds.ask(lambda: self._engine.logs(container_id, REPORT_LINES))


def at_fault(
    record: SessionRecord, before: Mapping[str, Report], now: Mapping[str, Report]
) -> str | None:
    """Return the first stage that stands still by itself, going by what all of them said twice.

    None when one has not said enough, or when what the last one waits for is on its way.
    """
    stages = [s for s in record.base_stages if not (s in now and _is_through(record, now[s]))]
    stages = [stage for stage in stages if stage not in record.exits]
    if any(stage not in before or stage not in now for stage in stages):
        return None
    for stage, following in zip_longest(stages, stages[1:]):
        moves = now[stage] != before[stage]
        if not moves and not _is_held_up(now[stage], now.get(following)):
            return stage
    return None


def _is_held_up(report: Report, following: Report | None) -> bool:
    """Tell whether a stage has something that the next one does not take.

    One that hung in the moment in which it happened to be held up said so last. But then the next one
    has had all of it, which is at least what was last reported.
    """
    return following is not None and report.blocked > 0 and report.frames >= following.frames


def _is_through(record: SessionRecord, report: Report) -> bool:
    """Tell whether a stage has passed on all frames that it is to."""
    return record.plan.count is not None and report.frames >= record.plan.count


def report_in(line: base.LogLine) -> Report | None:
    """Return the counters in a stage's line; None when it is no report, or lacks one of them."""
    if line.stream == "stdout" and line.line.startswith('{"type":"report"'):
        with contextlib.suppress(msgspec.MsgspecError, RecursionError):
            return _decode(line.line)
    return None
