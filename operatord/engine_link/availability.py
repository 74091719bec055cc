# SPDX-License-Identifier: MIT
"""Whether the engine answers.

``up``: it answers. ``slow``: it has been silent for a moment. What has begun goes on; requests that can wait
do, others are refused. ``unavailable``: it is lost, or has never answered, and nobody waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal, TypeVar

from operatord.machine.clock import Clock
from operatord_protocol import errors

T = TypeVar("T")

State = Literal["up", "slow", "unavailable"]


class EngineAvailability:
    """Knows why the engine cannot be used; `monitor` finds it out."""

    def __init__(self, clock: Clock) -> None:
        """Begin with an engine that has not answered yet."""
        self._clock = clock
        self.state: State = "unavailable"
        self.problem: str | None = "the container engine has not answered yet"
        """Why the engine cannot be used now; None while it answers."""
        self._silent_since: float | None = clock.now()
        self.first_answer = asyncio.Event()
        """Set once it has answered at all."""
        self.on_ask: Callable[[], object] = lambda: None
        """Called whenever the engine is asked for something on behalf of a request."""
        self.on_news: Callable[[], object] = lambda: None
        """Called when `state` or `problem` have changed."""
        self.questions = 0
        """How many of `answer` are open."""
        self._away = asyncio.Event()

    def note_up(self) -> bool:
        """It answers; tell whether that is news."""
        news, self.state, self.problem = self.state != "up", "up", None
        self._silent_since = None
        self.first_answer.set()
        self._away.clear()
        return self._tell(news)

    def note_silent(self, state: State, problem: str, seconds: float) -> bool:
        """Note that it has been silent for at least so many seconds; tell whether that is news."""
        news = (state, problem) != (self.state, self.problem)
        self.state, self.problem = state, problem
        if self._silent_since is None:
            self._silent_since = self._clock.now() - seconds
        self._away.set()
        return self._tell(news)

    def _tell(self, news: bool) -> bool:
        if news:
            self.on_news()
        return news

    @property
    def silent_for(self) -> float:
        """Seconds since the oldest unanswered question; 0 while it answers."""
        return 0.0 if self._silent_since is None else self._clock.now() - self._silent_since

    def refusal(self, *, patient: bool) -> str | None:
        """Return why a start is refused now. A ``patient`` one waits for a slow engine."""
        return None if patient and self.state == "slow" else self.problem

    def require(self, *, patient: bool = False) -> None:
        """Raise `errors.EngineUnavailable` while there is a `refusal`."""
        if (problem := self.refusal(patient=patient)) is not None:
            raise errors.EngineUnavailable(problem, retry_after=1)

    async def answer(self, call: Awaitable[T]) -> T:
        """Return what it answers to ``call``, or raise what that raises.

        Raises `errors.EngineUnavailable` as soon as it is known to be silent, which is within a second.
        """
        self.questions += 1
        self.on_ask()
        asked, away = asyncio.ensure_future(call), asyncio.ensure_future(self._away.wait())
        try:
            await asyncio.wait((asked, away), return_when=asyncio.FIRST_COMPLETED)
            if not asked.done():
                self.require()
            return await asked
        finally:
            self.questions -= 1
            asked.cancel()
            away.cancel()
            await asyncio.gather(asked, away, return_exceptions=True)
