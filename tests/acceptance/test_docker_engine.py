# SPDX-License-Identifier: MIT
"""A real Docker Engine that comes, goes and is shared; and probes that are not the daemon's own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from daemon_lab import receive, served, until
from docker_lab import DockerDaemon, Engine, docker_served
from source_lab import host_probe

pytestmark = pytest.mark.engine

ENDLESS = {"count": "2000000000", "fps": "0"}


class Forwarder:
    """A private socket in front of the engine's, which can appear, vanish and hang."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._target = os.environ["DOCKER_HOST"].removeprefix("unix://")
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.flows = asyncio.Event()
        """Cleared, connections are accepted and nothing comes through any of them."""
        self.flows.set()

    async def appear(self) -> None:
        self._server = await asyncio.start_unix_server(self._accept, self.path)

    async def vanish(self) -> None:
        if self._server is not None:
            self._server.close()
        self.path.unlink(missing_ok=True)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                up_reader, up_writer = await asyncio.open_unix_connection(self._target)
                try:
                    await asyncio.gather(
                        self._pump(reader, up_writer), self._pump(up_reader, writer)
                    )
                finally:
                    up_writer.close()
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self.flows.wait()
                writer.write(data)
                await writer.drain()
            writer.write_eof()


@pytest.fixture
async def forwarder(tmp_path: Path) -> AsyncIterator[Forwarder]:
    if not os.environ["DOCKER_HOST"].startswith("unix://"):
        pytest.skip("the engine has no socket that could be stood in for")
    made = Forwarder(tmp_path / "engine.sock")
    yield made
    await made.vanish()


async def test_engine_that_comes_after_the_daemon(tmp_path: Path, forwarder: Forwarder) -> None:
    host = f"unix://{forwarder.path}"
    async with docker_served(tmp_path / "s", docker_host=host) as daemon:
        watcher, wire = await daemon.watcher("engine.back"), await daemon.wire()
        refused = await wire.refusal("session.start")
        assert refused.type == "engine_unavailable"
        assert str(tmp_path) not in str(refused)
        await forwarder.appear()
        await watcher.event("engine.back")
        session = await wire.call("session.start", plain_stream=True)
        assert session["phase"] == "running"


async def test_engine_that_is_away_for_a_while(tmp_path: Path, forwarder: Forwarder) -> None:
    await forwarder.appear()
    host = f"unix://{forwarder.path}"
    async with docker_served(tmp_path / "s", docker_host=host) as daemon:
        watcher = await daemon.watcher("engine.lost", "engine.back")
        wire, stopper = await daemon.wire(), await daemon.wire()
        kept = await wire.call("session.start", plain_stream=True, count=20)
        stopped = await wire.call("session.start", plain_stream=True)
        await forwarder.vanish()
        await watcher.event("engine.lost")
        assert (await wire.refusal("session.start")).type == "engine_unavailable"
        stop = stopper.begin("session.stop", session_id=stopped["session_id"])
        _, frames, _ = await receive(kept["location"])
        assert len(frames) == 20, "the stream does not need the engine"
        await forwarder.appear()
        await watcher.event("engine.back")
        assert (await stopper.reply(stop))["outcome"] == "stopped"
        ended = await wire.call("session.wait", session_id=kept["session_id"])
        assert ended["outcome"] == "completed"
        assert daemon.left() == []


@pytest.mark.slow
async def test_daemon_stops_in_time_though_its_engine_hangs(
    tmp_path: Path, forwarder: Forwarder, subnets: str
) -> None:
    await forwarder.appear()
    env = {"DOCKER_HOST": f"unix://{forwarder.path}"}
    config = {"subnets": subnets, "shutdown_timeout": 2}
    engine, state = Engine(), tmp_path / "s"
    async with served(state, "--engine", "docker", config=config, env=env) as daemon:
        wire = await daemon.wire()
        await wire.call("session.start", plain_stream=True)
        forwarder.flows.clear()
        wire.begin("session.start", plain_stream=True)
        other = await daemon.wire()
        assert (await other.call("system.ping"))["pong"]
        assert await daemon.stop() == 0  # which is waited for while the engine hangs
        assert any("left to the next start" in e["message"] for e in daemon.log if e)
        for each in (wire, other):
            await each.close()
        instance = daemon.instance
    assert len(engine.left(instance)) == 3
    forwarder.flows.set()
    async with served(state, "--engine", "docker", config=config, env=env):
        await until(lambda: engine.left(instance) == [], "what was being removed is removed on")
    engine.close()


