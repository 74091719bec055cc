# SPDX-License-Identifier: MIT
"""What else a requester may ask for, on a real engine, by wire, by both Python clients and from a shell."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from daemon_lab import Json, Refused, Wire, receive, run, until
from docker_lab import DockerDaemon, Viewer, docker_served, viewer_at
from shared_host import own_address
from source_lab import host_probe
from test_docker_slots import filled

from operatord_client import AsyncClient, Client
from operatord_client.errors import DeadlineExceeded, NoCapacity, StartFailed

pytestmark = [pytest.mark.engine, pytest.mark.slow]

FAST: Json = {"probe": {"fps": 0, "width": 32, "height": 32}}
STAGES = ("probe", "stream", "segmentation")
SHIM = {"stages": {stage: {"late_bind": "shim"} for stage in STAGES}, "warm": 1}
SLOTS: Json = {
    "pipelines": {"segmented": SHIM, "stream": {"warm": {"min": 1, "max": 2}}},
    "pressure": {"cpu": None},
}
CTL = (sys.executable, "-m", "operatord_client.operatorctl")


async def whole(session: Json, count: int, *parts: str) -> None:
    """Take a session's stream, of which no frame may be missing."""
    _, frames, end = await receive(session["location"])
    assert [header["seq"] for header, _ in frames] == list(range(count))
    assert {tuple(sorted(found)) for _, found in frames} == {parts}
    assert (end["frames"], end["dropped"]) == (count, 0)


# Slots


async def test_slots_behind_a_shim_by_demand_and_with_a_registered_probe(tmp_path: Path) -> None:
    """S18: shim slots as checked sessions, ``warm: {min, max}``, a slot with a registered probe."""
    async with docker_served(tmp_path / "s", config=SLOTS) as daemon:
        wire = await daemon.wire()
        for count, pipeline, parts in (
            (5, "segmented", ("image", "mask")),
            (7, "stream", ("image",)),
        ):
            await filled(wire, 1, pipeline)
            session = await wire.call("session.start", pipeline=pipeline, count=count, env=FAST)
            assert session["warm"] is True
            await whole(session, count, *parts)
        await filled(wire, 1, "segmented")
        async with host_probe(count="2000000000", fps="0") as port:
            await wire.call("probe.register", name="bed-3", host="127.0.0.1", port=port)
            session = await wire.call("session.start", probe="bed-3", count=9)
            assert session["warm"] is True
            assert "probe" not in session
            await whole(session, 9, "image", "mask")
            ended = await wire.call("session.wait", session_id=session["session_id"])
            assert (ended["outcome"], set(ended["exit_codes"])) == (
                "completed",
                {"stream", "segmentation"},
            )


async def test_segmentation_is_attached_to_the_stream_of_a_registered_probe(tmp_path: Path) -> None:
    """S18: a degraded session whose probe is somebody's own."""
    cores = os.cpu_count() or 1
    config: Json = {
        "system_reserved": {"cpus": cores - 0.5},
        "pressure": {"cpu": None},
        "pipelines": {"segmented": {"stages": {"segmentation": {"cpus": 0.4}}}},
    }
    async with (
        docker_served(tmp_path / "s", config=config) as daemon,
        host_probe(count="2000000000", fps="50") as port,
    ):
        wire, watcher = await daemon.wire(), await daemon.watcher("session.attached")
        await wire.call("probe.register", name="bed-3", host="127.0.0.1", port=port)
        first = await wire.call("session.start", env=FAST)
        session = await wire.call("session.start", probe="bed-3", on_shortage="degrade")
        assert session["degraded"] is True
        async with viewer_at(session["location"]) as viewer, asyncio.TaskGroup() as meanwhile:
            await viewer.frames(5)
            masks = asyncio.Event()
            reading = meanwhile.create_task(view_until(masks, viewer))
            await wire.call("session.stop", session_id=first["session_id"])
            await watcher.event("session.attached", session["session_id"])
            found = await wire.call("session.get", session_id=session["session_id"])
            assert (found["degraded"], found["plain_location"]) == (False, session["location"])
            reader, writer = await asyncio.open_connection(
                found["location"]["host"], found["location"]["port"]
            )
            assert json.loads(await reader.readline())["type"] == "hello"
            header = json.loads(await reader.readline())
            assert {part["name"] for part in header["parts"]} == {"image", "mask"}
            writer.close()
            masks.set()
            await reading
            await viewer.frames(5)


