# SPDX-License-Identifier: MIT
"""Who starts when the machine is full, on a real Docker Engine, as the engine itself saw it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import shared_host
from daemon_lab import Json, Refused, Wire, receive, until
from docker_lab import DockerDaemon, Hog, Viewer, docker_served, viewer_at

pytestmark = pytest.mark.engine

CORES = os.cpu_count() or 1
ONE_CORE: Json = {
    "system_reserved": {"cpus": CORES - 1},
    "pressure": {"cpu": None, "memory_stall": None},  # the tests beside this one are none of ours
}
"""Sessions may take one core together, whatever the machine has."""
TINY: Json = {"plain_stream": True, "env": {"probe": {"fps": 0, "width": 16, "height": 16}}}


def reserving(**cpus: float) -> Json:
    """Return stages that reserve so many cores."""
    return {"stages": {stage: {"cpus": cores} for stage, cores in cpus.items()}}


async def reserved(daemon: DockerDaemon) -> dict[str, float]:
    """Return what sessions hold, without what they hold nothing of."""
    status = await (await daemon.wire()).call("system.status")
    return {name: amount for name, amount in status["reserved"].items() if amount}


# Two hundred at once


TEN_PLACES = ONE_CORE | {"pipelines": {"stream": reserving(probe=0.05, stream=0.05)}}
"""By what they reserve; ten that are counted as sessions are filled on the fake engine."""
WAITING = 6
"""How many stay in the queue until a place is free: enough for each way to end a session, twice."""


class Customer:
    """Asks for one session over a socket of its own."""

    def __init__(self, wire: Wire, on_shortage: str) -> None:
        self.wire = wire
        self.request = wire.begin("session.start", count=3, on_shortage=on_shortage, **TINY)
        self.session: Json = {}
        self.session_id = ""

    async def place(self) -> str:
        """Return the id of the session that it was promised."""
        self.session_id = (await self.wire.note())["session_id"]
        return self.session_id

    async def answer(self) -> Refused | None:
        """Wait for the session, or the refusal."""
        try:
            self.session = await self.wire.reply(self.request, 100)
        except Refused as refused:
            return refused
        self.session_id = self.session["session_id"]
        return None

    async def consume(self) -> str:
        """Read the stream to its end; return how the session ended."""
        _, frames, _ = await receive(self.session["location"])
        assert len(frames) == 3
        ended = await self.wire.call("session.wait", session_id=self.session_id)
        return str(ended["outcome"])

    async def stop(self) -> str:
        ended = await self.wire.call("session.stop", session_id=self.session_id)
        return str(ended["outcome"])


async def two_hundred(daemon: DockerDaemon) -> tuple[list[Customer], list[Customer]]:
    """Let 200 ask at the same moment; return who would wait, and who would not."""
    wires = [await daemon.wire() for _ in range(200)]
    kinds = ("queue", "refuse")
    customers = [Customer(wire, kinds[index % 2]) for index, wire in enumerate(wires)]
    return customers[0::2], customers[1::2]


async def leave(customer: Customer, index: int) -> None:
    """Do not want it any more: say so, or just be gone."""
    if index % 2:
        customer.wire.reset()
    else:
        assert (await customer.wire.cancel(customer.request)).type == "cancelled"


async def serve(customer: Customer, index: int) -> str:
    """Wait for the session, use it, end it in one of the ways there are; return its outcome."""
    if not customer.session:
        assert await customer.answer() is None
    return await (customer.consume() if index % 3 else customer.stop())


async def fill(daemon: DockerDaemon, desk: Wire, impatient: list[Customer]) -> frozenset[str]:
    """See ten run, and the impatient refused for that; return whose the ten are."""
    refusals = [refusal for each in impatient if (refusal := await each.answer())]
    assert {refusal.type for refusal in refusals} == {"no_capacity"}
    assert {refusal.data["dimension"] for refusal in refusals} == {"cpus"}
    [holders] = {frozenset(refusal.data["held_by"]) for refusal in refusals}
    assert len(holders) == 10
    for each in holders:
        wait = desk.begin("session.wait", session_id=each, phase="running")
        assert (await desk.reply(wait, 60))["phase"] == "running"
    containers = daemon.engine.containers(daemon.instance)
    assert len(containers) == 20, "two stages each"
    assert {c["Labels"]["operatord.session"] for c in containers} == holders
    return holders


async def thin_out(
    desk: Wire, patient: list[Customer], holders: frozenset[str]
) -> tuple[list[Customer], list[Customer]]:
    """Let most of those who wait leave the queue; return who of the patient runs, and who waits."""
    running, in_queue = [], []
    for each in patient:
        (running if await each.place() in holders else in_queue).append(each)
    status = await desk.call("system.status")
    assert status["sessions"]["running"] == 10
    assert status["queue"]["length"] == len(in_queue)
    leavers = random.Random(1).sample(in_queue, len(in_queue) - WAITING)
    await asyncio.gather(*map(leave, leavers, range(len(leavers))))
    for _ in leavers:
        event = await desk.event("session.ended")
        assert (event["outcome"], event["cause"]) == ("stopped", "client")
    assert (await desk.call("system.status"))["queue"]["length"] == WAITING
    return running, [each for each in in_queue if each not in leavers]


@pytest.mark.slow
async def test_two_hundred_at_once_have_ten_places_and_never_eleven(tmp_path: Path) -> None:
    async with docker_served(tmp_path / "s", config=TEN_PLACES) as daemon:
        with daemon.engine.chronicle() as chronicle:
            desk = await daemon.watcher("session.ended")
            patient, impatient = await two_hundred(daemon)
            holders = await fill(daemon, desk, impatient)
            running, waiting = await thin_out(desk, patient, holders)
            first = [each for each in impatient if each.session] + running
            # As long as somebody waits they end singly, so that each end finds the machine full. Then
            # nobody waits for the last ten, which end as they like.
            outcomes = [await serve(each, index) for index, each in enumerate(first[:WAITING])]
            rest = first[WAITING:] + waiting
            outcomes += await asyncio.gather(*map(serve, rest, range(len(rest))))
            assert set(outcomes) == {"completed", "stopped"}
            assert daemon.left() == []
            assert await reserved(daemon) == {}
            ids = [each.session_id for each in first + waiting]
            assert holders < set(ids)
            await until(lambda: not chronicle.alive(ids), "the engine says that they are gone")
            assert len({each.session for each in chronicle.of(ids)}) == len(ids)
            assert chronicle.most_at_once(ids) == 10


# One after the other


async def test_next_one_is_made_only_when_the_engine_has_let_go_of_the_last(tmp_path: Path) -> None:
    async with docker_served(
        tmp_path / "s", config=ONE_CORE | {"limits": {"sessions": 1}}
    ) as daemon:
        with daemon.engine.chronicle() as chronicle:
            wire = await daemon.wire()
            first = (await wire.call("session.start"))["session_id"]
            second = (await wire.call("session.start", wait="accepted"))["session_id"]
            assert (await wire.call("session.get", session_id=second))["phase"] == "queued"
            assert chronicle.of([second]) == []
            await wire.call("session.stop", session_id=first)
            await wire.call("session.wait", session_id=second, phase="running")
            await wire.call("session.stop", session_id=second)
            await until(
                lambda: not chronicle.alive([first, second]), "the engine says both are gone"
            )
            *_, last = chronicle.of([first])
            following, *_ = chronicle.of([second])
            assert (last.verb, following.verb) == ("destroy", "create")
            assert last.time < following.time
            assert chronicle.most_at_once([first, second]) == 1


# Somebody else uses the machine


@pytest.fixture
def hog() -> Iterator[Hog]:
    # Two of them would each see the other's memory as gone.
    with shared_host.alone("memory"), contextlib.closing(Hog()) as hog:
        yield hog


@pytest.mark.slow
async def test_nothing_starts_while_somebody_else_has_taken_the_memory(
    tmp_path: Path, hog: Hog
) -> None:
    # Pressure is left when a quarter more than the watermark is available: 88 % of what is now. The tests
    # beside this one take memory and give it back.
    watermark = int(hog.available / 1.42)
    config = ONE_CORE | {"system_reserved": {"memory": watermark}}
    async with docker_served(tmp_path / "s", config=config) as daemon:
        wire, watcher = await daemon.wire(), await daemon.watcher("pressure.changed")
        running = await wire.call("session.start", plain_stream=True)
        await hog.take(int(hog.available * 0.35))
        event = await watcher.event("pressure.changed")
        assert (event["pressure"], event["was"]) == ("memory", "none")
        status = await wire.call("system.status")
        assert status["pressure"] == "memory"
        assert status["measured"]["memory_available"] < watermark

        planned = await wire.call("session.plan", plain_stream=True)
        assert (planned["decision"], planned["explanation"]["dimension"]) == ("queue", "memory")
        refused = await wire.refusal("session.start", plain_stream=True, on_shortage="refuse")
        assert (refused.type, refused.data["dimension"]) == ("no_capacity", "memory")
        other = await daemon.wire()
        request = other.begin("session.start", count=3, **TINY)
        note = await other.note(lambda note: note["stage"] == "queue")
        assert "the machine is short of memory" in note["reason"]
        assert (await wire.call("system.status"))["queue"]["length"] == 1

        hog.close()
        assert (await watcher.event("pressure.changed"))["pressure"] == "none"
        session = await other.reply(request)
        _, frames, _ = await receive(session["location"])
        assert len(frames) == 3
        found = await wire.call("session.get", session_id=running["session_id"])
        assert found["phase"] == "running", "what runs goes on"


# Degrading


ONE_AND_A_PLAIN_ONE: Json = ONE_CORE | {
    "pipelines": {"segmented": reserving(probe=0.1, stream=0.1, segmentation=0.5)}
}


class Ward:
    """A daemon whose room is taken by one session, but for what a plain one needs."""

    def __init__(self, daemon: DockerDaemon, wire: Wire) -> None:
        self.daemon, self.wire = daemon, wire
        self.holder = ""

    @classmethod
    async def open(cls, daemon: DockerDaemon) -> Ward:
        ward = cls(daemon, await daemon.watcher("session.attached", "session.detached"))
        ward.holder = (await ward.wire.call("session.start"))["session_id"]
        return ward

    async def degraded(self, count: int) -> Json:
        """Ask for a segmented session of 20 frames a second; get a plain one."""
        refused = await self.wire.refusal("session.start", on_shortage="refuse")
        assert (refused.type, refused.data["dimension"]) == ("no_capacity", "cpus")
        env = {"probe": {"fps": 20}}
        session: Json = await self.wire.call(
            "session.start", count=count, on_shortage="degrade", env=env
        )
        assert (session["degraded"], session["phase"]) == (True, "running")
        assert "segmentation" not in session
        return session

    async def make_room(self) -> None:
        await self.wire.call("session.stop", session_id=self.holder)

    async def attached(self, session: Json) -> Json:
        """Wait until the segmentation is there; return the session as it is then."""
        event = await self.wire.note(lambda note: "type" in note)
        assert event["type"] == "session.attached", event
        assert event["session_id"] == session["session_id"]
        assert event["location"] != session["location"]
        found: Json = await self.wire.call("session.get", session_id=session["session_id"])
        assert (found["phase"], found["degraded"]) == ("running", False)
        assert found["location"] == event["location"]
        assert found["plain_location"] == session["location"]
        assert found["segmentation"]
        return found

    async def ended(self, session: Json) -> Json:
        ended: Json = await self.wire.call("session.wait", session_id=session["session_id"])
        assert self.daemon.left() == []
        assert await reserved(self.daemon) == {}
        return ended


@contextlib.asynccontextmanager
async def ward_on(state_dir: Path, network: str) -> AsyncIterator[Ward]:
    pipeline = ONE_AND_A_PLAIN_ONE["pipelines"]["segmented"] | {"network": network}
    config = ONE_AND_A_PLAIN_ONE | {"pipelines": {"segmented": pipeline}}
    async with docker_served(state_dir, config=config) as daemon:
        yield await Ward.open(daemon)


async def on_both_networks(look: Callable[[Ward], Awaitable[None]], where: Path) -> None:
    """Have the same looked at where stages share a network and where each has an address of its own.

    Both at once, on a daemon each: most of the time goes by while streams run, and those cannot be
    shorter, or they might be over before the segmentation is there.
    """

    async def on(network: str) -> None:
        async with ward_on(where / network, network) as ward:
            await look(ward)

    async with asyncio.TaskGroup() as both:
        for network in ("shared", "separate"):
            both.create_task(on(network), name=network)


@pytest.mark.slow
async def test_degraded_session_is_segmented_once_there_is_room_and_its_viewer_notices_nothing(
    tmp_path: Path,
) -> None:
    async def look(ward: Ward) -> None:
        plain, told = await ward.degraded(count=200), asyncio.Event()
        async with viewer_at(plain["location"]) as viewer:
            await viewer.frames(1)
            watching = asyncio.create_task(half_and_rest(viewer, told))
            await ward.make_room()
            whole = await ward.attached(plain)
            assert not watching.done(), "it came while the plain stream was watched"
            told.set()
            _, segmented, end = await receive(whole["location"])
            assert segmented
            assert {frozenset(parts) for _, parts in segmented} == {frozenset({"image", "mask"})}
            assert end["frames"] == len(segmented)
            assert await watching == {"type": "end", "frames": 200, "dropped": 0}
        ended = await ward.ended(plain)
        assert (ended["outcome"], ended["cause"]) == ("completed", "done")
        assert ended["exit_codes"] == {"probe": 0, "stream": 0, "segmentation": 0}

    await on_both_networks(look, tmp_path)


@pytest.mark.slow
async def test_viewer_who_moves_over_to_the_segmentation_gets_the_rest_there(
    tmp_path: Path,
) -> None:
    async with ward_on(tmp_path / "s", "shared") as ward:
        plain = await ward.degraded(count=120)
        async with viewer_at(plain["location"]) as viewer:
            await viewer.frames(1)
            await ward.make_room()
            whole = await ward.attached(plain)
        _, frames, _ = await receive(whole["location"])
        assert frames[-1][0]["seq"] == 119
        ended = await ward.ended(plain)
        assert (ended["outcome"], ended["cause"]) == ("completed", "done")


@pytest.mark.slow
async def test_attached_segmentation_that_nobody_looks_at_ends_with_the_plain_stream(
    tmp_path: Path,
) -> None:
    async def look(ward: Ward) -> None:
        plain = await ward.degraded(count=60)
        await ward.make_room()
        await ward.attached(plain)
        _, frames, end = await receive(plain["location"])
        assert [header["seq"] for header, _ in frames] == list(range(60))
        assert end == {"type": "end", "frames": 60, "dropped": 0}
        ended = await ward.ended(plain)
        assert (ended["outcome"], ended["cause"]) == ("completed", "done")

    await on_both_networks(look, tmp_path)


async def half_and_rest(viewer: Viewer, told: asyncio.Event) -> Json | None:
    """Read half of 200 frames, and the rest once that is told; return the end.

    On busy cores a segmentation takes as long as a stream; the kernel's buffers take some fifty frames.
    """
    await viewer.frames(99)
    await told.wait()
    return await viewer.rest()


# Learning


@pytest.mark.slow
async def test_what_a_session_really_used_is_learned(tmp_path: Path) -> None:
    async with docker_served(tmp_path / "s", config=ONE_CORE) as daemon:
        wire, other = await daemon.wire(), await daemon.wire()

        async def stages(pipeline: str) -> list[Json]:
            listed = {p["name"]: p for p in (await wire.call("pipeline.list"))["pipelines"]}
            return list(listed[pipeline]["stages"].values())

        async def seen_twice() -> bool:
            learned = [stage.get("learned", {}) for stage in await stages("segmented")]
            return all(each.get("samples", 0) >= 2 for each in learned)

        session = await other.call("session.start")
        async with viewer_at(session["location"]) as viewer:
            watching = asyncio.create_task(viewer.rest())
            await until(seen_twice, "it has been looked at twice")
            await other.call("session.stop", session_id=session["session_id"])
            assert await watching is None, "the stream broke off"
        for stage in await stages("segmented"):
            learned = stage["learned"]
            assert 2**20 < learned["start_peak"]["memory"] < stage["memory_limit"]
            assert 0 < learned["start_peak"]["cpus"] < CORES
        assert not any("learned" in stage for stage in await stages("stream"))
