# SPDX-License-Identifier: MIT
"""Where a requester on another machine is sent, by a daemon with its gate."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from daemon_lab import PATIENCE, Json, Lab, Wire, in_process, settings, until
from gate_lab import gates_of
from shared_host import free_port, own_address

from operatord.access import tokens
from operatord.gate.vigil import LONGEST


class House:
    """A daemon that is reached from outside, and its users."""

    def __init__(self, folder: Path, host: str = "") -> None:
        self.folder = folder
        self.state = folder / "state"
        self.host = host or own_address()
        self.tokens = {
            user: tokens.new(folder / "tokens", user, "user", "now")[1] for user in ("ada", "grace")
        }
        self.lab: Lab

    def config(self, *, tls: Json | None = None, **more: Any) -> Json:
        listener: Json = {"address": f"{self.host}:0", "auth": "token"}
        if tls is not None:
            listener["tls"] = tls
        auth = {"tokens": str(self.folder / "tokens")}
        return {"listeners": [listener], "auth": auth, **more}

    async def wire(self, user: str = "ada", *, here: bool = False, **more: Any) -> Wire:
        """Connect from outside, or on loopback."""
        listener = self.lab.daemon.server._listeners[0 if here else 1]
        host, port = listener.address[:2]
        wire = Wire(*await asyncio.open_connection(host, port, limit=1 << 26, **more))
        self.lab._wires.append(wire)
        await wire.call("auth.login", token=self.tokens[user])
        return wire


@asynccontextmanager
async def house(folder: Path, host: str = "", **more: Any) -> AsyncIterator[House]:
    found = House(folder, host)
    async with in_process(found.state, found.config(**more)) as found.lab:
        yield found
    assert gates_of(found.state) == []


async def hello_at(location: Json, *, token: str | None = None, source: str = "") -> Json:
    """Return the first line of a stream, having said the token."""
    local = (source, 0) if source else None
    reader, writer = await asyncio.open_connection(
        location["host"], location["port"], local_addr=local
    )
    try:
        if token is not None:
            writer.write(json.dumps({"type": "open", "token": token}).encode() + b"\n")
        async with asyncio.timeout(PATIENCE):
            said: Json = json.loads(await reader.readline())
            return said
    finally:
        writer.close()


async def opens(location: Json) -> bool:
    """Tell whether a door is open, which may just be opened or closed."""
    try:
        said = await hello_at(location, token=location["token"])
    except (ConnectionError, ValueError):
        return False
    assert said["type"] == "hello", said
    return True


async def test_who_asks_from_outside_has_a_door_and_its_token(tmp_path: Path) -> None:
    async with house(tmp_path) as daemon:
        wire = await daemon.wire()
        session = await wire.call("session.start", plain_stream=True)
        location = session["location"]
        assert location["host"] == daemon.host
        assert location["url"] == f"tcp://{daemon.host}:{location['port']}"
        assert (await hello_at(location, token=location["token"]))["type"] == "hello"
        assert "not the token" in (await hello_at(location, token="wrong"))["message"]
        other = await wire.call("session.start", plain_stream=True)
        assert other["location"]["token"] != location["token"]
        assert (
            "not the token"
            in (await hello_at(other["location"], token=location["token"]))["message"]
        )
        await wire.call("session.stop", session_id=session["session_id"])
        with pytest.raises(ConnectionRefusedError):
            await hello_at(location)


async def test_token_is_the_owners_and_is_written_nowhere(tmp_path: Path) -> None:
    async with house(tmp_path) as daemon:
        wire = await daemon.wire()
        session = await wire.call("session.start", plain_stream=True)
        token, asked = session["location"]["token"], {"session_id": session["session_id"]}
        assert (await wire.call("session.get", **asked))["location"] == session["location"]
        here = await daemon.wire(here=True)
        assert (await here.call("session.get", **asked))["location"] == session["location"]
        stranger = await daemon.wire("grace")
        assert "location" not in await stranger.call("session.get", **asked)
        await daemon.lab.daemon.supervisor.written()
        for file in daemon.state.rglob("*"):
            if file.is_file():
                assert token.encode() not in file.read_bytes(), file


async def test_who_asks_on_this_machine_has_the_published_port_and_there_is_no_gate(
    tmp_path: Path,
) -> None:
    async with house(tmp_path) as daemon:
        wire = await daemon.wire(here=True)
        location = (await wire.call("session.start", plain_stream=True))["location"]
        assert set(location) == {"host", "port", "url", "format"}
        assert location["host"] == "127.0.0.1"
        assert (await hello_at(location))["type"] == "hello"
        assert gates_of(daemon.state) == []


async def test_killed_gate_is_there_again_at_the_same_ports(tmp_path: Path) -> None:
    async with house(tmp_path) as daemon:
        wire = await daemon.wire()
        location = (await wire.call("session.start", plain_stream=True))["location"]
        (first,) = gates_of(daemon.state)
        os.kill(first, signal.SIGKILL)
        await until(lambda: gates_of(daemon.state) not in ([], [first]), "another gate")

        await until(lambda: opens(location), "the door is open again")


async def test_hung_gate_is_replaced_soon_and_said_to_have_hung(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with house(tmp_path) as daemon:
        wire = await daemon.wire()
        await wire.call("session.start", plain_stream=True)
        (first,) = gates_of(daemon.state)
        os.kill(first, signal.SIGSTOP)
        begun = time.monotonic()
        location = (await wire.call("session.start", plain_stream=True))["location"]
        assert time.monotonic() - begun < LONGEST / 2
        assert (await hello_at(location, token=location["token"]))["type"] == "hello"
        assert gates_of(daemon.state) != [first]
        why = "does not answer: it is stopped (SIGSTOP); it is started again where it is needed"
        assert f"the gate for streams {why}" in [each.getMessage() for each in caplog.records]
        (trouble,) = (await wire.call("system.status"))["troubles"]
        assert (trouble["task"], trouble["error"]) == ("the gate for streams", f"it {why}")


async def test_gate_that_hangs_at_the_end_is_ended_and_not_started_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with house(tmp_path) as daemon:
        wire = await daemon.wire()
        session = await wire.call("session.start", plain_stream=True)
        await wire.call("session.stop", session_id=session["session_id"])
        os.kill(*gates_of(daemon.state), signal.SIGSTOP)
    assert not [each for each in caplog.records if "started again" in each.getMessage()]


async def test_gate_that_hangs_is_found_before_anybody_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("operatord.provision.doors.LOOK_EVERY", 0.1)
    async with house(tmp_path) as daemon:
        wire = await daemon.wire()
        location = (await wire.call("session.start", plain_stream=True))["location"]
        (first,) = gates_of(daemon.state)
        os.kill(first, signal.SIGSTOP)
        await until(lambda: gates_of(daemon.state) not in ([], [first]), "another gate")
        await until(lambda: opens(location), "the door is open again")


async def test_start_that_gets_no_door_is_undone(tmp_path: Path) -> None:
    with socket.create_server(("0.0.0.0", free_port())) as taken:
        ports = str(taken.getsockname()[1])
        async with house(tmp_path, gate_ports=ports, limits={"sessions": 1}) as daemon:
            wire = await daemon.wire()
            refused = await wire.refusal("session.start", plain_stream=True)
            assert refused.type == "start_failed"
            assert f"no port of gate_ports ({ports}-{ports}) is free" in refused.message
            assert daemon.lab.fake.empty


@pytest.mark.parametrize("allow", ["requester", "any"])
async def test_player_that_can_say_nothing(tmp_path: Path, allow: str) -> None:
    async with house(tmp_path, streams={"allow": allow}) as daemon:
        wire = await daemon.wire()
        location = (await wire.call("session.start", plain_stream=True))["location"]
        assert "token" not in location
        assert (await hello_at(location))["type"] == "hello"
        elsewhere = await hello_at(location, source="127.0.0.5")
        if allow == "any":
            assert elsewhere["type"] == "hello"
            assert "streams.allow is any" in (await wire.call("system.status"))["warnings"][-1]
        else:
            assert "only the address that has asked" in elsewhere["message"]


async def test_address_in_the_settings_is_the_gate_for_everybody(tmp_path: Path) -> None:
    async with house(tmp_path, advertise_host=own_address()) as daemon:
        wire = await daemon.wire(here=True)
        location = (await wire.call("session.start", plain_stream=True))["location"]
        assert location["host"] == daemon.host
        assert (await hello_at(location, token=location["token"]))["type"] == "hello"
        published = daemon.lab.fake.world.containers.values()
        assert {c.published.host for c in published if c.published} == {"127.0.0.1"}


async def test_reload_holds_for_new_sessions(tmp_path: Path) -> None:
    found, now = House(tmp_path), {"streams": {"allow": "token"}}
    state = found.state

    def reread() -> Any:
        return settings(state, found.config(**now))

    async with in_process(state, found.config(), reread=reread) as found.lab:
        wire = await found.wire()
        first = await wire.call("session.start", plain_stream=True)
        now["streams"] = {"allow": "any"}
        await found.lab.daemon.reloading.reload()
        second = await wire.call("session.start", plain_stream=True)
        assert "token" in first["location"]
        assert "token" not in second["location"]
        assert "not the token" in (await hello_at(first["location"], token="x"))["message"]
