# SPDX-License-Identifier: MIT
"""How stages end, and what that means for their sessions.

The engine's events are hints only: an exit is believed after an inspect, and every few seconds all objects
are listed and compared.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any, Protocol

from operatord.core.endings import Exit, Verdict, failure, judge, judge_start
from operatord.engines import base

from .clock import Clock
from .record import Ending, SessionRecord

SETTLES = 0.2
"""Seconds after a failure in which an engine is sure to learn what else has ended, and why: that memory ran
out, and that a stage was killed, arrive by ways of their own."""
ATTACHED_LINGER = 10.0
"""Seconds that an attached stage gets to pass on what it has when the plain stream is over."""


class Owner(Protocol):
    """Who runs tasks, and takes an attached stage away."""

    def own(self, work: Coroutine[Any, Any, None]) -> object:
        """Run ``work``."""
        ...

    async def detach(self, record: SessionRecord, name: str, reason: str) -> None:
        """Remove the attached stage ``name``."""
        ...


class ExitWatch:
    """Looks after the stages of all living sessions."""

    def __init__(
        self,
        engine: base.Engine,
        records: Mapping[str, SessionRecord],
        owner: Owner,
        clock: Clock,
    ) -> None:
        """``records`` is read whenever something happens; it belongs to somebody else."""
        self._engine = engine
        self._records = records
        self._owner = owner
        self._clock = clock
        self.engine_was_away = False
        """Set when the engine is back: what the next relist misses was lost with it."""

    def hint(self, session_id: str, stage: str, with_engine: bool = False) -> None:
        """Look at a stage that is said to have ended, maybe ``with_engine`` that was lost."""
        record = self._records.get(session_id)
        if record is not None and record.phase in ("starting", "running"):
            self._owner.own(self._examine(record, stage, with_engine))

    def note_oom(self, session_id: str, stage: str) -> None:
        """Remember that a stage has met its memory limit: if it ends, that is why."""
        if record := self._records.get(session_id):
            record.oom.add(stage)

    def compare(self, found: Iterable[base.Found], known: Mapping[str, Mapping[str, str]]) -> None:
        """Look at each of the ``known`` containers that is not among those ``found`` to be alive.

        ``known`` has, for each session that lived before the list was made, its containers by stage.
        """
        was_away, self.engine_was_away = self.engine_was_away, False
        alive = {o.id for o in found if o.kind == "container" and o.status != "exited"}
        for session_id, containers in known.items():
            for stage, container_id in containers.items():
                if container_id not in alive:
                    self.hint(session_id, stage, was_away)

    async def _examine(self, record: SessionRecord, stage: str, with_engine: bool) -> None:
        container_id = record.containers.get(stage)
        if container_id is None or stage in record.exits:
            return
        with contextlib.suppress(base.EngineUnavailable):
            ends = {stage: await self._engine.inspect(container_id)}
            if _failed(ends[stage]):
                await asyncio.sleep(SETTLES)
                ends = await self._look_at(record)
                # An engine that is being stopped ends its containers while old connections still serve.
                await self._engine.alive()
            if record.containers.get(stage) != container_id:
                return  # it was let go of, or has been made once more
            ends = {name: state for name, state in ends.items() if _is_over(state)}
            if stage in ends and record.phase in ("starting", "running"):
                record.exits |= ends
                self._judge(record, with_engine)

    async def _look_at(self, record: SessionRecord) -> dict[str, base.StageState]:
        """Return what has become of all stages: one that fails most often takes others with it."""
        left = {name: c for name, c in record.containers.items() if name not in record.exits}
        return {name: await self._engine.inspect(container) for name, container in left.items()}

    def _judge(self, record: SessionRecord, with_engine: bool) -> None:
        exits = {
            name: Exit(s.exit_code, s.oom_killed or name in record.oom, s.ended)
            for name, s in record.exits.items()
        }
        self._judge_attached(record, exits)
        decide = judge_start if record.phase == "starting" else judge
        verdict = decide(record.base_stages, exits)
        if verdict is None:
            return
        ending = Ending(verdict.outcome, verdict.cause, verdict.reason, stage=verdict.stage)
        if with_engine and ending.outcome == "failed":
            reason = f"the container engine was away, and since then {verdict.reason}"
            ending = ending._replace(cause="engine_lost", reason=reason)
        self._clock.call_later(_after(record, verdict, exits), record.ask_end, ending)

    def _judge_attached(self, record: SessionRecord, exits: Mapping[str, Exit]) -> None:
        """Let go of an attached stage that failed; the plain stream goes on without it."""
        for name in record.attached:
            how = failure(name, exits[name]) if name in exits else None
            if how is not None and not record.ending.done():
                record.set_aside(name)
                self._owner.own(self._owner.detach(record, name, how.reason))


def _is_over(state: base.StageState) -> bool:
    return state.status in ("exited", "gone")


def _failed(state: base.StageState) -> bool:
    return _is_over(state) and state.exit_code != 0


def _after(record: SessionRecord, verdict: Verdict, exits: Mapping[str, Exit]) -> float:
    """Return how long the session goes on; an attached stage may have something left to pass on."""
    busy = verdict.outcome == "completed" and any(name not in exits for name in record.attached)
    return ATTACHED_LINGER if busy else verdict.after
