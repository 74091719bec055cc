# SPDX-License-Identifier: MIT
"""Sessions that end because nobody reads from them, or because they are too old, on a real Docker Engine."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import pytest
from daemon_lab import PATIENCE, Json, Wire, receive, until
from docker_lab import DockerDaemon, docker_served, viewer_at

pytestmark = [pytest.mark.engine, pytest.mark.slow]

SECONDS = 5.0
"""Of idle time, or of age, after which a session ends."""
LATE = PATIENCE
"""Seconds that this may take to be noticed, on a machine on which much else goes on."""


@contextlib.asynccontextmanager
async def bounded(state_dir: Path, **lease: float) -> AsyncIterator[tuple[DockerDaemon, Wire]]:
    """Run a daemon with the shipped pipelines; be told how sessions expire and end."""
    config = {"lease": lease, "pressure": {"cpu": None, "memory_stall": None}}
    async with docker_served(state_dir, config=config) as daemon:
        yield daemon, await daemon.watcher("session.expiring", "session.ended")


async def start(wire: Wire, **params: object) -> Json:
    """Start a segmented session of 20 frames a second."""
    session: Json = await wire.call("session.start", env={"probe": {"fps": 20}}, **params)
    assert session["phase"] == "running"
    return session


async def expires(wire: Wire, session: Json, cause: str) -> Json:
    """See the session being announced to end, and ending; return it as it was then."""
    expiring = await next_event(wire, session)
    assert (expiring["type"], expiring["cause"]) == ("session.expiring", cause)
    ended = await next_event(wire, session)
    assert (ended["type"], ended["outcome"]) == ("session.ended", "expired")
    assert ended["cause"] == cause
    assert moment(expiring["time"]) < moment(expiring["expires"])
    assert moment(expiring["expires"]) <= moment(ended["time"]) < moment(expiring["expires"]) + LATE
    found: Json = await wire.call("session.get", session_id=session["session_id"])
    assert (found["outcome"], found["cause"]) == ("expired", cause)
    return found


async def next_event(wire: Wire, session: Json) -> Json:
    event = await wire.note(lambda note: "type" in note)
    assert event["session_id"] == session["session_id"]
    return event


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def age(session: Json) -> float:
    """Return how many seconds a session ran, with the time that its removal took."""
    return moment(session["ended"]) - moment(session["started"])


async def test_session_that_nobody_reads_from_expires(tmp_path: Path) -> None:
    async with bounded(tmp_path / "s", idle_timeout=SECONDS) as (daemon, wire):
        session = await start(wire)
        ended = await expires(wire, session, "idle")
        assert SECONDS <= age(ended) < SECONDS + LATE
        assert daemon.left() == []


async def test_session_that_is_read_from_outlives_the_idle_timeout(tmp_path: Path) -> None:
    async with bounded(tmp_path / "s", idle_timeout=SECONDS) as (_, wire):
        session = await start(wire, count=220)
        begun = time.monotonic()
        _, frames, _ = await receive(session["location"])
        assert len(frames) == 220
        assert time.monotonic() - begun > 2 * SECONDS
        ended = await wire.event("session.ended")
        assert (ended["outcome"], ended["cause"]) == ("completed", "done")


async def test_session_is_idle_from_when_its_reader_leaves(tmp_path: Path) -> None:
    async with bounded(tmp_path / "s", idle_timeout=SECONDS) as (daemon, wire):
        session = await start(wire)
        async with viewer_at(session["location"]) as viewer:
            await viewer.frames(110)  # longer than it may be idle
        left = time.time()
        ended = await expires(wire, session, "idle")
        assert SECONDS <= moment(ended["ended"]) - left < SECONDS + LATE
        assert daemon.left() == []


async def test_reader_that_comes_when_told_so_keeps_the_session(tmp_path: Path) -> None:
    # Told four seconds before; a stage says once a second whether somebody reads from it.
    async with bounded(tmp_path / "s", idle_timeout=16) as (_, wire):
        session = await start(wire)
        expiring = await wire.event("session.expiring", session["session_id"])
        assert expiring["cause"] == "idle"
        # Read past that moment; frames that were due before come all at once and do not last so long.
        async with viewer_at(session["location"]) as viewer:
            while time.time() < moment(expiring["expires"]) + 1:
                await viewer.frames(1)
        found = await wire.call("session.get", session_id=session["session_id"])
        assert found["phase"] == "running"


async def test_session_expires_at_its_greatest_age_though_it_is_read_from(tmp_path: Path) -> None:
    async with bounded(tmp_path / "s", max_age=SECONDS) as (daemon, wire):
        session = await start(wire)
        async with viewer_at(session["location"]) as viewer:
            await viewer.frames(1)
            assert await viewer.rest() is None, "the stream broke off"
        ended = await expires(wire, session, "max_age")
        assert SECONDS <= age(ended) < SECONDS + LATE
        assert daemon.left() == []


async def test_session_that_nobody_ever_reads_expires(tmp_path: Path) -> None:
    """N2: a seed line whose answer nobody uses, as `printf … | nc` sends it."""
    async with bounded(tmp_path / "s", unread_timeout=SECONDS) as (daemon, wire):
        session = await (await daemon.wire()).ask({"count": 200})
        assert moment(session["expires"]) - moment(session["started"]) == pytest.approx(SECONDS, 1)
        ended = await expires(wire, session, "unread")
        assert SECONDS <= age(ended) < SECONDS + LATE
        assert daemon.left() == []


async def test_session_that_was_read_once_outlives_the_unread_timeout(tmp_path: Path) -> None:
    """N2: its reader may leave and come back; only idle_timeout would end it."""
    async with bounded(tmp_path / "s", unread_timeout=SECONDS) as (_, wire):
        session = await start(wire)
        async with viewer_at(session["location"]) as viewer:
            await viewer.frames(20)

        async def seen_to_be_read() -> bool:
            return "expires" not in await wire.call("session.get", session_id=session["session_id"])

        await until(seen_to_be_read, "its reader has been noticed")
        async with viewer_at(session["location"]) as viewer:
            while time.time() < moment(session["started"]) + SECONDS + 1:
                await viewer.frames(1)
        found = await wire.call("session.get", session_id=session["session_id"])
        assert found["phase"] == "running"


KILLED = """
import os, signal, sys
from operatord_client import Client
with Client(sys.argv[1]) as client, client.start(env={"probe": {"fps": 20}}) as session:
    next(iter(session.frames()))
    print(session.id, flush=True)
    signal.pause()
"""


async def test_session_of_a_client_that_is_killed_ends(tmp_path: Path) -> None:
    """N2: its connection ends with it, and with that its lease."""
    async with bounded(tmp_path / "s") as (daemon, wire):
        address = "{}:{}".format(*daemon.address)
        client = await asyncio.create_subprocess_exec(
            sys.executable, "-c", KILLED, address, stdout=asyncio.subprocess.PIPE
        )
        assert client.stdout is not None
        session_id = (await client.stdout.readline()).decode().strip()
        client.kill()
        await client.communicate()
        event = await wire.event("session.ended", session_id)
        assert (event["outcome"], event["cause"]) == ("expired", "lease")
        assert daemon.left() == []
