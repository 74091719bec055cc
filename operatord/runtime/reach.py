# SPDX-License-Identifier: MIT
"""Whether the engine answers, for whoever needs it to: nobody waits for one that does not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from operatord_protocol import errors

T = TypeVar("T")


class Reach:
    """Knows why the engine cannot be used; `watch` finds it out."""

    def __init__(self) -> None:
        """Begin with an engine that has not answered yet."""
        self.problem: str | None = "the container engine has not answered yet"
        """Why nothing can be asked of it now; None while it answers."""
        self.first_answer = asyncio.Event()
        """Set once it has answered at all."""
        self.on_ask: Callable[[], object] = lambda: None
        """Called whenever something is asked of it on somebody's behalf."""
        self.questions = 0
        """How many of `answer` are open."""
        self._away = asyncio.Event()

    def note(self, problem: str | None) -> bool:
        """Remember why it cannot be used, or that it can; tell whether that is news."""
        news, self.problem = problem != self.problem, problem
        if problem is None:
            self.first_answer.set()
            self._away.clear()
        else:
            self._away.set()
        return news

    def require(self) -> None:
        """Raise `errors.EngineUnavailable` while it does not answer."""
        if self.problem is not None:
            raise errors.EngineUnavailable(self.problem, retry_after=1)

    async def answer(self, call: Awaitable[T]) -> T:
        """Return what it answers to ``call``, or raise what that raises.

        Raises `errors.EngineUnavailable` as soon as it is known not to answer, which is within a second.
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
