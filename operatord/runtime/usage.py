# SPDX-License-Identifier: MIT
"""Looks at running sessions now and then: what their stages use, and whether anybody consumes.

Two watches, each one task that makes one round of looks after another, one session at a time. Each
keeps to a number of engine calls per second, however many sessions there are: with too many for the
pace, each is looked at less often.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar

from operatord.core.learning import Learned, StageUse, Use
from operatord.engines import base

from .clock import Clock
from .record import SessionRecord

log = logging.getLogger(__name__)

T = TypeVar("T")
V = TypeVar("V", bound="Visited")

Json = dict[str, Any]
Sessions = Callable[[], Iterable[SessionRecord]]
"""Returns the sessions that run now."""

FIND_EVERY = 1.0
"""Longest time in seconds until a session that has come to run is noticed."""
YOUNG = 10.0
"""Age in seconds up to which a session's use counts as its start."""
FIRST_LOOKS = (2.0, 5.0)
"""Ages in seconds at which a session is looked at while it is young …"""
LOOK_EVERY = 15.0
"""… and seconds between looks from then on."""
SHORTEST_STEP, LONGEST_STEP = 0.25, 15.0
"""Bounds in seconds of the time between two looks for consumers, a quarter of the idle timeout."""
REPORT_LINES = 40
"""Log lines read in search of reports: at one report a second, more than the longest step."""
NEW = 2.0
"""Age in seconds up to which nobody but the daemon has had time to consume anything."""
LAST_LOOKS = (-0.5, 0.01)
"""Seconds around an idle timeout at which it is looked at: right before, for a keeper that ends sessions
by a timer and must hear of a consumer in time; and once it is reached, for one that ends them then."""
REST = 60.0
"""Seconds for which a session is left alone after a call for it that was not answered."""


class Tempo(NamedTuple):
    """Time for a watch, and how much of the engine's it may take."""

    clock: Clock = Clock()
    sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep
    calls_per_second: float = 8.0
    calls_at_once: int = 2
    patience: float = 10.0
    """Seconds after which a call is given up. Its thread stays taken until the engine's own limit."""


class Visited:
    """A running session, as a watch remembers it."""

    def __init__(self, record: SessionRecord, clock: Clock) -> None:
        """Begin to follow ``record``; the first look is due at once."""
        self.record = record
        now = clock.now()
        age = 0.0 if record.started is None else max(0.0, clock.wall() - record.started)
        self.running = now - age
        """Monotonic time at which the session came to run."""
        self.due = now
        """Monotonic time of the next look."""
        self.urgent = False
        """Whether it goes before those that are not, when several are due."""

    @property
    def runs(self) -> bool:
        """Whether it still runs; it may have ended during a call."""
        return self.record.phase == "running"