async def view_until(over: asyncio.Event, viewer: Viewer) -> None:
    """Take every frame meanwhile: who does not read holds up the stream for everybody."""
    while not over.is_set():
        await viewer.frames(1)


# Requests


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[DockerDaemon]:
    """A daemon that has two places, one for each owner, and a gate at this host's address."""
    config = {
        "advertise_host": own_address(),
        "streams": {"allow": "any"},
        "limits": {"sessions": 2, "sessions_per_owner": 1},
        "pressure": {"cpu": None},
    }
    async with docker_served(tmp_path / "s", config=config) as running:
        yield running


async def start(wire: Wire, **params: object) -> Json:
    session: Json = await wire.call("session.start", plain_stream=True, env=FAST, **params)
    return session


async def test_leases_deadlines_priorities_and_owners(daemon: DockerDaemon) -> None:
    """S18: what a request may say of itself, and an address that is not loopback."""
    wire, stopper, watcher = [await daemon.wire() for _ in range(3)]
    await watcher.call("events.subscribe", types=["session.expiring", "session.ended"])
    leased = await start(wire, owner="anna", lease={"ttl": 60})
    assert leased["location"]["host"] == own_address()
    other = await start(wire, owner="ben")
    refused = await wire.refusal("session.start", owner="anna", on_shortage="refuse")
    assert (refused.type, refused.data["dimension"]) == ("no_capacity", "sessions_per_owner")
    refused = await wire.refusal("session.start", owner="carl", deadline=0.001)
    assert refused.type == "deadline_exceeded"
    waiting = {}
    for owner, priority in (("dora", 0), ("emil", 5)):
        waiting[owner] = await wire.call(
            "session.start",
            owner=owner,
            priority=priority,
            wait="accepted",
            count=3,
            plain_stream=True,
        )
    shorter = await wire.call("session.extend", session_id=leased["session_id"], ttl=1)
    assert shorter["expires"] < leased["expires"]
    event = await watcher.event("session.ended", leased["session_id"])
    assert (event["outcome"], event["cause"]) == ("expired", "lease")
    urgent = await wire.call(
        "session.wait", session_id=waiting["emil"]["session_id"], phase="running"
    )
    assert urgent["location"]["host"] == own_address()
    found = await wire.call("session.get", session_id=waiting["dora"]["session_id"])
    assert (found["phase"], found["position"]) == ("queued", 1)
    await whole(urgent, 3, "image")
    for session in (other, waiting["dora"]):
        await stopper.call("session.stop", session_id=session["session_id"])


async def test_live_policy_drops_for_a_slow_consumer_and_holds_back_nobody(
    daemon: DockerDaemon,
) -> None:
    """S18: the newest frames count, and those that were dropped are counted."""
    wire = await daemon.wire()
    large = {"probe": {"fps": 0, "width": 640, "height": 640}, "stream": {"policy": "live"}}
    session = await wire.call("session.start", plain_stream=True, count=600, env=large)
    async with viewer_at(session["location"]) as slow:
        await slow.frames(1)

        async def has_passed_by() -> bool:
            try:
                found = await wire.call("session.stats", session_id=session["session_id"])
            except Refused as exc:
                assert exc.type == "engine_unavailable", exc  # it is slow while a core is taken
                return False
            return bool(found["stages"]["probe"].get("frames", 0) > 500)

        await until(has_passed_by, "the probe has sent on while nobody reads")
        end = await slow.rest()
        assert end is not None
        assert end["frames"] + end["dropped"] == 600
        assert end["dropped"] > 0


