# SPDX-License-Identifier: MIT
"""Creates what a session has on an engine: its network and its containers, in the right order.

Where stages share a namespace there are two ways. Stages that know how to wait for their line start at once:
the namespace's owner runs while the network is made, and is connected to it while the others join. All others
start when their network is there; so do stages that could not be connected late.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from operatord.core.endings import Exit, judge_start
from operatord.core.sources.url import NAMES_MATTER
from operatord.engines import base
from operatord.machine.clock import Clock
from operatord.session.record import SessionRecord
from operatord.streams.relay import Relay
from operatord_protocol import errors

from .blueprint import StartSettings, container_name, labels, network_of, stage_plan
from .networks import Networks
from .steps import StepFailed, blamed, together, translated

log = logging.getLogger(__name__)


class ContainerMaker:
    """Makes what sessions have on one engine. All of its calls are awaited to their ends."""

    def __init__(
        self,
        engine: base.Engine,
        networks: Networks,
        settings: Callable[[], StartSettings],
        clock: Clock,
    ) -> None:
        """``settings`` is asked for each container, so that a reload takes effect."""
        self._engine = engine
        self._networks = networks
        self._settings = settings
        self._clock = clock

    async def make_network(self, record: SessionRecord) -> None:
        """Create the network, and at the same time the stages that need not know it."""
        spare = record.provisioned.network is not None and await self._networks.has(record)
        settings = self._settings()
        carried = labels(record, settings.instance)
        calls = [] if spare else [self._networks.make(record, carried)]
        record.provisioned.way_out = settings.way_out(record.plan)
        if self._knows_addresses(record):
            record.provisioned.addresses = await self._addresses(record)
        if record.provisioned.connect_later:
            calls += self._go_ahead(record)
        elif not spare and record.provisioned.addresses:
            calls += self._create_joining(record)
        await together(calls)

    def _knows_addresses(self, record: SessionRecord) -> bool:
        """Tell whether the stages' addresses are known before there is a network."""
        plan = record.plan
        joins = self._engine.capabilities.joins_by_name
        is_elsewhere = plan.upstream is not None or (
            plan.source is not None and not record.provisioned.source_waits
        )
        return joins and plan.network == "shared" and not is_elsewhere

    def _create_joining(self, record: SessionRecord) -> list[Coroutine[Any, Any, None]]:
        *joining, owner = record.stages or ("",)
        join = container_name(record, owner)
        return [self.create_stage(record, name, join) for name in joining]

    def _go_ahead(self, record: SessionRecord) -> list[Coroutine[Any, Any, None]]:
        """Start the namespace's owner and create the stages that join it: they wait for their settings
        anyway."""
        return [self._run_owner(record, record.stages[-1]), *self._create_joining(record)]

    async def _run_owner(self, record: SessionRecord, owner: str) -> None:
        await self.create_stage(record, owner, None)
        with translated("start"):
            await self.start_stage(record, owner, "network")

    async def _start_waiting(self, record: SessionRecord, name: str) -> None:
        await self.start_stage(record, name)
        await self._hold_early(record, name)

    async def _hold_early(self, record: SessionRecord, name: str) -> None:
        """Hold the input of a stage that need not wait. Raises `base.NotConnected` where that is refused."""
        try:
            await self.attach_stdin(record, name)
        except (base.StageRefused, base.EngineFailed) as exc:
            raise base.NotConnected(str(exc)) from exc

    async def create(self, record: SessionRecord) -> None:
        """Create all stages that have not been created with the network."""
        if record.provisioned.connect_later:
            return
        record.provisioned.addresses = await self._addresses(record)
        if not record.provisioned.source_waits:
            await self.find_source(record)
        if record.plan.network == "shared":
            # Those who join the owner's namespace have been created already, or are once it is known.
            await self.create_stage(record, record.stages[-1], None)
        else:
            await together(self.create_stage(record, name, None) for name in record.stages)

    async def create_stage(self, record: SessionRecord, name: str, join: str | None) -> None:
        """Create the stage called ``name``, to join another (`stage_plan`)."""
        plan = stage_plan(record, name, join, self._settings())
        with translated("create"), blamed(name):
            record.provisioned.containers[name] = await self._engine.create(plan)

    async def start(self, record: SessionRecord) -> None:
        """Start all stages, in the way that suits them."""
        if record.plan.network == "separate":
            await self._start_in_order(record)
            return
        try:
            await self._start_shared(record)
        except base.NotConnected as exc:
            log.info("session %s: %s; its stages are started anew", record.id, exc)
            await self._start_anew(record)

    async def _start_anew(self, record: SessionRecord) -> None:
        """Create the stages again in the ordinary way, without late binding except for slots."""
        await self.let_go(record)
        record.provisioned.connect_later, record.provisioned.late_binding = False, record.warm
        record.provisioned.source_waits &= self._engine.capabilities.holds_input
        await self.create(record)
        await self._start_shared(record)

    async def let_go(self, record: SessionRecord) -> None:
        """Remove the stages that there are, and leave the network."""
        record.close_inputs()
        # Set aside first: a stage that ends now must not count as failed.
        record.provisioned.unused += record.provisioned.containers.values()
        record.provisioned.containers.clear()
        await together(self._engine.remove(made) for made in record.provisioned.unused)
        record.provisioned.unused.clear()
        record.provisioned.told.clear()
        record.provisioned.published = None

    async def _start_in_order(self, record: SessionRecord) -> None:
        """Start stages in the order of the stream.

        A stage that connects while its upstream's interface is still being made waits a second for the
        kernel to ask for the address again: more than starting all at once gains.
        """
        for name in record.stages:
            await self.start_stage(record, name)

    async def _start_shared(self, record: SessionRecord) -> None:
        """Start the last stage, which outlives the others and so owns the namespace, then who joins it.

        They can be created while it starts, but started only once it has.
        """
        *joining, owner = record.stages
        if record.provisioned.connect_later:
            calls = [self._start_waiting(record, name) for name in joining]
            calls += [self._hold_early(record, owner), self._connect(record)]
        else:
            join = record.provisioned.containers[owner]
            missing = [name for name in joining if name not in record.provisioned.containers]
            creates = [self.create_stage(record, name, join) for name in missing]
            await together([self.start_stage(record, owner), *creates])
            calls = [self.start_stage(record, name) for name in joining]
            calls.append(self.see_published(record))
        await together(calls)

    async def _connect(self, record: SessionRecord) -> None:
        """Connect the namespace's owner, which runs, and with it all who join it."""
        assert record.provisioned.network is not None
        owner = record.stages[-1]
        with self.timed(record, "start.connect"), blamed(owner):
            await self._engine.connect_stage(
                record.provisioned.containers[owner], record.provisioned.network, record.stages
            )
        record.provisioned.addresses = self._stage_addresses(record)
        await self.see_published(record)

    async def see_published(self, record: SessionRecord) -> None:
        """Note where the last stage is published, once it runs."""
        state = await self._engine.inspect(record.provisioned.containers[record.stages[-1]])
        record.provisioned.published = state.where_published()
        if (
            record.provisioned.late_binding
            and record.plan.network == "shared"
            and state.ip is not None
        ):
            # All names lie on one address; given as a number, it need not be looked up.
            for name in record.stages:
                record.provisioned.addresses[name] = state.ip, record.plan.stages[name].port

    async def blame_who_ended(self, record: SessionRecord, exc: base.EngineError) -> None:
        """Raise `StepFailed` if the reason is that a stage has ended already."""
        if isinstance(exc, base.EngineUnavailable) and not isinstance(exc, base.EngineFailed):
            return  # the inspection shows nothing
        ended: dict[str, Exit] = {}
        for name, container_id in record.provisioned.containers.items():
            state = await self._engine.inspect(container_id)
            if state.status in ("exited", "gone"):
                record.observed.exits.setdefault(name, state)
                oom = state.oom_killed or name in record.observed.oom
                ended[name] = Exit(state.exit_code, oom, state.ended)
        if verdict := judge_start(record.stages, ended):
            raise StepFailed(
                errors.StartFailed, verdict.cause, verdict.reason, verdict.stage, step="start"
            ) from exc

    async def start_stage(self, record: SessionRecord, name: str, step: str = "start") -> None:
        """Start the stage called ``name``, in a certain step."""
        with self.timed(record, f"{step}.{name}"), blamed(name):
            await self._engine.start(record.provisioned.containers[name])

    async def attach_stdin(self, record: SessionRecord, name: str) -> None:
        """Hold the standard input of the stage called ``name``, which runs. Idempotent."""
        if name not in record.provisioned.inputs:
            with blamed(name):
                record.provisioned.inputs[name] = await self._engine.attach_stdin(
                    record.provisioned.containers[name]
                )

    @contextlib.contextmanager
    def timed(self, record: SessionRecord, name: str) -> Iterator[None]:
        """Note how long it takes among the timings of ``record``."""
        begun = self._clock.now()
        try:
            yield
        finally:
            record.timings[name] = milliseconds(self._clock.now() - begun)

    async def _addresses(self, record: SessionRecord) -> dict[str, tuple[str, int]]:
        """Return where every stage, and a registered probe, will be found by the stages."""
        found = self._stage_addresses(record)
        if record.plan.upstream is not None:
            found["probe"] = await self.upstream_address(record, network_of(record))
        return found

    def _stage_addresses(self, record: SessionRecord) -> dict[str, tuple[str, int]]:
        network = network_of(record)
        found: dict[str, tuple[str, int]] = {}
        for name, stage in record.plan.stages.items():
            address = self._engine.address(network, name, stage.port)
            found[name] = (address.host, address.port)
        return found

    async def upstream_address(
        self, record: SessionRecord, network: base.Network
    ) -> tuple[str, int]:
        """Return where stages reach the registered probe: itself, or a relay in their network."""
        upstream = record.plan.upstream
        assert upstream is not None
        return await self._way_to(record, upstream.port, network)

    async def find_source(self, record: SessionRecord) -> None:
        """Note where the adapter finds its source: at the number that was checked, or at a relay.

        Where the name matters to the server, the adapter looks it up itself.
        """
        source, checked = record.plan.source, record.provisioned.upstream_address
        if source is None or checked is None:
            return
        found = await self._way_to(record, source.parsed.port, network_of(record))
        if found[0] != checked or source.scheme not in NAMES_MATTER:
            record.provisioned.source_at = found

    async def _way_to(
        self, record: SessionRecord, port: int, network: base.Network
    ) -> tuple[str, int]:
        host = record.provisioned.upstream_address
        assert host is not None, "the probe is checked before anything is made"
        if network.gateway is None or await self._networks.reaches(host, network):
            return host, port
        record.provisioned.relay = Relay(host, port)
        early = not self._engine.capabilities.bridges_at_once
        return await record.provisioned.relay.open(network.gateway, early=early)


def milliseconds(seconds: float) -> float:
    """Return it as timings have it."""
    return round(seconds * 1000, 1)
