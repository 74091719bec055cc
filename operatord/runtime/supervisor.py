# SPDX-License-Identifier: MIT
"""The sole owner of what lives: requests become sessions here, and sessions come to their end here.

Everything runs on one event loop. Admission is decided synchronously by `core.scheduler`; what it returns
is then done. Each session is lived by one task, from its start to the moment when nothing of it is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Iterable
from typing import Any

from operatord.config import Config
from operatord.core import scheduler
from operatord.core.endings import Exit, judge, judge_start
from operatord.core.plans import SessionPlan, Upstream, make_plan
from operatord.engines import base
from operatord_protocol import errors
from operatord_protocol.messages import SessionStartParams, Ttl

from .clock import Clock
from .postmortem import collect
from .record import Ending, SessionRecord
from .refusals import final_error, refusal, step_error
from .starter import Interrupted, Starter, StepFailed

log = logging.getLogger(__name__)

Emit = Callable[..., None]
"""``emit(type, session_id=…, **fields)`` publishes an event."""

KILLED = 137
"""The exit code of SIGKILL: sent by whoever, or by the kernel when memory ran out."""
OOM_SETTLES = 0.2
"""Seconds after which an engine is sure to know which of the two it was."""
FIRST_RETRY = 0.2
LONGEST_RETRY = 5.0
EXPIRING_NOTICE = 60.0
"""Seconds before its lease ends that a session is said to be expiring; sooner for a short lease."""


class Supervisor:
    """All sessions of this daemon."""

    def __init__(
        self, engine: base.Engine, starter: Starter, config: Config, emit: Emit, clock: Clock
    ) -> None:
        """``config`` may be replaced later by `configure`."""
        self._engine = engine
        self._starter = starter
        self._config = config
        self._emit = emit
        self._clock = clock
        self._state = scheduler.State(_limits(config))
        self._records: dict[str, SessionRecord] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._deadline: asyncio.TimerHandle | None = None
        self._keys: dict[tuple[str, str], tuple[str, SessionStartParams]] = {}
        self.engine_problem: str | None = "the container engine has not answered yet"
        """Why nothing can be started now; None while the engine answers."""
        self.engine_was_away = False
        """Set when the engine is back: what the next relist misses was lost with it."""

    # Requests

    def submit(
        self, params: SessionStartParams, owner: str, upstream: Upstream | None = None
    ) -> SessionRecord:
        """Admit, queue or refuse a request; return its session. Nothing has happened if it raises.

        Raises `InvalidParams`, `NotFound`, `Conflict`, `EngineUnavailable`, `NoCapacity`, `QueueFull`,
        `DeadlineExceeded`, `Draining`.
        """
        if known := self._same_request(params, owner):
            return known
        plan = self.plan(params, upstream)
        self.require_engine()
        record = SessionRecord(self._new_id(), plan, owner, self._clock.wall())
        action, *_ = scheduler.decide(
            self._state, scheduler.Submitted(self._ask(params, record.id)), self._clock.now()
        )
        if isinstance(action, scheduler.Refuse):
            raise refusal(action)
        self._records[record.id] = record
        if isinstance(params.request_key, str):
            self._keys[owner, params.request_key] = (record.id, params)
        if isinstance(params.lease, Ttl):
            self.extend(record, params.lease.ttl)
        self._announce(record)
        self._act([action])
        return record

    def plan(self, params: SessionStartParams, upstream: Upstream | None) -> SessionPlan:
        """Return what a request would become. Raises `InvalidParams`, `NotFound`."""
        config = self._config
        return make_plan(params, config.pipelines, config.defaults.count, upstream)

    def preview(self, params: SessionStartParams) -> scheduler.Action:
        """Return what would be decided now, changing nothing."""
        return scheduler.preview(self._state, self._ask(params, "preview"))

    def require_engine(self) -> None:
        """Raise `EngineUnavailable` while the engine does not answer."""
        if self.engine_problem is not None:
            raise errors.EngineUnavailable(self.engine_problem, retry_after=1)

    def _ask(self, params: SessionStartParams, session_id: str) -> scheduler.Ask:
        wait = params.deadline if isinstance(params.deadline, float) else None
        deadline = None if wait is None else self._clock.now() + wait
        return scheduler.Ask(session_id, params.priority, params.on_shortage, deadline)

    def _same_request(self, params: SessionStartParams, owner: str) -> SessionRecord | None:
        """Return the session that an earlier request with the same key made."""
        if not isinstance(params.request_key, str):
            return None
        session_id, earlier = self._keys.get((owner, params.request_key), ("", None))
        record = self._records.get(session_id)
        if record is None or earlier is None:
            return None
        if record.phase == "ended" and record.started is None:
            return None  # it came to nothing, so that trying again is what the key is for
        if earlier != params:
            raise errors.Conflict(
                "this request_key was used for a different request; choose a new one",
                session_id=session_id,
            )
        return record

    def _new_id(self) -> str:
        """Draw an id whose first five digits, which name the network, no other living session has."""
        taken = {record.network_name for record in self.living()}
        while True:
            session_id = secrets.token_hex(8).upper()
            if f"network_{session_id[:5]}" not in taken and session_id not in self._records:
                return session_id

    # Questions

    def get(self, session_id: str) -> SessionRecord:
        """Return a session. Raises `NotFound`."""
        try:
            return self._records[session_id]
        except KeyError:
            raise errors.NotFound(
                f"there is no session {session_id}; ended ones are kept for a while only",
                session_id=session_id,
            ) from None

    def records(self) -> Iterable[SessionRecord]:
        """Return all sessions, newest first."""
        return reversed(self._records.values())

    def living(self) -> list[SessionRecord]:
        """Return the sessions that hold a place, or wait for one."""
        return [record for record in self._records.values() if record.phase != "ended"]

    @property
    def draining(self) -> bool:
        """Whether no new sessions are admitted."""
        return self._state.draining

    @property
    def queue_length(self) -> int:
        """How many requests wait."""
        return len(self._state.queue)

    # Wishes

    def extend(self, record: SessionRecord, ttl: float) -> None:
        """Let the lease end ``ttl`` seconds from now. Raises `Conflict` when there is none to extend."""
        if record.phase in ("stopping", "ended"):
            raise errors.Conflict(f"the session {record.id} has ended", session_id=record.id)
        record.ttl, record.expires = ttl, self._clock.wall() + ttl
        if timer := self._timers.pop(record.id, None):
            timer.cancel()
        loop = asyncio.get_running_loop()
        expired = Ending("expired", "lease", f"its lease of {ttl:g} s was not extended")
        notice = min(ttl / 4, EXPIRING_NOTICE)
        self._timers[record.id] = loop.call_later(ttl - notice, self._warn, record, notice, expired)

    def _warn(self, record: SessionRecord, notice: float, expired: Ending) -> None:
        """Say that the lease ends soon, and let it."""
        self._emit("session.expiring", session_id=record.id, expires=record.to_session().expires)
        loop = asyncio.get_running_loop()
        self._timers[record.id] = loop.call_later(notice, self.end, record, expired)

    def end(self, record: SessionRecord, ending: Ending) -> None:
        """Let ``record`` end for the reason given, whatever phase it is in."""
        if record.phase == "queued":
            now = self._clock.now()
            # Out of the queue first: what moves up must never be this one.
            actions = scheduler.decide(self._state, scheduler.Withdrawn(record.id), now)
            self._finish(record, ending)
            self._act(actions)
        else:
            record.ask_end(ending)

    def drain(self, draining: bool) -> None:
        """Admit no more sessions, or admit them again."""
        if draining != self._state.draining:
            self._emit("drain.changed", draining=draining)
        self._change(_limits(self._config), draining)

    def configure(self, config: Config) -> None:
        """Use other settings from now on; sessions that live keep theirs."""
        self._config = config
        self._change(_limits(config), self._state.draining)

    def _change(self, limits: scheduler.Limits, draining: bool) -> None:
        event = scheduler.Changed(limits, draining)
        self._act(scheduler.decide(self._state, event, self._clock.now()))

    async def close(self, grace: float) -> None:
        """End every session and wait until all of them are gone. Idempotent."""
        self.drain(True)
        ending = Ending("stopped", "shutdown", "the daemon is shutting down", grace=grace)
        for record in self.living():
            self.end(record, ending)
        if self._tasks:
            await asyncio.wait(self._tasks)

    def abort(self) -> None:
        """Give up on sessions that could not be removed in time; a later start sweeps them up."""
        for task in self._tasks:
            task.cancel()

    # What the engine says

    def hint(self, session_id: str, stage: str, with_engine: bool = False) -> None:
        """Look at a stage that is said to have ended, maybe ``with_engine`` that was lost."""
        record = self._records.get(session_id)
        if record is not None and record.phase in ("starting", "running"):
            self._own(self._examine(record, stage, with_engine))

    def note_oom(self, session_id: str, stage: str) -> None:
        """Remember that a stage has met its memory limit: if it ends, that is why."""
        if record := self._records.get(session_id):
            record.oom.add(stage)

    async def relist(self) -> None:
        """Compare with all that the engine has, in case a hint got lost. Raises `base.EngineError`."""
        before = [r for r in self._records.values() if r.phase in ("starting", "running")]
        known = {record.id: dict(record.containers) for record in before}
        found = await self._engine.list_objects(self._starter.instance)
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
            state = await self._engine.inspect(container_id)
            if state.exit_code == KILLED and not state.oom_killed:
                # An engine learns of the end and of its reason by two ways: let both arrive.
                await asyncio.sleep(OOM_SETTLES)
                state = await self._engine.inspect(container_id)
            if state.status in ("exited", "gone") and record.phase in ("starting", "running"):
                record.exits[stage] = state
                self._judge(record, with_engine)

    def _judge(self, record: SessionRecord, with_engine: bool) -> None:
        exits = {
            name: Exit(s.exit_code, s.oom_killed or name in record.oom)
            for name, s in record.exits.items()
        }
        decide = judge_start if record.phase == "starting" else judge
        verdict = decide(tuple(record.plan.stages), exits)
        if verdict is None:
            return
        ending = Ending(verdict.outcome, verdict.cause, verdict.reason, stage=verdict.stage)
        if with_engine and ending.outcome == "failed":
            reason = f"the container engine was away, and since then {verdict.reason}"
            ending = ending._replace(cause="engine_lost", reason=reason)
        asyncio.get_running_loop().call_later(verdict.after, record.ask_end, ending)

    # Actions

    def _act(self, actions: Iterable[scheduler.Action]) -> None:
        """Do what was decided, then tell those who still wait where they stand."""
        for action in actions:
            record = self._records[action.session_id]
            if isinstance(action, scheduler.Start):
                record.position = record.waits_because = None
                record.advance("starting")
                self._announce(record)
                self._own(self._live(record))
            elif isinstance(action, scheduler.Enqueue):
                record.waits_because = action.why.text
            else:
                error = refusal(action)
                self._finish(record, Ending("refused", "deadline", error.message, error))
        self._tell_positions()
        self._set_deadline()

    def _tell_positions(self) -> None:
        for session_id, position in scheduler.positions(self._state).items():
            record = self._records[session_id]
            if record.position != position:
                record.position = position
                record.tell(
                    {"stage": "queue", "position": position, "reason": record.waits_because}
                )

    def _set_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if (moment := scheduler.next_deadline(self._state)) is not None:
            wait = max(0.0, moment - self._clock.now())
            self._deadline = asyncio.get_running_loop().call_later(wait, self._tick)

    def _tick(self) -> None:
        self._act(scheduler.decide(self._state, scheduler.Tick(), self._clock.now()))

    async def _live(self, record: SessionRecord) -> None:
        """Start a session, wait for its end, remove it whole."""
        try:
            ending = await self._run(record)
        except Exception:
            log.exception("session %s: internal error", record.id)
            reason = "an internal error of the daemon; its log says more"
            ending = Ending("failed", "internal", reason, errors.InternalError(reason))
        record.result = ending
        record.advance("stopping")
        self._announce(record)
        await self._clear(record, ending)
        self._finish(record, ending._replace(error=final_error(record, ending)))
        released = scheduler.Released(record.id)
        self._act(scheduler.decide(self._state, released, self._clock.now()))

    async def _run(self, record: SessionRecord) -> Ending:
        try:
            await self._starter.start(record)
        except StepFailed as exc:
            log.warning("session %s: the start failed at %s: %s", record.id, record.step, exc)
            return Ending("failed", exc.cause, exc.reason, step_error(record, exc), stage=exc.stage)
        except Interrupted:
            return record.ending.result()
        record.started = self._clock.wall()
        record.advance("running")
        self._announce(record)
        return await asyncio.shield(record.ending)

    async def _clear(self, record: SessionRecord, ending: Ending) -> None:
        """Stop, read the last words, and remove; again and again until all is gone."""
        grace = self._config.stop_grace if ending.grace is None else ending.grace
        await collect(self._engine, record, grace)
        pause = FIRST_RETRY
        while True:
            try:
                await self._starter.remove(record)
                return
            except base.EngineError as exc:
                log.warning("session %s: removal will be tried again: %s", record.id, exc)
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_RETRY)

    def _finish(self, record: SessionRecord, ending: Ending) -> None:
        """Write down how it ended and wake whoever waits."""
        if timer := self._timers.pop(record.id, None):
            timer.cancel()
        record.ask_end(ending)
        record.result, record.ended = ending, self._clock.wall()
        record.position = record.waits_because = None
        record.advance("ended")
        self._announce(record, outcome=ending.outcome, cause=ending.cause, reason=ending.reason)
        self._forget_oldest()

    def _forget_oldest(self) -> None:
        ended = [record.id for record in self._records.values() if record.phase == "ended"]
        for session_id in ended[: -self._config.history.keep]:
            del self._records[session_id]
        if len(self._keys) > 2 * len(self._records) + 16:
            self._keys = {k: v for k, v in self._keys.items() if v[0] in self._records}

    def _announce(self, record: SessionRecord, **fields: Any) -> None:
        log.info("session %s is %s%s", record.id, record.phase, _brief(fields))
        self._emit(
            f"session.{record.phase}",
            session_id=record.id,
            pipeline=record.plan.pipeline,
            owner=record.owner,
            **fields,
        )

    def _own(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _limits(config: Config) -> scheduler.Limits:
    return scheduler.Limits(config.limits.sessions, config.limits.queue)


def _brief(fields: dict[str, Any]) -> str:
    return f": {fields['outcome']}, {fields['reason']}" if fields else ""
