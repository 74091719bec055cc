# SPDX-License-Identifier: MIT
"""Warm slots on the real engine."""

from __future__ import annotations

import asyncio
import io
import os
import signal
from pathlib import Path

import psutil
import pytest
from daemon_lab import Json, Refused, Wire, receive, served, until
from docker_lab import DockerDaemon, Engine, docker_served

pytestmark = pytest.mark.engine

WARM: Json = {"pipelines": {"segmented": {"warm": 2}}, "pressure": {"cpu": None}}


PLAIN: Json = {"pipelines": {"stream": {"warm": 2}}, "pressure": {"cpu": None}}
"""Two stages instead of three: for what is the same with any."""


async def filled(wire: Wire, count: int = 2, pipeline: str = "segmented") -> None:
    async def ready() -> bool:
        status: Json = await wire.call("system.status")
        return bool(status["warm"][pipeline]["ready"] == count)

    await until(ready, "the slots are ready")


def containers(daemon: DockerDaemon) -> int:
    return len([name for name in daemon.left() if name.startswith("/")])


@pytest.mark.every_engine
async def test_claimed_slots_deliver_exactly_what_was_asked_for(tmp_path: Path) -> None:
    async with docker_served(tmp_path / "s", config=WARM) as daemon:
        wire = await daemon.wire()
        await filled(wire)
        sessions = [
            await wire.call("session.start", count=count, env={"probe": {"fps": 0, "width": 32}})
            for count in (5, 9)
        ]
        assert [session["warm"] for session in sessions] == [True, True]
        for session, count in zip(sessions, (5, 9), strict=True):
            _, frames, end = await receive(session["location"])
            assert [header["seq"] for header, _ in frames] == list(range(count))
            assert all({"image", "mask"} == set(parts) for _, parts in frames)
            assert (end["frames"], end["dropped"]) == (count, 0)
        await filled(wire)
    assert daemon.left() == []


async def test_no_slot_is_used_twice_by_fifty_claims_at_once(tmp_path: Path) -> None:
    async with docker_served(tmp_path / "s", config={**WARM, "limits": {"sessions": 2}}) as daemon:
        await filled(await daemon.wire())
        wires = [await daemon.wire() for _ in range(50)]
        asked = [wire.begin("session.start", count=4, on_shortage="refuse") for wire in wires]
        answers = await asyncio.gather(
            *(wire.reply(number) for wire, number in zip(wires, asked, strict=True)),
            return_exceptions=True,
        )
        refused = [answer for answer in answers if isinstance(answer, Refused)]
        assert (len(refused), {each.type for each in refused}) == (48, {"no_capacity"})
        sessions: list[Json] = [answer for answer in answers if isinstance(answer, dict)]
        assert [session["warm"] for session in sessions] == [True, True]
        assert len({session["session_id"] for session in sessions}) == 2
        for session in sessions:
            _, frames, end = await receive(session["location"])
            assert ([header["seq"] for header, _ in frames], end["frames"]) == ([0, 1, 2, 3], 4)
    assert daemon.left() == []


async def test_slot_with_a_dead_stage_is_replaced_and_not_handed_out(tmp_path: Path) -> None:
    async with docker_served(tmp_path / "s", config=PLAIN) as daemon:
        wire = await daemon.wire()
        await filled(wire, pipeline="stream")
        dead = next(name for name in daemon.left() if name.endswith("_probe")).lstrip("/")
        await asyncio.to_thread(daemon.engine.client.kill, dead)
        await until(lambda: f"/{dead}" not in daemon.left(), "its slot is removed")
        session = await wire.call("session.start", count=3, plain_stream=True)
        assert session["session_id"] not in dead
        await filled(wire, pipeline="stream")


async def test_slot_with_a_paused_stage_is_replaced_and_not_handed_out(tmp_path: Path) -> None:
    async with docker_served(tmp_path / "s", config=PLAIN) as daemon:
        wire = await daemon.wire()
        await filled(wire, pipeline="stream")
        paused = next(name for name in daemon.left() if name.endswith("_probe")).lstrip("/")
        await asyncio.to_thread(daemon.engine.client.pause, paused)
        await until(lambda: f"/{paused}" not in daemon.left(), "its slot is removed")
        session = await wire.call("session.start", count=3, plain_stream=True)
        assert session["session_id"] not in paused


