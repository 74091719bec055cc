# SPDX-License-Identifier: MIT
"""Notices running sessions that nobody consumes."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

from operatord.engines import base
from operatord.machine.clock import Clock
from operatord.session.record import SessionRecord
from operatord.streams.reports import REPORT_LINES, Report, ReportLog

from .usage import CallRate, Polled, Poller, Sessions

SHORTEST_STEP, LONGEST_STEP = 0.25, 15.0
"""Bounds in seconds of the time between two looks for consumers, a quarter of the idle timeout."""
NEW = 2.0
"""Age in seconds up to which only the daemon can have read anything."""
CHATTER = 1024
"""Bytes sent between two looks that nobody has read: the system asks for routers and neighbours (IPv6, which
Podman leaves on) with packets of less than a hundred, and the least stream has more in every frame."""
JUST_LISTENING = Report(frames=0)
"""The state of a stage that has only reported that it listens."""
LAST_LOOK = 0.01
"""Seconds after a timeout when it is looked at: no unread session is ended without a look."""


class _Mark(NamedTuple):
    """A figure that stands still while nobody consumes."""

    kind: Literal["consumers", "frames", "bytes"]
    value: int
    since: float
    """Monotonic time from which on it has had this value."""


class _ConsumerState(Polled):
    """With what tells whether somebody consumes."""

    def __init__(self, record: SessionRecord, clock: Clock) -> None:
        super().__init__(record, clock)
        self.idle_since: float | None = None
        self.told: float | None = None
        """The start of the idle time that the hooks were told of."""
        self.report: Report | None = None
        """The newest report among all that have been read."""
        self.mark: _Mark | None = None
        self.missed = False
        """It has written more than was read."""
        self._log = ReportLog()
        self.consumed = False
        """Somebody was seen to consume it at the last look."""
        self.was_read: bool | None = None
        """Whether anybody has ever consumed it; None while nobody knows."""

    def ever_read(self, fresh: list[Report]) -> bool | None:
        """Tell whether anybody has ever consumed it; None when nobody knows.

        Frames are counted from the start, so any report covers all the time before it. Consumers, or the
        absence of reports, are conclusive only if every line of the stage was read.
        """
        if any(report.consumers or report.frames for report in fresh):
            return True
        last = self.report
        if last is None or (last.frames is None and last.consumers is None):
            return None
        counts = last is not JUST_LISTENING and last.frames is not None
        return None if self.missed and not counts else False

    def read(self, lines: list[base.LogLine]) -> list[Report]:
        """Return the reports among ``lines`` that have not been read yet."""
        new = self._log.read(lines)
        if new.reports:
            self.report = new.reports[-1].report
        elif self.report is None and new.says_that_it_listens:
            self.report = JUST_LISTENING
        if new.is_cut and not new.says_that_it_listens:
            self.missed = True
        return [report for report, _ in new.reports]

    def attended(self, fresh: list[Report], consumers: int, now: float) -> float | None:
        """Return since when the ``consumers`` of the reports are none; None while there are some."""
        if consumers > 0:
            self.consumed = True
            self.mark = None
            return None
        # A consumer that came and left between two looks is in one of the reports between them. And the first
        # report ever means that there was one.
        visited = any(report.consumers for report in fresh)
        if visited or self.mark is None or self.mark.kind != "consumers":
            self.mark = _Mark("consumers", 0, now)
        return self.mark.since

    def moved(self, kind: Literal["frames", "bytes"], value: int, now: float) -> float | None:
        """Return since when a figure has stood still; None when it has moved since the last look."""
        before = self.mark
        if before is None or before.kind != kind:
            new = now - self.running < NEW or (kind == "frames" and value == 0)
            self.mark = _Mark(kind, value, self.running if new else now)
        elif kind == "bytes" and 0 <= value - before.value < CHATTER:
            self.mark = before._replace(value=value)
        elif before.value != value:
            self.consumed = True
            self.mark = _Mark(kind, value, now)
            return None
        return self.mark.since if self.mark is not None else None


class IdleHooks(Protocol):
    """What `IdleWatch` asks the owner of sessions' ends, and what it reports."""

    def idle_timeout(self, record: SessionRecord) -> float | None:
        """Return the seconds after which ``record`` is idle for too long; None: it may be for ever.

        Asked at every look; a session that has none costs the engine nothing.
        """
        ...

    def on_idle(self, record: SessionRecord, seconds: float) -> None:
        """Hear that nobody has consumed ``record`` for ``seconds``, as of now.

        Called at each look that finds a quarter of the timeout gone, or more: every quarter of it, and
        when it is over.
        """
        ...

    def on_active(self, record: SessionRecord) -> None:
        """Hear, once, that the idle time of ``record`` is over, be it that another has begun."""
        ...

    def on_consumed(self, record: SessionRecord) -> None:
        """Hear, at each look that finds it so, that somebody consumes ``record`` now."""
        ...

    def unread_limit(self, record: SessionRecord) -> float | None:
        """Return the age in seconds at which it matters whether ``record`` was ever read; None: it does not.

        Asked at every look.
        """
        ...

    def on_read(self, record: SessionRecord) -> None:
        """Hear that somebody has consumed ``record``, now or before."""
        ...

    def on_unread(self, record: SessionRecord, sure: bool) -> None:
        """Hear, at each look, that nobody is known to have consumed ``record``.

        It is ``sure`` where its last stage would have said so, and not where nobody can tell.
        """
        ...


