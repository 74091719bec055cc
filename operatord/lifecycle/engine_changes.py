# SPDX-License-Identifier: MIT
"""What it means for sessions when the engine comes, is slow, is lost, or says that something has happened."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from operatord.engines import base

from .supervisor import Supervisor


class EngineHooks(NamedTuple):
    """What else is done when the engine changes, apart from sessions."""

    measure: Callable[[base.EngineInfo], Awaitable[None]]
    """Counts with the machine that the engine is on. Raises `base.EngineError`."""
    compare: Callable[[], Awaitable[None]]
    """Compares sessions with what the engine has. Raises `base.EngineError`."""
    leave: Callable[[], None]
    """Ends the daemon, whose instance is another's."""
    broke: Callable[[Exception], None]
    """Hears of an error that no engine is to raise."""


class EngineChanges:
    """The listener of an `EngineLink`."""

    def __init__(self, supervisor: Supervisor, hooks: EngineHooks) -> None:
        """Act for the sessions of ``supervisor``."""
        self._supervisor = supervisor
        self._transitions = supervisor.transitions
        self._hooks = hooks

    async def connected(self, info: base.EngineInfo) -> None:
        """Count with the engine's machine. Raises `base.EngineError`."""
        await self._hooks.measure(info)

    def answered(self, news: bool) -> None:
        """Go on with starts that waited for the engine."""
        self._supervisor.session_tasks.unanswered.clear()
        if news:
            self._supervisor.restorer.requeue()
            self._block(None)

    def slow(self, reason: str, news: bool) -> None:
        """Begin nothing new. What has begun goes on.

        Starts with ``on_shortage: refuse`` that were begun while it was already silent fail now.
        """
        tasks = self._supervisor.session_tasks
        unanswered, tasks.unanswered = tasks.unanswered, []
        if news:
            self._block(reason)
        for record in unanswered:
            if record.params.on_shortage == "refuse":
                record.give_up_start(reason)

    def lost(self, reason: str) -> None:
        """Begin nothing new. Requests keep waiting, except those whose start has already failed."""
        self._block(reason)
        for record in self._transitions.registry.living():
            if record.phase == "stopping" and record.started is None:
                record.give_up()  # the reason is known, and no answer of the engine will change it

    def given_up(self, reason: str) -> None:
        """Fail the sessions that are being started, because the engine does not come back. Their requesters
        are told now; their objects are removed when the engine is back.
        """
        for record in self._transitions.registry.living():
            record.give_up_start(reason)

    def _block(self, reason: str | None) -> None:
        transitions = self._transitions
        transitions.act(transitions.admission.block_starts("engine", reason))

    def not_ours(self) -> None:
        """Do nothing more on the engine: the sessions there are another's."""
        self._transitions.abort()
        self._hooks.leave()

    def gap(self) -> None:
        """Doubt what is known: ended stages and rebuilt images may have been missed."""
        self._supervisor.exits.missed_events = True
        self._supervisor.slots.images.doubt()

    def hint(self, event: base.EngineEvent) -> None:
        """Look at the stage of which something is said."""
        if event.kind == "image":
            self._supervisor.slots.images.doubt()
        exits = self._supervisor.exits
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
                    self._supervisor.slots.paused(session_id)
                case "exited":
                    exits.note_exited(session_id, stage, event.id)
                case "removed":
                    exits.hint(session_id, stage)

    async def relist(self) -> None:
        """Compare sessions with all that the engine has. Raises `base.EngineError`."""
        await self._hooks.compare()

    def busy(self) -> bool:
        """Tell whether something is being made or removed that somebody waits for."""
        return not self._transitions.is_calm

    def broke(self, exc: Exception) -> None:
        """Have a defect noted."""
        self._hooks.broke(exc)
