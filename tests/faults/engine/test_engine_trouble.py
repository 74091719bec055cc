# SPDX-License-Identifier: MIT
"""What others on a real engine do to a session, what its own stages do, and requesters who vanish."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import docker
import pytest
import shared_host
from daemon_lab import PATIENCE, Json, Wire, until
from docker_lab import DockerDaemon, Viewer, docker_served, viewer_at
from engine_common import ALL, slowfault
from engine_proxy import engine_proxy
from engine_stages import alone

from operatord.core.subnets import SubnetPool
from operatord.engines.base import LABEL_INSTANCE
from operatord.engines.docker.engine import DockerEngine
from operatord.machine.clock import Clock
from operatord.provision.networks import Networks
from operatord.session.record import Provisioned

pytestmark = pytest.mark.engine

LOOPBACK = "127.0.0.1"
ROUNDS = 30 if ALL else 2
FLEETING = f"faults-fleeting:{os.getpid()}"
OF_ITS_OWN = b"FROM demo-stream\nLABEL fleeting=1\n"
"""What makes an image that goes with its only name."""


@pytest.fixture
async def docker_daemon(tmp_path: Path) -> AsyncIterator[DockerDaemon]:
    async with docker_served(tmp_path / "s") as running:
        yield running


async def start(wire: Wire, pipeline: str = "stream") -> Json:
    session: Json = await wire.call("session.start", pipeline=pipeline)
    return session


async def nothing_is_left(daemon: DockerDaemon, wire: Wire) -> None:
    assert daemon.left() == []
    assert (await wire.call("system.status"))["reserved"]["sessions"] == 0


async def test_session_that_everybody_removes_at_once_is_removed_once_and_whole(
    docker_daemon: DockerDaemon,
) -> None:
    client = docker_daemon.engine.client

    def remove_by_hand(container: str) -> None:
        with contextlib.suppress(docker.errors.APIError):  # somebody else was quicker
            client.remove_container(container, force=True, v=True)

    wires = [await docker_daemon.wire() for _ in range(3)]
    for _ in range(ROUNDS):
        session = await start(wires[0])
        sid, containers = session["session_id"], (session["probe"], session["stream"])
        by_hand = [asyncio.to_thread(remove_by_hand, each) for each in containers]
        ended, *_ = await asyncio.gather(
            asyncio.gather(*(wire.call("session.stop", session_id=sid) for wire in wires)), *by_hand
        )
        assert {(each["phase"], each["outcome"]) for each in ended} <= {
            ("ended", "stopped"),
            ("ended", "failed"),
        }
        assert len({each["outcome"] for each in ended}) == 1, "all are told the same"
        await nothing_is_left(docker_daemon, wires[0])


class Place:
    """What a network is made for."""

    def __init__(self, number: int) -> None:
        self.network_name = f"network_{number:05d}"
        self.provisioned = Provisioned()


@slowfault
@pytest.mark.timeout(400)
async def test_session_starts_beside_three_hundred_networks(
    docker_daemon: DockerDaemon, subnets: str
) -> None:
    instance = f"many-{docker_daemon.instance}"
    engine = DockerEngine(os.environ["DOCKER_HOST"], instance)
    await engine.connect()
    networks = Networks(engine, SubnetPool(subnets), Clock())
    places, turns = [Place(number) for number in range(300)], asyncio.Semaphore(6)

    async def make(place: Place) -> None:
        async with turns:
            await networks.make(place, {LABEL_INSTANCE: instance})

    async def remove(place: Place) -> None:
        async with turns:
            if (network := place.provisioned.network) is not None:
                await engine.remove_network(network.id)

    try:
        await asyncio.gather(*map(make, places))
        assert len({place.provisioned.subnet for place in places}) == 300
        wire = await docker_daemon.wire()
        session = await start(wire)
        await wire.call("session.stop", session_id=session["session_id"])
        await nothing_is_left(docker_daemon, wire)
    finally:
        await asyncio.gather(*map(remove, places))
        left = await engine.list_objects(instance)
        await engine.close()
    assert left == []


@contextlib.contextmanager
def three_ports() -> Iterator[tuple[int, socket.socket]]:
    """Have a range of three ports, the second of which somebody listens on."""
    with shared_host.free_ports() as first, socket.create_server((LOOPBACK, first + 1)) as thief:
        yield first, thief


async def test_ports_that_a_foreign_program_takes_are_passed_over_while_there_are_others(
    tmp_path: Path,
) -> None:
    with three_ports() as (first, thief):
        config = {"ports": f"{first}-{first + 2}", "limits": {"sessions": 3}}
        async with docker_served(tmp_path / "s", config=config) as daemon:
            wire = await daemon.wire()
            sessions = [await start(wire), await start(wire)]
            assert {s["location"]["port"] for s in sessions} == {first, first + 2}
            refused = await wire.refusal("session.start", plain_stream=True)
            assert (refused.type, refused.data["dimension"]) == ("no_capacity", "ports")
            assert "`ports`" in refused.message
            assert len(daemon.left()) == 6, "two sessions of three objects each"
            thief.close()
            assert (await start(wire))["location"]["port"] == first + 1


async def test_image_that_is_removed_between_the_check_and_the_creation(tmp_path: Path) -> None:
    config = {"pipelines": {"stream": {"stages": {"stream": {"image": FLEETING}}}}}
    async with (
        engine_proxy(tmp_path) as proxy,
        docker_served(tmp_path / "s", config=config, docker_host=proxy.host) as daemon,
    ):
        client = daemon.engine.client
        [*client.build(fileobj=io.BytesIO(OF_ITS_OWN), tag=FLEETING, rm=True, decode=True)]
        try:
            wire = await daemon.wire()
            with proxy.rule("POST /containers/create.*_stream", "hold") as rule:
                request = wire.begin("session.start", plain_stream=True)
                await rule.met.wait()
                client.remove_image(FLEETING)
            with pytest.raises(Exception, match=FLEETING) as caught:
                await wire.reply(request)
        finally:
            with contextlib.suppress(docker.errors.ImageNotFound):
                client.remove_image(FLEETING)
        assert getattr(caught.value, "type", None) == "image_missing"
        await nothing_is_left(daemon, wire)


async def provoke(session: Json) -> Viewer:
    """Be the consumer whose coming makes the stage do harm."""
    location = session["location"]
    reader, writer = await asyncio.open_connection(location["host"], location["port"])
    assert json.loads(await reader.readline())["type"] == "hello"
    writer.write(b"go\n")
    return Viewer(reader, writer)


async def test_stage_that_runs_out_of_memory_while_it_runs_is_said_to_have(tmp_path: Path) -> None:
    async with docker_served(tmp_path / "s", config=alone("eats")) as daemon:
        wire = await daemon.wire()
        session = await start(wire, pipeline="trouble")
        viewer = await provoke(session)
        ended = await wire.call("session.wait", session_id=session["session_id"])
        assert (ended["outcome"], ended["cause"]) == ("failed", "oom"), ended
        await viewer.leave()
        await nothing_is_left(daemon, wire)


async def test_neighbours_of_a_stage_that_forks_without_end_go_on(tmp_path: Path) -> None:
    config = alone("forks", pids=50, cpu_limit=0.5)
    async with docker_served(tmp_path / "s", config=config) as daemon:
        wire = await daemon.wire()
        neighbour = await start(wire)
        forking = await start(wire, pipeline="trouble")
        async with viewer_at(neighbour["location"]) as viewer:
            culprit = await provoke(forking)

            async def refused() -> bool:
                said = await wire.call("session.logs", session_id=forking["session_id"])
                return any("refused after" in line["line"] for line in said["lines"])

            await until(refused, "the limit is reached")
            async with asyncio.timeout(PATIENCE):
                await viewer.frames(60)
            stats = await wire.call("session.stats", session_id=forking["session_id"])
            assert 40 <= stats["stages"]["only"]["pids"] <= 50
            await wire.call("session.stop", session_id=forking["session_id"])
            await culprit.leave()
            assert len(daemon.left()) == 3, "of the neighbour"


async def test_stage_that_never_listens_times_out_with_its_last_words(tmp_path: Path) -> None:
    config = {**alone("never-binds"), "start_timeout": 2}
    async with docker_served(tmp_path / "s", config=config) as daemon:
        wire = await daemon.wire()
        refused = await wire.refusal("session.start", pipeline="trouble")
        assert (refused.type, refused.data["stage"]) == ("start_failed", "only")
        assert "within 2 s" in refused.message
        assert refused.data["log"] == ["still thinking"]
        [session] = (await wire.call("session.list"))["sessions"]
        assert (session["outcome"], session["cause"]) == ("failed", "start_timeout")
        await nothing_is_left(daemon, wire)


async def test_stage_that_says_something_else_than_hello_fails_the_start(tmp_path: Path) -> None:
    async with docker_served(tmp_path / "s", config=alone("garbage")) as daemon:
        wire = await daemon.wire()
        refused = await wire.refusal("session.start", pipeline="trouble")
        assert (refused.type, refused.data["stage"]) == ("start_failed", "only")
        assert "does not speak the stream format" in refused.message
        assert "smtp" not in str(refused)
        await nothing_is_left(daemon, wire)


async def reset_while_starting(daemon: DockerDaemon, lease: str) -> str:
    """Ask for a session, vanish while its containers are made, and return its id."""
    leaver = await daemon.wire()
    leaver.begin("session.start", plain_stream=True, lease=lease)
    said = await leaver.note(lambda said: said.get("stage") == "create")
    leaver.reset()
    return str(said["session_id"])


async def test_pinned_start_goes_on_though_its_requester_resets_the_connection(
    docker_daemon: DockerDaemon,
) -> None:
    wire = await docker_daemon.wire()
    sid = await reset_while_starting(docker_daemon, "pinned")
    session = await wire.call("session.wait", session_id=sid, phase="running")
    assert session["phase"] == "running"
    async with viewer_at(session["location"]) as viewer:
        await viewer.frames(5)


async def test_start_with_the_lease_of_a_connection_that_is_reset_is_rolled_back(
    docker_daemon: DockerDaemon,
) -> None:
    wire = await docker_daemon.wire()
    sid = await reset_while_starting(docker_daemon, "connection")
    session = await wire.call("session.wait", session_id=sid)
    assert (session["outcome"], session["cause"]) == ("expired", "lease")
    await nothing_is_left(docker_daemon, wire)
