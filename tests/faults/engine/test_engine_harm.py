# SPDX-License-Identifier: MIT
"""A dockerd that is frozen, killed, stopped and started while sessions are in each of their phases.

In most tests there are four: one is streamed from, one is being started, one is being stopped and one
waits for a place. The oracle is all that sessions could leave on a host: objects of the engine, links,
firewall rules, port proxies, shims and control groups are afterwards what they were before.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from daemon_lab import Json, Refused, Wire, until
from engine_common import eventually, pinged, slowfault
from engine_private import IMAGES, Inside, PrivateEngine, private_engine, served_inside
from engine_stages import IMAGE, alone

pytestmark = [pytest.mark.engine, slowfault]

THREE = {"limits": {"sessions": 3}, "stop_grace": 1}
SILENT = {**THREE, **alone("never-binds")}


@pytest.fixture(scope="module")
def engine() -> Iterator[PrivateEngine]:
    with private_engine("1g", *IMAGES, IMAGE) as made:
        yield made


@pytest.fixture
async def unharmed(engine: PrivateEngine, request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """Fail a test after which anything is on the host that was not there before.

    A dockerd that is stopped lets go of what it is making, and remembers nothing of it: with Engine 20.10 a
    bridge without its network was seen, and a shim and a port proxy without their container. Nothing
    reaches those through its interface.
    """
    stopped = request.node.name.endswith("[stopped]")
    before = set(engine.traces())

    def is_as_before() -> bool:
        return stopped or before.issuperset(engine.traces())

    yield
    with contextlib.suppress(ProcessLookupError):
        engine.send(signal.SIGCONT)
    if not engine.pid:
        engine.start()
    with contextlib.suppress(TimeoutError):  # an engine takes a shim away after it has answered
        await eventually(is_as_before, 10)
    assert is_as_before(), set(engine.traces()) - before


class Reader:
    """Somebody who reads a stream inside the engine's namespace, and counts."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader

    async def frames(self, count: int) -> None:
        for _ in range(count):
            header: Json = json.loads(await self._reader.readline())
            assert header["type"] == "frame"
            for part in header["parts"]:
                await self._reader.readexactly(part["bytes"])


@contextlib.asynccontextmanager
async def reader_at(engine: PrivateEngine, location: Json) -> AsyncIterator[Reader]:
    reader, writer = await engine.reach(location)
    try:
        assert json.loads(await reader.readline())["type"] == "hello"
        yield Reader(reader)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def start(wire: Wire) -> Json:
    session: Json = await wire.call("session.start", plain_stream=True)
    return session


class Four:
    """Sessions in four phases, and who waits for them."""

    def __init__(self, running: Json, stopping: Json, wires: list[Wire]) -> None:
        self.running, self.stopping = running["session_id"], stopping["session_id"]
        self.starting = ""
        self.location = running["location"]
        self._starter, self._stopper, self._waiter = wires
        self._start = self._stop = self._queued = 0

    @classmethod
    async def begin(cls, daemon: Inside, pipeline: str = "stream", step: str = "create") -> Four:
        """Have two that run, and a third that has come to a step of its start at this moment."""
        four = await cls.two(daemon)
        await four.third(pipeline, step)
        return four

    @classmethod
    async def two(cls, daemon: Inside) -> Four:
        """Have the two that run."""
        wires = [await daemon.wire() for _ in range(3)]
        return cls(await start(wires[1]), await start(wires[2]), wires)

    async def third(self, pipeline: str = "stream", step: str = "create") -> None:
        """Ask for the third, and return when its start has come to this step."""
        self._start = self._starter.begin("session.start", pipeline=pipeline)
        note = await self._starter.note(lambda said: said.get("stage") == step)
        self.starting = note["session_id"]

    def harmed(self) -> None:
        """Now that the engine is harmed, ask for an end and for one more."""
        self._stop = self._stopper.begin("session.stop", session_id=self.stopping)
        self._queued = self._waiter.begin("session.start", plain_stream=True)

    async def started(self) -> Json:
        session: Json = await self._starter.reply(self._start)
        return session

    async def refused_start(self) -> Refused:
        with pytest.raises(Refused) as caught:
            await self._starter.reply(self._start)
        return caught.value

    async def stopped(self) -> Json:
        session: Json = await self._stopper.reply(self._stop)
        return session

    async def run_from_queue(self) -> int:
        """Return how many came out of the queue and run: 1, or 0 for one begun as the engine left."""
        try:
            session = await self._waiter.reply(self._queued)
        except Refused as refused:
            assert refused.type == "engine_unavailable"
            return 0
        assert session["phase"] == "running"
        return 1


async def engine_state(wire: Wire) -> str:
    state: str = (await wire.call("system.status"))["engine"]["state"]
    return state


