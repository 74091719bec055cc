# SPDX-License-Identifier: MIT
"""Notices running sessions whose frames have stopped although a consumer waits for them.

The stages tell, by the reports in their logs. A session has stalled when its last stage has a consumer, is
held up by none (``blocked``), and has passed on nothing for the time given. A consumer that is connected and
does not read is no stall: it holds up the last stage, and so, by back-pressure, all before it. A degraded
session that was given the rest has two stages with consumers of their own, and each is looked at.

If a consumer does not read, it is reported as the cause: no stage is at fault, and other consumers may want
to know.

A process that hangs cannot say that it does. But a stage may promise to report so often while it has a
consumer (``every``). If a stage that promised falls silent, it hangs, whatever its last report says.

The stages are checked in the order of the stream. If a stage hangs, the first such stage is at fault.
Otherwise a stage that is held up has frames that the next one does not take. So the first stage that stands
still and is not held up is at fault; or the registered probe, if that stage is the first and reads from one.

A last stage that has reported nothing yet is checked as `greeting` says.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from itertools import pairwise, zip_longest

from operatord.core.pipelines import PROBE
from operatord.engines import base
from operatord.machine.clock import Clock
from operatord.session.record import SessionRecord
from operatord.store.events import Emit
from operatord.streams.reports import REPORT_LINES, Counters, Holder, StageReports

from .greeting import Greetings, greets
from .usage import CallRate, Polled, Poller, Sessions

log = logging.getLogger(__name__)

SHORTEST_STEP, LONGEST_STEP = 0.25, 15.0
"""Bounds in seconds of the time between two looks, half of the timeout."""
REPORTING = 1.0
"""Seconds for which a stage may have passed on frames since its newest report."""
FRAMES = 3
"""Intervals between frames that a slow stream may take before it counts as stalled."""


class _Stream(Polled):
    """With what the stages have said."""

    def __init__(self, record: SessionRecord, clock: Clock) -> None:
        super().__init__(record, clock)
        self._begun, self._now = self.due, clock.now
        self._reports: dict[str, StageReports] = {}
        self._told: dict[str, tuple[int, str]] = {}
        self._holders: dict[str, str] = {}
        self._greetings: dict[str, Greetings] = {}
        self.late = False
        """Whether the engine answered slowly in this look."""

    @property
    def ends(self) -> tuple[str, ...]:
        """The stages that have the session's own consumers."""
        return self.record.base_stages[-1], *self.record.attached

    def has(self, end: str) -> bool:
        """Tell whether it still runs, and has that end: an attached stage may have gone during a call."""
        return self.runs and end in self.ends

    def reports(self, stage: str) -> StageReports:
        """Return what a stage has said; one that was replaced has said nothing."""
        container_id = self.record.provisioned.containers[stage]
        return self._reports.setdefault(container_id, StageReports(self._begun))

    def greetings(self, stage: str, step: float) -> Greetings:
        """Return what checks of a stage have found; the first is made a ``step`` after it came to be here."""
        container_id = self.record.provisioned.containers[stage]
        return self._greetings.setdefault(container_id, Greetings(self._now() + step))

    def is_told(self, end: str) -> bool:
        """Tell whether it has been said that frames have stopped at ``end``, and none have come since."""
        newest = self.reports(end).newest
        return newest is not None and self._told.get(end, (None, ""))[0] == newest.frames

    def tell(self, end: str, fault: str) -> bool:
        """Note that ``fault`` has stopped the frames at ``end``; return whether that is news."""
        known = {self._told[other][1] for other in self.ends if self.is_told(other)}
        newest = self.reports(end).newest
        assert newest is not None
        self._told[end] = newest.frames, fault
        return fault not in known

    def names(self, end: str) -> Holder | None:
        """Return who holds up the frames at ``end``, if that has not been said of this time yet."""
        holder = self.reports(end).holder
        before = self._holders.pop(end, None)
        if holder is not None:
            self._holders[end] = holder.consumer
        return None if holder is None or holder.consumer == before else holder


