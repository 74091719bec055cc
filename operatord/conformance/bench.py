# SPDX-License-Identifier: MIT
"""Containers for trials, by way of an engine: made with labels of their own, and removed again.

A bench has an instance of its own, so that no daemon takes its containers for leftovers of its own, and
everything it has made is found by that label, whatever became of the calls that made it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import secrets
import socket
from collections.abc import Mapping, Sequence

import msgspec

from operatord.core.subnets import SubnetPool, SubnetsExhausted
from operatord.engines import base
from operatord.engines.options import Options
from operatord.provision.subnet_count import occupants

LABEL = "check-stage"
"""What everything has for a session: `docker ps --filter label=operatord.session=check-stage`."""
SUBNET_TRIES = 8
LOOK = 0.5
"""Seconds after which the engine is asked whether a stage has ended, should no event say so."""
REMOVAL_TRIES = 3
LOG_LINES = 400
ELSEWHERE = (
    "the engine's networks are not on this machine (it is another one, a virtual one, or rootless), and the "
    "check's upstream cannot be reached from there: run check-stage where the engine runs, as its user"
)


class Trouble(Exception):
    """The check cannot be made; the text says why, and what to do."""


class Launch(msgspec.Struct, frozen=True):
    """A stage that is to be run."""

    name: str
    """Of the trial."""
    stage: str
    image: str
    port: int
    env: Mapping[str, str]
    command: tuple[str, ...] = ()
    memory: int = 256 * 1024 * 1024
    pids: int = 128
    cpus: float = 0.1
    cpu_limit: float | None = None
    stdin: bool = False
    shim: bool = False
    options: Options = Options()


class Place(msgspec.Struct, frozen=True):
    """Where a stage is going to be."""

    network: base.Network
    host: str
    """The address at which the stage reaches this machine."""
    own: base.Address
    """What the stage knows as its own address."""


class Running:
    """A stage that has been started."""

    def __init__(self, bench: Bench, container: str, address: base.Address) -> None:
        self._bench = bench
        self._engine = bench.engine
        self.id = container
        self.address = address
        """Where this machine reaches it."""

    async def ends(self, seconds: float) -> base.StageState:
        """Wait for its end, so many seconds; return its state then."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while True:
            hint = self._bench.hint(self.id)
            state = await self._engine.inspect(self.id)
            left = deadline - loop.time()
            if state.status != "running" or left <= 0:
                return state
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, LOOK)):
                    await hint.wait()

    async def stop(self, grace: float) -> float:
        """Ask it to end; return the seconds that it took."""
        begun = asyncio.get_running_loop().time()
        await self._engine.stop(self.id, grace)
        return asyncio.get_running_loop().time() - begun

    async def memory(self) -> int | None:
        """Return the bytes that it has now, if that can be told."""
        with contextlib.suppress(base.NotThere):
            return (await self._engine.stats(self.id)).memory
        return None

    async def output(self) -> list[base.LogLine]:
        """Return the last lines that it has written."""
        return await self._engine.logs(self.id, LOG_LINES)

    async def input(self) -> base.Input:
        """Hold its standard input. Raises `base.NotThere`."""
        return await self._engine.attach_stdin(self.id)

    async def remove(self) -> None:
        """Kill and remove it."""
        await self._engine.remove(self.id)


