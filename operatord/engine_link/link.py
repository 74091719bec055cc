# SPDX-License-Identifier: MIT
"""The daemon's link to its engine: the one place that knows whether it is there, and whether it is ours.

`monitor` finds out, `availability` holds the result, and an `EngineListener` acts on it for sessions. Nothing
that has begun fails because the engine is slow. When it is lost, requesters of starts under way are told once
the outcome is known: calls that the engine took may still be answered, and its objects are removed when it is
back. If that takes longer than `engine_patience` again, these starts fail.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol

import msgspec

from operatord.engines import base
from operatord.machine.clock import Clock, Timer
from operatord.store.events import Emit

from .availability import EngineAvailability
from .capabilities import CapabilityMemory
from .monitor import SILENT, EngineWatch
from .ownership import Ownership

log = logging.getLogger(__name__)

SLOW = (
    f"the container engine is slow: it has not answered for {SILENT:g} s; what has begun goes on, and new "
    "starts wait until it answers"
)
LOST = "the container engine does not answer: {problem}; the daemon goes on trying to reach it"
GIVEN_UP = (
    "the container engine was lost while the session was being started, and has not come back since; what "
    "was made of it is removed when it does"
)


class EngineListener(Protocol):
    """Who hears how it is with the engine."""

    async def connected(self, info: base.EngineInfo) -> None:
        """Count with the engine's machine. Raises `base.EngineError`."""
        ...

    def answered(self, news: bool) -> None:
        """Hear that it has answered, and whether it is up again with that."""
        ...

    def slow(self, reason: str, news: bool) -> None:
        """Hear that it has been silent for a moment; ``news``: what is known of it has changed."""
        ...

    def lost(self, reason: str) -> None:
        """Hear that it is lost, and why."""
        ...

    def given_up(self, reason: str) -> None:
        """Hear that requesters should wait no longer for it."""
        ...

    def not_ours(self) -> None:
        """Hear that the instance is another's there: nothing may be done on it any more."""
        ...

    def gap(self) -> None:
        """Hear that events may have been missed, right before the next relist."""
        ...

    def hint(self, event: base.EngineEvent) -> None:
        """Hear of something that happened there."""
        ...

    async def relist(self) -> None:
        """Compare with all that it has. Raises `base.EngineError`."""
        ...

    def busy(self) -> bool:
        """Tell whether it is creating or removing something for a request."""
        ...

    def broke(self, exc: Exception) -> None:
        """Hear of an error that no engine is to raise."""
        ...


class LinkMeans(NamedTuple):
    """What a link needs of others."""

    emit: Emit
    """Publishes an event."""
    clock: Clock
    patience: Callable[[], float]
    """Returns the seconds of silence after which an engine is lost, as the settings are now."""
    chosen_because: str
    """Why it is this engine, for `system.status`."""


class EngineLink:
    """One engine, for as long as the daemon lives."""

    def __init__(
        self,
        engine: base.Engine,
        availability: EngineAvailability,
        ownership: Ownership,
        capabilities: CapabilityMemory,
        means: LinkMeans,
    ) -> None:
        """Nothing is asked of the engine before `run`; ``availability`` is told, and asked by others."""
        self._engine = engine
        self._availability = availability
        self.ownership = ownership
        self.capabilities = capabilities
        self._means = means
        self._listener: EngineListener
        self._info: base.EngineInfo | None = None
        self._problem: str | None = None
        """Why it is lost, in a sentence."""
        self._giving_up: Timer | None = None
        self.watch = EngineWatch(engine, self, means.patience)
        availability.on_ask = self.watch.asked

    async def run(self, listener: EngineListener) -> None:
        """Connect, watch, tell ``listener``, and begin again when the engine is lost; until cancelled."""
        self._listener = listener
        await self.watch.run()

    async def close(self) -> None:
        """Remove the instance's mark if the engine has none of its objects."""
        if self._availability.state == "up":
            await self.ownership.end()

    # What the monitor notices

    async def up(self, info: base.EngineInfo) -> None:
        """Act on a connect. Raises `base.EngineError`."""
        try:
            await self.ownership.assure()
        except base.NotOurs:
            self._listener.not_ours()
            raise
        await self.capabilities.settle(info)
        await self._listener.connected(info)
        again, self._problem, self._info = self._problem is not None, None, info
        self._wait_no_longer()
        self.answered()
        log.info("engine %s %s answers", info.name, info.version)
        if again:
            self.gap()
            self._means.emit("engine.back", engine=info.name)

    def lost(self, exc: base.EngineError) -> None:
        """Act on the loss of the engine, until the next connect."""
        problem = str(exc)
        if problem != self._problem:
            log.error("engine %s %s: %s", self._engine.name, self._lack(exc), base.in_full(exc))
        if self._problem is None:
            self._means.emit("engine.lost", engine=self._engine.name)
            self._giving_up = self._means.clock.call_later(self._means.patience(), self._give_up)
        self._problem = problem
        reason = LOST.format(problem=problem)
        if self._availability.note_silent("unavailable", reason, 0.0):
            self._listener.lost(reason)

    def _lack(self, exc: base.EngineError) -> str:
        """Return what an error means, in words for the log."""
        if isinstance(exc, base.NotOurs):
            return "is not taken"
        return "has not been reached yet" if self._info is None else "is lost"

    def _give_up(self) -> None:
        self._giving_up = None
        self._listener.given_up(GIVEN_UP)

    def _wait_no_longer(self) -> None:
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None

    def silent(self, seconds: float) -> None:
        """Act on a silence of so many seconds; the engine may still answer."""
        log.warning("engine %s has not answered a ping for %g s", self._engine.name, seconds)
        self._listener.slow(SLOW, self._availability.note_silent("slow", SLOW, seconds))

    def answered(self) -> None:
        """Take it that the engine has answered a ping."""
        self._listener.answered(self._availability.note_up())

    def busy(self) -> bool:
        """Tell whether the engine does or answers something that somebody waits for."""
        return bool(self._availability.questions) or self._listener.busy()

    def gap(self) -> None:
        """Act on events that may have been missed."""
        self._listener.gap()

    def hint(self, event: base.EngineEvent) -> None:
        """Pass on what the engine says has happened."""
        if event.kind == "image":
            self.capabilities.image_came()
        self._listener.hint(event)

    def relist(self) -> Awaitable[None]:
        """Have sessions compared with all that the engine has. Raises `base.EngineError`."""
        return self._listener.relist()

    def broke(self, exc: Exception) -> None:
        """Pass on an error that no engine is to raise."""
        self._listener.broke(exc)

    # Questions

    def facts(self) -> dict[str, Any]:
        """Return what `system.status` says of the engine."""
        availability = self._availability
        facts: dict[str, Any] = {
            "name": self._engine.name,
            "state": availability.state,
            "silent_for": round(availability.silent_for, 3),
            "chosen_because": self._means.chosen_because,
        }
        if availability.problem is not None:
            facts["reason"] = availability.problem
        if self._info is not None:
            facts["capabilities"] = msgspec.to_builtins(self._engine.capabilities)
            facts |= msgspec.to_builtins(self._info)
            del facts["root_dir"], facts["endpoint"]  # no path of the host reaches a client
        return facts
