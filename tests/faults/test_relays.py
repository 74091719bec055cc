# SPDX-License-Identifier: MIT
"""The daemon is killed while a session has its probe through a relay, or is about to.

The probe listens on this host's loopback, where no container reaches it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from daemon_lab import Json, Wire, relays_to, until
from engine_common import slowfault
from fault_lab import Consumer, Ground, Life
from source_lab import host_probe

pytestmark = [pytest.mark.engine, pytest.mark.slow]

SIZE = {"width": "256", "height": "256"}
"""So large that the kernel's buffers cannot hide a stream that has stopped."""


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    with contextlib.closing(Ground(tmp_path)) as ground:
        yield ground
        assert ground.objects() == set()


@contextlib.asynccontextmanager
async def lent_probe() -> AsyncIterator[int]:
    """Have a probe, to which no relay is left in the end; give its port."""
    async with host_probe(fps="0", count="1000000", **SIZE) as port:
        yield port
        assert relays_to(port) == []


async def acquainted(life: Life, port: int) -> Wire:
    """Return a connection to a life that knows the probe as "bed", and has nothing left to write down."""
    wire = await life.wire()
    for _ in range(
        2
    ):  # the event that it is up follows the first answer, and is written before the second
        await wire.call("probe.register", name="bed", host="127.0.0.1", port=port)
    return wire


async def session_of(life: Life) -> Json:
    """Return the one session that there is, once it runs or has ended."""
    wire = await life.wire()
    [session] = (await wire.call("session.list"))["sessions"]
    if session["phase"] != "running":
        session = await wire.call("session.wait", session_id=session["session_id"])
    return session


async def test_stream_through_a_relay_goes_on_to_its_exact_end(ground: Ground) -> None:
    count = 1000
    async with lent_probe() as port, contextlib.AsyncExitStack() as stack:
        async with ground.life() as life:
            wire = await acquainted(life, port)
            session = await wire.call("session.start", probe="bed", count=count)
            [relay] = relays_to(port)
            consumer = Consumer(session["location"], count)
            stack.callback(consumer.close)
            await life.kill()
        await asyncio.to_thread(consumer.wait_for_more, 100)
        async with ground.life() as life:
            assert (await session_of(life))["phase"] == "running"
            assert relays_to(port) == [relay]
            end = await asyncio.to_thread(consumer.finish)
            whole = {"type": "end", "frames": count, "dropped": 0}
            assert (end, consumer.trouble) == (whole, "")
            wire = await life.wire()
            ended = await wire.call("session.wait", session_id=session["session_id"])
            assert (ended["outcome"], ended["frames"]) == ("completed", count)
            assert relays_to(port) == []
            await life.depart()


async def test_stop_in_a_later_life_ends_the_relay(ground: Ground) -> None:
    async with lent_probe() as port:
        async with ground.life() as life:
            wire = await acquainted(life, port)
            session = await wire.call("session.start", probe="bed", plain_stream=True)
            await life.kill()
        async with ground.life() as life:
            assert len(relays_to(port)) == 1
            wire = await life.wire()
            await wire.call("session.stop", session_id=session["session_id"])
            assert relays_to(port) == []
            await life.depart()


async def test_session_fails_when_its_relay_is_killed(ground: Ground) -> None:
    async with lent_probe() as port, ground.life() as life:
        wire = await acquainted(life, port)
        session = await wire.call("session.start", probe="bed", plain_stream=True, count=10**5)
        [relay] = relays_to(port)
        consumer = Consumer(session["location"], 10**5)
        try:
            consumer.wait_for_more()
            os.kill(relay, signal.SIGKILL)
            ended = await wire.call("session.wait", session_id=session["session_id"])
        finally:
            consumer.close()
        assert (ended["outcome"], ended["cause"]) == ("failed", "exit")
        await life.depart()


# The first commit has the session, the second its relay, the third its location.
@pytest.mark.parametrize(
    ("place", "lives", "phase"),
    [
        pytest.param("engine.create.after:1", False, "ended", marks=slowfault),
        ("engine.start.after:2", False, "ended"),
        ("journal.commit.after:2", False, "ended"),
        ("journal.commit.before:3", True, "ended"),
        ("journal.commit.after:3", True, "running"),
    ],
)
async def test_death_in_a_start_leaves_no_relay_without_its_session(
    ground: Ground, place: str, lives: bool, phase: str
) -> None:
    async with lent_probe() as port:
        async with ground.life(f"{place}@") as life:
            wire = await acquainted(life, port)
            ground.arm()
            wire.begin("session.start", probe="bed", count=1000)
            await life.died()
            if not lives:
                await until(lambda: relays_to(port) == [], "the relay ends with the daemon")
            assert len(relays_to(port)) == lives
        async with ground.life() as life:
            session = await session_of(life)
            assert session["phase"] == phase
            assert len(relays_to(port)) == (phase == "running")
            if phase == "running":
                wire = await life.wire()
                await wire.call("session.stop", session_id=session["session_id"])
            await life.depart()
