# SPDX-License-Identifier: MIT
"""Schedules connections: how much time they get together, and which gets it first.

What a request costs is known only afterwards, so it is time that is counted, over all connections: after a
slice of it the event loop has its turn, with signals, timers, the engine's answers and whatever has arrived
meanwhile. Within a slice connections are visited one after the other, in two lists, as flow queueing does it
(RFC 8290, section 4.1): those that come with something new and have used little time lately, and those that
had their visit and have more to do, or bring much, or have used much. Among the former those come first
whose visits are brief.

The length of a slice goes by the clock, so the event loop gets its turn soon on a busy machine, too.
Connections are charged processor time: none pays for time in which the machine did something else.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import perf_counter, thread_time

from .brief import BriefFirst

SLICE = 0.004
"""Seconds of work for connections until the event loop has its turn."""
VISIT = 0.0002
"""Seconds that one connection is worked for while others wait."""
SHARE = 0.05
"""Of all time, what a connection may use and still be visited first when it comes."""
SAVED = 0.002
"""Seconds of that share that a connection can save up while it asks for nothing."""
DEBT = 0.05
"""Seconds beyond it that are held against a connection at most: a second of silence makes up for them."""
BYTE = 1e-6
"""Seconds that each byte of a request is charged in advance. So who brings much comes after those who bring
little, though nobody knows yet what it takes."""
PATIENT = 4
"""One visit in so many is for those who are not first, if there are any. Another one is for whoever of the
first has waited longest."""
AT_ONCE = 0.5
"""Of all time, what may be worked for connections in the moment in which they ask, without a round of the
event loop in between: up to a slice, after a time of calm. It saves a single request that round."""
CROWD = 8
"""Newcomers that wait when no more peers are let in: each comes before those that wait already."""
BEHIND = 64
"""Connections that wait, with what they ask for in memory, when those that send much are read slower."""


def _nothing(until: float) -> bool:
    return False


def _never() -> bool:
    return False


class Turn:
    """One connection's place. ``work`` is told until when to work, and returns whether more is left.

    ``urgent`` tells whether what has come is to be answered before all others; it is asked if it has to wait.
    """

    __slots__ = ("credit", "seen", "urgent", "usual", "waits", "wants_task", "work")

    def __init__(self, work: Callable[[float], bool], urgent: Callable[[], bool] = _never) -> None:
        """Begin with all that can be saved up, waiting for nothing."""
        self.work = work
        self.urgent = urgent
        self.credit = SAVED
        self.seen = 0.0
        self.usual = VISIT
        """Seconds that a visit has taken lately; of a newcomer, nothing is known."""
        self.waits = False
        self.wants_task = False
        """Whether a task is next for it, and another one has begun in this round."""

    def end(self) -> None:
        """Have no more work, and hold no more of the connection.

        Held in a circle, it would be left to the garbage collector: thousands that go in one moment would
        stop the daemon for a tenth of a second.
        """
        self.work, self.urgent = _nothing, _never


class Turns:
    """Gives each connection its time. One for the whole server."""

    __slots__ = (
        "_at_once",
        "_beginner",
        "_patient",
        "_prompt",
        "_scheduled",
        "_used",
        "_used_at",
        "_visits",
        "_wanting",
        "_worked_at",
        "has_begun",
        "now",
    )

    def __init__(
        self, now: Callable[[], float] = perf_counter, used: Callable[[], float] = thread_time
    ) -> None:
        """Nobody waits. Time is what ``now`` says, and processor time what ``used`` says, in seconds."""
        self.now = now
        self._used = used
        self._used_at = 0.0
        self._prompt: BriefFirst[Turn] = BriefFirst()
        self._patient: deque[Turn] = deque()
        self._wanting: deque[Turn] = deque()
        self._scheduled = False
        self.has_begun = False
        """Whether somebody has begun a task in this round of the event loop."""
        self._beginner: Turn | None = None
        self._at_once = SLICE
        self._worked_at = 0.0
        self._visits = 0

    @property
    def crowded(self) -> bool:
        """Whether so many wait that no more peers are to be let in just now."""
        return len(self._prompt) > CROWD

    @property
    def is_behind(self) -> bool:
        """Whether so many wait that peers that send much are to be read slower."""
        return len(self._prompt) + len(self._patient) + len(self._wanting) > BEHIND

    def ask(self, turn: Turn, size: int) -> None:
        """Give ``turn`` its time, for ``size`` bytes of requests have come.

        That is at once if nobody waits and this slice is not used up, else soon.
        """
        now = self.now()
        self._save_up(turn, now)
        advance = size * BYTE
        self._charge(turn, advance)
        if turn.waits:
            return
        self._at_once = min(SLICE, self._at_once + (now - self._worked_at) * AT_ONCE)
        if self._scheduled or self._at_once <= 0:
            self._come(turn, 0.0 if turn.urgent() else max(turn.usual, advance))
            return
        left = self._visit(turn, now + self._at_once)
        self._at_once -= self._worked_at - now
        if left:
            self._enqueue(turn, self._patient)

    def wait(self, turn: Turn) -> None:
        """Give ``turn`` its time soon, and nothing now."""
        if not turn.waits:
            self._save_up(turn, self.now())
            self._come(turn, turn.usual)

    def go_on(self, turn: Turn) -> None:
        """Give ``turn`` its time for what it could not do before, after those with something new."""
        if not turn.waits:
            self._enqueue(turn, self._patient)

    def begun(self) -> None:
        """Whoever is visited has begun a task: no other is begun before its first step.

        The first steps of all that hundreds of connections may begin in a slice would come in one round of
        the event loop. What that round takes is charged to whoever has begun.
        """
        self.has_begun = True
        self._schedule()

    def is_over(self, until: float) -> bool:
        """Whether a visit that may last ``until`` then has to end."""
        return self.has_begun or self.now() >= until

    def _save_up(self, turn: Turn, now: float) -> None:
        turn.credit = min(SAVED, turn.credit + (now - turn.seen) * SHARE)
        turn.seen = now

    def _come(self, turn: Turn, expected: float) -> None:
        if turn.credit <= 0:
            self._enqueue(turn, self._patient)
            return
        turn.waits = True
        self._prompt.add(turn, expected)
        self._schedule()

    def _enqueue(self, turn: Turn, where: deque[Turn]) -> None:
        turn.waits = True
        where.append(turn)
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._serve)

    def _serve(self) -> None:
        """Work for those who wait until the slice is used up."""
        now = self.now()
        end = now + SLICE
        self._settle()
        while (turn := self._next()) is not None:
            turn.waits = False
            others = self._prompt or self._patient
            left = self._visit(turn, now + VISIT if others else end)
            now = self._worked_at
            if left:
                self._enqueue(turn, self._wanting if turn.wants_task else self._patient)
            if now >= end:
                break
        if self._prompt or self._patient or self._wanting or self.has_begun:
            asyncio.get_running_loop().call_soon(self._look)
        else:
            self._scheduled = False

    def _look(self) -> None:
        """Have what has arrived meanwhile read before anybody is worked for: it may be more urgent.

        What is called in a round of the event loop comes before what that round finds to be read.
        """
        self._settle()
        asyncio.get_running_loop().call_soon(self._serve)

    def _settle(self) -> None:
        """Charge whoever began a task for the round in which that had its first step, and allow another."""
        if self._beginner is not None:
            self._charge(self._beginner, self._used() - self._used_at)
        self._beginner, self.has_begun = None, False

    def _next(self) -> Turn | None:
        """Return who is visited next: who wants a task once in a round, before all others."""
        if self._wanting and not self.has_begun:
            return self._wanting.popleft()
        if not self._prompt and not self._patient:
            return None
        self._visits += 1
        number = self._visits % PATIENT
        if self._patient and (number == 0 or not self._prompt):
            return self._patient.popleft()
        return self._prompt.oldest() if number == 1 else self._prompt.briefest()

    def _visit(self, turn: Turn, until: float) -> bool:
        begun, turn.wants_task = self.has_begun, False
        before = self._used()
        left = turn.work(until)
        self._worked_at, self._used_at = self.now(), self._used()
        took = self._used_at - before
        self._charge(turn, took)
        turn.usual += (min(took, SLICE) - turn.usual) / 2
        if self.has_begun and not begun:
            self._beginner = turn
        return left

    def _charge(self, turn: Turn, seconds: float) -> None:
        turn.credit = max(turn.credit - seconds, -DEBT)
