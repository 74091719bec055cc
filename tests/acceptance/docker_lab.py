# SPDX-License-Identifier: MIT
"""A Docker Engine as the tests look at it: past the daemon, through docker-py and the host's own tools."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import ipaddress
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import docker
import psutil
import shared_host
from daemon_lab import PATIENCE, Json, Served, Wire, served

from operatord.engines.docker.images import image_client
from operatord.engines.docker_host.endpoint import Endpoint
from operatord.images import build_images, missing_images
from operatord.recipes import chosen

BUILDING = Path(tempfile.gettempdir(), f"operatord-images-{os.getuid()}.lock")
"""Held by whoever builds: `make test` begins to while other tests run, as the packages take a minute."""
LENT = "OPERATORD_IMAGES_LENT"
"""Set by `make engines`, whose engines have no way out to packages: the images come from another engine."""
PROBE = Path(__file__).parents[2] / "emulators" / "probe" / "probe.py"


def have_image(name: str) -> None:
    """Have the engine build the image of an adapter, unless it was lent."""
    names = chosen([name])
    endpoint = Endpoint(os.environ["DOCKER_HOST"])
    with BUILDING.open("w") as lock, image_client(endpoint) as client:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.environ.get(LENT):
            assert not missing_images(client, names)
        else:
            build_images(client, None, lambda text: None, names)


class Engine:
    """What is on the engine of one instance."""

    def __init__(self) -> None:
        self.client = docker.APIClient(base_url=os.environ["DOCKER_HOST"], version="auto")

    def close(self) -> None:
        self.client.close()

    def containers(self, instance: str) -> list[Json]:
        return self.client.containers(all=True, filters=_ours(instance))

    def networks(self, instance: str) -> list[Json]:
        return self.client.networks(filters=_ours(instance))

    def left(self, instance: str) -> list[str]:
        """Return the names of everything that carries the label of an instance."""
        containers = [name for each in self.containers(instance) for name in each["Names"]]
        return containers + [each["Name"] for each in self.networks(instance)]

    def python(self, container: str, program: str) -> str:
        """Run a Python program in a running container and return what it prints.

        On busy cores Podman 5.4 may have nothing of a program that has ended before it is listened to.
        """
        for _ in range(10):
            made = self.client.exec_create(container, ["python3", "-c", program])
            if said := self.client.exec_start(made["Id"]).decode():
                return said
        raise AssertionError(f"{program!r} printed nothing in {container}")

    @contextlib.contextmanager
    def chronicle(self) -> Iterator[Chronicle]:
        """Have everything written down that comes to and goes from the engine meanwhile."""
        chronicle = Chronicle(self.client)
        try:
            yield chronicle
        finally:
            chronicle.close()

    @contextlib.contextmanager
    def network(self, subnet: str) -> Iterator[str]:
        """Have a user's network for a while; give its id."""
        pool = {"Subnet": subnet}
        ipam = {"Driver": "default", "Config": [pool]}
        name = f"somebodys-{subnet.replace('/', '-')}"
        made = self.client.create_network(name, driver="bridge", ipam=ipam)["Id"]
        try:
            yield made
        finally:
            self.client.remove_network(made)

    @contextlib.contextmanager
    def container(self, image: str, network: str, env: Mapping[str, str]) -> Iterator[str]:
        """Have a user's container for a while; give its address once it has said something."""
        made = self.client.create_container(
            image, environment=dict(env), host_config=self.client.create_host_config(network_mode=network)
        )["Id"]  # fmt: skip
        try:
            self.client.start(made)
            deadline = time.monotonic() + PATIENCE
            while not self.client.logs(made):
                assert time.monotonic() < deadline, "the container says nothing"
            networks = self.client.inspect_container(made)["NetworkSettings"]["Networks"]
            yield next(iter(networks.values()))["IPAddress"]
        finally:
            self.client.remove_container(made, force=True, v=True)


def _ours(instance: str) -> Json:
    return {"label": f"operatord.instance={instance}"}


class Happened(NamedTuple):
    """A container or a network has come or gone."""

    verb: str
    """``create`` or ``destroy``."""
    kind: str
    """``container`` or ``network``."""
    session: str
    """The first five digits of the session's id, which living sessions have for themselves."""
    time: int
    """Nanoseconds since 1970, by the engine."""