async def test_slots_whose_stages_hang_cost_no_request(tmp_path: Path) -> None:
    """F21: all of them at once, each request comes about, and nothing of them is left."""
    async with docker_served(tmp_path / "s", config=PLAIN) as daemon:
        wire = await daemon.wire()
        await filled(wire, pipeline="stream")
        probes = [name.lstrip("/") for name in daemon.left() if name.endswith("_probe")]
        for probe in probes:
            found = await asyncio.to_thread(daemon.engine.client.inspect_container, probe)
            first = psutil.Process(found["State"]["Pid"])
            # The program is the child of the engine's init, if there is one.
            [first, *first.children()][-1].suspend()
        for _ in range(2):
            session = await wire.call("session.start", count=3, plain_stream=True)
            _, frames, end = await receive(session["location"])
            assert (len(frames), end["frames"]) == (3, 3)
        await until(
            lambda: not {f"/{each}" for each in probes} & set(daemon.left()), "they are gone"
        )
    assert daemon.left() == []


async def test_slots_of_a_killed_daemon_are_removed_by_the_next(tmp_path: Path) -> None:
    async with docker_served(tmp_path / "s", config=PLAIN) as daemon:
        wire = await daemon.wire()
        await filled(wire, pipeline="stream")
        session = await wire.call("session.start", count=3, plain_stream=True)
        await filled(wire, pipeline="stream")
        await daemon.close()
        await daemon.daemon.stop(signal.SIGKILL)
        assert containers(daemon) == 6
        env = {"DOCKER_HOST": os.environ["DOCKER_HOST"]}
        config = {"subnets": daemon.subnets}
        arguments = ("--engine", "docker")
        async with served(tmp_path / "s", *arguments, config=config, env=env) as again:
            await until(lambda: containers(daemon) == 2, "only the session is left")
            wire = await again.wire()
            found = await wire.call("session.get", session_id=session["session_id"])
            assert (found["phase"], found["warm"]) == ("running", True)
            await wire.close()


async def test_spare_network_is_used_and_may_be_removed_by_others(tmp_path: Path) -> None:
    config: Json = {"slots": {"networks": 1}, "pressure": {"cpu": None}}
    async with docker_served(tmp_path / "s", config=config) as daemon:
        wire = await daemon.wire()

        async def spare() -> str:
            """Return the name of the spare network, once there is one."""

            async def ready() -> bool:
                return bool((await wire.call("system.status"))["networks"]["ready"])

            await until(ready, "there is a spare network")
            taken = {s["network"] for s in (await wire.call("session.list"))["sessions"]}
            [name] = {name for name in daemon.left() if name.startswith("network_")} - taken
            return name

        for removed_by_somebody in (False, True):
            expected = await spare()
            if removed_by_somebody:
                # A network without containers is what `docker network prune` takes.
                await asyncio.to_thread(daemon.engine.client.remove_network, expected)
            session = await wire.call("session.start", count=3)
            assert (session["network"], session["phase"]) == (expected, "running")
    assert daemon.left() == []


async def test_slot_gives_way_when_its_image_is_built_anew(tmp_path: Path) -> None:
    """F11: the engine tells of what was built, and from then on no start runs anything else."""
    name = f"operatord-test-f11:{os.getpid()}"
    config = {
        "pipelines": {"stream": {"warm": 1, "stages": {"probe": {"image": name}}}},
        "slots": {"networks": 1},
        "pressure": {"cpu": None},
    }
    engine = Engine()
    try:
        await asyncio.to_thread(engine.client.tag, "demo-probe", *name.split(":"))
        async with docker_served(tmp_path / "s", config=config) as daemon:
            wire = await daemon.wire()
            await filled(wire, 1, "stream")
            built = await asyncio.to_thread(_build, engine, name)
            # The engine's word of it comes a moment after the build's end.
            await until(lambda: _has_a_slot_of(daemon, built), "the slot is of what was built")
            session = await wire.call("session.start", plain_stream=True, count=3)
            inspected = await asyncio.to_thread(engine.client.inspect_container, session["probe"])
            assert inspected["Image"] == built
            await receive(session["location"])
            await wire.call("session.wait", session_id=session["session_id"])
            await filled(wire, 1, "stream")
            session = await wire.call("session.start", plain_stream=True, count=3)
            assert session["warm"] is True
            inspected = await asyncio.to_thread(engine.client.inspect_container, session["probe"])
            assert inspected["Image"] == built
    finally:
        await asyncio.to_thread(engine.client.remove_image, name, force=True)
        engine.close()


def _has_a_slot_of(daemon: DockerDaemon, image: str) -> bool:
    """Tell whether a container of this image, by its id, is kept ready."""
    return any(each["ImageID"] == image for each in daemon.engine.containers(daemon.instance))


def _build(engine: Engine, name: str) -> str:
    """Make an image of that name anew, and return its id."""
    dockerfile = io.BytesIO(f"FROM demo-probe\nLABEL built={os.getpid()}\n".encode())
    for line in engine.client.build(fileobj=dockerfile, tag=name, rm=True, decode=True):
        assert "error" not in line, line
    found: str = engine.client.inspect_image(name)["Id"]
    return found