async def phase(wire: Wire, session_id: str) -> str:
    found: str = (await wire.call("session.get", session_id=session_id))["phase"]
    return found


@pytest.mark.usefixtures("unharmed")
async def test_frozen_engine_is_said_so_harms_no_stream_and_goes_on_afterwards(
    engine: PrivateEngine, tmp_path: Path
) -> None:
    """S2: slow at first, then lost; and what it had been asked for, it does when it thaws."""
    config = {**THREE, "engine_patience": 5}
    async with served_inside(engine, tmp_path / "s", config) as daemon:
        watcher, wire = await daemon.watcher("engine.lost", "engine.back"), await daemon.wire()
        four, other = await Four.two(daemon), await daemon.wire()
        async with reader_at(engine, four.location) as reader, pinged(wire) as pings:
            await four.third()
            engine.send(signal.SIGSTOP)
            four.harmed()

            async def slow() -> bool:
                return await engine_state(other) == "slow"

            await until(slow, "the engine is said to be slow")
            asked = await other.refusal("session.logs", session_id=four.running)
            assert asked.type == "engine_unavailable"
            refused = await other.refusal("session.start", on_shortage="refuse")
            assert (refused.type, refused.data["retryable"]) == ("engine_unavailable", True)
            assert await engine_state(other) == "slow"
            await watcher.event("engine.lost")
            assert await engine_state(other) == "unavailable"
            refused = await other.refusal("session.start", plain_stream=True)
            assert (refused.type, refused.data["retryable"]) == ("engine_unavailable", True)
            await reader.frames(60)
            assert await phase(other, four.running) == "running"
            assert await phase(other, four.starting) == "starting"
            engine.send(signal.SIGCONT)
            await watcher.event("engine.back")
            assert (await four.started())["phase"] == "running"
            assert (await four.stopped())["outcome"] == "stopped"
            assert await four.run_from_queue() == 1
            await reader.frames(30)
        assert pings.quick
        assert len(daemon.left()) == 9, "of three sessions, two containers and a network each"


ASKED = (-0.5, -0.35, -0.2, -0.05, 0.0, 0.2, 0.5, 0.9, 1.5)
"""Seconds around the moment in which an engine freezes."""


FROZEN = max(ASKED) + 5
"""Seconds for which it is frozen: longer than anybody is to wait who would rather be refused."""


async def ask(daemon: Inside, seconds: float) -> tuple[float, str, float]:
    """Ask for a session, or a refusal, in so many seconds; return when, what came of it, and when it was."""
    wire = await daemon.wire()
    await asyncio.sleep(seconds)
    asked = time.monotonic()
    request = wire.begin("session.start", plain_stream=True, on_shortage="refuse")
    try:
        said = str((await wire.reply(request))["phase"])
    except Refused as refused:
        said = refused.type
    return asked, said, time.monotonic()


@pytest.mark.usefixtures("unharmed")
async def test_whoever_would_rather_be_refused_is_while_the_engine_is_frozen(
    engine: PrivateEngine, tmp_path: Path, report: list[str]
) -> None:
    """S2: what had begun before goes on afterwards."""
    roomy = {"limits": {"sessions": len(ASKED)}, "stop_grace": 1}
    async with served_inside(engine, tmp_path / "s", roomy) as daemon:
        lead = 0.2 - min(ASKED)
        asking = [asyncio.create_task(ask(daemon, lead + moment)) for moment in ASKED]
        await asyncio.sleep(lead)
        engine.send(signal.SIGSTOP)
        frozen = time.monotonic()
        await asyncio.sleep(FROZEN)
        thawed = time.monotonic()
        engine.send(signal.SIGCONT)
        answers = await asyncio.gather(*asking)
        for asked, said, at in answers:
            report.append(
                f"asked {asked - frozen:+.2f} s after the engine froze: {said} in {at - asked:.3f} s"
            )
        for asked, said, at in answers:
            if asked < frozen and said == "running":
                continue
            assert said == "engine_unavailable"
            assert at < thawed, "it was not the engine that told them"
        wire = await daemon.wire()
        for session in (await wire.call("session.list"))["sessions"]:
            await wire.call("session.stop", session_id=session["session_id"])
        await nothing_is_left(daemon)


async def nothing_is_left(daemon: Inside) -> None:
    await until(lambda: daemon.left() == [], "all is removed")