class Chronicle:
    """What has come to the engine and gone from it, in the order and the words of its own events.

    The engine says so before it answers whoever asked for it: what is done because of an answer is
    always written down after what was answered.
    """

    def __init__(self, client: docker.APIClient) -> None:
        filters = {"type": ["container", "network"], "event": ["create", *_GONE]}
        # Since now, or what happens before the engine has begun to tell would be missing.
        self._stream = client.events(since=int(time.time()), filters=filters, decode=True)
        self._all: list[Happened] = []
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        self._all.extend(filter(None, map(_happened, self._stream)))

    def close(self) -> None:
        self._stream.close()
        self._thread.join()

    def of(self, sessions: Iterable[str]) -> list[Happened]:
        """Return what has happened to these sessions so far."""
        names = {session_id[:5] for session_id in sessions}
        return [each for each in tuple(self._all) if each.session in names]

    def alive(self, sessions: Iterable[str]) -> set[str]:
        """Return which of them, by five digits, have something on the engine."""
        return _most_and_last(self.of(sessions))[1]

    def most_at_once(self, sessions: Iterable[str]) -> int:
        """Return how many of them had something on the engine at the same moment, at the most."""
        return _most_and_last(self.of(sessions))[0]


_GONE = ("destroy", "remove")
"""What Docker calls it, and Podman."""


def _happened(event: Json) -> Happened | None:
    attributes = event["Actor"]["Attributes"]
    session = attributes.get("operatord.session")
    network = attributes.get("network") or attributes["name"]  # the first is Podman's
    if event["Type"] == "network" and network.startswith("network_"):
        session = network.removeprefix("network_")
    if session is None:
        return None
    verb = "destroy" if event["Action"] in _GONE else event["Action"]
    return Happened(verb, event["Type"], session[:5], event["timeNano"])


def _most_and_last(happened: list[Happened]) -> tuple[int, set[str]]:
    """Return how many sessions had something at once at the most, and who has something now."""
    has: Counter[str] = Counter()
    most = 0
    for each in happened:
        has[each.session] += 1 if each.verb == "create" else -1
        if has[each.session] == 0:
            del has[each.session]
        most = max(most, len(has))
    return most, set(has)


class Viewer:
    """Reads a stream as long as it likes to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def come(cls, location: Json) -> Viewer:
        viewer = cls(*await asyncio.open_connection(location["host"], location["port"]))
        assert json.loads(await viewer._reader.readline())["type"] == "hello"
        return viewer

    async def message(self) -> Json | None:
        """Return the header of the next message, with the payload read; None if the stream broke off."""
        try:
            header: Json = json.loads(await self._reader.readline() or "null")
            for part in (header or {}).get("parts", ()):
                await self._reader.readexactly(part["bytes"])
        except (ConnectionResetError, asyncio.IncompleteReadError):
            return None
        return header

    async def frames(self, count: int) -> None:
        """Read so many frames."""
        for _ in range(count):
            header = await self.message()
            assert header is not None
            assert header["type"] == "frame"

    async def rest(self) -> Json | None:
        """Read to the end and return it; None if the stream broke off."""
        while (header := await self.message()) is not None and header["type"] == "frame":
            pass
        return header

    async def leave(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


@contextlib.asynccontextmanager
async def viewer_at(location: Json) -> AsyncIterator[Viewer]:
    """Have somebody read from a location."""
    viewer = await Viewer.come(location)
    try:
        yield viewer
    finally:
        await viewer.leave()


class Hog:
    """A program that is none of the daemon's, and takes memory."""

    TAKE = """
import os, sys
taken = os.memfd_create("hog")
os.posix_fallocate(taken, 0, int(sys.argv[1]))
print("taken", flush=True)
sys.stdin.read()
"""
    # Pages of a file in memory are set aside at once: to write to gigabytes of them, one by one, takes
    # several times as long, most of all on a virtual machine that has not used them before.

    def __init__(self) -> None:
        self.available = psutil.virtual_memory().available
        self._process: subprocess.Popen[str] | None = None

    async def take(self, count: int) -> None:
        """Take so many bytes, so that nobody else can have them."""
        command = (sys.executable, "-c", self.TAKE, str(count))
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        assert await asyncio.to_thread(self._process.stdout.readline) == "taken\n"

    def close(self) -> None:
        """Give all of it back."""
        if self._process is not None:
            self._process.communicate()  # end of input is what it waits for
            self._process = None


