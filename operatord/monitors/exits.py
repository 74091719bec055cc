# SPDX-License-Identifier: MIT
"""How stages end, and what that means for their sessions.

The engine's events are hints only: an exit is believed after an inspect, and every few seconds all objects
are listed and compared.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, NamedTuple

from operatord.core.endings import (
    KILLED,
    RUNS_IN_VAIN,
    UPSTREAM_FAILED,
    Exit,
    Verdict,
    failure,
    judge,
    judge_start,
)
from operatord.engines import base
from operatord.machine.clock import Clock
from operatord.session.record import Ending, SessionRecord

SETTLES = 0.2
"""Seconds after a failure in which an engine should learn what else has ended, and why: out-of-memory kills
and other kills reach it by different ways."""
LOOKS = 8
"""How often a busy engine gets SETTLES more seconds, as long as its answers do not explain the failure. With
some ten busy processes on two cores, Docker 20.10 needed more than one of them in 3 of 22 cases."""
COMES_BACK = 3.0
"""Seconds that a stage which somebody else stopped gets to come back: then it is reported as a restart.
Docker 20.10 takes 0.4 s from the end to the start on an idle machine."""
ROUND = 8
"""Running stages that are inspected with each list: an event of a restart may have been lost, and a list does
not show restarts."""
ATTACHED_LINGER = 10.0
"""Seconds that an attached stage gets to pass on what it has when the plain stream is over."""


class ExitHooks(NamedTuple):
    """What `ExitWatch` has others do."""

    own: Callable[[Coroutine[Any, Any, None]], object]
    """Runs a task that a shutdown waits for."""
    detach: Callable[[SessionRecord, str, str], Coroutine[Any, Any, None]]
    """Removes an attached stage, by its name; the last argument is the reason."""
    note: Callable[[SessionRecord], None]
    """Writes a session down as it is now."""


class ExitWatch:
    """Looks after the stages of all living sessions."""

    def __init__(
        self,
        engine: base.Engine,
        records: Mapping[str, SessionRecord],
        hooks: ExitHooks,
        clock: Clock,
    ) -> None:
        """``records`` is read whenever something happens; it belongs to somebody else."""
        self._engine = engine
        self._records = records
        self._hooks = hooks
        self._clock = clock
        self.missed_events = False
        """Set when events may have been missed: stages missing from the next list may have ended with the
        engine."""
        self._looked_at: dict[str, float] = {}
        """By container id, when each was inspected last."""
        self._seen_alive: set[str] = set()
        """Containers that were found alive in this life of the daemon."""

    def hint(
        self, session_id: str, stage: str, with_engine: bool = False, *, at_last: bool = False
    ) -> None:
        """Inspect a stage that is reported to have ended, maybe ``with_engine`` that was lost. ``at_last``:
        its time to come back is over.
        """
        record = self._records.get(session_id)
        if record is not None and record.phase in ("starting", "running"):
            self._hooks.own(self._examine(record, stage, with_engine, at_last))

    def note_started(self, session_id: str, stage: str) -> None:
        """Look at a stage that is said to have been started: it ran already, if its session runs."""
        record = self._records.get(session_id)
        if record is not None and record.phase == "running":
            self.hint(session_id, stage)

    def note_exited(self, session_id: str, stage: str, container_id: str) -> None:
        """Look at a stage that is said to have ended: if it runs, somebody has started it again."""
        record = self._records.get(session_id)
        if record is not None and record.phase == "running":
            record.observed.ended.add(container_id)
        self.hint(session_id, stage)

    def note_stopped(self, session_id: str, container_id: str) -> None:
        """Remember that somebody ends a container: the daemon never ends one of a session that goes on."""
        record = self._records.get(session_id)
        if record is not None and record.phase in ("starting", "running"):
            record.observed.by_others.setdefault(container_id, "stopped")

    def learn(self, record: SessionRecord) -> None:
        """For a session that has just begun to deliver, find out when its stages were started."""
        self._hooks.own(self._learn(record))

    async def _learn(self, record: SessionRecord) -> None:
        with contextlib.suppress(base.EngineError):  # the next list makes up for it
            await self._look_at(record)
        if record.phase == "running":
            self._hooks.note(record)

    def note_oom(self, session_id: str, stage: str) -> None:
        """Remember that a stage has met its memory limit: if it ends, that is why."""
        if record := self._records.get(session_id):
            record.observed.oom.add(stage)

    def compare(self, found: Iterable[base.Found], known: Mapping[str, Mapping[str, str]]) -> None:
        """Look at each of the ``known`` containers that is not among those ``found`` to be alive.

        ``known`` has, for each session that lived before the list was made, its containers by stage. Of
        those that are alive, the ones that were not looked at for longest are inspected as well; all of
        them, when events may have been missed.
        """
        missed, self.missed_events = self.missed_events, False
        alive = {o.id for o in found if o.kind == "container" and o.status != "exited"}
        running: dict[str, tuple[str, str]] = {}
        for session_id, containers in known.items():
            for stage, container_id in containers.items():
                if container_id in alive:
                    running[container_id] = session_id, stage
                else:
                    self.hint(session_id, stage, missed)
        self._seen_alive &= {each for containers in known.values() for each in containers.values()}
        self._seen_alive |= running.keys()
        for container_id in self._due(running, missed):
            self.note_started(*running[container_id])

    def _due(self, running: Iterable[str], missed: bool) -> list[str]:
        """Return those that are to be inspected although they run, by container id."""
        never = float("-inf")
        looked_at = {each: self._looked_at.get(each, never) for each in running}
        self._looked_at = {each: at for each, at in looked_at.items() if at != never}
        longest = sorted(looked_at, key=lambda each: looked_at[each])
        count = len(longest) if missed else max(ROUND, len(looked_at) - len(self._looked_at))
        return longest[:count]

    async def _examine(
        self, record: SessionRecord, stage: str, with_engine: bool, at_last: bool
    ) -> None:
        container_id = record.provisioned.containers.get(stage)
        if container_id is None or stage in record.observed.exits:
            return
        if with_engine := with_engine or self.missed_events:
            _forget_stopped(
                record
            )  # an engine that is being stopped reports this for each container
        with contextlib.suppress(base.EngineUnavailable):
            ends = _over(record, {stage: await self._inspect(record, container_id)})
            if stage not in ends:
                return
            if _failed(record, ends[stage]):
                ends = await self._settled(record)
                # An engine that is being stopped ends its containers while old connections still serve.
                await self._engine.alive()
            if record.provisioned.containers.get(stage) != container_id:
                return  # it was removed, or has been created again
            if not at_last and any(_may_come_back(record, state) for state in ends.values()):
                again = functools.partial(self.hint, record.id, stage, with_engine, at_last=True)
                self._clock.call_later(COMES_BACK, again)
            elif stage in ends and record.phase in ("starting", "running"):
                record.observed.exits |= ends
                self._judge(record, with_engine)

    async def _settled(self, record: SessionRecord) -> dict[str, base.StageState]:
        """Return how stages have ended, once the engine has had its time to learn of it."""
        ends: dict[str, base.StageState] = {}
        for _ in range(LOOKS):
            await asyncio.sleep(SETTLES)
            ends = _over(record, await self._look_at(record))
            if not _is_puzzling(record, ends):
                break
        return ends

    async def _look_at(self, record: SessionRecord) -> dict[str, base.StageState]:
        """Return the states of all stages: a failure mostly makes others fail."""
        left = {
            name: c
            for name, c in record.provisioned.containers.items()
            if name not in record.observed.exits
        }
        return {name: await self._inspect(record, container) for name, container in left.items()}

    async def _inspect(self, record: SessionRecord, container_id: str) -> base.StageState:
        """Return a container's state, and note when somebody has restarted or disconnected it."""
        had_ended = container_id in record.observed.ended
        state = await self._engine.inspect(container_id)
        self._looked_at[container_id] = self._clock.now()
        began = state.began
        if began is not None and record.observed.runs.setdefault(container_id, began) != began:
            record.observed.by_others[container_id] = "restarted"
        runs = state.status == "running" and not state.stopping
        if runs and had_ended:
            # It may have been restarted before anybody had looked since when it runs. That it had ended must
            # have been told before the question: else the answer may be of before the end.
            record.observed.by_others[container_id] = "restarted"
        if state.start_failed and container_id in record.observed.runs:
            # A stage of a shared namespace cannot come back if the others have ended because of it.
            record.observed.by_others[container_id] = "restarted"
        if runs and (_has_moved(record, state) or _has_lost_location(record, state)):
            record.observed.by_others.setdefault(container_id, "disconnected")
        return state

    def _judge(self, record: SessionRecord, with_engine: bool) -> None:
        exits = {
            name: Exit(
                s.exit_code,
                s.oom_killed or name in record.observed.oom,
                s.ended,
                record.observed.by_others.get(s.id),
                record.restored and s.id not in self._seen_alive,
            )
            for name, s in record.observed.exits.items()
        }
        self._judge_attached(record, exits)
        decide = judge_start if record.phase == "starting" else judge
        verdict = decide(record.base_stages, exits)
        if verdict is None:
            return
        ending = Ending(verdict.outcome, verdict.cause, verdict.reason, stage=verdict.stage)
        blamed = exits[verdict.stage]
        if with_engine and ending.outcome == "failed" and blamed.by_others not in RUNS_IN_VAIN:
            reason = f"the container engine was away, and since then {verdict.reason}"
            ending = ending._replace(cause="engine_lost", reason=reason)
        self._clock.call_later(_after(record, verdict, exits), record.ask_end, ending)

    def _judge_attached(self, record: SessionRecord, exits: Mapping[str, Exit]) -> None:
        """Drop an attached stage that failed; the plain stream goes on without it."""
        for name in record.attached:
            how = failure(name, exits[name]) if name in exits else None
            if how is not None and not record.ending.done():
                record.set_aside(name)
                self._hooks.own(self._hooks.detach(record, name, how.reason))