class Rounds(Generic[V]):
    """Visits each running session when it is due, and never calls the engine faster than its pace."""

    def __init__(
        self,
        sessions: Sessions,
        begin: Callable[[SessionRecord], V],
        look: Callable[[V], Awaitable[None]],
        tempo: Tempo,
    ) -> None:
        """``look`` sets ``due``, the time of the next one, before it awaits anything."""
        self._sessions = sessions
        self._begin = begin
        self._look = look
        self._tempo = tempo
        self._turn = 0.0
        self._room = asyncio.Semaphore(tempo.calls_at_once)
        self.visited: dict[str, V] = {}
        """What is remembered, by session id; of running sessions only."""

    async def run(self) -> None:
        """Look until cancelled. What goes wrong in a look is that look's end only."""
        now = self._tempo.clock.now
        while True:
            self._follow()
            visit = self._next(now())
            if visit is not None and visit.due <= now():
                await self._attempt(visit)
            else:
                wait = FIND_EVERY if visit is None else min(FIND_EVERY, visit.due - now())
                await self._tempo.sleep(wait)

    async def ask(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make an engine call when it is its turn. Raises `TimeoutError` and what the call raises."""
        async with self._room:
            now = self._tempo.clock.now()
            turn = max(self._turn, now)
            self._turn = turn + 1 / self._tempo.calls_per_second
            if turn > now:
                await self._tempo.sleep(turn - now)
            async with asyncio.timeout(self._tempo.patience):
                return await call()

    def _follow(self) -> None:
        """Begin with those that have come to run, forget those that have ended."""
        running = {record.id: record for record in self._sessions()}
        for session_id in self.visited.keys() - running.keys():
            del self.visited[session_id]
        for session_id, record in running.items():
            if session_id not in self.visited:
                self.visited[session_id] = self._begin(record)

    def _next(self, now: float) -> V | None:
        """Return the one that has been due for longest, the urgent first; else the one due next."""
        return min(
            self.visited.values(),
            key=lambda visit: (visit.due > now, not visit.urgent and visit.due <= now, visit.due),
            default=None,
        )

    async def _attempt(self, visit: V) -> None:
        visit.due = self._tempo.clock.now() + FIND_EVERY  # whatever happens, not again at once
        try:
            await self._look(visit)
        except TimeoutError:
            visit.due = self._tempo.clock.now() + REST
            log.debug("session %s: the engine did not answer a look", visit.record.id)
        except base.EngineError as exc:
            log.debug("session %s: a look is skipped: %s", visit.record.id, exc)
        except Exception:  # a defect in one look must not end all the others
            log.exception("session %s: a look failed", visit.record.id)


class _Measured(Visited):
    """With the last reading of each stage: processor seconds, and when they were read."""

    def __init__(self, record: SessionRecord, clock: Clock) -> None:
        super().__init__(record, clock)
        self.due = _next_look(self.running, clock.now())
        self.urgent = True  # it is young only once, while an old one can wait
        self.readings: dict[str, tuple[float, float]] = {}
        # A start writes down how long its steps took. Stages that were started for this session have
        # used nothing before; of those that had waited for it, nobody knows.
        took = record.timings
        if "start" in took:
            begun = self.running - (took["start"] + took.get("verify", 0.0)) / 1000
            self.readings = dict.fromkeys(record.containers, (0.0, begun))

    def cores(self, stage: str, seconds: float | None, now: float) -> float | None:
        """Return how many cores ``stage`` has used since its last reading; None when not known.

        ``seconds`` is the processor time that is read ``now``; None where the engine cannot tell.
        """
        if seconds is None:
            return None
        before = self.readings.get(stage)
        self.readings[stage] = (seconds, now)
        if before is None or now <= before[1]:
            return None
        return max(0.0, seconds - before[0]) / (now - before[1])


class UsageWatch:
    """Measures the stages of running sessions, for what is learned and for the post-mortem."""

    def __init__(
        self, engine: base.Engine, sessions: Sessions, learned: Learned, tempo: Tempo | None = None
    ) -> None:
        """Report to ``learned``, and to each record's ``usage``, which stays after the end."""
        self._engine = engine
        self._learned = learned
        self._clock = (tempo := tempo or Tempo()).clock
        self._rounds = Rounds(sessions, lambda r: _Measured(r, self._clock), self._look, tempo)

    async def run(self) -> None:
        """Measure until cancelled."""
        await self._rounds.run()

    async def _look(self, visit: _Measured) -> None:
        """Look at all stages together: an engine may answer all of them at its next tick."""
        visit.due = _next_look(visit.running, self._clock.now())
        visit.urgent = visit.due - visit.running < YOUNG
        stages = list(visit.record.containers.items())
        looks = (self._look_at(visit, stage, container_id) for stage, container_id in stages)
        for failure in await asyncio.gather(*looks, return_exceptions=True):
            if failure is not None and not isinstance(failure, base.NotThere):
                raise failure

    async def _look_at(self, visit: _Measured, stage: str, container_id: str) -> None:
        stats = await self._rounds.ask(lambda: self._engine.stats(container_id))
        now, record = self._clock.now(), visit.record
        cores = visit.cores(stage, stats.cpu_seconds, now)
        if stats.memory is None or not visit.runs:
            return
        use = Use(cpus=round((cores or 0.0) * 1000), memory=stats.memory)
        record.usage[stage] = record.usage.get(stage, StageUse()).seen(use)
        young = now - visit.running < YOUNG
        # A percentile would be pulled down by a rate that is not known; a peak is not.
        if young or cores is not None:
            self._learned.note(record.plan.pipeline, stage, use, young)


def _next_look(running: float, now: float) -> float:
    """Return when a session that runs since ``running`` is to be measured next, after ``now``."""
    ages = (running + age for age in FIRST_LOOKS)
    return next((moment for moment in ages if moment > now), now + LOOK_EVERY)


class _Mark(NamedTuple):
    """A figure that stands still while nobody consumes."""

    kind: Literal["consumers", "frames", "bytes"]
    value: int
    since: float
    """Monotonic time from which on it has had this value."""


class _Attended(Visited):
    """With what tells whether somebody consumes."""

    def __init__(self, record: SessionRecord, clock: Clock) -> None:
        super().__init__(record, clock)
        self.idle_since: float | None = None
        self.told: float | None = None
        """The beginning of the idle time of which its keeper has been told."""
        self.newest: base.LogLine | None = None
        """The newest line that has been read."""
        self.report: Json | None = None
        """The newest report among all that have been read; empty for one who is only listening."""
        self.mark: _Mark | None = None

    def read(self, lines: list[base.LogLine]) -> list[Json]:
        """Return the reports among ``lines`` that have not been read yet."""
        fresh: list[Json] = []
        for line in reversed(lines):
            if line == self.newest:
                break
            if line.stream == "stdout" and (said := _said(line.line)) is not None:
                fresh.insert(0, said)
        if lines:
            self.newest = lines[-1]
        if fresh:
            self.report = fresh[-1] if fresh[-1]["type"] == "report" else self.report or {}
        return [said for said in fresh if said["type"] == "report"]

    def attended(self, fresh: list[Json], now: float) -> float | None:
        """Return since when the ``consumers`` of the reports are none; None while there are some."""
        assert self.report is not None
        if self.report["consumers"] > 0:
            self.mark = None
            return None
        # Whoever came and left between two looks is in one of the reports between them. And who
        # reports for the first time has had a visitor.
        visited = any(report.get("consumers") for report in fresh)
        if visited or self.mark is None or self.mark.kind != "consumers":
            self.mark = _Mark("consumers", 0, now)
        return self.mark.since

    def moved(self, kind: Literal["frames", "bytes"], value: int, now: float) -> float | None:
        """Return since when a figure has stood still; None when it has moved since the last look."""
        before = self.mark
        if before is None or before.kind != kind:
            new = now - self.running < NEW or (kind == "frames" and value == 0)
            self.mark = _Mark(kind, value, self.running if new else now)
        elif before.value != value:
            self.mark = _Mark(kind, value, now)
            return None
        return self.mark.since if self.mark is not None else None


class Keeper(Protocol):
    """Who decides what becomes of idle sessions."""

    def idle_timeout(self, record: SessionRecord) -> float | None:
        """Return the seconds after which ``record`` is idle for too long; None: it may be for ever.

        Asked at every look; a session that has none costs the engine nothing.
        """
        ...

    def on_idle(self, record: SessionRecord, seconds: float) -> None:
        """Hear that nobody has consumed ``record`` for ``seconds``, as of now.

        Called at each look that finds a quarter of the timeout gone, or more: every quarter of it,
        half a second before it is over, and when it is.
        """
        ...

    def on_active(self, record: SessionRecord) -> None:
        """Hear, once, that the idle time of ``record`` is over, be it that another has begun."""
        ...


class IdleWatch:
    """Notices running sessions that nobody consumes.

    The last stage tells: by the ``consumers`` in its reports, else by its ``frames``, else, where
    the engine counts them, by the bytes that its network namespace has sent (a shared namespace is
    the last stage's). Of a stage that gives no sign at all nothing is known: it is never idle.
    Frames alone do not count for a stage that names its consumers: a live one goes on without any.

    A session counts as idle from the time it came to run until somebody consumes, and again from
    the look that finds the last consumer gone, which is up to a step and the stage's own second
    between reports late. A consumer that comes is seen as late: whoever ends a session that is idle
    may cut off one that came in the last second.
    """

    def __init__(
        self, engine: base.Engine, sessions: Sessions, keeper: Keeper, tempo: Tempo | None = None
    ) -> None:
        """Tell ``keeper`` what is noticed."""
        self._engine = engine
        self._keeper = keeper
        self._clock = (tempo := tempo or Tempo()).clock
        self._rounds = Rounds(sessions, lambda r: _Attended(r, self._clock), self._look, tempo)

    async def run(self) -> None:
        """Watch until cancelled."""
        await self._rounds.run()

    def idle_since(self, record: SessionRecord) -> float | None:
        """Return the monotonic time since when nobody consumes; None while somebody does.

        None as well when it is not known, not looked for, or the session does not run.
        """
        visit = self._rounds.visited.get(record.id)
        return visit.idle_since if visit is not None and visit.runs else None

    async def _look(self, visit: _Attended) -> None:
        timeout = self._keeper.idle_timeout(visit.record)
        step = LONGEST_STEP if timeout is None else timeout / 4
        visit.due = self._clock.now() + min(max(step, SHORTEST_STEP), LONGEST_STEP)
        visit.idle_since = None if timeout is None else await self._quiet(visit)
        if not visit.runs:
            return
        if visit.told is not None and visit.told != visit.idle_since:
            visit.told = None  # also when a visitor has come and left: the time begins anew
            self._keeper.on_active(visit.record)
        if timeout is not None and visit.idle_since is not None:
            self._tell_idle(visit, visit.idle_since, timeout)

    def _tell_idle(self, visit: _Attended, since: float, timeout: float) -> None:
        now = self._clock.now()
        last = (since + timeout + offset for offset in LAST_LOOKS)
        visit.due = min([visit.due, *(moment for moment in last if moment > now)])
        if now - since >= timeout / 4:
            visit.told = since
            self._keeper.on_idle(visit.record, now - since)

    async def _quiet(self, visit: _Attended) -> float | None:
        """Ask the last stage; return since when it is quiet. None when it is not, or not known."""
        record = visit.record
        container_id = record.containers[record.base_stages[-1]]
        if record.attached:
            # A stage that came later consumes, too, and has consumers of its own: what has been sent
            # is all that speaks for both.
            return await self._sent(visit, container_id)
        lines = await self._rounds.ask(lambda: self._engine.logs(container_id, REPORT_LINES))
        fresh, report = visit.read(lines), visit.report
        if report is not None:
            if isinstance(report.get("consumers"), int):
                return visit.attended(fresh, self._clock.now())
            if isinstance(frames := report.get("frames", 0), int):
                return visit.moved("frames", frames, self._clock.now())
        return await self._sent(visit, container_id)

    async def _sent(self, visit: _Attended, container_id: str) -> float | None:
        stats = await self._rounds.ask(lambda: self._engine.stats(container_id))
        if stats.tx_bytes is None:
            return None
        return visit.moved("bytes", stats.tx_bytes, self._clock.now())


def _said(line: str) -> Json | None:
    """Return what a stage says for the daemon to read: ``listening`` or ``report``."""
    if not line.startswith(('{"type":"report"', '{"type":"listening"')):
        return None
    with contextlib.suppress(ValueError, RecursionError):
        said: Json = json.loads(line)
        return said
    return None