class Traces:
    """What sessions leave on the host: bridges, firewall rules, port proxies, by their subnets."""

    def __init__(self, networks: list[Json]) -> None:
        self.subnets = [
            ipaddress.ip_network(config["Subnet"])
            for network in networks
            for config in network["IPAM"]["Config"]
        ]
        self.bridges = [f"br-{network['Id'][:12]}" for network in networks]

    def found(self) -> list[str]:
        return [*self._links(), *self._rules(), *self._proxies()]

    def _links(self) -> list[str]:
        """Return Docker's bridges, by their names, and those of whatever name with an address of a subnet."""
        named = {name for name in self.bridges if Path("/sys/class/net", name).exists()}
        return sorted(named | {
            name
            for name, addresses in psutil.net_if_addrs().items()
            if any(self._inside(each.address) for each in addresses)
        })  # fmt: skip

    def _rules(self) -> list[str]:
        if shutil.which("iptables") is None or os.geteuid() != 0:
            return []
        found = []
        for table in ("filter", "nat"):
            command = ["iptables", "-w", "-t", table, "-S"]
            lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            found += [line for line in lines.splitlines() if self._concerns(line)]
        return found

    def _concerns(self, text: str) -> bool:
        return any(bridge in text for bridge in self.bridges) or any(
            self._inside(word.partition("/")[0].partition(":")[0]) for word in text.split()
        )

    def _proxies(self) -> list[str]:
        found = []
        # In another network namespace the same addresses are somebody else's.
        here = Path("/proc/self/ns/net").readlink()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                line = process.cmdline() if process.name() == "docker-proxy" else []
                there = any(self._inside(word) for word in line)
                if there and Path(f"/proc/{process.pid}/ns/net").readlink() == here:
                    found.append(" ".join(line))
        return found

    def _inside(self, word: str) -> bool:
        try:
            address = ipaddress.ip_address(word)
        except ValueError:
            return False
        return any(address in subnet for subnet in self.subnets)


class DockerDaemon:
    """``operatord serve`` on the engine, with what the test knows of it."""

    def __init__(self, daemon: Served, engine: Engine, subnets: str) -> None:
        self.daemon, self.engine, self.subnets = daemon, engine, subnets
        self._wires: list[Wire] = []

    @property
    def address(self) -> tuple[str, int]:
        return self.daemon.address

    @property
    def instance(self) -> str:
        return self.daemon.instance

    async def wire(self) -> Wire:
        wire = await self.daemon.wire()
        self._wires.append(wire)
        return wire

    async def watcher(self, *types: str) -> Wire:
        """Return a connection that is told of events."""
        wire = await self.wire()
        await wire.call("events.subscribe", **({"types": list(types)} if types else {}))
        return wire

    def left(self) -> list[str]:
        return self.engine.left(self.instance)

    def traces(self) -> Traces:
        """Return what to look for on the host once the present sessions are gone."""
        return Traces(self.engine.networks(self.instance))

    async def close(self) -> None:
        for wire in self._wires:
            await wire.close()


@contextlib.asynccontextmanager
async def docker_served(
    state_dir: Path,
    *arguments: str,
    config: Mapping[str, Any] | None = None,
    subnets: str | None = None,
    docker_host: str | None = None,
    env: Mapping[str, str] | None = None,
) -> AsyncIterator[DockerDaemon]:
    """Run a daemon on the engine; afterwards nothing of its instance may be left there.

    Its networks are in ``subnets``, or in a block that no other test has. An engine that answers late, on
    cores that other tests keep busy, is waited for.
    """
    env = {"DOCKER_HOST": docker_host or os.environ["DOCKER_HOST"], **(env or {})}
    with contextlib.ExitStack() as stack:
        subnets = subnets or str(stack.enter_context(shared_host.block()))
        settings = {"subnets": subnets, "engine_patience": 60, **(config or {})}
        engine = stack.enter_context(contextlib.closing(Engine()))
        async with served(
            state_dir, "--engine", "docker", *arguments, config=settings, env=env
        ) as daemon:
            running = DockerDaemon(daemon, engine, subnets)
            try:
                yield running
            finally:
                await running.close()
                code = await daemon.stop() if daemon.process.returncode is None else 0
                left = await asyncio.to_thread(running.left)
        assert code == 0
        assert left == [], f"the daemon left containers or networks behind: {left}"
