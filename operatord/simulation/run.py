# SPDX-License-Identifier: MIT
"""The loop of events: jobs come, `scheduler.decide` says what is done about them, sessions start and end.

The daemon's own core decides, fed with the same events that the daemon feeds it. What is left out is the
machine: nothing is measured, so there is no pressure, and every start succeeds. No `Tick` is needed, since
no request here has a deadline: whatever changes who may start is somebody's coming, or somebody's end.
"""

from __future__ import annotations

import heapq
import math
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from operatord.core.resources import NOTHING
from operatord.core.scheduling import scheduler
from operatord.core.scheduling.ledger import Ask

from .meter import Area, Line, Timeline, bounded
from .node import Node, NodeChooser, Plan, make_nodes
from .trace import Job

Observer = Callable[[Job, float, float], None]
"""Is told of each session's job, and when it was started and was over."""


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time and what was held in it."""

    begin: float
    end: float
    saturated: bool
    """From the moment when somebody first had to wait until the last job came; else all there was."""
    area: list[float]
    """Held in each dimension, times seconds, on all nodes."""
    owners: dict[str, list[float]]
    """The same for each owner who asked for anything."""


@dataclass(slots=True)
class Outcome:
    """What a simulation has come to."""

    plan: Plan
    sessions: int = 0
    ended: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """By the type of the refusal."""
    decisions: int = 0
    waits: array[float] = field(default_factory=lambda: array("d"))
    """Seconds from coming to the decision to start, in the order of the starts."""
    longest_queue: int = 0
    last_arrival: float = 0.0
    end: float = 0.0
    """When the last session was over."""
    window: Window = field(init=False)
    timeline: Timeline = field(init=False)
    """First the dimensions that can be scarce (`meter.bounded`), then the length of the queue."""
    wall: float = 0.0
    """Seconds that the simulation took on the clock on the wall."""
    cpu: float = 0.0
    """Seconds of processor time that it took."""


def simulate(plan: Plan, jobs: Iterable[Job], observe: Observer | None = None) -> Outcome:
    """Run the jobs, which are in the order of their coming, to the end of the last one."""
    wall, cpu = time.perf_counter(), time.process_time()
    world = _World(plan, observe)
    for job in jobs:
        world.advance(job.at)
        world.submit(job)
    world.close_window()
    world.advance(math.inf)
    outcome = world.finish()
    outcome.wall, outcome.cpu = time.perf_counter() - wall, time.process_time() - cpu
    return outcome


class _Session:
    """One that has been asked for and is not over."""

    __slots__ = ("id", "job", "node", "queued", "running", "started")

    def __init__(self, session_id: str, job: Job, node: Node) -> None:
        self.id, self.job, self.node = session_id, job, node
        self.started = 0.0
        self.queued = self.running = False


class _Areas(NamedTuple):
    """What has been held up to some moment."""

    all: list[float]
    owners: dict[str, list[float]]


class _Holders:
    """What is held: by all together, and by each owner."""

    def __init__(self, indices: tuple[int, ...]) -> None:
        self._indices = indices
        self.all = Area(indices)
        self.owners: dict[str, Area] = {}

    def step(self, job: Job, sign: int, now: float) -> None:
        self.all.step(job.need, sign, now)
        self.owners[job.owner].step(job.need, sign, now)

    def know(self, owner: str) -> None:
        if owner not in self.owners:
            self.owners[owner] = Area(self._indices)

    def until(self, moment: float) -> _Areas:
        return _Areas(self.all.until(moment), {n: a.until(moment) for n, a in self.owners.items()})


class _World:
    """Everything that changes while the virtual time goes on."""

    def __init__(self, plan: Plan, observe: Observer | None) -> None:
        self._outcome = Outcome(plan)
        self._observe = observe
        self._start_seconds = plan.start
        self._nodes = make_nodes(plan)
        self._dispatcher = NodeChooser(self._nodes, plan.choices, plan.seed)
        self._sessions: dict[str, _Session] = {}
        self._events: list[tuple[float, int, _Session]] = []
        """A heap of (moment, serial, session): when a start, and then when a stream is over."""
        self._serial = 0
        self._indices = bounded(plan.capacity)
        self._holders = _Holders(self._indices)
        self._line = Line()
        self._timeline = self._outcome.timeline = Timeline(len(self._indices) + 1)
        self._next_mark = self._timeline.next_mark
        self._first_wait: tuple[float, _Areas] | None = None
        """When somebody first had to wait, and what had been held until then."""

    # Events

    def advance(self, until: float) -> None:
        """Do everything that is due up to a moment. Who ends then makes room for who comes then."""
        events = self._events
        while events and events[0][0] <= until:
            now, _, session = heapq.heappop(events)
            if now >= self._next_mark:
                self._mark(now)
            if session.running:
                self._end(session, now)
            else:
                self._run(session, now)

    def submit(self, job: Job) -> None:
        """Ask the scheduler of the node that is chosen."""
        outcome, now = self._outcome, job.at
        if now >= self._next_mark:
            self._mark(now)
        gpus = (0,) * job.need.gpus
        node = self._dispatcher.choose(job.need, gpus)
        session = _Session(f"s{outcome.sessions}", job, node)
        outcome.sessions += 1
        outcome.last_arrival = now
        self._holders.know(job.owner)
        self._sessions[session.id] = session
        ask = Ask(session.id, job.owner, job.need, gpus, job.priority, seconds=job.estimate)
        self._decide(node, scheduler.Submitted(ask), now)

    def _run(self, session: _Session, now: float) -> None:
        estimate = session.job.estimate
        end = None if estimate is None else now + estimate
        self._decide(session.node, scheduler.Running(session.id, end), now)
        session.running = True
        self._plan(now + session.job.seconds, session)

    def _end(self, session: _Session, now: float) -> None:
        outcome = self._outcome
        del self._sessions[session.id]
        self._holders.step(session.job, -1, now)
        outcome.ended += 1
        outcome.end = now
        if self._observe is not None:
            self._observe(session.job, session.started, now)
        self._decide(session.node, scheduler.Released(session.id), now)

    # Decisions and what follows

    def _decide(self, node: Node, event: scheduler.Event, now: float) -> None:
        self._outcome.decisions += 1
        for action in scheduler.decide(node.state, event, now):
            if isinstance(action, scheduler.Start):
                self._start(self._sessions[action.session_id], now)
            elif isinstance(action, scheduler.Enqueue):
                self._wait(self._sessions[action.session_id], now)
            elif isinstance(action, scheduler.Refuse):
                del self._sessions[action.session_id]
                self._outcome.refused[action.type] += 1
            else:
                raise AssertionError(f"nobody asked for {action}")

    def _start(self, session: _Session, now: float) -> None:
        job = session.job
        session.started = now
        self._outcome.waits.append(now - job.at)
        self._holders.step(job, 1, now)
        if session.queued:
            self._line.step(-1, now)
        self._plan(now + self._start_seconds, session)

    def _wait(self, session: _Session, now: float) -> None:
        session.queued = True
        if self._first_wait is None:
            self._first_wait = (now, self._holders.until(now))
        self._line.step(1, now)

    def _plan(self, moment: float, session: _Session) -> None:
        self._serial += 1
        heapq.heappush(self._events, (moment, self._serial, session))

    # What is measured

    def _mark(self, now: float) -> None:
        while (moment := self._timeline.next_mark) <= now:
            held = self._holders.all.until(moment)
            self._timeline.mark([*(held[i] for i in self._indices), self._line.until(moment)])
        self._next_mark = self._timeline.next_mark

    def close_window(self) -> None:
        """Note that no more jobs come."""
        first, last = self._first_wait, self._outcome.last_arrival
        if first is not None and first[0] < last:
            self._outcome.window = self._window(first[0], last, first[1], saturated=True)
        else:
            self._first_wait = None

    def finish(self) -> Outcome:
        """Return what it came to. Nothing may be left anywhere."""
        outcome = self._outcome
        outcome.longest_queue = self._line.longest
        if self._first_wait is None:
            nothing = _Areas([0.0] * len(NOTHING), {})
            outcome.window = self._window(0.0, outcome.end, nothing, saturated=False)
        self._mark(self._timeline.next_mark)
        assert outcome.sessions == outcome.ended + outcome.refused.total()
        assert not self._sessions
        for node in self._nodes:
            assert not len(node.state.queue) and node.state.room.used == NOTHING
        return outcome

    def _window(self, begin: float, end: float, before: _Areas, *, saturated: bool) -> Window:
        now = self._holders.until(end)
        nothing = [0.0] * len(NOTHING)
        return Window(
            begin,
            end,
            saturated,
            _less(now.all, before.all),
            {n: _less(area, before.owners.get(n, nothing)) for n, area in now.owners.items()},
        )


def _less(a: list[float], b: list[float]) -> list[float]:
    return [x - y for x, y in zip(a, b, strict=True)]
