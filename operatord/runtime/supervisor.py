# SPDX-License-Identifier: MIT
"""The sole owner of what lives: requests become sessions here, and sessions come to their end here.

Everything runs on one event loop. Admission is decided synchronously by `core.scheduler`; what it returns
is then done. Each session is lived by one task, from its start to the moment when nothing of it is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any

import msgspec

from operatord.config import Config
from operatord.core import scheduler
from operatord.core.plans import SessionPlan, Upstream, make_plan
from operatord.core.pressure import Sample
from operatord.engines import base
from operatord_protocol import errors
from operatord_protocol.messages import Phase, Session, SessionStartParams, Ttl

from .admission import Admission, Machine
from .book import SessionBook
from .exits import ExitWatch
from .journal import SLOTS, Journal, JournalFailed
from .leases import Leases
from .postmortem import collect
from .record import Ending, Place, SessionRecord
from .refusals import final_error, refusal, step_error
from .slots import Deeds, SlotPool
from .snapshot import Holding, Unreadable, from_row, to_row
from .standing import QueueTeller
from .starter import Interrupted, Starter, StepFailed

log = logging.getLogger(__name__)

Emit = Callable[..., None]
"""``emit(type, session_id=…, **fields)`` publishes an event."""

SHUTTING_DOWN = "the daemon is shutting down"
FIRST_RETRY = 0.2
LONGEST_RETRY = 5.0
ROUNDS = 100
"""Turns of the event loop that answers get to reach their connections before those are closed."""


class Supervisor:
    """All sessions of this daemon."""

    def __init__(
        self,
        engine: base.Engine,
        starter: Starter,
        admission: Admission,
        journal: Journal,
        emit: Emit,
    ) -> None:
        """``admission`` has the settings and the machine; `configure` and `resize` replace them."""
        self._engine = engine
        self._starter = starter
        self._journal = journal
        self._emit = emit
        self._clock = clock = admission.clock
        self.admission = admission
        self.leases = Leases(clock, emit, self.end)
        self._teller = QueueTeller(self.admission, clock)
        self.book = SessionBook(journal)
        self._tasks: set[asyncio.Task[None]] = set()
        self._calm = asyncio.Event()
        self._calm.set()
        deeds = Deeds(
            own=self.own,
            remove=lambda slot: self._persist(slot, lambda: starter.remove(slot)),
            released=self._released,
            write=self._write_slots,
            calm=self._calm.wait,
        )
        self.slots = SlotPool(starter, admission, deeds)
        self.exits = ExitWatch(engine, self.book.records, self, clock)
        self.engine_problem: str | None = "the container engine has not answered yet"
        """Why nothing can be started now; None while the engine answers."""
        self._engine_answered = asyncio.Event()
        """The engine has answered once: only then is anything decided about an earlier life's sessions."""
        self._wait_on: list[SessionRecord] = []
        """Requests of an earlier life, until they can stand in the queue again."""

    # Requests

    def submit(
        self, params: SessionStartParams, owner: str, upstream: Upstream | None = None
    ) -> SessionRecord:
        """Admit, queue or refuse a request; return its session. Nothing has happened if it raises.

        Raises `InvalidParams`, `NotFound`, `Conflict`, `EngineUnavailable`, `NoCapacity`, `NeverFits`,
        `QueueFull`, `DeadlineExceeded`, `Draining`.
        """
        if known := self.book.same_request(params, owner):
            return known
        plan = self.plan(params, upstream)
        self.require_engine()
        record = self._claim(plan, params, owner) or self._new_record(plan, params, owner)
        ask = self.admission.ask(plan, params, owner, record.id)
        action, *others = (
            [scheduler.Start(record.id)]
            if record.warm
            else self.admission.decide(scheduler.Submitted(ask))
        )
        if isinstance(action, scheduler.Refuse):
            raise refusal(action, self._clock)
        self.book.add(record)
        if isinstance(params.lease, Ttl):
            self.extend(record, params.lease.ttl)
        self._announce(record)
        self._act([action, *others])
        return record

    def _new_record(
        self, plan: SessionPlan, params: SessionStartParams, owner: str
    ) -> SessionRecord:
        begun: dict[Phase, float] = {"queued": self._clock.wall()}
        taken = {slot.network_name for slot in self.slots}
        return SessionRecord(self.book.new_id(taken), plan, params, owner, begun)

    def _claim(
        self, plan: SessionPlan, params: SessionStartParams, owner: str
    ) -> SessionRecord | None:
        """Return a slot that has just become this request's session, if there is one for it."""
        slot = self.slots.candidate(plan)
        if slot is None:
            return None
        ask = self.admission.ask(plan, params, owner, slot.id)
        if not self.admission.decide(scheduler.Claimed(ask)):
            return None
        self.slots.claimed(slot)
        slot.plan, slot.params, slot.owner = plan, params, owner
        slot.expected_seconds = plan.expected_seconds
        slot.phases = {"queued": self._clock.wall()}
        slot.step = "queue"
        return slot

    async def _write_slots(self, slots: Sequence[str]) -> None:
        self._journal.note_fact(SLOTS, msgspec.json.encode(slots))
        await self._journal.settled()

    def former_slots(self) -> frozenset[str]:
        """Return the slots of the daemon's earlier life: nobody was ever told of them."""
        data = self._journal.fact(SLOTS)
        return frozenset() if data is None else frozenset(msgspec.json.decode(data, type=list[str]))

    def known(self, session_id: str) -> SessionRecord | None:
        """Return a session that has not ended, or a slot."""
        return self.book.records.get(session_id) or self.slots.get(session_id)

    def _note_calm(self) -> None:
        """Let slots be made while nothing is being made or removed that somebody waits for."""
        if any(record.phase in ("starting", "stopping") for record in self.book.records.values()):
            self._calm.clear()
        else:
            self._calm.set()

    def _released(self, session_id: str) -> None:
        self._act(self.admission.decide(scheduler.Released(session_id)))

    def plan(self, params: SessionStartParams, upstream: Upstream | None) -> SessionPlan:
        """Return what a request would become. Raises `InvalidParams`, `NotFound`."""
        config = self.admission.config
        plan = make_plan(params, config.pipelines, config.defaults.count, upstream)
        if params.on_shortage == "degrade" and params.format != "json":
            raise errors.InvalidParams(
                "params.on_shortage: degrade goes with the format json only, which is what a "
                "segmentation that comes later reads",
                path="params.on_shortage",
            )
        return plan

    def preview(
        self, plan: SessionPlan, params: SessionStartParams, owner: str
    ) -> scheduler.Preview:
        """Return what would be decided now, changing nothing."""
        return self.admission.preview(self.admission.ask(plan, params, owner, "preview"))

    def require_engine(self) -> None:
        """Raise `EngineUnavailable` while the engine does not answer."""
        if self.engine_problem is not None:
            raise errors.EngineUnavailable(self.engine_problem, retry_after=1)

    # Questions

    def view(self, record: SessionRecord) -> Session:
        """Return a session as the wire has it, with its place in the queue as it is now."""
        if record.phase == "queued":
            self._teller.refresh(record)
        return record.to_session()

    @property
    def draining(self) -> bool:
        """Whether no new sessions are admitted."""
        return self.admission.state.draining

    @property
    def queue_length(self) -> int:
        """How many requests wait."""
        return self.admission.state.length

    # Wishes

    def extend(self, record: SessionRecord, ttl: float) -> None:
        """Let the lease end ``ttl`` seconds from now. Raises `Conflict` when there is none to extend."""
        if record.phase in ("stopping", "ended"):
            raise errors.Conflict(f"the session {record.id} has ended", session_id=record.id)
        record.ttl = ttl
        expired = Ending("expired", "lease", f"its lease of {ttl:g} s was not extended")
        self.leases.bound(record, "lease", ttl, expired)
        self._foresee(record)
        if record.id in self.book.records:
            self._note(record)

    def end(self, record: SessionRecord, ending: Ending) -> None:
        """Let ``record`` end for the reason given, whatever phase it is in."""
        if record.phase == "queued":
            # Out of the queue first: what moves up must never be this one.
            actions = self.admission.decide(scheduler.Withdrawn(record.id))
            self._finish(record, ending)
            self._act(actions)
        else:
            record.ask_end(ending)

    def idle_timeout(self, record: SessionRecord) -> float | None:
        """Return after how many seconds without a consumer a session ends."""
        return self.admission.config.lease.idle_timeout

    def on_idle(self, record: SessionRecord, seconds: float) -> None:
        """Nobody has consumed ``record`` for so long."""
        timeout = self.idle_timeout(record)
        if timeout is not None and not self.leases.bounds(record, "idle"):
            ending = Ending("expired", "idle", f"nobody read from it for {timeout:g} s")
            self.leases.bound(record, "idle", max(0.0, timeout - seconds), ending)

    def on_active(self, record: SessionRecord) -> None:
        """Somebody consumes ``record`` again."""
        self.leases.unbind(record, "idle")

    def drain(self, draining: bool) -> None:
        """Admit no more sessions, or admit them again."""
        if draining != self.draining:
            self._emit("drain.changed", draining=draining)
        self._act(self.admission.drain(draining))

    def configure(self, config: Config) -> None:
        """Use other settings from now on; sessions that live keep theirs."""
        self._act(self.admission.adjust(config=config))

    def resize(self, machine: Machine) -> None:
        """Count with another machine from now on."""
        self._act(self.admission.adjust(machine=machine))

    def note_engine(self, problem: str | None) -> None:
        """Remember why the engine cannot be used, or that it can; those who wait go on waiting."""
        if problem == self.engine_problem:
            return
        self.engine_problem = problem
        if problem is None:
            self._engine_answered.set()
            self._requeue()
        self._act(self.admission.hold("engine", problem))

    def give_up_starts(self) -> None:
        """Let the sessions that are being started fail, for the engine is lost.

        Whoever waits for one is told now; what was made of it is removed when the engine is back.
        """
        for record in self.book.living():
            if record.phase == "starting":
                reason = "the container engine was lost while the session was being started"
                error = errors.EngineUnavailable(reason, session_id=record.id, retry_after=1)
                record.ask_end(Ending("failed", "engine_lost", reason, error))
            if record.phase in ("starting", "stopping") and record.started is None:
                record.give_up()

    def note_journal(self, problem: str | None) -> None:
        """Remember that nothing can be written down, or that it can; until then nothing is begun."""
        self._act(self.admission.hold("disk", problem))

    def measure(self, sample: Sample, seconds: float) -> None:
        """Take in how the machine is, ``seconds`` after it was last looked at."""
        before = self.admission.pressure
        actions = self.admission.measure(sample, seconds)
        if (pressure := self.admission.pressure) != before:
            log.warning("pressure: %s", self.admission.state.pressure or "none any more")
            self._emit("pressure.changed", pressure=pressure, was=before)
        self._act(actions)

    async def close(self, grace: float) -> None:
        """End every session and wait until all of them are gone. Idempotent."""
        self.drain(True)
        self.slots.close()
        ending = Ending("stopped", "shutdown", SHUTTING_DOWN, grace=grace)
        concerned = self.book.living()
        for record in concerned:
            self.end(record, ending)
        if self._tasks:
            await asyncio.wait(self._tasks)
        await _until_answered(concerned)

    async def leave(self) -> None:
        """Let sessions live on without the daemon: finish what has been begun, begin nothing."""
        self.drain(True)
        self._act(self.admission.hold("shutdown", SHUTTING_DOWN))
        self.slots.close()
        concerned = self.book.living()
        self._turn_away()
        while unsettled := [r for r in self.book.living() if _is_unsettled(r)]:
            await _moved(unsettled[0])
        await _until_answered(concerned)
        await self.slots.emptied()
        self.abort()

    def _turn_away(self) -> None:
        """Tell those who wait on a connection for their turn that it ends with the daemon."""
        for record in self.book.living():
            if record.phase == "queued" and _needs_connection(record):
                error = errors.Draining(SHUTTING_DOWN, session_id=record.id, retry_after=1)
                self.end(record, Ending("stopped", "shutdown", SHUTTING_DOWN, error))

    def abort(self) -> None:
        """Give up on what is under way; the journal has it, and a later start goes on."""
        for task in self._tasks:
            task.cancel()

    # An earlier life

    def restore(self, keeps: bool) -> None:
        """Take on the sessions that the journal speaks of.

        With ``keeps`` their stages have gone on without the daemon; else those that ran have failed.
        """
        if self.engine_problem is not None:
            self.admission.hold("engine", self.engine_problem)
        for row in self._journal.living():
            try:
                record, holding = from_row(row)
            except Unreadable as exc:
                log.error("%s", exc)
                continue
            self.book.add(record)
            self._restore(record, holding, keeps)

    def _restore(self, record: SessionRecord, holding: Holding | None, keeps: bool) -> None:
        if record.phase == "queued":
            self._restore_queued(record)
            return
        if holding is not None:
            self.admission.restore(record, holding)
        self._starter.hold_subnet(record)
        if record.phase == "running" and keeps:
            log.info("session %s is taken on", record.id)
            record.exits.clear()  # they are seen again, and judged
            self._bind_again(record)
            self.own(self._live_on(record))
            return
        if record.phase != "stopping":
            began = "being started" if record.phase == "starting" else "running"
            reason = f"the daemon ended while the session was {began}"
            record.result = Ending("failed", "restart", reason)
            record.advance("stopping", self._clock.wall())
            self._announce(record)
        assert record.result is not None
        self.own(self._see_off(record, record.result))

    def _restore_queued(self, record: SessionRecord) -> None:
        """Let a request wait on, if whoever asked did not wait on a connection for it."""
        if _needs_connection(record):
            reason = "the daemon was started anew, and the connection that waited is gone"
            self._finish(record, Ending("stopped", "client", reason))
            return
        record.place = Place(reason=self.engine_problem)
        self._wait_on.append(record)

    def _requeue(self) -> None:
        """Put requests of an earlier life into the queue: the engine has said what there is room for."""
        records, self._wait_on = self._wait_on, []
        for record in records:
            if record.phase != "queued":
                continue  # it was ended meanwhile
            ask = self.admission.ask(record.plan, record.params, record.owner, record.id)
            waited = max(0.0, self._clock.wall() - record.created)
            latest = None if ask.latest is None else ask.latest - waited
            ask = ask._replace(waited=waited, latest=latest)
            self._act(self.admission.decide(scheduler.Submitted(ask)))

    def _bind_again(self, record: SessionRecord) -> None:
        """Let a session that was taken on end when it was to end."""
        now, wall = self._clock.now(), self._clock.wall()
        if record.params.lease == "connection":
            gone = Ending("expired", "lease", "the connection that held its lease has ended")
            record.ask_end(gone)
        if record.ttl is not None and record.expires is not None:
            expired = Ending("expired", "lease", f"its lease of {record.ttl:g} s was not extended")
            self.leases.bound(record, "lease", max(0.0, record.expires - wall), expired)
        self._bound_age(record)
        started = record.started or wall
        work = record.expected_seconds
        if work is not None:
            ends = [self.leases.end_of(record), now + started + work - wall]
            known = min(end for end in ends if end is not None)
            self.admission.decide(scheduler.Running(record.id, known))

    # Actions

    def _act(self, actions: Iterable[scheduler.Action]) -> None:
        """Do what was decided; those who still wait are told where they stand."""
        for action in actions:
            if isinstance(action, scheduler.GiveUp):
                self.slots.give_up(action.session_id)
                continue
            record = self.book.records[action.session_id]
            if isinstance(action, scheduler.Start):
                self._begin(record, action)
            elif isinstance(action, scheduler.Attach):
                _hand_out(record, record.missing, action.gpus)
                record.attaching = self.own(self._attach(record))
            elif isinstance(action, scheduler.Enqueue):
                self._teller.wait(record)
            else:
                error = refusal(action, self._clock)
                cause = "deadline" if action.type == "deadline_exceeded" else "no_capacity"
                self._finish(record, Ending("refused", cause, error.message, error))
        self._teller.tell(self._tick)

    def _begin(self, record: SessionRecord, action: scheduler.Start) -> None:
        self._teller.forget(record)
        if action.degraded:
            record.missing = (record.plan.location_stage,)
        _hand_out(record, record.stages, action.gpus)
        record.advance("starting", self._clock.wall())
        self._announce(record)
        self.own(self._live(record))

    def _tick(self) -> None:
        self._act(self.admission.decide(scheduler.Tick()))

    async def _attach(self, record: SessionRecord) -> None:
        """Give a degraded session what it lacks."""
        name, *_ = record.missing
        try:
            await self._starter.attach(record, name)
        except Interrupted:
            return  # what was made of it goes with the session
        except StepFailed as exc:
            await self.detach(record, name, exc.reason)
            return
        log.info("session %s: the stage %s is attached", record.id, name)
        self.admission.decide(scheduler.Attached(record.id))
        self._note(record)
        self._emit(
            "session.attached",
            session_id=record.id,
            stage=name,
            degraded=False,
            location=record.location,
        )

    async def detach(self, record: SessionRecord, name: str, reason: str) -> None:
        """Remove an attached stage and give back what it held; the plain stream goes on."""
        log.warning("session %s: the stage %s is not attached: %s", record.id, name, reason)
        await self._persist(record, lambda: self._starter.detach(record, name))
        if record.phase == "running":
            self._act(self.admission.decide(scheduler.Detached(record.id)))
            self._note(record)
            self._emit(
                "session.detached",
                session_id=record.id,
                stage=name,
                degraded=True,
                reason=reason,
                location=record.location,
            )

    async def _live(self, record: SessionRecord) -> None:
        """Start a session, wait for its end, remove it whole."""
        try:
            ending = await self._run(record)
        except Exception:
            ending = self._defect(record)
        await self._end(record, ending)

    async def _live_on(self, record: SessionRecord) -> None:
        """Wait for the end of a session that was taken on, and remove it whole."""
        await self._end(record, await asyncio.shield(record.ending))

    async def _end(self, record: SessionRecord, ending: Ending) -> None:
        record.result = ending
        record.advance("stopping", self._clock.wall())
        self._announce(record)
        with contextlib.suppress(JournalFailed):  # it has to end, and trouble has been told
            await self._journal.settled()  # what is to be undone is written down first
        if record.attaching is not None:
            await asyncio.wait((record.attaching,))
        await self._see_off(record, ending)

    async def _see_off(self, record: SessionRecord, ending: Ending) -> None:
        """Read the last words of a session that is stopping, and remove all of it."""
        await self._engine_answered.wait()
        grace = self.admission.config.stop_grace if ending.grace is None else ending.grace
        await collect(self._engine, record, grace)
        await self._persist(record, lambda: self._starter.remove(record))
        self._finish(record, ending._replace(error=final_error(record, ending)))
        self._act(self.admission.decide(scheduler.Released(record.id)))

    def _defect(self, record: SessionRecord) -> Ending:
        log.exception("session %s: internal error", record.id)
        reason = "an internal error of the daemon; its log says more"
        return Ending("failed", "internal", reason, errors.InternalError(reason))

    async def _run(self, record: SessionRecord) -> Ending:
        try:
            await self._journal.settled()  # what is to be done is written down first
            if record.warm:
                await self._starter.claim(record)
            else:
                await self._starter.start(record)
        except JournalFailed as exc:
            error = errors.NoCapacity(str(exc), dimension="disk", session_id=record.id)
            return Ending("failed", "disk", str(exc), error)
        except StepFailed as exc:
            log.warning("session %s: the start failed at %s: %s", record.id, record.step, exc)
            return Ending("failed", exc.cause, exc.reason, step_error(record, exc), stage=exc.stage)
        except Interrupted:
            return record.ending.result()
        await self._write_running(record)
        record.advance("running", self._clock.wall())
        self.admission.started(record.plan.pipeline, record.timings["total"] / 1000)
        self._bound_age(record)
        self._foresee(record)
        self._announce(record)
        return await asyncio.shield(record.ending)

    async def _write_running(self, record: SessionRecord) -> None:
        """Write down where the stream is before anybody is told: who was told must be right for ever."""
        record.phases["running"] = self._clock.wall()
        held = self.admission.holding(record.id)
        row = to_row(record, held)._replace(phase="running")
        self._journal.note_session(row)
        with contextlib.suppress(JournalFailed):  # the stream is good, and trouble has been told
            await self._journal.settled()

    def _bound_age(self, record: SessionRecord) -> None:
        if (age := self.admission.config.lease.max_age) is not None:
            left = age - (self._clock.wall() - (record.started or self._clock.wall()))
            old = Ending(
                "expired", "max_age", f"it has been running for {age:g} s, the longest time"
            )
            self.leases.bound(record, "max_age", max(0.0, left), old)

    def _foresee(self, record: SessionRecord) -> None:
        """Tell the scheduler when a running session is expected to end."""
        if record.phase == "running":
            work = record.expected_seconds
            ends = [self.leases.end_of(record), work and self._clock.now() + work]
            known = min((end for end in ends if end is not None), default=None)
            self.admission.decide(scheduler.Running(record.id, known))

    async def _persist(self, record: SessionRecord, remove: Callable[[], Awaitable[None]]) -> None:
        """Remove what ``remove`` removes, again and again until all of it is gone."""
        pause = FIRST_RETRY
        while True:
            try:
                await remove()
                return
            except base.EngineError as exc:
                log.warning("session %s: removal will be tried again: %s", record.id, exc)
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_RETRY)

    def _finish(self, record: SessionRecord, ending: Ending) -> None:
        """Write down how it ended and wake whoever waits."""
        self.leases.forget(record)
        self._teller.forget(record)
        record.ask_end(ending)
        record.result = ending
        record.advance("ended", self._clock.wall())
        self.book.remove(record)
        self._announce(record, outcome=ending.outcome, cause=ending.cause, reason=ending.reason)

    def _announce(self, record: SessionRecord, **fields: Any) -> None:
        log.info("session %s is %s%s", record.id, record.phase, _brief(fields))
        self._note(record)
        self._note_calm()
        self._emit(
            f"session.{record.phase}",
            session_id=record.id,
            pipeline=record.plan.pipeline,
            owner=record.owner,
            **fields,
        )

    async def written(self) -> None:
        """Return when all that has been decided is on disk, or cannot be written: that is told elsewhere."""
        with contextlib.suppress(JournalFailed):
            await self._journal.settled()

    def _note(self, record: SessionRecord) -> None:
        """Write the session down as it is now."""
        self._journal.note_session(to_row(record, self.admission.holding(record.id)))

    def own(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run ``work`` as one of the tasks that a shutdown waits for."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _is_unsettled(record: SessionRecord) -> bool:
    """Tell whether something is being made or removed, or is about to be."""
    if record.phase == "running":
        attaching = record.attaching is not None and not record.attaching.done()
        return record.ending.done() or attaching
    return record.phase != "queued"


def _needs_connection(record: SessionRecord) -> bool:
    """Tell whether a request comes to nothing without the connection that it came by."""
    return record.params.wait == "ready" or record.params.lease == "connection"


async def _moved(record: SessionRecord) -> None:
    """Return when what is being made or removed of a session has got on."""
    if record.attaching is not None and not record.attaching.done():
        await asyncio.wait((record.attaching,))
    else:
        await record.moved()


async def _until_answered(records: Iterable[SessionRecord]) -> None:
    """Let those who wait for a session that is ready, or has ended, have their answer."""
    for _ in range(ROUNDS):
        if not any(record.waiters for record in records):
            return
        await asyncio.sleep(0)


def _hand_out(record: SessionRecord, stages: Iterable[str], gpus: tuple[str, ...]) -> None:
    """Note which of the devices each stage has; they come in the order of the stages."""
    left = iter(gpus)
    for name in stages:
        if wanted := record.plan.stages[name].gpus:
            record.gpus[name] = tuple(itertools.islice(left, wanted))


def _brief(fields: dict[str, Any]) -> str:
    return f": {fields['outcome']}, {fields['reason']}" if fields else ""