async def test_reservations_and_limits_of_the_settings_arrive(tmp_path: Path) -> None:
    camera = {"cpus": 0.25, "cpu_limit": None, "memory": "32MiB", "memory_limit": None}
    config = {"pipelines": {"stream": {"stages": {"probe": camera}}}}
    async with docker_served(tmp_path / "s", config=config) as daemon:
        wire = await daemon.wire()
        session = await wire.call("session.start", plain_stream=True)
        sizes = {
            stage: daemon.engine.client.inspect_container(session[stage])["HostConfig"]
            for stage in ("probe", "stream")
        }
    names = ("CpuShares", "NanoCpus", "MemoryReservation", "Memory", "MemorySwap")
    mib = 2**20
    assert [sizes["probe"][name] for name in names] == [256, 0, 32 * mib, 32 * mib, 32 * mib]
    shipped = [10, 500_000_000, 32 * mib, 96 * mib, 96 * mib]
    assert [sizes["stream"][name] for name in names] == shipped


async def test_two_daemons_on_one_engine_leave_each_other_alone(tmp_path: Path) -> None:
    async with docker_served(tmp_path / "a") as first:
        session = await (await first.wire()).call("session.start", plain_stream=True, count=20)
        async with docker_served(tmp_path / "b", subnets=first.subnets) as second:
            await (await second.wire()).call("session.start", plain_stream=True)
            assert len(second.left()) == 3
        assert len(first.left()) == 3
        _, frames, _ = await receive(session["location"])
        assert len(frames) == 20


async def test_what_a_killed_daemon_had_running_is_taken_on_by_the_next(tmp_path: Path) -> None:
    async with docker_served(tmp_path / "s") as daemon:
        session = await (await daemon.wire()).call("session.start", plain_stream=True)
        await daemon.close()
        await daemon.daemon.stop(signal.SIGKILL)
        assert len(daemon.left()) == 3
        arguments = ("--engine", "docker")
        env = {"DOCKER_HOST": os.environ["DOCKER_HOST"]}
        config = {"subnets": daemon.subnets}
        async with served(tmp_path / "s", *arguments, config=config, env=env) as again:
            assert len(daemon.left()) == 3
            wire = await again.wire()
            found = await wire.call("session.get", session_id=session["session_id"])
            assert (found["phase"], found["location"]) == ("running", session["location"])
            await wire.call("session.stop", session_id=session["session_id"])
            assert daemon.left() == []
            assert (await wire.call("session.start", plain_stream=True))["phase"] == "running"
            await wire.close()


async def serve_from(daemon: DockerDaemon, host: str, port: int) -> None:
    """Register an endless probe, take 15 segmented frames of it, and see that all ends well."""
    wire = await daemon.wire()
    probe = await wire.call("probe.register", name="bed-3", host=host, port=port)
    assert (probe["state"], probe["frame"]["width"]) == ("up", 256)
    session = await wire.call("session.start", probe="bed-3", count=15)
    assert "probe" not in session
    assert len(daemon.engine.containers(daemon.instance)) == 2
    _, frames, end = await receive(session["location"])
    assert [header["seq"] for header, _ in frames] == list(range(15))
    assert end["frames"] == 15
    assert all(set(parts) == {"image", "mask"} for _, parts in frames)
    ended = await wire.call("session.wait", session_id=session["session_id"])
    assert ended["outcome"] == "completed"
    assert daemon.left() == []
    assert (await wire.call("probe.get", name="bed-3"))["state"] == "up"


async def test_registered_probe_on_the_hosts_loopback(docker_daemon: DockerDaemon) -> None:
    async with host_probe(**ENDLESS) as port:
        await serve_from(docker_daemon, "127.0.0.1", port)


async def test_registered_probe_in_a_container_on_a_foreign_bridge(
    docker_daemon: DockerDaemon, subnets: str
) -> None:
    engine = docker_daemon.engine
    with (
        engine.network(subnets) as network,
        engine.container("demo-probe", network, ENDLESS) as address,
    ):
        await serve_from(docker_daemon, address, 12345)


async def test_registered_probe_that_has_gone(docker_daemon: DockerDaemon) -> None:
    wire = await docker_daemon.wire()
    async with host_probe(**ENDLESS) as port:
        await wire.call("probe.register", name="bed-3", host="127.0.0.1", port=port)
    refused = await wire.refusal("session.start", probe="bed-3")
    assert (refused.type, refused.data["probe"]) == ("probe_unreachable", "bed-3")
    assert docker_daemon.left() == []


async def test_registered_probe_that_goes_during_the_session(docker_daemon: DockerDaemon) -> None:
    wire = await docker_daemon.wire()
    async with host_probe(**ENDLESS) as port:
        await wire.call("probe.register", name="bed-3", host="127.0.0.1", port=port)
        session = await wire.call("session.start", probe="bed-3", plain_stream=True)
        location = session["location"]
        reader, writer = await asyncio.open_connection(location["host"], location["port"])
        assert b'"frame"' in await reader.readuntil(b"parts")
    while await reader.read(1 << 20):
        pass
    writer.close()
    ended = await wire.call("session.wait", session_id=session["session_id"])
    assert (ended["outcome"], ended["cause"]) == ("failed", "exit")
    assert docker_daemon.left() == []
