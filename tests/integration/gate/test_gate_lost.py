# SPDX-License-Identifier: MIT
"""The gate, its socket or its key is lost under a running daemon: what is open stays open, or is again."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

from daemon_lab import StreamingFake, in_process, until
from gate_lab import gates_of
from test_gate import House, house, opens


class Lasting(StreamingFake):
    """Stages, and the streams at their ports, outlive the daemon."""

    async def close(self) -> None:
        """Say goodbye to the daemon only."""

    async def end(self) -> None:
        await super().close()


async def test_gate_is_started_though_the_state_directory_is_gone(tmp_path: Path) -> None:
    """By itself, before anything else is written there."""
    async with house(tmp_path) as daemon:
        wire = await daemon.wire()
        location = (await wire.call("session.start", plain_stream=True))["location"]
        await daemon.lab.daemon.supervisor.written()
        shutil.rmtree(daemon.state)
        os.kill(*gates_of(daemon.state), signal.SIGKILL)
        await until(lambda: opens(location), "the door is open again")
        assert (daemon.state / "instance").read_text() == "test\n"


async def test_tokens_stay_what_they_are_though_the_state_directory_is_gone(
    tmp_path: Path,
) -> None:
    """Also for the next daemon, which reads the key; the gate that nobody finds makes way for another."""
    found, engine = House(tmp_path), Lasting()
    keep = found.config(on_shutdown="keep")
    async with in_process(found.state, keep, engine=engine) as found.lab:
        wire = await found.wire()
        first = await wire.call("session.start", plain_stream=True, lease="pinned")
        await found.lab.daemon.supervisor.written()
        shutil.rmtree(found.state)
        await wire.call("session.start", plain_stream=True, lease="pinned")
        await found.lab.daemon.supervisor.written()
        (left,) = gates_of(found.state)
    async with in_process(found.state, found.config(), engine=engine) as found.lab:
        wire = await found.wire()
        again = await wire.call("session.get", session_id=first["session_id"])
        assert again["location"] == first["location"]
        await until(lambda: opens(first["location"]), "the door is open again")
    await engine.end()
    assert gates_of(found.state) == []
    os.waitpid(left, 0)  # its daemon was this process, which is there still
