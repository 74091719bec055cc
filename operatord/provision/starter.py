# SPDX-License-Identifier: MIT
"""From a plan to a verified location, step by step, and back to nothing.

The steps, each timed and each named in the error when it fails:

    probe → images → turn → network → create → start → verify

A step is never cancelled in the middle of an engine call: a call that was begun is awaited, so that what it
made is known and can be removed. Between steps, and while waiting for the stream, a start ends if the session
is asked to end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from operatord.core.pipelines import PROBE
from operatord.core.plans import SessionPlan
from operatord.core.subnets import SubnetPool
from operatord.engines import base
from operatord.machine.clock import Clock
from operatord.session.record import SessionRecord, Told
from operatord.streams.hello import NoHello, read_hello, rest
from operatord.streams.sources.look import look_at
from operatord_protocol import errors
from operatord_protocol.absent import given
from operatord_protocol.messages import Location

from .blueprint import StartSettings, environment, late_line, waits
from .containers import ContainerMaker, milliseconds
from .doors import Doors
from .networks import Networks
from .pulls import Pulls, Wanted
from .slot_faults import SlotFaults
from .steps import Interrupted, StepFailed, blamed, together, translated, unless
from .verify import prove

log = logging.getLogger(__name__)

STARTS_AT_ONCE = 3
"""Sessions that are made at the same time. Measured on two cores: of 30 at once, the last is ready after 16.6
s with two and 13.6 s with four; of eight, they are ready after 2.4 s and 3.1 s on average. With more, calls
time out in the engine's queue."""
LOADED = 2.0
"""Seconds that a stage of a slot has for loading before it says that it waits; one that says nothing is
believed to wait then."""
PROBE_TIMEOUT = 3.0
"""Seconds a registered probe has to say hello."""

Steps = list[tuple[str, Callable[[SessionRecord], Awaitable[None]]]]


