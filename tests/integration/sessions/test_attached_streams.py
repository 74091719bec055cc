# SPDX-License-Identifier: MIT
"""A segmentation that is attached later, through a whole daemon and with the stages' own programs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest
from daemon_lab import Json, Lab, StillClock, Wire, in_process, receive, until

PACED = {"probe": {"fps": 10, "width": 32, "height": 32}}


CORES = 0.3
"""For one whole session and a plain stream."""
TIGHT = {
    "engine": "process",
    "stall_timeout": None,
    "system_reserved": {"cpus": round((os.cpu_count() or 1) - CORES, 3)},
    "pipelines": {"segmented": {"stages": {"segmentation": {"cpus": 0.2}}}},
}


class Clinic(NamedTuple):
    lab: Lab
    wire: Wire
    clock: StillClock

    async def attached(self, count: int) -> Json:
        """Return a session that was served plain, read by nobody, and has been given the rest."""
        await self.wire.call("events.subscribe", types=["session.attached"])
        other = await self.wire.call("session.start", env=PACED)
        plain = await self.wire.call("session.start", count=count, env=PACED, on_shortage="degrade")
        assert plain["degraded"] is True
        await self.wire.call("session.stop", session_id=other["session_id"])
        await self.wire.event("session.attached", plain["session_id"])
        session: Json = await self.wire.call("session.get", session_id=plain["session_id"])
        assert session["plain_location"] == plain["location"]
        return session


@pytest.fixture
async def clinic(tmp_path: Path) -> AsyncIterator[Clinic]:
    clock = StillClock()
    async with in_process(tmp_path / "s", TIGHT, clock=clock) as lab:
        yield Clinic(lab, await lab.wire(), clock)


async def test_first_consumer_of_an_attached_segmentation_begins_with_frame_0(
    clinic: Clinic,
) -> None:
    """N1: the daemon's check of the location has cost no frame, and what a slow reader misses is counted."""
    session = await clinic.attached(count=10)
    _, frames, end = await receive(session["location"])
    seqs = [header["seq"] for header, _ in frames]
    assert seqs[0] == 0
    assert seqs == sorted(set(seqs))
    assert all({"image", "mask"} == set(parts) for _, parts in frames)
    assert (end["frames"], end["frames"] + end["dropped"]) == (len(frames), 10)
    done = await clinic.wire.call("session.wait", session_id=session["session_id"])
    assert (done["outcome"], done["cause"]) == ("completed", "done")


async def test_session_that_is_read_at_its_attached_location_is_not_unread(clinic: Clinic) -> None:
    """N2: who reads the masks reads the session, though nobody has come to the plain stream."""
    session = await clinic.attached(count=100_000)
    assert session["unread_since"]
    location = session["location"]
    reader, writer = await asyncio.open_connection(location["host"], location["port"])
    with contextlib.closing(writer):
        assert json.loads(await reader.readline())["type"] == "hello"
        assert json.loads(await reader.readline())["seq"] == 0

        async def heard() -> bool:
            stats = await clinic.wire.call("session.stats", session_id=session["session_id"])
            return bool(stats["stages"]["stream"].get("consumers"))

        await until(heard, "the stream has reported a consumer")
        clinic.clock.advance(1000)
        supervisor = clinic.lab.daemon.supervisor
        record = supervisor.registry.get(session["session_id"])
        await until(
            lambda: not supervisor.leases.bounds(record, "unread"), "it is known to be read"
        )
        found = await clinic.wire.call("session.get", session_id=session["session_id"])
        assert found["phase"] == "running"
        assert {"expires", "unread_since"}.isdisjoint(found)


async def test_session_that_nobody_reads_at_either_location_is_unread(clinic: Clinic) -> None:
    """N2: the attached stage by itself is no reader."""
    session = await clinic.attached(count=100_000)
    clinic.clock.advance(1000)
    done = await clinic.wire.call("session.wait", session_id=session["session_id"])
    assert (done["outcome"], done["cause"]) == ("expired", "unread")
