# SPDX-License-Identifier: MIT
"""A dockerd that is frozen for a while, or gets no turn on busy cores: nothing that has begun is lost."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from daemon_lab import Json, Wire, until
from engine_common import slowfault
from engine_private import IMAGES, Inside, PrivateEngine, private_engine, served_inside

pytestmark = pytest.mark.engine

FROZEN = 2.5
"""Seconds: more than three times the silence after which an engine is slow."""
BUSY = 8
"""Processes that never rest, on two cores."""
STARTS = 40


@pytest.fixture(scope="module")
def engine() -> Iterator[PrivateEngine]:
    with private_engine("1g", *IMAGES) as made:
        yield made


async def stopped(wire: Wire, sessions: list[Json]) -> None:
    for session in sessions:
        await wire.call("session.stop", session_id=session["session_id"])


async def frozen(engine: PrivateEngine, seconds: float) -> None:
    engine.send(signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        engine.send(signal.SIGCONT)


async def starts(daemon: Inside, number: int, **params: object) -> list[Wire]:
    """Ask for so many sessions at once; return a connection for each, whose request 1 it is."""
    wires = [await daemon.wire() for _ in range(number)]
    for wire in wires:
        wire.begin("session.start", plain_stream=True, **params)
    return wires


@pytest.mark.parametrize("step", ["network", "create", "start"])
async def test_engine_that_is_frozen_in_the_middle_of_four_starts_makes_four_sessions(
    engine: PrivateEngine, tmp_path: Path, step: str
) -> None:
    """S2"""
    async with served_inside(engine, tmp_path / "s", {"stop_grace": 1}) as daemon:
        wires, other = await starts(daemon, 4), await daemon.wire()
        await wires[0].note(lambda said: said.get("stage") == step)
        freeze = asyncio.create_task(frozen(engine, FROZEN))

        async def slow() -> bool:
            return (await other.call("system.status"))["engine"]["state"] == "slow"

        await until(slow, "the engine is said to be slow")
        refused = await other.refusal("session.start", on_shortage="refuse")
        assert refused.type == "engine_unavailable"
        late = await daemon.wire()
        queued = late.begin("session.start", plain_stream=True)
        note = await late.note(lambda said: said.get("position") == 1)
        assert "is slow" in note["reason"]
        await freeze
        sessions = [await wire.reply(1) for wire in wires] + [await late.reply(queued)]
        assert [session["phase"] for session in sessions] == ["running"] * 5
        await stopped(other, sessions)
        assert daemon.left() == []


async def test_engine_that_was_lost_has_done_its_part_all_the_same(
    engine: PrivateEngine, tmp_path: Path
) -> None:
    """S2: calls outlast the silence, so starts go on though the engine was lost meanwhile."""
    config = {"stop_grace": 1, "engine_patience": 1.5}
    async with served_inside(engine, tmp_path / "s", config) as daemon:
        watcher = await daemon.watcher("engine.lost", "engine.back")
        [wire], other = await starts(daemon, 1), await daemon.wire()
        await wire.note(lambda said: said.get("stage") == "network")
        freeze = asyncio.create_task(frozen(engine, FROZEN))
        await watcher.event("engine.lost")
        await freeze
        await watcher.event("engine.back")
        session = await wire.reply(1)
        assert session["phase"] == "running"
        await stopped(other, [session])
        assert daemon.left() == []


@contextlib.asynccontextmanager
async def busy_cores() -> AsyncIterator[None]:
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(BUSY)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


@slowfault
@pytest.mark.alone
async def test_forty_starts_on_busy_cores_all_run(
    engine: PrivateEngine, tmp_path: Path, report: list[str]
) -> None:
    """S2: an engine that gets few turns is slow, and none of its starts fails."""
    config = {"limits": {"sessions": STARTS}, "stop_grace": 1, "pressure": {"cpu": None}}
    async with served_inside(engine, tmp_path / "s", config) as daemon, busy_cores():
        begun = time.monotonic()
        wires = await starts(daemon, STARTS, count=1000)
        sessions = [await wire.reply(1, timeout=300) for wire in wires]
        report.append(
            f"{STARTS} starts beside {BUSY} busy processes: {time.monotonic() - begun:.1f} s"
        )
        assert [session["phase"] for session in sessions] == ["running"] * STARTS
