# SPDX-License-Identifier: MIT
"""An engine that exists in memory only: for tests of decisions, where a container is beside the point.

It keeps the contract of `operatord.engines.base` (the contract suite runs over it too), never waits
for real time, and does nothing by itself: what happens is scripted by the test.

    engine = FakeEngine(instance="lab")
    engine.script.fail("create", EngineUnavailable("gone"))   # the next create has no effect, raises
    engine.script.lose_answer("create")                       # … takes effect, and raises all the same
    gate = engine.script.hold("start")                        # the next start waits …
    await gate.reached.wait()
    gate.open.set()                                           # … until now
    engine.world.end(container_id, 137, oom=True)             # a stage dies
    engine.world.lose()                                       # the engine is gone: everything raises
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import Counter, defaultdict, deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Literal

import msgspec

from operatord.engines.base import (
    LABEL_INSTANCE,
    LABEL_PLAN,
    LABEL_SESSION,
    Address,
    Capabilities,
    EngineError,
    EngineEvent,
    EngineInfo,
    EngineUnavailable,
    Found,
    ImageMissing,
    LogLine,
    Network,
    NetworkPlan,
    NotConnected,
    NotThere,
    PortTaken,
    Pulled,
    PullFailed,
    PullWords,
    StagePlan,
    StageRefused,
    StageState,
    StageStats,
    SubnetTaken,
)

SIGTERM_CODE, SIGKILL_CODE = 143, 137


class Program(msgspec.Struct, frozen=True):
    """What an image of the fake does when it is started."""

    lines: tuple[tuple[Literal["stdout", "stderr"], str], ...] = ()
    """Written at the start."""
    exit_code: int | None = None
    """It ends at once with this code; None: it runs until somebody ends it."""
    ignores_term: bool = False
    refused: bool = False
    """The engine will not start it."""


class Container(msgspec.Struct):
    """A container of the fake's world."""

    id: str
    plan: StagePlan
    status: Literal["created", "running", "exited"] = "created"
    exit_code: int | None = None
    oom: bool = False
    began: float | None = None
    ended: float | None = None
    start_failed: bool = False
    paused: bool = False
    hangs: bool = False
    """It runs, and takes no notice of anything."""
    published: Address | None = None
    ip: str | None = "192.0.2.2"
    lines: list[LogLine] = []
    said: bytes = b""
    """What came on its standard input."""
    changed: asyncio.Event = msgspec.field(default_factory=asyncio.Event)


