# SPDX-License-Identifier: MIT
"""Requests become sessions here. `core.scheduling.scheduler` decides; `transitions` does what was decided.

Everything runs on one event loop. Each session is lived by one task, from its start to the moment when
nothing of it is left: `session_tasks`. Other parts have files of their own: when sessions are to end
(`expiry`), stages that come later (`attaching`), `slots`, `exits`, sessions of an earlier life of the daemon
(`restoring`), what becomes of them when the engine goes (`engine_changes`) or the daemon does (`shutdown`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

from operatord.core.plans import Adapted, SessionPlan, Upstream, make_plan
from operatord.core.scheduling import scheduler
from operatord.core.scheduling.pressure import Sample
from operatord.engine_link.availability import EngineAvailability
from operatord.engines import base
from operatord.gate.door import Reach
from operatord.machine.clock import Clock
from operatord.metering.sessions import SessionMeter
from operatord.monitors.exits import ExitHooks, ExitWatch
from operatord.provision.starter import Starter
from operatord.scheduling.admission import Admission, Machine
from operatord.scheduling.expiry import Expiry, ExpiryHooks
from operatord.session.record import FIRST_STEP, Ending, SessionRecord
from operatord.session.view import to_session
from operatord.settings.current import CurrentSettings
from operatord.store.events import Emit
from operatord.store.journal import Journal
from operatord_protocol import errors
from operatord_protocol.messages import Phase, Session, SessionStartParams, Ttl

from .attaching import Attacher
from .refusals import refusal
from .restoring import Restorer
from .session_tasks import SessionTaskHooks, SessionTasks
from .shutdown import Shutdown
from .slot_images import SlotImages
from .slot_kinds import kind_of
from .slots import SlotPool
from .transitions import Transitions

log = logging.getLogger(__name__)


class SupervisorParts(NamedTuple):
    """What a supervisor works with."""

    engine: base.Engine
    starter: Starter
    admission: Admission
    settings: CurrentSettings
    clock: Clock
    journal: Journal
    emit: Emit
    meter: SessionMeter


class Supervisor:
    """Takes requests for sessions, and owns the parts that run them."""

    def __init__(self, parts: SupervisorParts) -> None:
        """Begin without sessions; those of an earlier daemon are taken on by `restorer`."""
        engine, starter, admission, settings, clock, journal, emit, meter = parts
        self._starter = starter
        self._settings = settings
        self._clock = clock
        self.admission = admission
        self.transitions = transitions = Transitions(admission, clock, journal, emit, meter)
        self.registry, self.leases = transitions.registry, transitions.leases
        expiry_hooks = ExpiryHooks(transitions.end, transitions.note)
        self.expiry = Expiry(settings, clock, admission, self.leases, expiry_hooks)
        self.availability = EngineAvailability(clock)
        self.on_no_subnets: Callable[[], object] = lambda: None
        """Called before a request is refused for lack of subnets, so that they are counted again."""
        self.slots = SlotPool(starter, transitions, settings, SlotImages(engine))
        attacher = Attacher(starter, transitions)
        exit_hooks = ExitHooks(transitions.own, attacher.detach, transitions.note)
        self.exits = ExitWatch(engine, self.registry.records, exit_hooks, clock)
        self.session_tasks = SessionTasks(
            engine, self.availability, starter, transitions, self._task_hooks()
        )
        transitions.on(scheduler.Start, self.session_tasks.begin)
        transitions.on(scheduler.Attach, attacher.begin)
        transitions.on(scheduler.GiveUp, lambda action: self.slots.give_up(action.session_id))
        self.restorer = Restorer(transitions, journal, self.expiry, self.session_tasks)
        self.shutdown = Shutdown(transitions, self.slots, self.drain)

    def _task_hooks(self) -> SessionTaskHooks:
        return SessionTaskHooks(
            running=self._runs,
            hung=lambda record: self.slots.doubt(kind_of(record.plan)),
            grace=lambda: self._settings.config.stop_grace,
        )

    def _runs(self, record: SessionRecord) -> None:
        """The stream of a session is there."""
        self.expiry.begin(record)
        self.exits.learn(record)

    # Requests

    def submit(
        self,
        params: SessionStartParams,
        owner: str,
        upstream: Upstream | Adapted | None = None,
        patience: float | None = None,
        reach: Reach | None = None,
    ) -> SessionRecord:
        """Admit, queue or refuse a request; return its session. Nothing has happened if it raises.

        One without a deadline waits for ``patience`` seconds; None: for ever. ``reach`` as in the record.

        Raises `InvalidParams`, `NotFound`, `Conflict`, `EngineUnavailable`, `NoCapacity`, `NeverFits`,
        `QueueFull`, `DeadlineExceeded`, `Draining`.
        """
        if known := self.earlier(params, owner):
            return known
        plan = self.plan(params, upstream)
        self.availability.require(patient=params.on_shortage != "refuse")
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
        record.reach = reach
        action, *others = actions
        if isinstance(action, scheduler.Refuse):
            self.transitions.meter.refused.add(action.type)
            raise refusal(action, self._clock)
        self.registry.add(record)
        if isinstance(params.lease, Ttl):
            self.extend(record, params.lease.ttl)
        self._announce(record)
        self.transitions.act([action, *others])
        return record

    def _announce(self, record: SessionRecord) -> None:
        why = self.admission.why(record.id)
        self.transitions.announce(record, **({} if why is None else {"reason": why.text}))

    def earlier(self, params: SessionStartParams, owner: str) -> SessionRecord | None:
        """Return the session that an earlier request with the same key made.

        Raises `Conflict`, `InvalidParams`.
        """
        return self.registry.same_request(params, owner, self._settings.config.defaults.count)

    def _new_record(
        self, plan: SessionPlan, params: SessionStartParams, owner: str
    ) -> SessionRecord:
        begun: dict[Phase, float] = {"queued": self._clock.wall()}
        taken = {slot.network_name for slot in self.slots}
        record = SessionRecord(self.registry.new_id(taken), plan, params, owner, begun)
        self.expiry.ask(record)
        return record

    def _claim(
        self, slot: SessionRecord, plan: SessionPlan, params: SessionStartParams, owner: str
    ) -> list[scheduler.Action]:
        """Make ``slot`` this request's session, if the request may start now."""
        ask = self.admission.ask(plan, params, owner, slot.id)
        if actions := self.admission.decide(scheduler.Claimed(ask)):
            self.slots.claimed(slot)
            slot.plan, slot.params, slot.owner = plan, params, owner
            slot.expected_seconds = plan.expected_seconds
            slot.phases = {"queued": self._clock.wall()}
            self.expiry.ask(slot)
            slot.step = FIRST_STEP
        return actions

    def former_slots(self) -> frozenset[str]:
        """Return the slots of the earlier daemon, which no requester knows of."""
        return self.transitions.writer.former_slots()

    def known(self, session_id: str) -> SessionRecord | None:
        """Return a session that has not ended, or a slot."""
        return self.registry.records.get(session_id) or self.slots.get(session_id)

    @property
    def busy(self) -> bool:
        """Whether a request is waiting for the engine."""
        return bool(self.availability.questions) or not self.transitions.is_calm

    def plan(self, params: SessionStartParams, upstream: Upstream | Adapted | None) -> SessionPlan:
        """Return what a request would become. Raises `InvalidParams`, `NotFound`."""
        config = self._settings.config
        plan = make_plan(params, config.pipelines, config.defaults.count, upstream)
        if params.on_shortage == "degrade" and params.format != "json":
            raise errors.InvalidParams(
                "params.on_shortage: degrade needs the format json, because that is what the segmentation "
                "reads when it is attached",
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
        return to_session(record, self._clock)

    def look_up(self, record: SessionRecord) -> None:
        """Note in ``record`` its place in the queue as it is now, if it waits."""
        self.transitions.look_up(record)

    @property
    def draining(self) -> bool:
        """Whether no new sessions are admitted."""
        return self.admission.state.draining

    # Wishes

    def extend(self, record: SessionRecord, ttl: float) -> None:
        """Set the lease to end ``ttl`` seconds from now. Raises `Conflict` when there is none to extend."""
        if record.phase in ("stopping", "ended"):
            raise errors.Conflict(f"the session {record.id} has ended", session_id=record.id)
        self.expiry.extend(record, ttl)
        if record.id in self.registry.records:
            self.transitions.note(record)

    def end(self, record: SessionRecord, ending: Ending) -> None:
        """Ask ``record`` to end for the reason given, whatever phase it is in."""
        self.transitions.end(record, ending)

    def drain(self, draining: bool) -> None:
        """Admit no more sessions, or admit them again."""
        if draining != self.draining:
            self.transitions.emit("drain.changed", draining=draining)
        self.transitions.act(self.admission.drain(draining))

    # Facts

    def configure(self) -> None:
        """Count with the settings, which are others now; sessions that live keep their pipelines."""
        self.expiry.configure(self.registry.running())
        self.transitions.act(self.admission.adjust())

    def resize(self, machine: Machine) -> None:
        """Count with another machine from now on."""
        self.transitions.act(self.admission.adjust(machine))

    def note_subnets(self, usable: int, obstacle: str | None) -> None:
        """Count with so many subnets from now on; ``obstacle`` says what occupies them if none is left."""
        machine = self.admission.machine._replace(subnets=usable, no_subnets=obstacle)
        if machine != self.admission.machine:
            self.resize(machine)

    def _recount_if_none(self) -> None:
        """Have the subnets counted again before a request is refused for lack of them."""
        if self.admission.machine.no_subnets is not None:
            self.on_no_subnets()

    def note_journal(self, problem: str | None) -> None:
        """Note that the journal cannot be written, or can again; meanwhile nothing is begun."""
        self.transitions.act(self.admission.block_starts("disk", problem))

    def measure(self, sample: Sample, seconds: float) -> None:
        """Take in how the machine is, ``seconds`` after it was last looked at."""
        before = self.admission.pressure
        actions = self.admission.measure(sample, seconds)
        if (pressure := self.admission.pressure) != before:
            log.warning("pressure: %s", self.admission.state.pressure or "none any more")
            self.transitions.emit("pressure.changed", pressure=pressure, was=before)
        self.transitions.act(actions)

    async def settled(self) -> None:
        """Return when all that has been decided is on disk. Raises `JournalFailed`."""
        await self.transitions.writer.settled()

    async def written(self) -> None:
        """Return when all that has been decided is on disk, or has failed to be written, which is reported
        elsewhere."""
        await self.transitions.writer.written()
