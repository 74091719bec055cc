# SPDX-License-Identifier: MIT
"""What contract tests work with: an engine, an instance of its own, and programs to run in it.

A laboratory names programs by what they do (`PROGRAMS`). The process engine and Docker run the
Python below; the fake plays them. Closing a laboratory removes what the test made, and fails the
test when the engine still lists something of the instance afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import sys
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import shared_host
from fake_engine import FakeEngine, Program, World

from operatord.engines.base import (
    LABEL_INSTANCE,
    LABEL_PLAN,
    LABEL_SESSION,
    LABEL_STAGE,
    Capabilities,
    Engine,
    EngineEvent,
    LogLine,
    Network,
    NetworkPlan,
    StagePlan,
)
from operatord.engines.docker.engine import DockerEngine
from operatord.engines.process.engine import ProcessEngine

IMAGE = "operatord-python:bookworm"
PORT = 12345

# Programs are ended by SIGTERM unless they say otherwise: each installs nothing for it.
PROGRAMS: Mapping[str, str] = {
    "idle": """
import signal
print("ready", flush=True)
signal.pause()
""",
    "stubborn": """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
while True:
    signal.pause()
""",
    "ends-0": "pass",
    "ends-3": "raise SystemExit(3)",
    "talks": """
import sys
print("one", flush=True)
print("two", flush=True)
print("oops", file=sys.stderr, flush=True)
""",
    "mumbles": r"""
import os
os.write(1, b"x" * 20000 + b"\n" + b"\xff\xfe bad\n" + b"no end")
""",
    # Answers each connection with a line; bound to HOST, which is an address of its own or any.
    "serves": """
import os, socket
server = socket.create_server((os.environ["HOST"], int(os.environ["PORT"])))
print("ready", flush=True)
while True:
    connection, _ = server.accept()
    connection.sendall(b"hello from " + os.environ["STAGE"].encode())
    connection.close()
""",
    # Connects to what TARGET names, as stages do: again and again until it is there.
    "asks": """
import os, socket, time
host, _, port = os.environ["TARGET"].partition(":")
while True:
    try:
        print(socket.create_connection((host, int(port)), 5).recv(100).decode(), flush=True)
        break
    except OSError:
        time.sleep(0.05)
""",
    "eats": """
block = []
while True:
    block.append(bytearray(b"x" * (4 << 20)))
""",
    "shows": """
import os
print(os.getuid(), os.environ.get("SECRET"), os.environ.get("HOME"), flush=True)
""",
}

FAKE_PROGRAMS = {
    "idle": Program(lines=(("stdout", "ready"),)),
    "stubborn": Program(lines=(("stdout", "ready"),), ignores_term=True),
    "serves": Program(lines=(("stdout", "ready"),)),
    "ends-0": Program(exit_code=0),
    "ends-3": Program(exit_code=3),
    "talks": Program(lines=(("stdout", "one"), ("stdout", "two"), ("stderr", "oops")), exit_code=0),
    "nonsense": Program(refused=True),
}


_said: dict[tuple[str, ...], Capabilities] = {}
"""What engines have answered. To ask takes as many containers as most tests, and has tests of its own."""


class Lab:
    """An engine with an instance label that nobody else has."""

    any_host = "0.0.0.0"  # what a server in a stage binds

    def __init__(self) -> None:
        self.instance = f"contract-{uuid.uuid4().hex[:10]}"
        self.session = uuid.uuid4().hex[:8].upper()
        self.engine = self.another_engine(self.instance)
        self._stack = contextlib.ExitStack()
        self._subnets: Iterator[ipaddress.IPv4Network] = iter(())

    def another_engine(self, instance: str) -> Engine:
        """Return an engine on the same machine, as a second daemon would have it."""
        raise NotImplementedError

    def image(self, program: str) -> str:
        """Return the image in which a program is."""
        return program

    def command(self, program: str) -> tuple[str, ...]:
        """Return the plan's command that runs it."""
        return ()

    async def open(self) -> None:
        block = self._stack.enter_context(self.block())
        self._subnets = block.subnets(new_prefix=28)
        await self.connect()

    async def connect(self) -> None:
        """Connect, as a daemon does, which asks each version of an engine what it can, once."""
        info = await self.engine.connect()
        asked = (info.name, info.version, info.api_version)
        if (found := _said.get(asked) or await self.engine.find_out()) is not None:
            _said[asked] = found
            self.engine.assume(found)

    def block(self) -> contextlib.AbstractContextManager[ipaddress.IPv4Network]:
        """Have addresses for networks: any will do where networks are only names."""
        return contextlib.nullcontext(ipaddress.ip_network("198.18.0.0/16"))

    async def close(self) -> None:
        """Remove everything of the instance, and make sure that it is everything."""
        try:
            await self.sweep(self.engine, self.instance)
            assert await self.engine.list_objects(self.instance) == []
        finally:
            await self.engine.close()
            self._stack.close()

    async def die(self) -> None:
        """Let the daemon be dead, and another one have come."""
        await self.engine.close()
        self.engine = self.another_engine(self.instance)
        await self.connect()

    async def sweep(self, engine: Engine, instance: str) -> None:
        found = await engine.list_objects(instance)
        await asyncio.gather(*(engine.remove(f.id) for f in found if f.kind == "container"))
        await asyncio.gather(*(engine.remove_network(f.id) for f in found if f.kind == "network"))

    def labels(self, stage: str = "", plan: str = "plan-1") -> dict[str, str]:
        labels = {LABEL_INSTANCE: self.instance, LABEL_SESSION: self.session, LABEL_PLAN: plan}
        return labels | {LABEL_STAGE: stage} if stage else labels

    def network_plan(self, subnet: str | None = None) -> NetworkPlan:
        name = f"{self.instance}-{uuid.uuid4().hex[:6]}"
        return NetworkPlan(name, subnet or str(next(self._subnets)), self.labels())

    async def network(self) -> Network:
        """Create a network on a subnet that is free."""
        return await self.engine.create_network(self.network_plan())

    def plan(
        self, network: Network, program: str, stage: str = "stage", **change: Any
    ) -> StagePlan:
        """Return the plan of a stage that runs a program."""
        host = self.any_host or self.engine.address(network, stage, PORT).host
        env = {"HOST": host, "PORT": str(change.get("port", PORT)), "STAGE": stage}
        fields: dict[str, Any] = {
            "name": f"{self.instance}-{stage}",
            "stage": stage,
            "image": self.image(program),
            "network": network,
            "labels": self.labels(stage),
            "port": PORT,
            "aliases": () if change.get("join") else (stage,),
            "command": self.command(program),
            "memory": 64 << 20,
        }
        return StagePlan(**(fields | change | {"env": env | change.get("env", {})}))

    async def run(self, network: Network, program: str, stage: str = "stage", **change: Any) -> str:
        """Create and start a stage."""
        container_id = await self.engine.create(self.plan(network, program, stage, **change))
        await self.engine.start(container_id)
        return container_id

    async def run_until_ready(self, network: Network, program: str, **change: Any) -> str:
        """Run a stage and wait until it has written its first line.

        Whoever follows a log of Podman's may miss what is written in the moment in which it begins to.
        """
        container_id = await self.run(network, program, **change)
        while not await self.engine.logs(container_id, 1):
            await asyncio.sleep(0.02)
        return container_id

    async def run_until_ended(self, network: Network, program: str, **change: Any) -> str:
        """Run a stage and wait until the engine says that it has ended."""
        async with contextlib.aclosing(self.engine.events()) as events:
            container_id = await self.run(network, program, **change)
            while (event := await anext(events)).id != container_id or event.kind != "exited":
                pass
        return container_id

    async def output(self, container_id: str) -> list[LogLine]:
        """Return all that a stage writes, once it has ended."""
        return [line async for line in self.engine.follow_logs(container_id, 1000)]


