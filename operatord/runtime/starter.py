# SPDX-License-Identifier: MIT
"""From a plan to a verified location, step by step, and back to nothing.

The steps, each timed and each named in the error when it fails:

    probe → images → turn → network → create → start → verify

A step is never cancelled in the middle of an engine call: a call that was begun is awaited, so that
what it made is known and can be removed. Between steps, and while waiting for the stream, a start gives
way to whatever asks the session to end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any

from operatord.core.endings import Exit, judge_start
from operatord.core.subnets import SubnetPool
from operatord.engines import base
from operatord_protocol import errors
from operatord_protocol.messages import Location

from .blueprint import (
    StartSettings,
    container_name,
    environment,
    labels,
    late_line,
    network_of,
    stage_plan,
)
from .clock import Clock
from .hello import NoHello, read_hello, rest
from .networks import Networks
from .proof import prove
from .record import SessionRecord
from .relay import Relay
from .steps import Interrupted, StepFailed, blamed, together, translated, unless

log = logging.getLogger(__name__)

STARTS_AT_ONCE = 3
"""Sessions that are made at the same time. Measured on two cores: of 30 at once, the last is ready after
16.6 s with two and 13.6 s with four; of eight, they are ready after 2.4 s and 3.1 s on average. More would
let calls time out in a long line."""
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
    ) -> None:
        """``settings`` is asked at every start, so that a reload takes effect."""
        self._engine = engine
        self._networks = Networks(engine, subnets, clock)
        self._settings = settings
        self._clock = clock
        self._turns = asyncio.Semaphore(STARTS_AT_ONCE)

    @property
    def instance(self) -> str:
        """The label that everything of this daemon carries."""
        return self._settings().instance

    async def start(self, record: SessionRecord) -> None:
        """Take ``record`` to a verified location. Raises `StepFailed`, `Interrupted`."""
        begun = self._clock.now()
        record.told_late = record.connect_later = self._can_wait(record)
        await self._step(record, "probe", self._check_probe)
        await self._step(record, "images", self._check_images)
        await self._step(record, "turn", self._await_turn)
        try:
            try:
                await self._step(record, "network", self._make_network)
                await self._step(record, "create", self._create)
                await self._step(record, "start", self._start)
            finally:
                self._turns.release()
            await self._step(record, "verify", self._verify)
        finally:
            record.close_inputs()
        record.timings["total"] = _ms(self._clock.now() - begun)

    def _can_wait(self, record: SessionRecord) -> bool:
        """Tell whether all stages know how to wait, so that they can start before there is a network."""
        bindings = {record.plan.stages[name].late_bind for name in record.stages}
        return bindings == {"native"} and self._can_connect_later(record)

    def _can_connect_later(self, record: SessionRecord) -> bool:
        return self._engine.connects_late and record.plan.network == "shared"

    async def prepare(self, slot: SessionRecord, calm: Callable[[], Awaitable[object]]) -> None:
        """Make everything of a slot, up to stages, if it has any, that wait on their standard input.

        Gives way between steps until it is ``calm``. Raises `StepFailed`, `Interrupted`.
        """
        steps: Steps = [("network", self._make_network)]
        if slot.stages:
            slot.told_late, slot.connect_later = True, self._can_connect_later(slot)
            steps.insert(0, ("images", self._check_images))
            steps += [
                ("create", self._create),
                ("start", self._start),
                ("hold", self._let_load),
            ]
        for name, work in steps:
            await unless(slot.ending, calm())
            await self._step(slot, name, work)
        slot.timings.clear()  # whoever claims it waits for none of this

    async def _let_load(self, slot: SessionRecord) -> None:
        for name, held in slot.inputs.items():
            if slot.plan.stages[name].late_bind == "native" and held.stirred is not None:
                await rest(held.stirred, LOADED)
        await self._see_published(slot)

    async def _hold_input(self, record: SessionRecord, name: str) -> None:
        if name not in record.inputs:
            with blamed(name):
                record.inputs[name] = await self._engine.hold_input(record.containers[name])

    async def claim(self, record: SessionRecord) -> None:
        """Take a session that was a slot to a verified location. Raises `StepFailed`, `Interrupted`."""
        begun = self._clock.now()
        await self._step(record, "probe", self._check_probe)
        try:
            await self._step(record, "bind", self._bind)
            await self._step(record, "verify", self._verify)
        finally:
            record.close_inputs()
        record.timings["total"] = _ms(self._clock.now() - begun)

    async def _bind(self, record: SessionRecord) -> None:
        """Tell each stage what the request decides."""
        plan = record.plan
        if plan.upstream is not None:
            assert record.network is not None
            record.addresses["probe"] = await self._upstream_address(record, record.network)
        self._tell(record)
        for name in [name for name in record.containers if name not in plan.stages]:
            record.unused.append(record.containers.pop(name))

    def tell_at_once(self, record: SessionRecord) -> None:
        """Tell a claimed slot's stages what they wait for, before anything else is done for the claim.

        They take to it on another core meanwhile. What fails here fails again in `claim`, where it is
        handled; so does what has to be asked for first.
        """
        if record.plan.upstream is None:
            with contextlib.suppress(Exception):
                self._tell(record)

    def _tell(self, record: SessionRecord) -> None:
        for name, held in record.inputs.items():
            if name in record.plan.stages and name not in record.told:
                with blamed(name):
                    held.send(late_line(record.plan.stages[name], environment(record, name)))
                record.told.add(name)

    async def discard(self, record: SessionRecord) -> None:
        """Remove what was made beforehand and is not needed, as `remove` would. Raises `base.EngineError`."""
        while record.unused:
            await self._engine.remove(record.unused[0])
            del record.unused[0]

    async def _step(
        self, record: SessionRecord, name: str, work: Callable[[SessionRecord], Awaitable[None]]
    ) -> None:
        if record.ending.done():
            raise Interrupted
        record.progress(name)
        with self._timed(record, name), translated(name):
            await work(record)

    async def _await_turn(self, record: SessionRecord) -> None:
        """Wait, first come first served, until few enough other sessions are being made."""
        await unless(record.ending, self._turns.acquire())

    @contextlib.contextmanager
    def _timed(self, record: SessionRecord, name: str) -> Iterator[None]:
        begun = self._clock.now()
        try:
            yield
        finally:
            record.timings[name] = _ms(self._clock.now() - begun)

    async def _check_images(self, record: SessionRecord) -> None:
        await self._require_images(record, record.stages)

    async def _require_images(self, record: SessionRecord, stages: Sequence[str]) -> None:
        images = list(dict.fromkeys(record.plan.stages[name].image for name in stages))
        for image in await self._engine.missing_images(images):
            raise base.ImageMissing(image)

    async def _check_probe(self, record: SessionRecord) -> None:
        upstream = record.plan.upstream
        if upstream is None:
            return
        try:
            await read_hello(upstream.host, upstream.port, PROBE_TIMEOUT)
        except NoHello as exc:
            reason = f"the probe {upstream.name!r} is not there: {exc}"
            raise StepFailed(errors.ProbeUnreachable, "probe", reason, probe=upstream.name) from exc

    async def _make_network(self, record: SessionRecord) -> None:
        """Make the network, and at the same time the stages that need not know it."""
        spare = record.network is not None and await self._networks.has(record)
        calls = [] if spare else [self._networks.make(record, labels(record, self.instance))]
        if record.connect_later:
            calls += self._go_ahead(record)
        elif not spare and self._knows_addresses(record):
            record.addresses = await self._addresses(record)
            calls += self._create_joining(record)
        await together(calls)

    def _knows_addresses(self, record: SessionRecord) -> bool:
        """Tell whether where stages will find each other is known before there is a network."""
        plan = record.plan
        return self._engine.joins_by_name and plan.network == "shared" and plan.upstream is None

    def _create_joining(self, record: SessionRecord) -> list[Coroutine[Any, Any, None]]:
        *joining, owner = record.stages or ("",)
        join = container_name(record, owner)
        return [self._create_stage(record, name, join) for name in joining]

    def _go_ahead(self, record: SessionRecord) -> list[Coroutine[Any, Any, None]]:
        """Have the namespace's owner run, and create who joins it: they wait for their line anyway."""
        return [self._run_owner(record, record.stages[-1]), *self._create_joining(record)]

    async def _run_owner(self, record: SessionRecord, owner: str) -> None:
        await self._create_stage(record, owner, None)
        with translated("start"):
            await self._start_stage(record, owner)

    async def _start_waiting(self, record: SessionRecord, name: str) -> None:
        await self._start_stage(record, name)
        await self._hold_input(record, name)

    async def _create(self, record: SessionRecord) -> None:
        if record.connect_later:
            return  # they have been, with the network
        record.addresses = await self._addresses(record)
        if record.plan.network == "shared":
            # Those who join the owner's namespace have been created already, or are once it is known.
            await self._create_stage(record, record.stages[-1], None)
        else:
            await together(self._create_stage(record, name, None) for name in record.stages)

    async def _create_stage(self, record: SessionRecord, name: str, join: str | None) -> None:
        plan = stage_plan(record, name, join, self._settings())
        with translated("create"), blamed(name):
            record.containers[name] = await self._engine.create(plan)

    async def _start(self, record: SessionRecord) -> None:
        try:
            await self._start_stages(record)
            if record.told_late:
                await together(self._hold_input(record, name) for name in record.stages)
                if not record.warm:
                    await self._bind(record)
        except base.EngineError as exc:
            await self._blame_who_ended(record, exc)
            raise

    async def _start_stages(self, record: SessionRecord) -> None:
        if record.plan.network == "separate":
            await self._start_in_order(record)
            return
        try:
            await self._start_shared(record)
        except base.NotConnected as exc:
            log.info("session %s: %s; it is started anew, with its endpoint", record.id, exc)
            await self._start_anew(record)

    async def _start_anew(self, record: SessionRecord) -> None:
        """Make the stages once more, with an endpoint from the start."""
        record.close_inputs()
        await together(self._engine.remove(made) for made in record.containers.values())
        record.containers.clear()
        record.connect_later = False
        await self._create(record)
        await self._start_shared(record)

    async def _start_in_order(self, record: SessionRecord) -> None:
        # In the order of the stream. A stage that connects while its upstream's interface is still being
        # made waits a second for the kernel to ask for the address again: more than starting all at
        # once gains.
        for name in record.stages:
            await self._start_stage(record, name)

    async def _start_shared(self, record: SessionRecord) -> None:
        """Start the last stage, which outlives the others and so owns the namespace, then who joins it.

        They can be created while it starts, but started only once it has.
        """
        *joining, owner = record.stages
        if record.connect_later:
            calls = [self._start_waiting(record, name) for name in joining]
            calls += [self._hold_input(record, owner), self._connect(record)]
        else:
            join = record.containers[owner]
            missing = [name for name in joining if name not in record.containers]
            creates = [self._create_stage(record, name, join) for name in missing]
            await together([self._start_stage(record, owner), *creates])
            calls = [self._start_stage(record, name) for name in joining]
            calls.append(self._see_published(record))
        await together(calls)

    async def _connect(self, record: SessionRecord) -> None:
        """Connect the namespace's owner, which runs, and with it all who join it."""
        assert record.network is not None
        owner = record.stages[-1]
        with self._timed(record, "start.connect"), blamed(owner):
            await self._engine.connect_stage(
                record.containers[owner], record.network, record.stages
            )
        record.addresses = self._stage_addresses(record)
        await self._see_published(record)

    async def _see_published(self, record: SessionRecord) -> None:
        """Note where the last stage is published, once it runs."""
        state = await self._engine.inspect(record.containers[record.stages[-1]])
        record.published = state.published
        if record.told_late and record.plan.network == "shared" and state.ip is not None:
            # All names lie on one address; said as a number, nobody has to look it up then.
            for name in record.stages:
                record.addresses[name] = state.ip, record.plan.stages[name].port

    async def _blame_who_ended(self, record: SessionRecord, exc: base.EngineError) -> None:
        """Raise `StepFailed` if the reason is that a stage has ended already."""
        if isinstance(exc, base.EngineUnavailable) and not isinstance(exc, base.EngineFailed):
            return  # nothing is to be learned from it
        ended: dict[str, Exit] = {}
        for name, container_id in record.containers.items():
            state = await self._engine.inspect(container_id)
            if state.status in ("exited", "gone"):
                record.exits.setdefault(name, state)
                oom = state.oom_killed or name in record.oom
                ended[name] = Exit(state.exit_code, oom, state.ended)
        if verdict := judge_start(record.stages, ended):
            raise StepFailed(
                errors.StartFailed, verdict.cause, verdict.reason, verdict.stage, step="start"
            ) from exc

    async def _start_stage(self, record: SessionRecord, name: str) -> None:
        with self._timed(record, f"start.{name}"), blamed(name):
            await self._engine.start(record.containers[name])

    async def _verify(self, record: SessionRecord) -> None:
        """Find the location and read a stream header from it, unless the session is to end first."""
        record.location = await self._prove(record, record.stages[-1])
        record.published = None  # what is attached later has a port of its own

    async def _prove(self, record: SessionRecord, name: str) -> Location | None:
        return await prove(self._engine, record, name, self._settings().timeout)

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
            await self._step(record, "attach", lambda _: self._create_stage(record, name, None))
            await self._step(record, "attach", lambda _: self._start_stage(record, name))
        finally:
            self._turns.release()
        location: Location | None = None
        with translated("attach"):
            location = await self._prove(record, name)
        if location is not None:
            record.join(name, location)
            record.timings["attach"] = _ms(self._clock.now() - begun)

    async def detach(self, record: SessionRecord, name: str) -> None:
        """Remove an attached stage, or what there is of it. Raises `base.EngineError`."""
        record.set_aside(name)
        container_id = record.containers.get(name)
        if container_id is not None:
            await self._engine.remove(container_id)
            record.containers.pop(name, None)
        await self._remove_unknown(record, name)

    async def _addresses(self, record: SessionRecord) -> dict[str, tuple[str, int]]:
        """Return where every stage, and a registered probe, will be found by the stages."""
        found = self._stage_addresses(record)
        if record.plan.upstream is not None:
            found["probe"] = await self._upstream_address(record, network_of(record))
        return found

    def _stage_addresses(self, record: SessionRecord) -> dict[str, tuple[str, int]]:
        network = network_of(record)
        found: dict[str, tuple[str, int]] = {}
        for name, stage in record.plan.stages.items():
            address = self._engine.address(network, name, stage.port)
            found[name] = (address.host, address.port)
        return found

    async def _upstream_address(
        self, record: SessionRecord, network: base.Network
    ) -> tuple[str, int]:
        """Return where stages reach the registered probe: itself, or a relay in their network."""
        upstream = record.plan.upstream
        assert upstream is not None
        host = await _resolve(upstream.host, upstream.port)
        if network.gateway is None or await self._networks.reaches(host, network):
            return host, upstream.port
        record.relay = Relay(host, upstream.port)
        return await record.relay.open(network.gateway)

    def hold_subnet(self, record: SessionRecord) -> None:
        """Note that a session of an earlier life of the daemon has its subnet."""
        self._networks.hold(record)

    async def remove(self, record: SessionRecord) -> None:
        """Remove everything of ``record``. Idempotent. Raises `base.EngineError` to be tried again."""
        if record.relay is not None:
            await record.relay.close()
            record.relay = None
        made = [*record.containers.values(), *record.unused]
        await together(self._engine.remove(container_id) for container_id in made)
        if record.location is None or record.missing or record.restored:
            await self._remove_unknown(record)
        if record.network is not None:
            await self._engine.remove_network(record.network.id)
        self._networks.give_back(record)

    async def _remove_unknown(self, record: SessionRecord, stage: str | None = None) -> None:
        """Remove what a failed start made without ever hearing so: its answer may have got lost."""
        found = await self._engine.list_objects(self.instance)
        mine = [o for o in found if o.labels.get(base.LABEL_SESSION) == record.id]
        if stage is not None:
            mine = [o for o in mine if o.labels.get(base.LABEL_STAGE) == stage]
        await together(self._engine.remove(o.id) for o in mine if o.kind == "container")
        await together(self._engine.remove_network(o.id) for o in mine if o.kind == "network")


async def _resolve(host: str, port: int) -> str:
    """Return an address of ``host`` as this machine knows it. Raises `OSError`."""
    loop = asyncio.get_running_loop()
    infos = await loop.getaddrinfo(host, port, type=1)
    return str(infos[0][4][0])


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
