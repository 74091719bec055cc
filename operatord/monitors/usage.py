# SPDX-License-Identifier: MIT
"""Measures now and then what the stages of running sessions use.

A watch is one task that makes one round of looks after another, one session at a time. It keeps to a
number of engine calls per second, however many sessions there are: with too many for that, each is
looked at less often.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Generic, NamedTuple, TypeVar

from operatord.core.scheduling.learning import Learned, StageUse, Use
from operatord.engines import base
from operatord.machine.clock import Clock
from operatord.session.record import SessionRecord

log = logging.getLogger(__name__)

T = TypeVar("T")
V = TypeVar("V", bound="Polled")

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
REST = 60.0
"""Seconds for which a session is left alone after a call for it that was not answered."""


class CallRate(NamedTuple):
    """How fast a watch may call the engine, and by which clock."""

    clock: Clock = Clock()
    sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep
    calls_per_second: float = 8.0
    calls_at_once: int = 2
    patience: float = 10.0
    """Seconds after which a call is given up. Its thread stays taken until the engine's own limit."""


class Polled:
    """A running session, as a watch remembers it."""

    def __init__(self, record: SessionRecord, clock: Clock) -> None:
        """Begin to follow ``record``; the first look is due at once."""
        self.record = record
        now = clock.now()
        self.running = record.moments.get("running", now)
        """Monotonic time at which the session came to run."""
        self.due = now
        """Monotonic time of the next look."""
        self.urgent = False
        """Whether it goes first when several are due."""

    @property
    def runs(self) -> bool:
        """Whether it still runs; it may have ended during a call."""
        return self.record.phase == "running"


class Poller(Generic[V]):
    """Looks at each running session when it is due, and never calls the engine faster than its rate."""

    def __init__(
        self,
        sessions: Sessions,
        begin: Callable[[SessionRecord], V],
        look: Callable[[V], Awaitable[None]],
        rate: CallRate,
    ) -> None:
        """``look`` sets ``due``, the time of the next one, before it awaits anything."""
        self._sessions = sessions
        self._begin = begin
        self._look = look
        self._rate = rate
        self._turn = 0.0
        self._room = asyncio.Semaphore(rate.calls_at_once)
        self.polled: dict[str, V] = {}
        """What is remembered, by session id; of running sessions only."""

    async def run(self) -> None:
        """Look until cancelled. An error in one look ends only that look."""
        now = self._rate.clock.now
        while True:
            self._follow()
            polled = self._next(now())
            if polled is not None and polled.due <= now():
                await self._attempt(polled)
            else:
                wait = FIND_EVERY if polled is None else min(FIND_EVERY, polled.due - now())
                await self._rate.sleep(wait)

    async def ask(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make an engine call when it is its turn. Raises `TimeoutError` and what the call raises."""
        async with self._room:
            now = self._rate.clock.now()
            turn = max(self._turn, now)
            self._turn = turn + 1 / self._rate.calls_per_second
            if turn > now:
                await self._rate.sleep(turn - now)
            async with asyncio.timeout(self._rate.patience):
                return await call()

    def _follow(self) -> None:
        """Begin with those that have come to run, forget those that have ended."""
        running = {record.id: record for record in self._sessions()}
        for session_id in self.polled.keys() - running.keys():
            del self.polled[session_id]
        for session_id, record in running.items():
            if session_id not in self.polled:
                self.polled[session_id] = self._begin(record)

    def _next(self, now: float) -> V | None:
        """Return the one that has been due for longest, the urgent first; else the one due next."""
        return min(
            self.polled.values(),
            key=lambda polled: (
                polled.due > now,
                not polled.urgent and polled.due <= now,
                polled.due,
            ),
            default=None,
        )

    async def _attempt(self, polled: V) -> None:
        polled.due = (
            self._rate.clock.now() + FIND_EVERY
        )  # so that an error does not repeat it at once
        try:
            await self._look(polled)
        except TimeoutError:
            polled.due = self._rate.clock.now() + REST
            log.debug("session %s: the engine did not answer a look", polled.record.id)
        except base.EngineError as exc:
            log.debug("session %s: a look is skipped: %s", polled.record.id, exc)
        except Exception:  # a defect in one look must not end all the others
            log.exception("session %s: a look failed", polled.record.id)


class _Measured(Polled):
    """With the last reading of each stage: processor seconds, and when they were read."""

    def __init__(self, record: SessionRecord, clock: Clock) -> None:
        super().__init__(record, clock)
        self.due = _next_look(self.running, clock.now())
        self.urgent = True  # it is young only once, while an old one can wait
        self.readings: dict[str, tuple[float, float]] = {}
        # A start writes down how long its steps took. Stages that were started for this session have used
        # nothing before; for slots' stages it is unknown.
        took = record.timings
        if "start" in took:
            begun = self.running - (took["start"] + took.get("verify", 0.0)) / 1000
            for name in record.provisioned.containers:
                earlier = (
                    took.get(f"network.{name}", 0.0) / 1000
                )  # it was started beside the network
                self.readings[name] = (0.0, begun - earlier)

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
        self,
        engine: base.Engine,
        sessions: Sessions,
        learned: Learned,
        rate: CallRate | None = None,
    ) -> None:
        """Report to ``learned``, and to each record's ``usage``, which stays after the end."""
        self._engine = engine
        self._learned = learned
        self._clock = (rate := rate or CallRate()).clock
        self._poller = Poller(sessions, lambda r: _Measured(r, self._clock), self._look, rate)

    async def run(self) -> None:
        """Measure until cancelled."""
        await self._poller.run()

    async def _look(self, polled: _Measured) -> None:
        """Look at all stages together: an engine may answer all of them at its next tick."""
        polled.due = _next_look(polled.running, self._clock.now())
        polled.urgent = polled.due - polled.running < YOUNG
        stages = list(polled.record.provisioned.containers.items())
        looks = (self._look_at(polled, stage, container_id) for stage, container_id in stages)
        for failure in await asyncio.gather(*looks, return_exceptions=True):
            if failure is not None and not isinstance(failure, base.NotThere):
                raise failure

    async def _look_at(self, polled: _Measured, stage: str, container_id: str) -> None:
        stats = await self._poller.ask(lambda: self._engine.stats(container_id))
        now, record = self._clock.now(), polled.record
        cores = polled.cores(stage, stats.cpu_seconds, now)
        if stats.memory is None or not polled.runs:
            return
        use = Use(cpus=round((cores or 0.0) * 1000), memory=stats.memory)
        record.observed.usage[stage] = record.observed.usage.get(stage, StageUse()).seen(use)
        young = now - polled.running < YOUNG
        # A percentile would be pulled down by a rate that is not known; a peak is not.
        if young or cores is not None:
            self._learned.note(record.plan.pipeline, record.plan.kind_of(stage), use, young)


def _next_look(running: float, now: float) -> float:
    """Return when a session that runs since ``running`` is to be measured next, after ``now``."""
    ages = (running + age for age in FIRST_LOOKS)
    return next((moment for moment in ages if moment > now), now + LOOK_EVERY)