class Starter:
    """Makes sessions real on one engine."""

    def __init__(
        self,
        engine: base.Engine,
        subnets: SubnetPool,
        settings: Callable[[], StartSettings],
        clock: Clock,
        *,
        here: bool = True,
    ) -> None:
        """``settings`` is asked at every start, so that a reload takes effect; ``here`` as for `Networks`."""
        self.doors: Doors | None = None
        """Where requesters on other machines find streams; None: nowhere."""
        self._engine = engine
        self._pulls = Pulls(engine)
        self._networks = Networks(engine, subnets, clock, here=here)
        self._maker = ContainerMaker(engine, self._networks, settings, clock)
        self._settings = settings
        self._clock = clock
        self._turns = asyncio.Semaphore(STARTS_AT_ONCE)
        self.slot_faults = SlotFaults(engine)

    @property
    def instance(self) -> str:
        """The label that everything of this daemon carries."""
        return self._settings().instance

    def way_out(self, plan: SessionPlan) -> base.WayOut:
        """Return what the network of a session has to have."""
        return self._settings().way_out(plan)

    async def start(self, record: SessionRecord) -> None:
        """Take ``record`` to a verified location. Raises `StepFailed`, `Interrupted`."""
        begun = self._clock.now()
        record.provisioned.late_binding = record.provisioned.connect_later = self._can_wait(record)
        record.provisioned.source_waits = self._source_can_wait(record)
        await self._step(record, "probe", self._check_probe)
        await self._step(record, "images", self._check_images)
        await self._step(record, "turn", self._await_turn)
        try:
            try:
                await self._step(record, "network", self._maker.make_network)
                await self._step(record, "create", self._maker.create)
                await self._step(record, "start", self._start)
            finally:
                self._turns.release()
            await self._step(record, "verify", self._verify)
        finally:
            record.close_inputs()
        self._note_done(record, begun)

    def _note_done(self, record: SessionRecord, begun: float) -> None:
        if record.provisioned.told:
            self.slot_faults.note(record)
            record.provisioned.told.clear()
        record.timings["total"] = milliseconds(self._clock.now() - begun)

    def _can_wait(self, record: SessionRecord) -> bool:
        """Tell whether all stages know how to wait, so that they can start before there is a network."""
        bindings = {record.plan.stages[name].late_bind for name in record.stages}
        return bindings == {"native"} and self._can_connect_later(record)

    def _source_can_wait(self, record: SessionRecord) -> bool:
        """Tell whether an adapter can be told its URL by a line that nobody else sees."""
        adapter = None if record.plan.source is None else record.plan.stages[PROBE]
        can = adapter is not None and adapter.late_bind != "off"
        return can and self._engine.capabilities.holds_input

    def _can_connect_later(self, record: SessionRecord) -> bool:
        engine = self._engine.capabilities
        late = engine.connects_late and engine.joins_by_name and engine.holds_input
        return late and record.plan.network == "shared"

    async def prepare(self, slot: SessionRecord, calm: Callable[[], Awaitable[object]]) -> None:
        """Make everything of a slot, up to stages, if it has any, that wait on their standard input.

        Gives way between steps until it is ``calm``. Raises `StepFailed`, `Interrupted`.
        """
        steps: Steps = [("network", self._maker.make_network)]
        if slot.stages:
            slot.provisioned.source_waits = slot.plan.source is not None
            slot.provisioned.late_binding, slot.provisioned.connect_later = (
                True,
                self._can_connect_later(slot),
            )
            steps.insert(0, ("images", self._check_images))
            steps += [
                ("create", self._maker.create),
                ("start", self._start),
                ("hold", self._let_load),
            ]
        for name, work in steps:
            await unless(slot.ending, calm())
            await self._step(slot, name, work)
        slot.timings.clear()  # a claim waits for none of this

    async def _let_load(self, slot: SessionRecord) -> None:
        for name, held in slot.provisioned.inputs.items():
            if slot.plan.stages[name].late_bind == "native" and held.stirred is not None:
                await rest(held.stirred, LOADED)
        await self._maker.see_published(slot)

    async def claim(self, record: SessionRecord) -> None:
        """Take a session that was a slot to a verified location. Raises `StepFailed`, `Interrupted`."""
        begun = self._clock.now()
        await self._step(record, "probe", self._check_probe)
        try:
            await self._step(record, "bind", self._bind)
            await self._step(record, "verify", self._verify_slot)
        finally:
            record.close_inputs()
        self._note_done(record, begun)

    async def _verify_slot(self, record: SessionRecord) -> None:
        """Verify as after any start; if that takes long, check whether the slot is broken."""
        await self.slot_faults.watch(record, self._verify(record))

    async def start_without_slot(self, record: SessionRecord) -> None:
        """Start a session whose slot is broken: only the slot's network is used. Raises as `start`."""
        lost = sum(record.timings.values())
        record.timings.clear()
        await self._step(record, "slot", self._maker.let_go)  # before anything else is waited for
        if record.provisioned.relay is not None:
            await record.provisioned.relay.close()
            record.provisioned.relay = None
        record.provisioned.source_at = None
        lost = record.timings["slot"] = round(record.timings["slot"] + lost, 1)
        record.warm = False
        record.provisioned.image_ids = {}
        record.observed.exits.clear()
        await self.start(record)
        record.timings["total"] = round(record.timings["total"] + lost, 1)

    async def _bind(self, record: SessionRecord) -> None:
        """Tell each stage what the request decides."""
        plan = record.plan
        if plan.upstream is not None:
            assert record.provisioned.network is not None
            record.provisioned.addresses["probe"] = await self._maker.upstream_address(
                record, record.provisioned.network
            )
        await self._maker.find_source(record)
        self._tell(record)
        for name in [name for name in record.provisioned.containers if name not in plan.stages]:
            record.provisioned.unused.append(record.provisioned.containers.pop(name))

    def tell_at_once(self, record: SessionRecord) -> None:
        """Tell a claimed slot's stages what they wait for, before anything else is done for the claim.

        They begin on another core meanwhile. What fails here fails again in `claim`, where it is handled.
        """
        if record.plan.registered is None:
            with contextlib.suppress(Exception):
                self._tell(record)

    def _tell(self, record: SessionRecord) -> None:
        for name, held in record.provisioned.inputs.items():
            if name in record.plan.stages and name not in record.provisioned.told:
                spoken = held.spoken
                with blamed(name):
                    held.send(late_line(record.plan.stages[name], environment(record, name)))
                record.provisioned.told[name] = Told(held, spoken)

    async def discard(self, record: SessionRecord) -> None:
        """Remove what was made beforehand and is not needed, as `remove` would. Raises `base.EngineError`."""
        while record.provisioned.unused:
            await self._engine.remove(record.provisioned.unused[0])
            del record.provisioned.unused[0]

    async def _step(
        self, record: SessionRecord, name: str, work: Callable[[SessionRecord], Awaitable[None]]
    ) -> None:
        if record.ending.done():
            raise Interrupted
        record.progress(name)
        with self._maker.timed(record, name), translated(name):
            await work(record)

    async def _await_turn(self, record: SessionRecord) -> None:
        """Wait, first come first served, until few enough other sessions are being made."""
        await unless(record.ending, self._turns.acquire())

    async def _check_images(self, record: SessionRecord) -> None:
        await self._require_images(record, record.stages)

    async def _require_images(self, record: SessionRecord, stages: Sequence[str]) -> None:
        """Note which images the names of these stages stand for: from now on, that is what they are.

        A local process is of no image if the stage has a command.
        """
        known, always = record.provisioned.image_ids, self._engine.capabilities.needs_images
        planned = [record.plan.stages[name] for name in stages]
        names = dict.fromkeys(each.image for each in planned if always or not each.command)
        images = [name for name in names if name not in known]
        found = await self._engine.image_ids(images) if images else {}
        if missing := [image for image in images if image not in found]:
            await self._pull(record, missing, stages)
            found |= await self._engine.image_ids(missing)
        for image in images:
            if image not in found:
                raise self._missing(image)
        known |= found

    def _missing(self, image: str) -> base.ImageMissing:
        needs_images = self._engine.capabilities.needs_images
        return base.ImageMissing(image) if needs_images else base.ProgramMissing(image)

    async def _pull(
        self, record: SessionRecord, images: Sequence[str], stages: Sequence[str]
    ) -> None:
        """Pull what stages allow to be pulled, one after the other, unless the session is to end."""
        planned = [record.plan.stages[name] for name in stages]
        for image in images:
            of_it = [stage for stage in planned if stage.image == image]
            if not any(stage.is_pulled for stage in of_it):
                raise self._missing(image)
            wanted = Wanted(
                image, next((given(s.platform) for s in of_it if given(s.platform)), None)
            )
            await unless(record.ending, self._pulls.pull(wanted, record.tell_reason))

    async def _check_probe(self, record: SessionRecord) -> None:
        if (name := record.plan.registered) is None:
            return
        try:
            record.provisioned.upstream_address = await self._probe_address(record.plan)
        except NoHello as exc:
            log.info("session %s: probe %s: %s", record.id, name, exc.detail)
            reason = f"the probe {name!r} cannot be used: {exc}"
            record.for_operators = f"the probe {name!r} cannot be used: {exc.detail}"
            data: dict[str, Any] = {"probe": name, **({"retryable": False} if exc.lasts else {})}
            raise StepFailed(errors.ProbeUnreachable, "probe", reason, **data) from exc

    async def _probe_address(self, plan: SessionPlan) -> str | None:
        """Return the number at which a registered probe answers; None without one. Raises `NoHello`."""
        rules = self._settings().rules
        if plan.source is not None:
            return (await look_at(plan.source.parsed, PROBE_TIMEOUT, rules)).address
        assert plan.upstream is not None
        found = await read_hello(plan.upstream.host, plan.upstream.port, PROBE_TIMEOUT, rules)
        return found.address

    async def _start(self, record: SessionRecord) -> None:
        try:
            await self._maker.start(record)
            if waiting := [name for name in record.stages if waits(record, name)]:
                await together(self._maker.attach_stdin(record, name) for name in waiting)
                if not record.warm:
                    await self._bind(record)
        except base.EngineError as exc:
            await self._maker.blame_who_ended(record, exc)
            raise

    async def _verify(self, record: SessionRecord) -> None:
        """Find the location and read a stream header from it, unless the session is to end first."""
        record.location = await self._prove(record, record.stages[-1])
        record.provisioned.published = None  # what is attached later has a port of its own

    async def _prove(self, record: SessionRecord, name: str) -> Location | None:
        location = await prove(self._engine, record, name, self._settings())
        if location is None or self.doors is None:
            return location
        return await self.doors.open(record, name, location)

    # Later

    async def attach(self, record: SessionRecord, name: str) -> None:
        """Add the missing stage ``name`` to a running session, with a location of its own.

        It joins the session's network with an endpoint of its own, since a port can be published only
        when its endpoint is made. Raises `StepFailed`, `Interrupted`; `detach` removes what was made.
        """
        begun = self._clock.now()
        await self._step(record, "attach", lambda _: self._require_images(record, (name,)))
        await self._step(record, "attach", self._await_turn)
        try:
            await self._step(
                record, "attach", lambda _: self._maker.create_stage(record, name, None)
            )
            await self._step(record, "attach", lambda _: self._maker.start_stage(record, name))
        finally:
            self._turns.release()
        location: Location | None = None
        with translated("attach"):
            location = await self._prove(record, name)
        if location is not None:
            record.join(name, location)
            record.timings["attach"] = milliseconds(self._clock.now() - begun)

    async def detach(self, record: SessionRecord, name: str) -> None:
        """Remove an attached stage, or what there is of it. Raises `base.EngineError`."""
        record.set_aside(name)
        if self.doors is not None:
            await self.doors.close(record, name)
        container_id = record.provisioned.containers.get(name)
        if container_id is not None:
            await self._engine.remove(container_id)
            record.provisioned.containers.pop(name, None)
        await self._remove_unknown(record, name)

    def hold_subnet(self, record: SessionRecord) -> None:
        """Note that a session of an earlier life of the daemon has its subnet."""
        self._networks.hold(record)

    async def remove(self, record: SessionRecord) -> None:
        """Remove everything of ``record``. Idempotent. Raises `base.EngineError` to be tried again."""
        if self.doors is not None:
            await self.doors.close(record)
        if record.provisioned.relay is not None:
            await record.provisioned.relay.close()
            record.provisioned.relay = None
        made = [*record.provisioned.containers.values(), *record.provisioned.unused]
        await together(self._engine.remove(container_id) for container_id in made)
        if record.location is None or record.missing or record.restored:
            await self._remove_unknown(record)
        if record.provisioned.network is not None:
            await self._engine.remove_network(record.provisioned.network.id)
        self._networks.give_back(record)

    async def _remove_unknown(self, record: SessionRecord, stage: str | None = None) -> None:
        """Remove objects of a failed start whose creation was never confirmed: the answer may have got
        lost."""
        found = await self._engine.list_objects(self.instance)
        mine = [o for o in found if o.labels.get(base.LABEL_SESSION) == record.id]
        if stage is not None:
            mine = [o for o in mine if o.labels.get(base.LABEL_STAGE) == stage]
        await together(self._engine.remove(o.id) for o in mine if o.kind == "container")
        await together(self._engine.remove_network(o.id) for o in mine if o.kind == "network")