class FakeLab(Lab):
    """The fake, in a world of its own."""

    def __init__(self) -> None:
        self.world = World(FAKE_PROGRAMS)
        super().__init__()

    def another_engine(self, instance: str) -> Engine:
        return FakeEngine(instance, self.world)


class ProcessLab(Lab):
    """Local processes."""

    any_host = ""  # a stage binds its network's own address

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        super().__init__()

    def another_engine(self, instance: str) -> Engine:
        commands = {
            name: (sys.executable, "-I", "-S", "-c", code) for name, code in PROGRAMS.items()
        }
        return ProcessEngine(self.state_dir, commands | {"nonsense": ("/no/such/program",)})

    async def die(self) -> None:
        """As `Lab.die`; what guards its processes has been killed as well."""
        assert isinstance(self.engine, ProcessEngine)
        guard = self.engine._guard._popen
        if guard is not None:
            guard.kill()
            guard.wait()
        await super().die()

    async def close(self) -> None:
        await super().close()
        assert list((self.state_dir / "process").iterdir()) == []
        _reap_those_of_earlier_engines()


class DockerLab(Lab):
    """A Docker Engine with the base image."""

    def __init__(self, url: str) -> None:
        self.url = url
        super().__init__()

    def another_engine(self, instance: str) -> Engine:
        return DockerEngine(self.url, instance)

    def block(self) -> contextlib.AbstractContextManager[ipaddress.IPv4Network]:
        return shared_host.block()

    def image(self, program: str) -> str:
        return IMAGE if program in PROGRAMS or program == "nonsense" else program

    def command(self, program: str) -> tuple[str, ...]:
        code = PROGRAMS.get(program)
        return ("/no/such/program",) if code is None else ("python3", "-I", "-S", "-c", code)


def _reap_those_of_earlier_engines() -> None:
    """Wait for what init would wait for, had the earlier daemon been a process of its own."""
    for process in psutil.Process().children():
        if process.status() == psutil.STATUS_ZOMBIE:
            os.waitpid(process.pid, 0)


async def collect(events: AsyncIterator[EngineEvent], count: int) -> list[EngineEvent]:
    """Return the first ``count`` events that tell of an end. Starts and stops are hints of another kind.

    So are those of images, which are the whole engine's: another test may give one a name meanwhile.
    """
    found: list[EngineEvent] = []
    while len(found) < count:
        event = await anext(events)
        if event.kind not in ("started", "stopped", "image"):
            found.append(event)
    return found