class Bench:
    """Makes stages on one engine."""

    def __init__(self, engine: base.Engine, instance: str, subnets: SubnetPool) -> None:
        self.engine = engine
        self.info: base.EngineInfo | None = None
        self._instance = instance
        self._subnets = subnets
        self._shared: base.Network | None = None
        self._has_subnets = True
        self._hints: dict[str, asyncio.Event] = {}
        self._listening: asyncio.Task[None] | None = None
        self._numbers = itertools.count(1)

    async def open(self) -> None:
        """Connect to the engine, and make a network. Raises `Trouble`, `base.EngineError`."""
        self.info = await self.engine.connect()
        if (able := await self.engine.find_out()) is not None:
            self.engine.assume(able)
        in_use = await self.engine.subnets_in_use()
        self._has_subnets = in_use is not None
        if in_use is not None:
            self._shared = await self._make_network(in_use)
        self._listening = asyncio.create_task(self._listen())

    async def close(self) -> None:
        """Remove everything. Raises `base.EngineError` if something cannot be removed."""
        if self.info is None:
            return  # it was never connected
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        for remaining in reversed(range(REMOVAL_TRIES)):
            try:
                await self._remove_all()
                return
            except base.EngineError:
                if not remaining:
                    raise

    async def _remove_all(self) -> None:
        found = await self.engine.list_objects(self._instance)
        containers = [each.id for each in found if each.kind == "container"]
        await asyncio.gather(*map(self.engine.remove, containers))
        for each in found:
            if each.kind == "network":
                await self.engine.remove_network(each.id)

    def hint(self, container: str) -> asyncio.Event:
        """Return what is set when a container may have ended."""
        return self._hints.setdefault(container, asyncio.Event())

    async def place(self, launch_name: str, stage: str, port: int) -> Place:
        """Return where a stage will be, which is found by a name of its own."""
        network = self._shared or await self._make_network([])
        number = next(self._numbers)
        own = self.engine.address(network, f"{stage}-{number}", port)
        host = network.gateway or "127.0.0.1"
        return Place(network, host, own)

    async def launch(self, launch: Launch, place: Place) -> Running:
        """Create and start a stage. Raises `Trouble`, `base.EngineError`."""
        alias = (place.own.host,) if self._has_subnets else ()
        plan = base.StagePlan(
            name=f"operatord_{self._instance}_{launch.name}_{secrets.token_hex(2)}",
            stage=launch.stage,
            image=launch.image,
            network=place.network,
            env=launch.env,
            labels=self._labels(launch.name) | {base.LABEL_STAGE: launch.stage},
            port=launch.port,
            aliases=alias,
            command=launch.command,
            cpus=launch.cpus,
            cpu_limit=launch.cpu_limit,
            memory=launch.memory,
            pids=launch.pids,
            stdin=launch.stdin,
            shim=launch.shim,
            options=launch.options,
        )
        container = await self.engine.create(plan)
        await self.engine.start(container)
        return Running(self, container, await self._address(container, place, launch.port))

    async def _address(self, container: str, place: Place, port: int) -> base.Address:
        """Return where this machine reaches a stage, even if it has ended meanwhile. Raises `Trouble`."""
        if place.network.gateway is None:
            return place.own
        _assure_here(place.network.gateway)
        state = await self.engine.inspect(container)
        return base.Address(state.ip or place.network.gateway, port)

    def _labels(self, trial: str) -> dict[str, str]:
        return {
            base.LABEL_INSTANCE: self._instance,
            base.LABEL_SESSION: LABEL,
            base.LABEL_PLAN: trial,
        }

    async def _make_network(self, in_use: Sequence[str]) -> base.Network:
        """Make a network beside those of the engine, and the routes of this machine. Raises `Trouble`."""
        taken = list(occupants(list(in_use), here=True)) if self._has_subnets else []
        for _ in range(SUBNET_TRIES):
            try:
                subnet = self._subnets.take(taken)
            except SubnetsExhausted as exc:
                raise Trouble(str(exc)) from exc
            name = f"operatord_{self._instance}"
            plan = base.NetworkPlan(name, subnet, self._labels("network"))
            with contextlib.suppress(base.SubnetTaken):
                return await self.engine.create_network(plan)
        raise Trouble("others take every subnet before it can be used: try again")

    async def _listen(self) -> None:
        with contextlib.suppress(
            base.EngineError
        ):  # without events the engine is asked now and then
            async for event in self.engine.events():
                self.hint(event.id).set()


def _assure_here(gateway: str) -> None:
    """Raise `Trouble` if an address of the engine's is none of this machine's."""
    with socket.socket() as sock:
        try:
            sock.bind((gateway, 0))
        except OSError as exc:
            if exc.errno == errno.EADDRNOTAVAIL:
                raise Trouble(ELSEWHERE) from exc
            raise
