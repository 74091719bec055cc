# SPDX-License-Identifier: MIT
"""Stages that write without end: they cost themselves, and not those that share a daemon with them."""

from __future__ import annotations

from pathlib import Path

import pytest
from daemon_lab import Json, Wire, receive, served, until

MIB = 1024**2
FLOODS = {
    "empty lines": "yes ''",
    "one line without an end": "echo begun; cat /dev/zero",
    "noise": "cat /dev/urandom",
    "both outputs": "yes '' >&2 & yes ''",
    "long lines": "yes $(printf %020000d 1)",
}


async def rss(wire: Wire) -> int:
    """Return the daemon's memory in bytes."""
    used: int = (await wire.call("system.status"))["measured"]["daemon"]["rss"]
    return used


async def flooded(wire: Wire) -> Json:
    """Start the session that floods, and return it when the flood is well under way."""
    session: Json = await wire.call("session.start", pipeline="flood", wait="accepted")
    sid = session["session_id"]

    async def writes() -> bool:
        return bool((await wire.call("session.logs", session_id=sid, tail=1))["lines"])

    await until(writes, "the stage has written")
    return session


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
async def test_flood_costs_neither_memory_nor_other_sessions(tmp_path: Path, flood: str) -> None:
    """A11: on the process engine, whose daemon reads what stages write."""
    config = tmp_path / "settings.yaml"
    stage = {"image": "demo-probe", "port": 12345, "command": ["sh", "-c", flood]}
    config.write_text(
        str({"start_timeout": 300, "pipelines": {"flood": {"stages": {"out": stage}}}})
    )
    async with served(tmp_path / "s", "--engine", "process", "--config", str(config)) as daemon:
        wire = await daemon.wire()
        other = await wire.call("session.start", plain_stream=True, count=20)
        before = await rss(wire)
        session = await flooded(wire)
        for _ in range(200):
            await wire.call("system.ping")
        _, frames, end = await receive(other["location"])
        assert (len(frames), end["dropped"]) == (20, 0)
        for _ in range(20):
            await wire.call("session.logs", session_id=session["session_id"], tail=100)
        assert await rss(wire) - before < 24 * MIB
        done = await wire.call("session.stop", session_id=session["session_id"], grace=0)
        assert done["phase"] == "ended"
        await wire.close()