class StallWatch:
    """Reports that a session's frames have stopped, once until they move again.

    It looks at the stages with consumers only, and at the others when one of those has stood still for too
    long. What a stage that gives no reports, or none with ``blocked``, is doing is not known: its session is
    never said to have stalled.

    A stall is said up to two seconds after the timeout: frames may have passed since the newest report, and
    the first report to be the same may come a second after the last frame.
    """

    def __init__(
        self,
        engine: base.Engine,
        sessions: Sessions,
        timeout: Callable[[], float | None],
        emit: Emit,
        rate: CallRate | None = None,
    ) -> None:
        """``timeout`` is asked at each look; None: nothing is looked for, and the engine not asked."""
        self._engine = engine
        self._timeout = timeout
        self._emit = emit
        self._clock = (rate := rate or CallRate()).clock
        self._poller = Poller(sessions, lambda r: _Stream(r, self._clock), self._look, rate)

    async def run(self) -> None:
        """Watch until cancelled."""
        await self._poller.run()

    async def _look(self, polled: _Stream) -> None:
        timeout, fps = self._timeout(), polled.record.fps
        step = LONGEST_STEP if timeout is None else timeout / 2
        step = min(max(step, SHORTEST_STEP), LONGEST_STEP)
        polled.due = self._clock.now() + step
        polled.urgent = polled.late = False
        if timeout is None:
            return
        for end in filter(polled.has, polled.ends):
            await self._listen(polled, end)
            if polled.has(end) and (holder := polled.names(end)) is not None:
                self._say_who(polled.record, end, holder)
            patience = max(timeout, FRAMES / fps if fps else 0.0)
            if polled.has(end) and polled.reports(end).is_unheard:
                await self._check(polled, end, patience, polled.greetings(end, step))
            elif polled.has(end) and not polled.is_told(end):
                await self._suspect(polled, end, patience)

    async def _check(self, polled: _Stream, end: str, patience: float, found: Greetings) -> None:
        """Say that a stage hangs that has reported nothing, once it has answered no check for so long."""
        asked = self._clock.now()
        if found.is_told or asked < found.due:
            return
        container_id = polled.record.provisioned.containers[end]
        state = await self._poller.ask(lambda: self._engine.inspect(container_id))
        if (address := state.where_published()) is None or not polled.has(end):
            return
        found.note(asked, await greets(address))
        since = found.silent_since
        if since is not None and asked - since >= patience and polled.has(end):
            found.is_told = True
            self._say(polled.record, end, asked - since)

    async def _suspect(self, polled: _Stream, end: str, patience: float) -> None:
        """Say that no frames come out at ``end``, or come back at the moment when that can be said."""
        since = polled.reports(end).quiet_since(polled.record.plan.count)
        if since is None:
            return
        over = since + patience + REPORTING
        if self._clock.now() < over:
            polled.urgent = polled.urgent or over < polled.due
            polled.due = min(polled.due, over)
            return
        chain = _chain(polled.record, end)
        for stage in chain[:-1]:
            await self._listen(polled, stage)
        if not polled.has(end):
            return
        if polled.late:  # it may have been slow to store the stages' output, too
            polled.due = min(polled.due, self._clock.now() + REPORTING)
            return
        said = {stage: polled.reports(stage) for stage in chain}
        fault = at_fault(polled.record, said, self._clock.now())
        if fault is not None and polled.tell(end, fault):
            self._say(polled.record, fault, self._clock.now() - since)

    def _say(self, record: SessionRecord, stage: str, seconds: float) -> None:
        log.warning("session %s has stalled for %.0f s at the stage %s", record.id, seconds, stage)
        self._emit("session.stalled", session_id=record.id, stage=stage, seconds=round(seconds, 3))

    def _say_who(self, record: SessionRecord, stage: str, holder: Holder) -> None:
        log.warning(
            "session %s: the consumer %s of the stage %s has taken nothing for %.0f s, and all wait for it",
            record.id, holder.consumer, stage, holder.seconds,
        )  # fmt: skip
        self._emit(
            "session.held_up", session_id=record.id, stage=stage, consumer=holder.consumer,
            seconds=holder.seconds,
        )  # fmt: skip

    async def _listen(self, polled: _Stream, stage: str) -> None:
        """Read what a stage has said since it was last listened to."""
        reports, container_id = polled.reports(stage), polled.record.provisioned.containers[stage]

        async def read() -> None:
            looked = self._clock.now()
            lines = await self._engine.logs(container_id, REPORT_LINES)
            reports.read(lines, looked, self._clock)
            polled.late = polled.late or self._clock.now() - looked > REPORTING

        await self._poller.ask(read)


def _chain(record: SessionRecord, end: str) -> tuple[str, ...]:
    """Return the stages that frames pass through on their way out at ``end``."""
    return (*(stage for stage in record.base_stages if stage != end), end)


def at_fault(record: SessionRecord, said: dict[str, StageReports], now: float) -> str | None:
    """Return whose fault it is that the last stage of ``said`` stands still.

    The stages are in the order of the stream. None when nobody can tell, or when the last one is
    held back by somebody else's consumer.
    """
    stages = [stage for stage in said if stage not in record.observed.exits]
    last = next(reversed(said))
    hangs = next((stage for stage in stages if said[stage].is_silent(now)), None)
    # An attached stage never holds up its upstream.
    held_up = any(said[end].is_held_up(record.plan.count) for end in (record.base_stages[-1], last))
    if hangs is not None or held_up:
        return hangs
    stage = _never_began(said, stages)
    stage = stage or _stands_still(record, said, stages, said[last].changed + REPORTING)
    registered = record.plan.upstream is not None and stage == record.base_stages[0]
    return PROBE if registered else stage


def _never_began(said: dict[str, StageReports], stages: Sequence[str]) -> str | None:
    """Return the stage that hangs in its first frame: it has said nothing yet, the stage before it has more
    for it, and nothing has come to those after it."""
    for place, (before, stage) in enumerate(pairwise(stages), start=2):
        given = said[before].newest
        after = [found.frames for each in stages[place:] if (found := said[each].newest)]
        if said[stage].newest is None and given is not None and after:
            return stage if given.blocked and given.frames and not any(after) else None
    return None


def _stands_still(
    record: SessionRecord, said: dict[str, StageReports], stages: Sequence[str], since: float
) -> str | None:
    """Return the first of ``stages`` that stands still ``since`` then by itself.

    None when one of them has not said enough.
    """
    stages = [stage for stage in stages if not said[stage].is_through(record.plan.count)]
    newest = {stage: found for stage in stages if (found := said[stage].newest) is not None}
    if len(newest) < len(stages):
        return None
    for stage, following in zip_longest(stages, stages[1:]):
        moves = said[stage].changed > since
        if not moves and not _offers(newest[stage], newest.get(following)):
            return stage
    return None


def _offers(report: Counters, following: Counters | None) -> bool:
    """Tell whether a stage has something that the next one does not take.

    If it hung while it was held up, its last report still says so. But then the next stage has received
    everything that was reported.
    """
    return following is not None and report.blocked > 0 and report.frames >= following.frames