@pytest.mark.usefixtures("unharmed")
async def test_daemon_leaves_in_time_while_its_engine_is_frozen_and_its_sessions_are_taken_on(
    engine: PrivateEngine, tmp_path: Path
) -> None:
    config = {**THREE, "on_shutdown": "keep", "shutdown_timeout": 3}
    async with served_inside(engine, tmp_path / "s", config) as daemon:
        four = await Four.begin(daemon)
        engine.send(signal.SIGSTOP)
        four.harmed()
        assert await daemon.daemon.stop() == 0  # which is waited for while the engine is frozen
    engine.send(signal.SIGCONT)
    async with served_inside(engine, tmp_path / "s", THREE) as daemon:
        wire = await daemon.wire()
        assert await phase(wire, four.running) == "running"
        async with reader_at(engine, four.location) as reader:
            await reader.frames(30)
        await wire.call("session.wait", session_id=four.stopping)
        await until(lambda: len(daemon.left()) == 3, "only what runs is left")
        await start(wire)


async def lost_and_back(
    engine: PrivateEngine, daemon: Inside, four: Four, how: int, *, live: bool
) -> None:
    """End dockerd and start it again; what is said meanwhile must be true."""
    watcher, wire = await daemon.watcher("engine.lost", "engine.back"), await daemon.wire()
    async with pinged(await daemon.wire()) as pings:
        ending = asyncio.ensure_future(asyncio.to_thread(engine.end, how))
        four.harmed()
        await ending
        await watcher.event("engine.lost")
        assert (await wire.refusal("session.start")).type == "engine_unavailable"
        assert await phase(wire, four.running) == "running", "nothing is known about it"
        await asyncio.to_thread(engine.start, live_restore=live)
        await watcher.event("engine.back")
    assert pings.quick
    if live:
        # Nothing has become of it: its stages run, and it is still waited for.
        assert await phase(wire, four.starting) == "starting"
        await wire.call("session.stop", session_id=four.starting)
        assert (await four.refused_start()).type == "cancelled"
    else:
        assert (await four.refused_start()).type == "engine_unavailable"
    assert (await four.stopped())["outcome"] == "stopped"


KILLED_OR_STOPPED = [
    pytest.param(signal.SIGKILL, id="killed"),
    pytest.param(signal.SIGTERM, id="stopped", marks=slowfault),
]


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("how", KILLED_OR_STOPPED)
async def test_engine_that_took_its_containers_along(
    engine: PrivateEngine, tmp_path: Path, how: int
) -> None:
    async with served_inside(engine, tmp_path / "s", SILENT) as daemon:
        four = await Four.begin(daemon, "trouble", "verify")
        await lost_and_back(engine, daemon, four, how, live=False)
        wire = await daemon.wire()
        ended = await wire.call("session.wait", session_id=four.running)
        assert (ended["outcome"], ended["cause"]) == ("failed", "engine_lost")
        running = await four.run_from_queue()
        await until(lambda: len(daemon.left()) == 3 * running, "only what runs is left")
        session = await start(wire)
        async with reader_at(engine, session["location"]) as reader:
            await reader.frames(10)


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("how", KILLED_OR_STOPPED)
async def test_engine_that_leaves_its_containers_running(
    engine: PrivateEngine, tmp_path: Path, how: int
) -> None:
    """With ``live-restore`` streams are cut with the port proxies, and are there again afterwards."""
    await asyncio.to_thread(engine.end, signal.SIGTERM)
    await asyncio.to_thread(engine.start, live_restore=True)
    async with served_inside(engine, tmp_path / "s", SILENT) as daemon:
        four = await Four.begin(daemon, "trouble", "verify")
        await lost_and_back(engine, daemon, four, how, live=True)
        wire = await daemon.wire()
        assert await phase(wire, four.running) == "running"
        async with reader_at(engine, four.location) as reader:
            await reader.frames(30)
        running = 1 + await four.run_from_queue()
        await until(lambda: len(daemon.left()) == 3 * running, "only what runs is left")


@pytest.mark.usefixtures("unharmed")
async def test_stage_that_cannot_be_killed_keeps_its_place_and_holds_up_nobody(
    engine: PrivateEngine, tmp_path: Path
) -> None:
    async with served_inside(engine, tmp_path / "s", {"stop_grace": 0.5}) as daemon:
        wire, other = await daemon.wire(), await daemon.wire()
        session = await start(wire)
        shim = engine.shim_of(session["stream"])
        os.kill(shim, signal.SIGSTOP)
        try:
            stop = wire.begin("session.stop", session_id=session["session_id"])
            neighbour = await start(other)
            ended = await other.call("session.stop", session_id=neighbour["session_id"])
            assert ended["outcome"] == "stopped"
            assert await phase(other, session["session_id"]) == "stopping"
            assert (await other.call("system.status"))["reserved"]["sessions"] == 1
        finally:
            os.kill(shim, signal.SIGCONT)
        assert (await wire.reply(stop))["outcome"] == "stopped"
        assert daemon.left() == []
