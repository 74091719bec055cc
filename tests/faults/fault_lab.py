# SPDX-License-Identifier: MIT
"""Sessions that must not notice their daemon's death, neighbours that it must not touch, and its lives."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import json
import operator
import os
import signal
import socket
import sqlite3
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import docker
import psutil
import shared_host
from daemon_lab import PATIENCE, Json, Served, Wire, left_of, until
from docker_lab import Engine, Traces

CORES = os.cpu_count() or 1
SMALL_FRAMES: Json = {"probe": {"fps": 0, "width": 64, "height": 48}}
LARGE_FRAMES: Json = {"probe": {"fps": 0, "width": 256, "height": 256}}
"""So large that the kernel's buffers cannot hide a stream that has stopped: they take some fifty."""
SEGMENTATION_CPUS = 0.2


def settings(capacity: float = 1.0, **more: Any) -> Json:
    """Return settings with which sessions may take so many cores, whatever the machine has."""
    return {
        "on_shutdown": "keep",
        "stop_grace": 0.5,
        "start_timeout": PATIENCE,
        "lease": {"unread_timeout": None},  # those that stay are checked, and read by nobody
        "pressure": {"cpu": None, "memory_stall": None},  # the tests beside these are none of ours
        "system_reserved": {"cpus": round(CORES - capacity, 3)},
        "pipelines": {"segmented": {"stages": {"segmentation": {"cpus": SEGMENTATION_CPUS}}}},
        **more,
    }


class Consumer:
    """Reads a stream in a thread of its own, at its own pace, whatever happens around it."""

    PACE = 0.03
    """Seconds between frames, until it is to hurry …"""
    TRICKLE = 5.0
    """… or half of the frames are left: then who waits for one gets it at once, and else one comes so seldom
    that the stream lasts as long as it is needed, on a busy machine too."""

    def __init__(self, location: Json, count: int) -> None:
        self._socket = socket.create_connection((location["host"], location["port"]), PATIENCE)
        self._file = self._socket.makefile("rb")
        self.count = count
        self._hurry = False
        self._grown = threading.Condition()
        self._wanted = 0
        """How many frames somebody waits for."""
        self.frames = 0
        self.end: Json | None = None
        self.trouble = ""
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._read()
        except Exception as exc:
            self.trouble = f"after {self.frames} frames: {exc!r}"
        with self._grown:
            self._grown.notify_all()

    def _read(self) -> None:
        assert json.loads(self._file.readline())["count"] == self.count
        while (header := json.loads(self._file.readline()))["type"] == "frame":
            assert header["seq"] == self.frames, "a frame is missing, or came twice"
            for part in header["parts"]:
                assert len(self._file.read(part["bytes"])) == part["bytes"]
            with self._grown:
                self.frames += 1
                self._grown.notify_all()
                self._rest()
        self.end = header
        # Leave, as consumers do: the stage waits some seconds for one that has everything and stays.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _rest(self) -> None:
        if self.frames < self.count / 2:
            self._grown.wait_for(lambda: self._hurry, self.PACE)
        else:
            self._grown.wait_for(lambda: self._hurry or self._wanted > self.frames, self.TRICKLE)

    def wait_for_more(self, frames: int = 2) -> None:
        """Return once so many more frames have come."""
        with self._grown:
            wanted = self._wanted = self.frames + frames
            self._grown.notify_all()
            self._grown.wait_for(lambda: self.frames >= wanted or not self._alive(), PATIENCE)
            assert self.frames >= wanted, f"the stream broke off: {self.trouble or self.end}"

    def _alive(self) -> bool:
        return self.end is None and not self.trouble

    def finish(self) -> Json | None:
        """Read the rest as fast as it comes, and return the end."""
        self._make_haste()
        self._thread.join(200)
        return self.end

    def close(self) -> None:
        """Leave, if it is still there."""
        self._make_haste()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._file.close()
        self._socket.close()

    def _make_haste(self) -> None:
        with self._grown:
            self._hurry = True
            self._grown.notify_all()


