# SPDX-License-Identifier: MIT
"""The gate, its socket or its key is lost under a running daemon: what is open stays open, or is again."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from pathlib import Path

import pytest
from daemon_lab import Json, StreamingFake, in_process, until
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


async def test_port_that_another_program_has_taken_is_told_and_taken_back_when_it_is_free(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with house(tmp_path) as daemon:
        wire = await daemon.wire()
        session = await wire.call("session.start", plain_stream=True)
        location = session["location"]
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            await until(lambda: taken_from_a_gate(taken, location, daemon.state), "it is taken")
            taken.listen()

            async def told() -> bool:
                found = (await wire.call("system.status"))["troubles"]
                return any(each["task"] == "the doors of streams" for each in found)

            await until(told, "system.status says so")
            (trouble,) = [
                each
                for each in (await wire.call("system.status"))["troubles"]
                if each["task"] == "the doors of streams"
            ]
            assert trouble["error"] == (
                f"port {location['port']} of {location['host']}, where session {session['session_id']} was "
                "found: Address already in use; free it, or stop the session"
            )
            asked = {"session_id": session["session_id"]}
            assert (await wire.call("session.get", **asked))["location"] == location
            said = [each for each in caplog.records if "not all streams" in each.getMessage()]
            assert len(said) == 2
        await until(lambda: opens(location), "the door is open again")


def taken_from_a_gate(sock: socket.socket, location: Json, state: Path) -> bool:
    """Kill the gate; tell whether its port was had before another gate had it."""
    for gate in gates_of(state):
        os.kill(gate, signal.SIGKILL)
    try:
        sock.bind((location["host"], location["port"]))
    except OSError:
        return False
    return True
