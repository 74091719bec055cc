# SPDX-License-Identifier: MIT
"""A Docker Engine as the tests look at it: past the daemon, through docker-py and the host's own tools."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import itertools
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import docker
import psutil
from daemon_lab import PATIENCE, Json, Served, Wire, served

# Each test has a range of its own, so that tests, and runs beside each other, do not meet.
_RANGES = itertools.cycle(ipaddress.ip_network("10.215.0.0/16").subnets(new_prefix=20))
for _ in range(os.getpid() % 16):
    next(_RANGES)


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
        """Run a Python program in a running container and return what it prints."""
        made = self.client.exec_create(container, ["python3", "-c", program])
        return self.client.exec_start(made["Id"]).decode()

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
        return [name for name in self.bridges if Path("/sys/class/net", name).exists()]

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
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                line = process.cmdline() if process.name() == "docker-proxy" else []
                if any(self._inside(word) for word in line):
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
) -> AsyncIterator[DockerDaemon]:
    """Run a daemon on the engine; afterwards nothing of its instance may be left there."""
    subnets = subnets or str(next(_RANGES))
    settings = {"subnets": subnets, **(config or {})}
    env = {"DOCKER_HOST": docker_host or os.environ["DOCKER_HOST"]}
    engine = Engine()
    try:
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
        assert left == [], "the daemon left containers or networks behind"
    finally:
        engine.close()