# Clients


def by_blocking_client(address: str) -> None:
    """Start, read, look, and be refused."""
    with Client(address) as client, client.events() as events:
        with client.start(count=20, env=FAST) as session:
            assert next(e for e in events if e.type == "session.running").session_id == session.id
            assert set(client.stats(session.id).stages) == set(STAGES)
            frames = list(session.frames())
            assert [frame.seq for frame in frames] == list(range(20))
            assert min(frame.part("mask").dice or 0 for frame in frames) > 0
        assert session.info.outcome == "completed"
        with pytest.raises(StartFailed, match="'probe' ended with code 2"):
            client.start(env={"probe": {"fps": "many"}})
        failed = client.get(client.list(limit=1).sessions[0].session_id)
        assert failed.post_mortem is not None
        assert failed.outcome == "failed"
        with pytest.raises(DeadlineExceeded), client.start(count=10, plain_stream=True) as first:
            client.wait(first.id, timeout=0)


async def by_asyncio_client(address: str) -> None:
    """The same with the other one."""
    async with AsyncClient(address) as client:
        async with await client.start(count=20, env=FAST) as session:
            with pytest.raises(NoCapacity):
                await client.start(on_shortage="refuse")
            assert [frame.seq async for frame in session.frames()] == list(range(20))
        assert session.info.outcome == "completed"


async def test_both_python_clients_deliver_every_frame(daemon: DockerDaemon) -> None:
    """S18: with what they say of a session, of its end and of a start that failed."""
    address = "{}:{}".format(*daemon.address)
    await asyncio.to_thread(by_blocking_client, address)
    await by_asyncio_client(address)


async def has_reported(wire: Wire, session_id: str) -> bool:
    found = await wire.call("session.logs", session_id=session_id, stage="probe")
    return any('"type":"report"' in each["line"] for each in found["lines"])


async def say(env: dict[str, str], *words: str) -> str:
    """Return what operatorctl prints; the session that it watches fails."""
    code, out, err = await run(*CTL, *words, env=env)
    assert err == ""
    assert code == (1 if words[0] == "watch" else 0), out
    return out


async def test_operatorctl_shows_logs_stats_events_and_the_way_to_the_end(
    daemon: DockerDaemon,
) -> None:
    """S18: `watch`, `logs`, `stats`, `events` and the post-mortem of a session in containers."""
    wire = await daemon.wire()
    env = {**os.environ, "OPERATORD_ADDRESS": "{}:{}".format(*daemon.address)}
    ctl = functools.partial(say, env)
    session = await start(wire)
    sid = session["session_id"]
    logs = await ctl("logs", sid, "--stage", "stream", "--all")
    assert '"type":"listening"' in logs
    stats = json.loads(await ctl("-o", "json", "stats", sid))
    assert set(stats["stages"]) == {"probe", "stream"}
    assert all(each["memory"] > 0 for each in stats["stages"].values())
    watching = asyncio.create_task(ctl("watch", sid))
    telling = await asyncio.create_subprocess_exec(
        *CTL, "-o", "json", "events", "--session", sid, "--since", "0",
        env=env, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert telling.stdout is not None
    try:
        told = [json.loads(await telling.stdout.readline())["type"] for _ in range(3)]
        assert told == ["session.queued", "session.starting", "session.running"]
        await until(lambda: has_reported(wire, sid), "the probe has said something for people")
        await asyncio.to_thread(daemon.engine.client.kill, session["probe"])
        seen = await watching
        assert "failed" in seen.splitlines()[-1]
        while told[-1] != "session.ended":
            told.append(json.loads(await telling.stdout.readline())["type"])
    finally:
        telling.terminate()
        await telling.communicate()
    whole_story = await ctl("get", sid)
    assert "outcome   failed (exit)" in whole_story
    assert "advice" in whole_story
    assert "log of probe, the stage at fault" in whole_story