class FakeInput:
    """The standard input of a stage of the fake; ``said`` is what it was sent."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._let_go = False
        self.spoken = 0

    @property
    def closed(self) -> bool:
        return self._let_go or self._container.status != "running"

    @property
    def stirred(self) -> None:
        return None

    def send(self, data: bytes) -> None:
        if self.closed:
            raise NotThere("the stage is not there any more")
        self._container.said += data
        if not self._container.hangs:
            self.spoken += 1

    def close(self) -> None:
        self._let_go = True


class World:
    """What an engine's machine has on it. Several `FakeEngine` may share one, as daemons do."""

    def __init__(self, programs: Mapping[str, Program] | None = None) -> None:
        self.programs = dict(programs or {})
        """Image name to what it does; an image that is not here is missing."""
        self.registry: dict[str, Program] = {}
        """What can be pulled."""
        self.containers: dict[str, Container] = {}
        self.networks: dict[str, NetworkPlan] = {}
        self.builds: Counter[str] = Counter()
        """By image name, how often it was made anew."""
        self.holders: dict[str, str] = {}
        """By instance, who has marked it as theirs."""
        self.foreign_subnets: list[str] = []
        self.foreign_ports: set[int] = set()
        self.available = True
        self.listeners: dict[asyncio.Queue[EngineEvent | None], str] = {}
        self._made = 0
        self._started = 0.0

    def new_id(self, kind: str) -> str:
        """Return an id; the same ones in the same order in each run."""
        self._made += 1
        return f"{kind}-{self._made:06d}"

    def begin_after(self, made: int) -> None:
        """Go on as if so many things had been made, and started, already."""
        self._made, self._started = made, float(made)

    def end(self, container_id: str, code: int = 0, *, oom: bool = False) -> None:
        """Let a running stage end."""
        container = self.containers[container_id]
        container.status, container.exit_code, container.oom = "exited", code, oom
        container.ended = time.time()
        if oom:
            self.tell("oom", container)
        self.tell("exited", container)
        self._wake(container)

    def pause(self, container_id: str, *, told: bool = True) -> None:
        """Let somebody freeze a stage past the daemon; unless ``told``, without an event."""
        container = self.containers[container_id]
        container.paused = True
        if told:
            self.tell("paused", container)

    def restart(self, container_id: str, code: int = SIGTERM_CODE, *, told: bool = True) -> None:
        """Let somebody restart a stage past the daemon; unless ``told``, without an event."""
        listeners = self.listeners
        if not told:
            self.listeners = {}
        container = self.containers[container_id]
        self.tell("stopped", container)
        self.end(container_id, code)
        self.start(container)
        self.listeners = listeners

    def start(self, container: Container) -> None:
        """Let a stage run."""
        self._started += 1
        container.status, container.exit_code, container.began = "running", None, self._started
        self.tell("started", container)

    def build(self, image: str, *, told: bool = True) -> None:
        """Make an image anew; unless ``told``, without an event."""
        self.builds[image] += 1
        for listener in self.listeners if told else ():
            listener.put_nowait(EngineEvent(kind="image", id=image, labels={}))

    def write(
        self, container_id: str, line: str, stream: Literal["stdout", "stderr"] = "stdout"
    ) -> None:
        """Let a stage write a line."""
        container = self.containers[container_id]
        time = f"2026-01-01T00:00:00.{len(container.lines):06d}Z"
        container.lines.append(LogLine(time=time, stream=stream, line=line))
        self._wake(container)

    def vanish(self, container_id: str) -> None:
        """Let a container be gone, as if somebody else had removed it."""
        container = self.containers.pop(container_id)
        self.tell("removed", container)
        container.status = "exited"
        self._wake(container)

    def lose(self) -> None:
        """Take the engine away: every call raises and event streams end."""
        self.available = False
        for listener in self.listeners:
            listener.put_nowait(None)

    def come_back(self) -> None:
        """Give the engine back, with all that was on it."""
        self.available = True

    def tell(
        self,
        kind: Literal["exited", "oom", "removed", "stopped", "started", "paused"],
        container: Container,
    ) -> None:
        """Send an event to those of the container's instance."""
        labels = container.plan.labels
        for listener, instance in self.listeners.items():
            if labels.get(LABEL_INSTANCE) == instance:
                listener.put_nowait(EngineEvent(kind=kind, id=container.id, labels=labels))

    def subnets(self) -> list[str]:
        """Return the CIDRs in use."""
        return [*self.foreign_subnets, *(plan.subnet for plan in self.networks.values())]

    def free_port(self, ports: tuple[int, int] | None) -> int | None:
        """Return a host port that is not in use."""
        running = [c for c in self.containers.values() if c.status == "running"]
        held = {c.published.port for c in running if c.published}
        first, last = ports or (49152, 65535)
        taken = held | self.foreign_ports
        return next((port for port in range(first, last + 1) if port not in taken), None)

    def _wake(self, container: Container) -> None:
        container.changed.set()
        container.changed = asyncio.Event()