def _over(
    record: SessionRecord, states: Mapping[str, base.StageState]
) -> dict[str, base.StageState]:
    """Return the states of those that have ended, or were restarted."""
    return {name: state for name, state in states.items() if _is_over(record, state)}


def _is_over(record: SessionRecord, state: base.StageState) -> bool:
    return (
        state.status in ("exited", "gone")
        or record.observed.by_others.get(state.id) in RUNS_IN_VAIN
    )


def _has_moved(record: SessionRecord, state: base.StageState) -> bool:
    """Tell whether a stage has lost the address at which it was seen first.

    Podman goes on publishing the port of one that was disconnected and connected again.
    """
    if state.ip is not None:
        record.observed.endpoints.setdefault(state.id, state.ip)
    return record.observed.endpoints.get(state.id) != state.ip


def _has_lost_location(record: SessionRecord, state: base.StageState) -> bool:
    """Tell whether a stage is not published any more where its location says."""
    port = None if state.published is None else state.published.port
    doors = record.provisioned.doors
    return any(
        record.provisioned.containers.get(name) == state.id
        and (doors[name].target[1] if name in doors else location.port) != port
        for name, location in record.locations().items()
    )


def _failed(record: SessionRecord, state: base.StageState) -> bool:
    return state.exit_code != 0 or state.id in record.observed.by_others


