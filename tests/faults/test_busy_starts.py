# SPDX-License-Identifier: MIT
"""Many sessions are started at once while both cores are busy with other work, and each is read at once.

Whatever the load, a location that is told is alive, and who connects first gets every frame from 0 on.
`make faults` goes ten times through it with local processes and three times with containers.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from daemon_lab import Json, Refused, Wire, receive, served
from docker_lab import docker_served
from engine_common import ALL

AT_ONCE = 20
BUSY = (4 if ALL else 1) * (os.cpu_count() or 1)
"""Processes that use all the processor time they get, beside the fifty that are started, and other tests."""
COUNT = 45
PATIENCE = 110.0
"""Seconds for the slowest of all: stages that start beside so many others take their time."""
CONFIG: Json = {
    "limits": {"sessions": 2 * AT_ONCE},
    "pressure": {"cpu": None, "memory_stall": None},
    "system_reserved": {"memory": 0},
    "start_timeout": PATIENCE,
}


@contextlib.contextmanager
def busy_cores() -> Iterator[None]:
    """Keep all cores busy."""
    burners = [
        subprocess.Popen([sys.executable, "-IS", "-c", "while True: pass"]) for _ in range(BUSY)
    ]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


@contextlib.asynccontextmanager
async def daemon_on(engine: str, state_dir: Path) -> AsyncIterator[tuple[str, int]]:
    """Run a daemon on an engine; give its address."""
    if engine == "docker":
        async with docker_served(state_dir, config=CONFIG) as on_docker:
            yield on_docker.daemon.address
    else:
        async with served(state_dir, "--engine", "process", config=CONFIG) as daemon:
            yield daemon.address


async def start_and_read(address: tuple[str, int], plain: bool) -> str:
    """Start a session and read it to its end; return what was wrong with it, or nothing."""
    wire = await Wire.connect(address)
    try:
        begun = wire.begin("session.start", count=COUNT, plain_stream=plain)
        session = await wire.reply(begun, timeout=PATIENCE)
        async with asyncio.timeout(PATIENCE):
            hello, frames, end = await receive(session["location"])
        seen = [header["seq"] for header, _ in frames]
        if hello["count"] != COUNT or seen != list(range(COUNT)):
            return f"of {COUNT} frames, {len(seen)} came, the first of them {seen[:1]}"
        if (end["frames"], end["dropped"]) != (COUNT, 0):
            return f"the end says {end}"
        waited = wire.begin("session.wait", session_id=session["session_id"])
        over = await wire.reply(waited, timeout=PATIENCE)
        return "" if (over["outcome"], over["frames"]) == ("completed", COUNT) else str(over)
    except (OSError, ValueError, Refused, TimeoutError, asyncio.IncompleteReadError) as exc:
        return f"dead: {exc!r}"
    finally:
        await wire.close()


ENGINES = ["process", pytest.param("docker", marks=[pytest.mark.engine, pytest.mark.slow])]
ROUNDS = {"process": 10, "docker": 3}


@pytest.mark.alone
@pytest.mark.timeout(1500 if ALL else 300)
@pytest.mark.parametrize("engine", ENGINES)
async def test_twenty_at_once_on_busy_cores_lose_no_frame(
    tmp_path: Path, engine: str, report: list[str]
) -> None:
    """N1: no location is dead when it is told, and no frame is lost, whatever the load."""
    wrong: list[str] = []
    rounds = ROUNDS[engine] if ALL else 1
    async with daemon_on(engine, tmp_path / "s") as address:
        with busy_cores():
            for _ in range(rounds):
                crowd = (start_and_read(address, number % 2 == 0) for number in range(AT_ONCE))
                wrong += filter(None, await asyncio.gather(*crowd))
    whole = rounds * AT_ONCE - len(wrong)
    report.append(
        f"{engine}: {whole} of {rounds * AT_ONCE} sessions whole, from frame 0 to the end"
    )
    assert wrong == []
