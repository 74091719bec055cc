# SPDX-License-Identifier: MIT
"""The sole owner of what lives: requests become sessions here, and sessions come to their end here.

Everything runs on one event loop. Admission is decided synchronously by `core.scheduler`; what it returns
is then done. Each session is lived by one task, from its start to the moment when nothing of it is left.

What has a room of its own: that task (`life`), the bounds of a life (`lifetimes`), stages that come later
(`attaching`), slots (`slots`), exits (`exits`), sessions of an earlier life of the daemon (`restoring`), and
what is written and told of all of them (`chronicle`).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from operatord.config import Config
from operatord.core import scheduler
from operatord.core.plans import SessionPlan, Upstream, make_plan
from operatord.core.pressure import Sample
from operatord.engines import base
from operatord_protocol import errors
from operatord_protocol.messages import Phase, Session, SessionStartParams, Ttl

from . import attaching, life, restoring, slots
from .admission import Admission, Machine
from .book import SessionBook
from .chronicle import Chronicle, Emit
from .exits import ExitWatch
from .journal import Journal
from .leases import Leases
from .lifetimes import Lifetimes
from .reach import Reach
from .record import Ending, SessionRecord
from .refusals import refusal
from .removal import persist
from .settling import needs_connection, until_answered, until_settled
from .slot_images import SlotImages
from .standing import QueueTeller
from .starter import Starter

log = logging.getLogger(__name__)

SHUTTING_DOWN = "the daemon is shutting down"


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
        self._teller = QueueTeller(admission, clock)
        self.book = SessionBook(journal)
        self._chronicle = Chronicle(journal, admission, emit)
        self.leases = Leases(clock, emit, self.end)
        self.lifetimes = Lifetimes(admission, self.leases, self.end, self._chronicle.note)
        self._tasks: set[asyncio.Task[None]] = set()
        self._calm = asyncio.Event()
        self._calm.set()
        self.reach = Reach(clock)
        self.on_defect: Callable[[str, BaseException], None] = _log_defect
        """Hears what broke in the daemon's own work, and how."""
        self._unanswered: list[SessionRecord] = []
        """Starts that were begun since the engine last answered anything."""
        self.on_no_subnets: Callable[[], object] = lambda: None
        """Called before somebody is refused for want of subnets, so that they are counted anew."""
        self.slots = self._make_slots()
        self._attacher = self._make_attacher()
        self._life = self._make_life()
        self._restorer = self._make_restorer()
        self.exits = ExitWatch(engine, self.book.records, self, clock)

    def _make_slots(self) -> slots.SlotPool:
        deeds = slots.Deeds(
            own=self.own,
            remove=lambda slot: persist(slot, lambda: self._starter.remove(slot)),
            released=self._released,
            write=self._chronicle.write_slots,
            calm=self._calm.wait,
        )
        return slots.SlotPool(self._starter, self.admission, SlotImages(self._engine), deeds)

    def _make_attacher(self) -> attaching.Attacher:
        deeds = attaching.Deeds(self.own, self._act, self._chronicle.note, self._emit)
        return attaching.Attacher(self._starter, self.admission, deeds)

    def _make_life(self) -> life.Life:
        deeds = life.Deeds(
            answered=self.reach.first_answer.wait,
            announce=self._announce,
            running=self._runs,
            hung=lambda record: self.slots.doubt(record.plan.pipeline),
            gone=self._gone,
        )
        return life.Life(self._engine, self._starter, self.admission, self._chronicle, deeds)

    def _make_restorer(self) -> restoring.Restorer:
        deeds = restoring.Deeds(
            keep_aside=self._journal.keep_aside,
            add=self.book.add,
            hold_subnet=self._starter.hold_subnet,
            act=self._act,
            live_on=lambda record: self.own(self._life.live_on(record)),
            see_off=lambda record, ending: self.own(self._life.see_off(record, ending)),
            announce=self._announce,
            finish=self._finish,
        )
        return restoring.Restorer(self.admission, self.lifetimes, deeds)

    # Requests

    def submit(
        self,
        params: SessionStartParams,
        owner: str,
        upstream: Upstream | None = None,
        patience: float | None = None,
    ) -> SessionRecord:
        """Admit, queue or refuse a request; return its session. Nothing has happened if it raises.

        One that says no deadline waits for ``patience`` seconds; None: for ever.

        Raises `InvalidParams`, `NotFound`, `Conflict`, `EngineUnavailable`, `NoCapacity`, `NeverFits`,
        `QueueFull`, `DeadlineExceeded`, `Draining`.
        """
        default_count = self.admission.config.defaults.count
        if known := self.book.same_request(params, owner, default_count):
            return known
        plan = self.plan(params, upstream)
        self.reach.require(patient=params.on_shortage != "refuse")
        self._recount_if_none()
        for slot in self.slots.candidates(plan):
            if actions := self._claim(slot, plan, params, owner):
                record = slot
                self._starter.tell_at_once(record)
                break
        else:
            record = self._new_record(plan, params, owner)
            ask = self.admission.ask(plan, params, owner, record.id, patience)
            actions = self.admission.decide(scheduler.Submitted(ask))
        action, *others = actions
        if isinstance(action, scheduler.Refuse):
            raise refusal(action, self._clock)
        self.book.add(record)
        if isinstance(params.lease, Ttl):
            self.extend(record, params.lease.ttl)
        why = self.admission.why(record.id)
        self._announce(record, **({} if why is None else {"reason": why.text}))
        self._act([action, *others])
        return record

    def _new_record(
        self, plan: SessionPlan, params: SessionStartParams, owner: str
    ) -> SessionRecord:
        begun: dict[Phase, float] = {"queued": self._clock.wall()}
        taken = {slot.network_name for slot in self.slots}
        record = SessionRecord(self.book.new_id(taken), plan, params, owner, begun)
        self.lifetimes.ask(record)
        return record

    def _claim(
        self, slot: SessionRecord, plan: SessionPlan, params: SessionStartParams, owner: str
    ) -> list[scheduler.Action]:
        """Let ``slot`` be this request's session, if the request may start now."""
        ask = self.admission.ask(plan, params, owner, slot.id)
        if actions := self.admission.decide(scheduler.Claimed(ask)):
            self.slots.claimed(slot)
            slot.plan, slot.params, slot.owner = plan, params, owner
            slot.expected_seconds = plan.expected_seconds
            slot.phases = {"queued": self._clock.wall()}
            self.lifetimes.ask(slot)
            slot.step = "queue"
        return actions

    def former_slots(self) -> frozenset[str]:
        """Return the slots of the daemon's earlier life: nobody was ever told of them."""
        return self._chronicle.former_slots()

    def known(self, session_id: str) -> SessionRecord | None:
        """Return a session that has not ended, or a slot."""
        return self.book.records.get(session_id) or self.slots.get(session_id)

    def _note_calm(self) -> None:
        """Let slots be made while nothing is being made or removed that somebody waits for."""
        if any(record.phase in ("starting", "stopping") for record in self.book.records.values()):
            self._calm.clear()
        else:
            self._calm.set()

    @property
    def busy(self) -> bool:
        """Whether the engine does or answers something that somebody waits for."""
        return bool(self.reach.questions) or not self._calm.is_set()

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
        self._recount_if_none()
        return self.admission.preview(self.admission.ask(plan, params, owner, "preview"))

    # Questions

    def view(self, record: SessionRecord) -> Session:
        """Return a session as the wire has it, with its place in the queue as it is now."""
        self.look_up(record)
        return record.to_session(self._clock)

    def look_up(self, record: SessionRecord) -> None:
        """Let ``record`` know its place in the queue as it is now, if it waits."""
        if record.phase == "queued":
            self._teller.refresh(record)

    @property
    def draining(self) -> bool:
        """Whether no new sessions are admitted."""
        return self.admission.state.draining

    # Wishes

    def extend(self, record: SessionRecord, ttl: float) -> None:
        """Let the lease end ``ttl`` seconds from now. Raises `Conflict` when there is none to extend."""
        if record.phase in ("stopping", "ended"):
            raise errors.Conflict(f"the session {record.id} has ended", session_id=record.id)
        self.lifetimes.extend(record, ttl)
        if record.id in self.book.records:
            self._chronicle.note(record)

    def end(self, record: SessionRecord, ending: Ending) -> None:
        """Let ``record`` end for the reason given, whatever phase it is in."""
        if record.phase == "queued":
            # Out of the queue first: what moves up must never be this one.
            actions = self.admission.decide(scheduler.Withdrawn(record.id))
            self._finish(record, ending)
            self._act(actions)
        else:
            record.ask_end(ending)

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

    def note_subnets(self, usable: int, obstacle: str | None) -> None:
        """Count with so many subnets from now on; ``obstacle`` says who leaves none over."""
        machine = self.admission.machine._replace(subnets=usable, no_subnets=obstacle)
        if machine != self.admission.machine:
            self.resize(machine)

    def _recount_if_none(self) -> None:
        """Have the subnets counted anew before somebody is refused for want of them."""
        if self.admission.machine.no_subnets is not None:
            self.on_no_subnets()

    def note_engine_up(self) -> None:
        """The engine answers: whoever waits for it may start."""
        self._unanswered.clear()
        if self.reach.note_up():
            self._restorer.requeue()
            self._act(self.admission.hold("engine", None))

    def note_engine_slow(self, reason: str, seconds: float) -> None:
        """The engine has not answered for so long. What has begun goes on, and nothing new begins.

        Who would rather be refused than wait, and asked when it was silent already, is told now.
        """
        unanswered, self._unanswered = self._unanswered, []
        if self.reach.note_silent("slow", reason, seconds):
            self._act(self.admission.hold("engine", reason))
        for record in unanswered:
            if record.params.on_shortage == "refuse":
                _give_up_start(record, reason)

    def note_engine_lost(self, reason: str) -> None:
        """The engine cannot be used; those who wait go on waiting, but for what has failed already."""
        if not self.reach.note_silent("unavailable", reason, 0.0):
            return
        self._act(self.admission.hold("engine", reason))
        for record in self.book.living():
            if record.phase == "stopping" and record.started is None:
                record.give_up()  # why is known, and nothing that the engine says will change it

    def give_up_starts(self, reason: str) -> None:
        """Let the sessions that are being started fail, for the engine does not come back.

        Whoever waits for one is told now; what was made of it is removed when the engine is back.
        """
        for record in self.book.living():
            _give_up_start(record, reason)

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
        await self.slots.emptied()  # one that was being made is removed by who made it
        await until_answered(concerned)

    async def leave(self) -> None:
        """Let sessions live on without the daemon: finish what has been begun, begin nothing."""
        self.drain(True)
        self._act(self.admission.hold("shutdown", SHUTTING_DOWN))
        self.slots.close()
        concerned = self.book.living()
        self._turn_away()
        await until_settled(self.book.living)
        await until_answered(concerned)
        await self.slots.emptied()
        self.abort()

    def _turn_away(self) -> None:
        """Tell those who wait on a connection for their turn that it ends with the daemon."""
        for record in self.book.living():
            if record.phase == "queued" and needs_connection(record):
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
        self._restorer.restore(self._journal.living(), keeps, self.reach.problem)

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
                self._attacher.begin(record)
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
        self.reach.on_ask()
        self._unanswered.append(record)
        self.own(self._life.live(record))

    def _tick(self) -> None:
        self._act(self.admission.decide(scheduler.Tick()))

    async def detach(self, record: SessionRecord, name: str, reason: str) -> None:
        """Remove an attached stage that has ended; the plain stream goes on."""
        await self._attacher.detach(record, name, reason)

    def note(self, record: SessionRecord) -> None:
        """Write a session down as it is now."""
        self._chronicle.note(record)

    def _runs(self, record: SessionRecord) -> None:
        """The stream of a session is there."""
        self.lifetimes.begin(record)
        self.exits.learn(record)

    def _gone(self, record: SessionRecord, ending: Ending) -> None:
        """Nothing of a session is left: its place is free."""
        self._finish(record, ending)
        self._released(record.id)

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
        """Write down and publish the phase that ``record`` has come to."""
        self._chronicle.announce(record, **fields)
        self._note_calm()

    async def settled(self) -> None:
        """Return when all that has been decided is on disk. Raises `JournalFailed`."""
        await self._chronicle.settled()

    async def written(self) -> None:
        """Return when all that has been decided is on disk, or cannot be written: that is told elsewhere."""
        await self._chronicle.written()

    def own(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run ``work`` as one of the tasks that a shutdown waits for."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            self.on_defect("what is done for a session", exc)


def _log_defect(name: str, exc: BaseException) -> None:
    log.critical("%s broke", name, exc_info=exc)


def _give_up_start(record: SessionRecord, reason: str) -> None:
    """Let a start fail, and let nobody wait until what was made of it is removed."""
    if record.phase == "starting":
        error = errors.EngineUnavailable(reason, session_id=record.id, retry_after=1)
        record.ask_end(Ending("failed", "engine_lost", reason, error))
    if record.phase in ("starting", "stopping") and record.started is None:
        record.give_up()


def _hand_out(record: SessionRecord, stages: Iterable[str], gpus: tuple[str, ...]) -> None:
    """Note which of the devices each stage has; they come in the order of the stages."""
    left = iter(gpus)
    for name in stages:
        if wanted := record.plan.stages[name].gpus:
            record.gpus[name] = tuple(itertools.islice(left, wanted))