class Gate:
    """A call that is held up."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.open = asyncio.Event()


class Script:
    """What goes otherwise than usual: for each operation a queue, one entry for one call."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        """Every call so far: the operation, and the name or id it was about."""
        self._before: dict[str, deque[EngineError | Gate]] = defaultdict(deque)
        self._after: dict[str, deque[EngineError]] = defaultdict(deque)

    def fail(self, operation: str, error: EngineError) -> None:
        """Let a call raise without effect."""
        self._before[operation].append(error)

    def lose_answer(self, operation: str, error: EngineError | None = None) -> None:
        """Let a call take effect and raise."""
        self._after[operation].append(error or EngineUnavailable("the answer got lost"))

    def hold(self, operation: str) -> Gate:
        """Hold a call up, before it takes effect, until the gate is opened."""
        gate = Gate()
        self._before[operation].append(gate)
        return gate

    async def begin(self, operation: str, subject: str) -> None:
        self.calls.append((operation, subject))
        if not self._before[operation]:
            return
        step = self._before[operation].popleft()
        if isinstance(step, EngineError):
            raise step
        step.reached.set()
        await step.open.wait()

    def finish(self, operation: str) -> None:
        if self._after[operation]:
            raise self._after[operation].popleft()


class FakeEngine:
    """The fake, as `operatord.engines.base.Engine`. Scripted operations bear the methods' names."""

    name = "fake"

    def __init__(self, instance: str = "test", world: World | None = None) -> None:
        self.instance = instance
        self.capabilities = Capabilities(
            joins_by_name=True, connects_late=True, bridges_at_once=True
        )
        self.says: Capabilities | None = None
        """What it says that it can do; None: what is assumed anyway."""
        self.world = world or World()
        self.script = Script()
        self.pongs = 0
        """How many pings it has answered."""
        self._hung: asyncio.Event | None = None

    async def connect(self) -> EngineInfo:
        await self._begin("connect", "")
        self.script.finish("connect")
        return EngineInfo(name="fake", version="0", cpus=4.0, memory=8 << 30)

    async def alive(self) -> None:
        if self._hung is not None:
            await self._hung.wait()
        if not self.world.available:
            raise EngineUnavailable("the fake engine is lost")
        self.pongs += 1

    def hang(self) -> None:
        """Answer no ping any more."""
        self._hung = asyncio.Event()

    def come_round(self) -> None:
        """Answer pings again."""
        if self._hung is not None:
            self._hung.set()
            self._hung = None

    def assume(self, capabilities: Capabilities) -> None:
        self.capabilities = capabilities

    async def find_out(self) -> Capabilities | None:
        await self._begin("find_out", "")
        return self.says or self.capabilities if self.world.programs else None

    def be_patient(self, seconds: float) -> None:
        pass

    async def close(self) -> None:
        self.script.calls.append(("close", ""))

    async def pull(self, image: str, platform: str | None = None) -> PullWords:
        await self._begin("pull", image)
        for word in (Pulled(0, 4 << 20), Pulled(1 << 20, 4 << 20), Pulled(4 << 20, 4 << 20)):
            yield word
        if image not in self.world.registry:
            raise PullFailed(image, f"the registry has no image {image}")
        self.world.programs[image] = self.world.registry[image]
        self.script.finish("pull")

    async def subnets_in_use(self) -> list[str]:
        await self._begin("subnets_in_use", "")
        return self.world.subnets()

    def address(self, network: Network, stage: str, port: int) -> Address:
        return Address(host=stage, port=port)

    async def create_network(self, plan: NetworkPlan) -> Network:
        await self._begin("create_network", plan.name)
        wanted = ipaddress.ip_network(plan.subnet)
        for subnet in self.world.subnets():
            if wanted.overlaps(ipaddress.ip_network(subnet)):
                raise SubnetTaken(f"the subnet of {plan.name} is taken")
        network_id = self.world.new_id("network")
        self.world.networks[network_id] = plan
        self.script.finish("create_network")
        return Network(network_id, plan.name, str(wanted[1]), plan.way_out)

    async def remove_network(self, network_id: str) -> None:
        await self._begin("remove_network", network_id)
        self.world.networks.pop(network_id, None)
        self.script.finish("remove_network")

    async def create(self, plan: StagePlan) -> str:
        await self._begin("create", plan.name)
        if plan.image not in self.world.programs:
            raise ImageMissing(plan.image)
        alone = plan.join is None and not plan.connect_later
        if alone and plan.network.id not in self.world.networks:
            raise NotThere(f"the network of {plan.name} is not there any more")
        container = self._adopted(plan) or Container(id=self.world.new_id("container"), plan=plan)
        self.world.containers[container.id] = container
        self.script.finish("create")
        return container.id

    async def start(self, container_id: str) -> None:
        await self._begin("start", container_id)
        container = self._container(container_id)
        if container.status != "running":
            self._run(container)
        self.script.finish("start")

    async def connect_stage(
        self, container_id: str, network: Network, aliases: Sequence[str]
    ) -> None:
        await self._begin("connect_stage", container_id)
        container = self._container(container_id)
        if network.id not in self.world.networks:
            raise NotThere(f"the network of {container.plan.name} is not there any more")
        if not container.plan.connect_later:
            raise NotConnected(f"{container.plan.name} has been connected already")
        try:
            self._publish(container)
        except PortTaken as exc:
            raise NotConnected(f"{container.plan.name} cannot be connected late") from exc
        self.script.finish("connect_stage")

    async def attach_stdin(self, container_id: str) -> FakeInput:
        await self._begin("attach_stdin", container_id)
        return FakeInput(self._container(container_id))

    async def inspect(self, container_id: str) -> StageState:
        await self._begin("inspect", container_id)
        container = self.world.containers.get(container_id)
        if container is None:
            return StageState(id=container_id, status="gone")
        return StageState(
            id=container.id,
            status=container.status,
            exit_code=container.exit_code,
            oom_killed=container.oom,
            began=container.began,
            start_failed=container.start_failed,
            ended=container.ended if container.status == "exited" else None,
            published=container.published if container.status == "running" else None,
            ip=container.ip if container.status == "running" else None,
            paused=container.paused,
        )

    async def stop(self, container_id: str, grace: float) -> None:
        await self._begin("stop", container_id)
        container = self.world.containers.get(container_id)
        if container is not None and container.status == "running":
            stubborn = self.world.programs[container.plan.image].ignores_term
            self.world.end(container_id, SIGKILL_CODE if stubborn else SIGTERM_CODE)
        self.script.finish("stop")

    async def remove(self, container_id: str) -> None:
        await self._begin("remove", container_id)
        container = self.world.containers.get(container_id)
        if container is not None:
            if container.status == "running":
                self.world.end(container_id, SIGKILL_CODE)
            self.world.vanish(container_id)
        self.script.finish("remove")

    async def logs(self, container_id: str, tail: int) -> list[LogLine]:
        await self._begin("logs", container_id)
        container = self.world.containers.get(container_id)
        return container.lines[-tail:] if container is not None and tail > 0 else []

    async def follow_logs(self, container_id: str, tail: int) -> AsyncGenerator[LogLine, None]:
        await self._begin("follow_logs", container_id)
        container = self.world.containers.get(container_id)
        if container is None:
            return
        position = max(0, len(container.lines) - tail)
        while True:
            while position < len(container.lines):
                position += 1
                yield container.lines[position - 1]
            if container.status == "exited":
                return
            await container.changed.wait()

    async def stats(self, container_id: str) -> StageStats:
        await self._begin("stats", container_id)
        limit = self._container(container_id).plan.memory
        return StageStats(cpu_seconds=0.1, memory=1 << 20, memory_limit=limit, pids=1)

    async def image_ids(self, images: Sequence[str]) -> dict[str, str]:
        await self._begin("image_ids", " ".join(images))
        builds = self.world.builds
        return {name: f"{name}@{builds[name]}" for name in images if name in self.world.programs}

    async def claim(self, holder: str) -> str:
        await self._begin("claim", holder)
        return self.world.holders.setdefault(self.instance, holder)

    async def holder(self) -> str | None:
        await self._begin("holder", "")
        return self.world.holders.get(self.instance)

    async def release(self) -> None:
        await self._begin("release", "")
        self.world.holders.pop(self.instance, None)

    async def list_objects(self, instance: str) -> list[Found]:
        await self._begin("list_objects", instance)
        containers = [
            Found(
                kind="container",
                id=c.id,
                name=c.plan.name,
                labels=c.plan.labels,
                status=c.status,
                paused=c.paused,
            )
            for c in self.world.containers.values()
        ]
        networks = [
            Found(kind="network", id=network_id, name=plan.name, labels=plan.labels)
            for network_id, plan in self.world.networks.items()
        ]
        return [f for f in containers + networks if f.labels.get(LABEL_INSTANCE) == instance]

    def events(self) -> AsyncGenerator[EngineEvent, None]:
        listener: asyncio.Queue[EngineEvent | None] = asyncio.Queue()
        self.world.listeners[listener] = self.instance
        return self._events(listener)

    async def _events(
        self, listener: asyncio.Queue[EngineEvent | None]
    ) -> AsyncGenerator[EngineEvent, None]:
        try:
            while self.world.available and (event := await listener.get()) is not None:
                yield event
        finally:
            del self.world.listeners[listener]
        raise EngineUnavailable("the fake engine is lost")

    async def _begin(self, operation: str, subject: str) -> None:
        await self.script.begin(operation, subject)
        if not self.world.available:
            raise EngineUnavailable("the fake engine is lost")

    def _container(self, container_id: str) -> Container:
        if container_id not in self.world.containers:
            raise NotThere(f"{container_id} is not there any more")
        return self.world.containers[container_id]

    def _adopted(self, plan: StagePlan) -> Container | None:
        for container in self.world.containers.values():
            if container.plan.name == plan.name:
                there, planned = container.plan.labels, plan.labels
                keys = (LABEL_INSTANCE, LABEL_SESSION, LABEL_PLAN)
                if any(there.get(key) != planned.get(key) for key in keys):
                    raise StageRefused(f"the name {plan.name} is taken by another container")
                return container
        return None

    def _publish(self, container: Container) -> None:
        if container.plan.publish is None:
            return
        port = self.world.free_port(container.plan.publish.ports)
        if port is None:
            raise PortTaken(f"no port for {container.plan.name} is free")
        container.published = Address(host=container.plan.publish.host, port=port)

    def _run(self, container: Container) -> None:
        program = self.world.programs[container.plan.image]
        if program.refused:
            raise StageRefused(f"{container.plan.name} cannot be run")
        owner = container.plan.join
        owners = [c for c in self.world.containers.values() if owner in (c.id, c.plan.name)]
        if owner is not None and not any(c.status == "running" for c in owners):
            raise StageRefused(f"{container.plan.name} would join a stage that does not run")
        if not container.plan.connect_later:
            self._publish(container)
        self.world.start(container)
        for stream, line in program.lines:
            self.world.write(container.id, line, stream)
        if program.exit_code is not None:
            self.world.end(container.id, program.exit_code)
