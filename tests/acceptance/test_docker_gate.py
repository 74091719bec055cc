# SPDX-License-Identifier: MIT
"""Streams of a real Docker Engine by the gate: from another network, and over deaths of the daemon."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import shared_host
from certificates import Authority
from daemon_lab import PATIENCE, Json, Served, clean_env
from docker_lab import Engine, docker_served

from operatord.access import tokens
from operatord_client import AsyncClient, Tls

pytestmark = pytest.mark.engine

COUNT = 90
"""Frames: three seconds."""
CLIENT = f"""
from operatord_client import Client
with Client() as client, client.start(count={COUNT}) as session, session.frames() as stream:
    print(session.location.url, sum(1 for _ in stream), stream.end.frames)
"""


class Cable(NamedTuple):
    """Between this machine and a network namespace of its own."""

    namespace: str
    here: str
    """This end's address."""


@pytest.fixture
def cable(subnets: str) -> Iterator[Cable]:
    ip = shutil.which("ip") or pytest.skip("ip is not installed")
    name, outside, inside = f"opd-{os.getpid()}", f"opd{os.getpid()}a", f"opd{os.getpid()}b"
    base = subnets.split("/", maxsplit=1)[0].rpartition(".")[0]

    def run(*arguments: str) -> None:
        subprocess.run([ip, *arguments], check=True, capture_output=True)

    run("netns", "add", name)
    try:
        run("link", "add", outside, "type", "veth", "peer", "name", inside, "netns", name)
        run("address", "add", f"{base}.1/30", "dev", outside)
        run("link", "set", outside, "up")
        run("-n", name, "address", "add", f"{base}.2/30", "dev", inside)
        run("-n", name, "link", "set", inside, "up")
        yield Cable(name, f"{base}.1")
    finally:
        run("netns", "delete", name)  # and the link with it


class House:
    """What a daemon needs whose clients come by TLS and with a token."""

    def __init__(self, folder: Path, host: str) -> None:
        self.authority = Authority(folder)
        cert, key = self.authority.sign("daemon", host=f"IP:{host}")
        self.token = tokens.new(folder / "tokens", "ada", "user", "now")[1]
        tls = {"cert": str(cert), "key": str(key)}
        self.host = host
        self.config: Json = {
            "listeners": [{"address": f"{host}:0", "auth": "token", "tls": tls}],
            "auth": {"tokens": str(folder / "tokens")},
            "pressure": {"cpu": None, "memory_stall": None},
        }

    async def address(self, daemon: Served) -> Tls:
        entry = await daemon.logged(f"listening on {self.host}:")
        assert entry is not None
        port = int(entry["message"].split(",")[0].rpartition(":")[2])
        return Tls(self.host, port, str(self.authority.certificate))


async def test_client_in_another_namespace_reads_from_start_to_last_frame(
    tmp_path: Path, cable: Cable
) -> None:
    house = House(tmp_path, cable.here)
    async with docker_served(tmp_path / "s", config=house.config) as daemon:
        address = await house.address(daemon.daemon)
        client = await asyncio.create_subprocess_exec(
            "ip", "netns", "exec", cable.namespace, sys.executable, "-c", CLIENT,
            stdout=asyncio.subprocess.PIPE,
            env={
                **clean_env(),
                "OPERATORD_ADDRESS": str(address),
                "OPERATORD_CA": str(house.authority.certificate),
                "OPERATORD_TOKEN": house.token,
            },
        )  # fmt: skip
        async with asyncio.timeout(PATIENCE):
            said, _ = await client.communicate()
        url, received, sent = said.decode().split()
        assert url.startswith(f"tls://{cable.here}:")
        assert (received, sent) == (str(COUNT), str(COUNT))


@contextlib.asynccontextmanager
async def living(state: Path, config: Json) -> AsyncIterator[Served]:
    """Run a daemon, which may die meanwhile, and then one that ends all that is left."""
    arguments, env = ("--engine", "docker"), {"DOCKER_HOST": os.environ["DOCKER_HOST"]}
    daemon = await Served.start(state, *arguments, config=config, env=env)
    try:
        yield daemon
    finally:
        if daemon.process.returncode is None:
            await daemon.stop()
        await daemon.ended()


async def test_stream_by_the_gate_goes_on_over_the_death_of_the_daemon(
    tmp_path: Path, subnets: str
) -> None:
    """Every frame arrives, the door stays where it is, and the last daemon leaves nothing."""
    state = tmp_path / "s"
    house = House(tmp_path, shared_host.own_address())
    config = {**house.config, "subnets": subnets}
    engine = Engine()
    async with living(state, {**config, "on_shutdown": "keep"}) as first:
        address = await house.address(first)
        async with AsyncClient(address, token=house.token) as client:
            started = await client.start(count=COUNT, lease="pinned")
            stream = started.frames()
            await stream.open()
            first.process.send_signal(signal.SIGKILL)
            await first.ended()
        frames = [frame.seq async for frame in stream]
        assert len(frames) == COUNT
    async with living(state, {**config, "on_shutdown": "stop"}) as second:
        address = await house.address(second)
        async with AsyncClient(address, token=house.token) as client:
            await client.wait(started.id)
    instance = (state / "instance").read_text().strip()
    assert await asyncio.to_thread(engine.left, instance) == []
    engine.close()
