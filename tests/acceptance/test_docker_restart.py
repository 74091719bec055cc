# SPDX-License-Identifier: MIT
"""A consumer on a real Docker Engine notices nothing while its daemon is stopped, killed and started."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import docker
import pytest
from daemon_lab import PATIENCE, Json, Served, Wire, left_of, until
from docker_lab import Engine, Viewer, viewer_at

pytestmark = [pytest.mark.engine, pytest.mark.slow]

STAGES = ("probe", "stream", "segmentation")
CALM = {"pressure": {"cpu": None, "memory_stall": None}}


class Lives:
    """One ``operatord serve`` after another on the same state directory and engine."""

    def __init__(self, state_dir: Path, subnets: str) -> None:
        self._state_dir, self._subnets = state_dir, subnets
        self.engine = Engine()
        self.daemon: Served | None = None
        self.more: Json = {}
        """More settings."""

    async def start(self, on_shutdown: str = "keep", failpoint: str = "") -> Wire:
        """Start the next one, which dies at ``failpoint``; return a connection to it."""
        config = {"on_shutdown": on_shutdown, "subnets": self._subnets, **CALM, **self.more}
        env = {"DOCKER_HOST": os.environ["DOCKER_HOST"], "OPERATORD_FAILPOINT": failpoint}
        arguments = ("--engine", "docker")
        self.daemon = await Served.start(self._state_dir, *arguments, config=config, env=env)
        return await self.daemon.wire()

    async def died(self, wire: Wire) -> None:
        """Return once it has died at its failpoint."""
        assert self.daemon is not None
        assert await self.daemon.ended() == -signal.SIGKILL
        self.daemon = None
        await wire.close()

    async def end(self, wire: Wire, number: int = signal.SIGTERM) -> None:
        assert self.daemon is not None
        code = await self.daemon.stop(number)
        assert code == (0 if number == signal.SIGTERM else -number)
        self.daemon = None
        await wire.close()

    def has_noted_runs(self, session: Json) -> bool:
        """Tell whether the journal says since when each stage of a session runs."""
        journal = self._state_dir / "journal.sqlite"
        with contextlib.closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as db:
            query = "SELECT data FROM session WHERE id = ?"
            [data] = db.execute(query, [session["session_id"]]).fetchone()
        return set(json.loads(data).get("runs", ())) >= {session[stage] for stage in STAGES}

    def left(self) -> list[str]:
        """Return what carries this instance's label on the engine."""
        return self.engine.left((self._state_dir / "instance").read_text().strip())

    async def close(self) -> None:
        """Let the last one take everything with it."""
        if self.daemon is not None:
            await self.daemon.stop()
        wire = await self.start("stop")
        await self.end(wire)
        left = await asyncio.to_thread(self.left)
        self.engine.close()
        assert left == []
        assert left_of(self._state_dir) == []


@pytest.fixture
async def lives(tmp_path: Path, subnets: str) -> AsyncIterator[Lives]:
    lives = Lives(tmp_path / "state", subnets)
    yield lives
    await lives.close()


@pytest.mark.every_engine
async def test_stream_goes_on_while_the_daemon_is_stopped_killed_and_started(
    lives: Lives,
) -> None:
    wire = await lives.start()
    fast = {"probe": {"fps": 100}}
    session = await wire.call("session.start", count=100_000, env=fast, request_key="scan")
    objects = sorted(await asyncio.to_thread(lives.left))
    async with viewer_at(session["location"]) as viewer:
        await viewer.frames(20)
        for number in (signal.SIGTERM, signal.SIGKILL):
            reading = asyncio.create_task(viewer.frames(100))
            await lives.end(wire, number)
            await _frames_go_on(viewer, reading)
            wire = await lives.start()
            await viewer.frames(20)
            found = await wire.call("session.get", session_id=session["session_id"])
            assert (found["phase"], found["location"]) == ("running", session["location"])
            again = await wire.call("session.start", count=100_000, env=fast, request_key="scan")
            assert again["session_id"] == session["session_id"]
        assert sorted(await asyncio.to_thread(lives.left)) == objects
        stopped = await wire.call("session.stop", session_id=session["session_id"])
        assert stopped["outcome"] == "stopped"
    assert await asyncio.to_thread(lives.left) == []
    await wire.close()


async def _frames_go_on(viewer: Viewer, reading: asyncio.Task[None]) -> None:
    """Read while there is no daemon: none of it comes from what was under way before."""
    async with asyncio.timeout(PATIENCE):
        await reading
        await viewer.frames(50)


async def test_stream_that_ends_while_there_is_no_daemon_is_completed(lives: Lives) -> None:
    wire = await lives.start()
    session = await wire.call("session.start", count=60, env={"probe": {"fps": 30}})
    async with viewer_at(session["location"]) as viewer:
        await viewer.frames(1)
        await lives.end(wire, signal.SIGKILL)
        end = await viewer.rest()
        assert end is not None
        assert (end["type"], end["frames"]) == ("end", 60)
    wire = await lives.start()
    found = await wire.call("session.wait", session_id=session["session_id"])
    assert (found["outcome"], found["cause"]) == ("completed", "done")
    assert await asyncio.to_thread(lives.left) == []
    await wire.close()


async def test_start_that_was_killed_half_way_leaves_nothing(lives: Lives) -> None:
    wire = await lives.start(failpoint="engine.start.after:2")
    wire.begin("session.start")
    note = await wire.note(lambda note: note["stage"] == "start")
    await lives.died(wire)
    assert await asyncio.to_thread(lives.left) != []
    wire = await lives.start()
    found = await wire.call("session.wait", session_id=note["session_id"])
    assert (found["outcome"], found["cause"]) == ("failed", "restart")
    assert await asyncio.to_thread(lives.left) == []
    await wire.close()


@pytest.mark.parametrize("stage", STAGES)
async def test_stage_that_was_restarted_while_there_was_no_daemon_is_said_so(
    lives: Lives, stage: str
) -> None:
    """F2: whether the engine could start it again or not. If not, Podman remembers nothing of the try."""
    wire = await lives.start()
    session = await wire.call("session.start", count=100_000, env={"probe": {"fps": 30}})
    client = lives.engine.client
    async with viewer_at(session["location"]) as viewer:
        await viewer.frames(3)
        await until(lambda: lives.has_noted_runs(session), "the journal says since when it runs")
        await lives.end(wire)
        before = client.inspect_container(session[stage])["State"]
        with contextlib.suppress(docker.errors.APIError):
            await asyncio.to_thread(client.restart, session[stage], timeout=5)
        after = client.inspect_container(session[stage])["State"]
    remembered = after["Error"] or after["StartedAt"] != before["StartedAt"]
    what = "restarted from outside"
    if not remembered:
        what = "killed by signal 15 (SIGTERM) while no daemon watched"
    wire = await lives.start()
    found = await wire.call("session.wait", session_id=session["session_id"])
    assert (found["outcome"], found["cause"]) == ("failed", "exit")
    assert found["reason"] == f"the stage '{stage}' was {what}"
    assert await asyncio.to_thread(lives.left) == []
    await wire.close()