class Neighbours:
    """What is on the engine and not the daemon's: a user's, and another operatord's."""

    def __init__(self, engine: Engine, subnets: list[str], session_id: str) -> None:
        """Make them; ``session_id`` is one of the daemon's own, which the other's objects carry as well."""
        self._client = engine.client
        self.networks: list[str] = []
        self.containers: list[str] = []
        other = {"operatord.instance": "somebody-else", "operatord.session": session_id}
        try:
            self._settle("somebodys", subnets[0], {})
            self._settle(f"operatord_{session_id}_somebodys", subnets[1], other)
            self._before = self._look()
        except BaseException:
            self.close()
            raise

    def _settle(self, name: str, subnet: str, labels: Mapping[str, str]) -> None:
        ipam = {"Driver": "default", "Config": [{"Subnet": subnet}]}
        name = f"{name}-{os.getpid()}"
        network = self._client.create_network(name, driver="bridge", ipam=ipam, labels=dict(labels))
        self.networks.append(network["Id"])
        mode = self._client.create_host_config(network_mode=network["Id"])
        made = self._client.create_container(
            "demo-probe", name=name, labels=dict(labels), host_config=mode
        )
        self.containers.append(made["Id"])
        self._client.start(made["Id"])

    def _look(self) -> list[object]:
        states = [self._client.inspect_container(each)["State"] for each in self.containers]
        networks = [self._client.inspect_network(each) for each in self.networks]
        return [
            [(state["Running"], state["StartedAt"]) for state in states],
            [sorted(network["Containers"]) for network in networks],
        ]

    def touched(self) -> int:
        """Return how many are not as they were."""
        with contextlib.suppress(Exception):
            now = self._look()
            return sum(old != new for old, new in zip(self._before, now, strict=True))
        return len(self._before)

    def close(self) -> None:
        """Remove them, by id. Idempotent."""
        while self.containers:
            self._client.remove_container(self.containers.pop(), force=True, v=True)
        while self.networks:
            self._client.remove_network(self.networks.pop())


class Life:
    """One life of the daemon."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self._wires: list[Wire] = []

    async def wire(self) -> Wire:
        wire = await self.served.wire()
        self._wires.append(wire)
        return wire

    async def died(self) -> None:
        """Return when it has been killed; it must not have ended otherwise, nor live on."""
        try:
            code = await self.served.ended()
        except TimeoutError:
            raise AssertionError("the failpoint was never reached") from None
        assert code == -signal.SIGKILL, self.served.log

    async def depart(self) -> None:
        """Let it end in order; its sessions stay."""
        await self._leave()
        assert await self.served.stop() == 0, self.served.log

    async def kill(self) -> None:
        """End it as `kill -9` does."""
        await self.served.stop(signal.SIGKILL)
        await self._leave()

    async def _leave(self) -> None:
        for wire in self._wires:
            await wire.close()
        self._wires.clear()

    async def close(self) -> None:
        if self.served.process.returncode is None:
            await self.served.stop(signal.SIGKILL)
        await self.served.ended()
        await self._leave()

    def descriptors(self) -> list[str]:
        """Return what it has open, but connections."""
        folder = Path(f"/proc/{self.served.process.pid}/fd")
        found = []
        for each in folder.iterdir():
            with contextlib.suppress(OSError):
                found.append(str(each.readlink()).partition("[")[0])
        return sorted(name for name in found if not name.startswith(("socket:", "pipe:")))

    def sockets(self) -> int:
        """Return how many connections and listening sockets it has."""
        folder = Path(f"/proc/{self.served.process.pid}/fd")
        names = []
        for each in folder.iterdir():
            with contextlib.suppress(OSError):
                names.append(str(each.readlink()))
        return sum(name.startswith("socket:") for name in names)


class Ground:
    """A state directory, an address range and an engine: what outlives the lives of a daemon."""

    def __init__(self, folder: Path) -> None:
        self._cleanup = contextlib.ExitStack()
        self.range = self._cleanup.enter_context(shared_host.block())
        self.engine = Engine()
        self.state_dir = folder / "state"
        self.armed = folder / "armed"
        self.segmented: Json = {}
        self.plain: Json = {}
        self._cleanup.callback(self.engine.close)

    @property
    def instance(self) -> str:
        return (self.state_dir / "instance").read_text().strip()

    @contextlib.asynccontextmanager
    async def life(self, failpoint: str = "", config: Json | None = None) -> AsyncIterator[Life]:
        """Have a daemon; ``failpoint`` counts from `arm` on if it ends with an @."""
        env = {"DOCKER_HOST": os.environ["DOCKER_HOST"]}
        if failpoint:
            env["OPERATORD_FAILPOINT"] = failpoint + str(self.armed) * failpoint.endswith("@")
        self.armed.unlink(missing_ok=True)
        whole = {"subnets": str(self.range), **(config or settings())}
        life = Life(await Served.start(self.state_dir, "--engine", "docker", config=whole, env=env))
        try:
            yield life
        finally:
            await life.close()

    def rewrite(self, config: Json) -> None:
        """Change the settings file, for a reload."""
        whole = {"subnets": str(self.range), **config}
        self.state_dir.with_suffix(".yaml").write_text(json.dumps(whole))

    def arm(self) -> None:
        """Let failpoints count from now on."""
        self.armed.touch()

    def _journal(self) -> contextlib.closing[sqlite3.Connection]:
        return contextlib.closing(sqlite3.connect(self.state_dir / "journal.sqlite"))

    def written_sessions(self) -> set[str]:
        """Return the ids of all sessions that the journal has."""
        with self._journal() as journal:
            return {session_id for (session_id,) in journal.execute("SELECT id FROM session")}

    async def written_down(self, event: str, session: Json) -> None:
        """Return once the journal has an event of a session."""
        with self._journal() as journal:
            query = "SELECT count(*) FROM event WHERE instr(data, ?) AND instr(data, ?)"
            words = event.encode(), session["session_id"].encode()
            await until(lambda: journal.execute(query, words).fetchone() != (0,), event)

    async def people(self, count: int) -> None:
        """Start the two sessions that live through everything, a consumer, and the neighbours."""
        async with self.life() as life:
            wire = await life.wire()
            self.segmented = await wire.call("session.start", count=count, env=LARGE_FRAMES)
            self.plain = await wire.call(
                "session.start", count=10**6, plain_stream=True, env=SMALL_FRAMES
            )
            self.consumer = Consumer(self.segmented["location"], count)
            self._cleanup.callback(self.consumer.close)
            subnets = [str(net) for net in self.range.subnets(new_prefix=28)][-2:]
            self.neighbours = Neighbours(self.engine, subnets, self.segmented["session_id"])
            self._cleanup.callback(self.neighbours.close)
            await life.kill()
        self.before = self.engine_state()
        async with self.life() as life:
            wire, looks = await life.wire(), []
            for _ in range(5):  # what is open for a moment, as files of /proc are, is not in all
                await wire.call("system.ping")
                looks.append(Counter(life.descriptors()))
            self.descriptors = functools.reduce(operator.and_, looks)
            await life.depart()

    @property
    def living(self) -> list[Json]:
        return [self.segmented, self.plain]

    def containers_of(self, session_id: str) -> list[Json]:
        """Return the containers of a session."""
        ours = self.engine.containers(self.instance)
        return [each for each in ours if each["Labels"]["operatord.session"] == session_id]

    def objects(self) -> set[str]:
        """Return the ids of all that carries the label of the instance."""
        found = [*self.engine.containers(self.instance), *self.engine.networks(self.instance)]
        return {each["Id"] for each in found}

    def engine_state(self) -> Json:
        """Return all that the daemon has on the engine and the host, and since when it runs."""
        containers = self.engine.containers(self.instance)
        return {
            "containers": {c["Id"]: self._since(c["Id"]) for c in containers},
            "networks": sorted(n["Id"] for n in self.engine.networks(self.instance)),
            "traces": sorted(self._traces()),
        }

    def changes(self) -> list[str]:
        """Return what is otherwise than it was when the people had come: a line for each thing."""
        before, now = (set(_lines(state)) for state in (self.before, self.engine_state()))
        gone, come = sorted(before - now), sorted(now - before)
        return [f"gone: {each}" for each in gone] + [f"come: {each}" for each in come]

    def _since(self, container: str) -> tuple[str, int]:
        found = self.engine.client.inspect_container(container)
        return found["State"]["StartedAt"], found["RestartCount"]

    def _traces(self) -> Iterator[str]:
        """Yield bridges, their veths, firewall rules and port proxies in the range."""
        traces = Traces([])
        traces.subnets = [self.range]
        traces.bridges = [name for name in psutil.net_if_addrs() if self._is_ours(name)]
        yield from traces.found()
        for bridge in traces.bridges:
            with contextlib.suppress(FileNotFoundError):  # it has gone since
                yield from (each.name for each in Path("/sys/class/net", bridge, "brif").iterdir())

    def _is_ours(self, interface: str) -> bool:
        addresses = psutil.net_if_addrs().get(interface, [])
        return any(
            each.family == socket.AF_INET and ipaddress.ip_address(each.address) in self.range
            for each in addresses
        )

    def close(self) -> None:
        """End what may be left, after a failure as well: only what is the instance's own."""
        with self._cleanup:
            if not self.state_dir.exists():
                return
            remove_all(self.engine.client, self.engine.containers(self.instance))
            for each in self.engine.networks(self.instance):
                self.engine.client.remove_network(each["Id"])
        assert left_of(self.state_dir) == []