class IdleWatch:
    """Notices running sessions that nobody consumes.

    The last stage tells: by the ``consumers`` in its reports, else by its ``frames``, else, where the engine
    counts them, by the bytes that its network namespace has sent (a shared namespace is the last stage's),
    but for a few that the system sends by itself. A stage that gives no sign at all never counts as idle.
    Frames alone do not count for a stage that names its consumers: a live one goes on without any.

    A session counts as idle from the time it came to run until somebody consumes, and again from the look
    that finds the last consumer gone, which is up to a step and the stage's own second between reports late.
    A new consumer is seen with the same delay, so ending an idle session may cut off one that came in the
    last second.
    """

    def __init__(
        self,
        engine: base.Engine,
        sessions: Sessions,
        hooks: IdleHooks,
        rate: CallRate | None = None,
    ) -> None:
        """Tell ``hooks`` what is noticed."""
        self._engine = engine
        self._hooks = hooks
        self._clock = (rate := rate or CallRate()).clock
        self._poller = Poller(sessions, lambda r: _ConsumerState(r, self._clock), self._look, rate)

    async def run(self) -> None:
        """Watch until cancelled."""
        await self._poller.run()

    def idle_since(self, record: SessionRecord) -> float | None:
        """Return the monotonic time since when nobody consumes; None while somebody does.

        None as well when it is not known, not looked for, or the session does not run.
        """
        polled = self._poller.polled.get(record.id)
        return polled.idle_since if polled is not None and polled.runs else None

    async def _look(self, polled: _ConsumerState) -> None:
        record = polled.record
        timeout, limit = self._hooks.idle_timeout(record), self._hooks.unread_limit(record)
        shortest = min((each for each in (timeout, limit) if each is not None), default=None)
        step = LONGEST_STEP if shortest is None else shortest / 4
        polled.due = self._clock.now() + min(max(step, SHORTEST_STEP), LONGEST_STEP)
        since = None if shortest is None else await self._quiet(polled)
        if not polled.runs:
            return
        if limit is not None:
            self._tell_unread(polled, limit)
        if polled.consumed:
            self._hooks.on_consumed(record)
        polled.idle_since = None if timeout is None else since
        if polled.told is not None and polled.told != polled.idle_since:
            polled.told = None  # also when a consumer has come and left: the time starts again
            self._hooks.on_active(record)
        if timeout is not None and polled.idle_since is not None:
            self._tell_idle(polled, polled.idle_since, timeout)

    def _tell_unread(self, polled: _ConsumerState, limit: float) -> None:
        self._look_at(polled, polled.running + limit)
        if polled.was_read:
            self._hooks.on_read(polled.record)
        else:
            self._hooks.on_unread(polled.record, polled.was_read is not None)

    def _tell_idle(self, polled: _ConsumerState, since: float, timeout: float) -> None:
        now = self._clock.now()
        self._look_at(polled, since + timeout)
        if now - since >= timeout / 4:
            polled.told = since
            self._hooks.on_idle(polled.record, now - since)

    def _look_at(self, polled: _ConsumerState, moment: float) -> None:
        """Look again right after ``moment``, if it is still to come."""
        if (last := moment + LAST_LOOK) > self._clock.now():
            polled.due = min(polled.due, last)

    async def _quiet(self, polled: _ConsumerState) -> float | None:
        """Ask the last stage; return since when it is quiet. None when it is not, or not known."""
        record = polled.record
        container_id = record.provisioned.containers[record.base_stages[-1]]
        lines = await self._poller.ask(lambda: self._engine.logs(container_id, REPORT_LINES))
        polled.consumed = False
        fresh, report = polled.read(lines), polled.report
        polled.was_read = polled.was_read or polled.ever_read(fresh)
        if report is not None:
            if report.consumers is not None:
                return polled.attended(fresh, report.consumers, self._clock.now())
            if report.frames is not None:
                return polled.moved("frames", report.frames, self._clock.now())
        return await self._sent(polled, container_id)

    async def _sent(self, polled: _ConsumerState, container_id: str) -> float | None:
        stats = await self._poller.ask(lambda: self._engine.stats(container_id))
        if stats.tx_bytes is None:
            return None
        return polled.moved("bytes", stats.tx_bytes, self._clock.now())
