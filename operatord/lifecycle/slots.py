# SPDX-License-Identifier: MIT
"""Warm slots: sessions that are made in advance, complete except for what a request decides.

A slot has its network and its containers, started, loaded and waiting for a line on their standard input.
Claiming it means to send each stage that line. A slot is used once, by one session.

A spare network is the least of all slots: it has no stages, and shortens the start of any session.

Slots are made one at a time, and only while nothing that somebody waits for is being made or removed. They
count as used room, and are given up first when a request needs it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import defaultdict
from collections.abc import Iterator

from operatord.core.pipelines import Pipeline
from operatord.core.plans import SessionPlan
from operatord.core.scheduling import scheduler
from operatord.core.scheduling.arrivals import Arrivals
from operatord.engines import base
from operatord.provision.removal import persist
from operatord.provision.starter import Starter
from operatord.provision.steps import Interrupted, StepFailed
from operatord.session.record import Ending, SessionRecord
from operatord.settings.current import CurrentSettings
from operatord.store.journal_file import JournalFailed
from operatord_protocol.messages import SessionStartParams

from .slot_failures import FIRST_PAUSE, SlotFailures
from .slot_images import SlotImages
from .slot_kinds import SPARE, kind_of, pipeline_of, plan_of, slot_kinds
from .transitions import Transitions

log = logging.getLogger(__name__)

PAUSE = 0.5
"""Seconds between looks at whether a slot is wanted."""
REST = 1.0
"""Seconds without a claim before a slot is replaced: requests often come in groups, and an engine that is
making containers takes several times as long over the next claim, or the next stop."""
FAILED_PAUSE = FIRST_PAUSE
"""Seconds without any attempt after a slot could not be made; for the same pipeline they grow."""
UNKNOWN = 1.0
"""Seconds that a slot is taken to need, before one has been made."""


class SlotPool:
    """The slots of all pipelines."""

    def __init__(
        self,
        starter: Starter,
        transitions: Transitions,
        settings: CurrentSettings,
        images: SlotImages,
    ) -> None:
        """Nothing is made before `run`."""
        self.images = images
        self._starter = starter
        self._transitions = transitions
        self._admission = transitions.admission
        self._settings = settings
        self._clock = transitions.clock
        self._slots: dict[str, SessionRecord] = {}
        """All that exist, by id, oldest first."""
        self._ready: set[str] = set()
        self._made_at: dict[str, float] = {}
        self._arrivals: defaultdict[str, Arrivals] = defaultdict(Arrivals)
        self._refill: dict[str, float] = {}
        """Seconds that it took to make the last one."""
        self._failures = SlotFailures(self._clock.now)
        self._claimed_at = -REST
        self._open = True
        self._forgotten = asyncio.Event()

    # Questions

    def __iter__(self) -> Iterator[SessionRecord]:
        """Yield all that have not been claimed, oldest first."""
        return iter(self._slots.values())

    def get(self, slot_id: str) -> SessionRecord | None:
        """Return a slot that has not been claimed."""
        return self._slots.get(slot_id)

    def ready(self, pipeline: str) -> list[SessionRecord]:
        """Return the slots that can be claimed, oldest first."""
        return [
            slot
            for slot in self._slots.values()
            if slot.id in self._ready and kind_of(slot.plan) == pipeline and self._is_good(slot)
        ]

    def _is_good(self, slot: SessionRecord) -> bool:
        return is_alive(slot) and not (slot.provisioned.image_ids and self.images.in_doubt)

    def target(self, pipeline: str) -> int:
        """Return how many there should be: as configured, or within bounds what comes while one is made."""
        config = self._settings.config
        configured = pipeline_of(pipeline, config)
        if not self._open:
            return 0
        if configured is None:
            return config.slots.networks if pipeline == SPARE else 0
        low, high = configured.warm_bounds
        if low == high:
            return low
        refill, now = self._refill.get(pipeline, UNKNOWN), self._clock.now()
        return max(low, min(high, self._arrivals[pipeline].expected(refill, now)))

    def status(self) -> dict[str, dict[str, int]]:
        """Return for each pipeline how many are ready and how many there should be."""
        return {name: self._count(name) for name in slot_kinds(self._settings.config)}

    def spare_networks(self) -> dict[str, int]:
        """Return the same for networks that are kept for whichever session comes."""
        return self._count(SPARE)

    def _count(self, pipeline: str) -> dict[str, int]:
        return {"ready": len(self.ready(pipeline)), "target": self.target(pipeline)}

    # Claims

    def candidates(self, plan: SessionPlan) -> list[SessionRecord]:
        """Return slots that would do for ``plan``, the best first."""
        self._arrivals[kind_of(plan)].note(self._clock.now())
        fit = [slot for slot in self.ready(kind_of(plan)) if _suits(slot, plan)]
        both = [*fit[:1], *self.ready(SPARE)[:1]]
        way_out = self._starter.way_out(plan)
        return [slot for slot in both if slot.provisioned.way_out == way_out]

    def claimed(self, slot: SessionRecord) -> None:
        """It is a session now."""
        self._claimed_at = self._clock.now()
        self._forget(slot)

    def _forget(self, slot: SessionRecord) -> None:
        self._slots.pop(slot.id, None)
        self._ready.discard(slot.id)
        self._made_at.pop(slot.id, None)
        self._forgotten.set()

    # Making and removing

    async def run(self) -> None:
        """Keep as many ready as there should be, until cancelled."""
        while True:
            pause = PAUSE
            self._discard_unfit()
            self._failures.reconsider((self.images.doubts, self._settings.config))
            pipeline = self._lacking()
            if pipeline is not None:
                await self._transitions.calm()
                if not await self._make(pipeline):
                    pause = FAILED_PAUSE
            await asyncio.sleep(pause)

    async def watch_images(self) -> None:
        """Give up slots whose images have been made anew, until cancelled."""
        await self.images.watch(self._made, self._outdated)

    def _made(self) -> list[SessionRecord]:
        return [slot for slot in self._slots.values() if slot.id in self._ready]

    def _outdated(self, slot: SessionRecord) -> None:
        log.info("slot %s is given up: an image of it has been made anew", slot.id)
        self.give_up(slot.id)

    def paused(self, slot_id: str) -> None:
        """Give up a slot of which somebody has paused a stage."""
        slot = self._slots.get(slot_id)
        if slot is not None and not slot.ending.done():
            log.warning("slot %s is given up: a stage of it has been paused from outside", slot_id)
            self.give_up(slot_id)

    def doubt(self, pipeline: str) -> None:
        """Give up all slots of a pipeline that are ready: a stage of one that was made before hung.

        Whether others hang cannot be seen, since they only wait, and the same cause may have frozen them all.
        New ones are made in the background.
        """
        for slot in self._made():
            if kind_of(slot.plan) == pipeline:
                log.warning("slot %s is given up: a stage of one like it hung", slot.id)
                self.give_up(slot.id)

    async def look(self) -> None:
        """Give up a slot that somebody has disconnected from its network. Raises `base.EngineError`."""
        for slot in self._made():
            if not await self._starter.slot_faults.is_published(slot) and slot.id in self._ready:
                why = "it was disconnected from its network from outside"
                log.warning("slot %s is given up: %s", slot.id, why)
                self.give_up(slot.id)

    def _lacking(self) -> str | None:
        """Return a pipeline that has too few slots, unless one has just been claimed."""
        if self._clock.now() - self._claimed_at < REST:
            return None
        for name in (*slot_kinds(self._settings.config), SPARE):
            count = len([s for s in self._slots.values() if kind_of(s.plan) == name])
            if count < self.target(name) and self._failures.may_try(name):
                return name
        return None

    def _discard_unfit(self) -> None:
        """Give up slots that died, are too old or too many, or no longer match the configuration."""
        config, now = self._settings.config, self._clock.now()
        count: dict[str, int] = {}
        for slot in list(self._slots.values()):
            if slot.id not in self._ready:
                continue
            name = kind_of(slot.plan)
            count[name] = count.get(name, 0) + 1
            pipeline = pipeline_of(name, config)
            old = now - self._made_at[slot.id] > config.slots.max_age
            other = not _is_of(slot, pipeline)
            if not is_alive(slot) or old or other or count[name] > self.target(name):
                self.give_up(slot.id)

    async def _make(self, pipeline: str) -> bool:
        """Make one slot, if there is room for it; tell whether to go on soon."""
        slot = self._new(pipeline)
        need = self._admission.shape(slot.plan, slot.stages).need._replace(sessions=0)
        if pipeline == SPARE:
            need = need._replace(ports=0)
        if not self._admission.decide(scheduler.Reserved(slot.id, need)):
            return True
        self._slots[slot.id] = slot
        begun = self._clock.now()
        try:
            await self._transitions.writer.write_slots(
                list(self._slots)
            )  # before there is anything of it
            current = await self._prepare(slot)
        except (StepFailed, JournalFailed, base.EngineError) as exc:
            level = logging.WARNING if self._failures.note(pipeline, str(exc)) else logging.DEBUG
            log.log(level, "a slot for %s could not be made: %s", pipeline or "any session", exc)
            await self._remove(slot)
            return False
        except Interrupted:
            await self._remove(slot)
            return True
        except Exception:
            # A defect: give its place back, or it would count as being made.
            await self._remove(slot)
            raise
        if not current or slot.ending.done():  # given up during its last step
            await self._remove(slot)
            return True
        self._made_at[slot.id] = self._clock.now()
        self._refill[pipeline] = self._made_at[slot.id] - begun
        self._ready.add(slot.id)
        self._failures.forget(pipeline)
        log.info("slot %s for %s is ready", slot.id, pipeline or "any session")
        return True

    async def _prepare(self, slot: SessionRecord) -> bool:
        """Make all of a slot; tell whether it is of the images that there are now."""
        await self.images.note(slot)
        await self._starter.prepare(slot, self._transitions.calm)
        return await self.images.are_current(slot)

    def _new(self, pipeline: str) -> SessionRecord:
        plan, wall = plan_of(pipeline, self._settings.config), self._clock.wall()
        params = SessionStartParams(pipeline=plan.pipeline) if plan.stages else SessionStartParams()
        slot_id = secrets.token_hex(8).upper()
        slot = SessionRecord(slot_id, plan, params, "", {"queued": wall})
        slot.warm = pipeline != SPARE
        return slot

    def give_up(self, slot_id: str) -> None:
        """Remove a slot, and release what it held once all of it is gone."""
        slot = self._slots.get(slot_id)
        if slot is None or slot.ending.done():
            return
        slot.ask_end(Ending("stopped", "shutdown", "the slot is given up"))
        if slot_id in self._ready:
            self._ready.discard(slot_id)
            self._transitions.own(self._remove(slot))

    async def _remove(self, slot: SessionRecord) -> None:
        slot.close_inputs()
        await persist(slot, lambda: self._starter.remove(slot))
        self._forget(slot)
        self._transitions.released(slot.id)

    async def emptied(self) -> None:
        """Return when all that were given up are gone."""
        while self._slots:
            self._forgotten.clear()
            await self._forgotten.wait()

    def close(self) -> None:
        """Give up all slots, and make no more."""
        self._open = False
        for slot_id in list(self._slots):
            self.give_up(slot_id)


def is_alive(slot: SessionRecord) -> bool:
    """Tell whether all stages of a slot still wait for their line."""
    waiting = slot.provisioned.inputs.keys() == slot.plan.stages.keys()
    return waiting and not any(held.closed for held in slot.provisioned.inputs.values())


def _is_of(slot: SessionRecord, pipeline: Pipeline | None) -> bool:
    """Tell whether a slot is as ``pipeline`` has it now; a spare network is of none."""
    if pipeline is None:
        return slot.plan.stages == {}
    return (slot.plan.stages, slot.plan.network) == (pipeline.stages, pipeline.namespaces)


def _suits(slot: SessionRecord, plan: SessionPlan) -> bool:
    """Tell whether ``slot`` has what ``plan`` needs. Stages beyond that are removed when it is claimed."""
    if plan.source is not None and plan.source.needs is not None:
        return False  # its adapter was not given the file or device
    same = all(slot.plan.stages.get(name) == stage for name, stage in plan.stages.items())
    return same and slot.plan.network == plan.network