def remove_all(client: docker.APIClient, containers: list[Json]) -> None:
    """Remove containers: Podman refuses one whose namespace others have joined, so those go first."""
    owners = []
    for each in containers:
        try:
            client.remove_container(each["Id"], force=True, v=True)
        except docker.errors.APIError:
            owners.append(each)
    for each in owners:
        client.remove_container(each["Id"], force=True, v=True)


def _lines(state: Json) -> Iterator[str]:
    """Yield what an engine's state says, each thing with how many of it are there."""
    yield from (f"container {each} {since}" for each, since in state["containers"].items())
    for kind in ("networks", "traces"):
        yield from (f"{kind}: {each} ({n})" for each, n in Counter(state[kind]).items())


@contextlib.contextmanager
def ground_with_people(folder: Path, count: int) -> Iterator[Ground]:
    """Have a ground with two sessions, a consumer of ``count`` frames, and neighbours; no daemon lives."""
    with contextlib.closing(Ground(folder)) as ground:
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(ground.people(count))
        finally:
            loop.close()
        yield ground


async def hello(location: Json) -> Json:
    """Return what a location says to a check."""
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection(location["host"], location["port"])
        writer.write(b'{"type":"check"}\n')
        try:
            found: Json = json.loads(await reader.readline())
            return found
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