def _is_puzzling(record: SessionRecord, ends: Mapping[str, base.StageState]) -> bool:
    """Tell whether the picture is incomplete: a stage blames the one before, which is not known to have
    ended, or a stage was killed by nobody known.
    """
    upstream = {after: before for before, after in itertools.pairwise(record.stages)}
    known = ends.keys() | record.observed.exits.keys()
    for name, state in ends.items():
        blamed = upstream.get(name) if state.exit_code in UPSTREAM_FAILED else None
        if blamed is not None and blamed not in known:
            return True
        was_seen = state.oom_killed or name in record.observed.oom
        if state.exit_code == KILLED and not was_seen and state.id not in record.observed.by_others:
            return True
    return False


def _forget_stopped(record: SessionRecord) -> None:
    for container_id in [
        each for each, how in record.observed.by_others.items() if how == "stopped"
    ]:
        del record.observed.by_others[container_id]


def _may_come_back(record: SessionRecord, state: base.StageState) -> bool:
    """Tell whether a stage that somebody stopped may be about to be started again."""
    return state.status == "exited" and record.observed.by_others.get(state.id) == "stopped"


def _after(record: SessionRecord, verdict: Verdict, exits: Mapping[str, Exit]) -> float:
    """Return how many seconds the session goes on; an attached stage may have frames left to pass on."""
    busy = verdict.outcome == "completed" and any(name not in exits for name in record.attached)
    return ATTACHED_LINGER if busy else verdict.after
