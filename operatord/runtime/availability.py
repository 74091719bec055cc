# SPDX-License-Identifier: MIT
"""Tells whom it concerns whether the engine can be used, as the watch over it finds out.

Nothing that has begun fails because the engine is slow. When it is lost, whoever waits for a start that is
under way is told once what has become of it is known: calls that the engine took may still be answered, and
what it made is removed when it is back. Should that take as long as the settings are patient once more, they
are told that the start has failed, and it has.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import msgspec

from operatord.engines import base

from .chronicle import Emit
from .clock import Clock, Timer
from .supervisor import Supervisor
from .watch import SILENT

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


class Means(NamedTuple):
    """What availability needs of others."""

    supervisor: Supervisor
    emit: Emit
    clock: Clock
    patience: Callable[[], float]
    """Returns the seconds of silence after which an engine is lost, as the settings are now."""
    measure: Callable[[base.EngineInfo], Awaitable[None]]
    """Counts with the machine that the engine is on. Raises `base.EngineError`."""
    image_came: Callable[[], None]
    """Hears that there may be another image."""


class Availability:
    """Passes on what the watch over the engine notices."""

    def __init__(self, engine: base.Engine, chosen_because: str, means: Means) -> None:
        """Begin with an engine that has not answered yet."""
        self._engine = engine
        self.chosen_because = chosen_because
        self._do = means
        self._info: base.EngineInfo | None = None
        self._problem: str | None = None
        """Why it is lost, in a sentence."""
        self._giving_up: Timer | None = None

    async def up(self, info: base.EngineInfo) -> None:
        """It was connected to. Raises `base.EngineError`."""
        await self._do.measure(info)
        again, self._problem, self._info = self._problem is not None, None, info
        self._wait_no_longer()
        self._do.supervisor.note_engine_up()
        log.info("engine %s %s answers", info.name, info.version)
        if again:
            self.gap()
            self._do.emit("engine.back", engine=info.name)

    def lost(self, exc: base.EngineError) -> None:
        """Nothing can be asked of it until it is connected to again."""
        problem = str(exc)
        if problem != self._problem:
            log.error("engine %s is lost: %s", self._engine.name, base.in_full(exc))
        if self._problem is None:
            self._do.emit("engine.lost", engine=self._engine.name)
            self._giving_up = self._do.clock.call_later(self._do.patience(), self._give_up)
        self._problem = problem
        self._do.supervisor.note_engine_lost(LOST.format(problem=problem))

    def _give_up(self) -> None:
        self._giving_up = None
        self._do.supervisor.give_up_starts(GIVEN_UP)

    def _wait_no_longer(self) -> None:
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None

    def silent(self, seconds: float) -> None:
        """It has not answered for so long; it may still."""
        log.warning("engine %s has not answered a ping for %g s", self._engine.name, seconds)
        self._do.supervisor.note_engine_slow(SLOW, seconds)

    def answered(self) -> None:
        """It has answered a ping."""
        self._do.supervisor.note_engine_up()

    def gap(self) -> None:
        """Something may have ended unheard; whoever was quick has been missed."""
        self._do.supervisor.exits.engine_was_away = True
        self._do.supervisor.slots.images.doubt()

    def hint(self, event: base.EngineEvent) -> None:
        """It says that something has happened to a stage."""
        if event.kind == "image":
            self._do.supervisor.slots.images.doubt()
            self._do.image_came()
        exits = self._do.supervisor.exits
        session_id = event.labels.get(base.LABEL_SESSION)
        stage = event.labels.get(base.LABEL_STAGE)
        if session_id and stage:
            match event.kind:
                case "oom":
                    exits.note_oom(session_id, stage)
                case "stopped":
                    exits.note_stopped(session_id, event.id)
                case "started":
                    exits.note_started(session_id, stage)
                case "paused":
                    self._do.supervisor.slots.paused(session_id)
                case "exited" | "removed":
                    exits.hint(session_id, stage)

    def facts(self) -> dict[str, Any]:
        """Return what `system.status` says of it."""
        reach = self._do.supervisor.reach
        facts: dict[str, Any] = {
            "name": self._engine.name,
            "state": reach.state,
            "silent_for": round(reach.silent_for, 3),
            "chosen_because": self.chosen_because,
            "capabilities": msgspec.to_builtins(self._engine.capabilities),
        }
        if reach.problem is not None:
            facts["reason"] = reach.problem
        if self._info is not None:
            facts |= msgspec.to_builtins(self._info)
            del facts["root_dir"], facts["endpoint"]  # no path of the host reaches a client
        return facts
