# SPDX-License-Identifier: MIT
"""Peers that are gone, peers that do not read, peers by the thousand: noticed, bounded, and nobody's harm."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
from daemon_lab import PATIENCE, Lab, Served, Wire, in_process, until
from daemon_lab import served as serving

from operatord.control.wire.listener import AT_ONCE

SUBSCRIBE = '{"method":"events.subscribe","params":{"types":["engine.lost"]}}'
CLIENT = """
import socket, sys, time
if len(sys.argv) == 2:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(sys.argv[1])
else:
    sock = socket.create_connection((sys.argv[1], int(sys.argv[2])))
for line in sys.stdin:
    sock.sendall(line.encode())
    print(sock.recv(65536).decode(), end="", flush=True)
time.sleep(600)
"""
"""A program that asks, and waits to be killed."""


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked whether anybody is there in a hurry."""
    for name, seconds in (("FIRST", 0.02), ("EVERY", 0.05), ("ROUND_TRIP", 0.02)):
        monkeypatch.setattr(f"operatord.control.wire.presence.{name}", seconds)


@pytest.fixture(params=["tcp", "unix"])
async def door(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[Lab, tuple[str, int] | Path]]:
    """A daemon for ten peers, and where it is reached."""
    path = tmp_path / "socket"
    overlay = {"unix": str(path), "limits": {"connections": 10}}
    async with in_process(tmp_path / "s", overlay) as lab:
        yield lab, lab.address if request.param == "tcp" else path


@pytest.mark.usefixtures("hasty")
async def test_subscribers_that_have_gone_give_their_places_back(
    door: tuple[Lab, tuple[str, int] | Path],
) -> None:
    """A2: whoever subscribes and closes, again and again, locks nobody out, though nothing is sent to him."""
    lab, address = door
    for _ in range(5):
        wires = [await Wire.connect(address) for _ in range(8)]
        for wire in wires:
            assert "result" in await wire.ask(SUBSCRIBE)
        for wire in wires:
            await wire.close()
        await until(lambda: lab.daemon.server.connections == 0, "the places are free again")


@pytest.mark.usefixtures("hasty")
async def test_subscriber_that_is_killed_takes_its_lease_with_it(
    door: tuple[Lab, tuple[str, int] | Path],
) -> None:
    """A2: a session leased by the connection of a killed subscriber ends, over TCP and over Unix."""
    lab, address = door
    arguments = [str(address)] if isinstance(address, Path) else [address[0], str(address[1])]
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CLIENT, *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert program.stdin is not None
    assert program.stdout is not None
    for line in (SUBSCRIBE, '{"method":"session.start","params":{"lease":"connection"}}'):
        program.stdin.write(line.encode() + b"\n")
        assert b'"result"' in await program.stdout.readline()
    [record] = lab.daemon.supervisor.registry.living()
    program.send_signal(signal.SIGKILL)
    await program.communicate()
    await until(lambda: not lab.daemon.supervisor.registry.living(), "its session has ended")
    assert record.result is not None
    assert (record.result.outcome, record.result.cause) == ("expired", "lease")
    await until(lambda: lab.daemon.server.connections == 0, "its place is free again")


@pytest.mark.usefixtures("hasty")
async def test_subscriber_that_has_only_half_closed_lives_on(
    door: tuple[Lab, tuple[str, int] | Path],
) -> None:
    """A2: `nc -N` with a subscription is there, however often it is looked, and gets its events."""
    lab, address = door
    wire = await Wire.connect(address)
    wire.send(SUBSCRIBE)
    wire.half_close()
    assert "result" in await wire.line()
    blanks = [await wire.reader.readexactly(1) for _ in range(5)]
    assert set(blanks) == {b" "}
    lab.daemon.events.emit("engine.lost", engine="test")
    assert (await wire.line())["params"]["type"] == "engine.lost"
    assert lab.daemon.server.connections == 1
    await wire.close()


@pytest.mark.usefixtures("hasty")
async def test_end_of_a_peer_that_is_read_no_more_is_noticed(lab: Lab) -> None:
    """A2: behind more requests than are read, too, a peer's end is seen."""
    other, wire = await lab.wire(), await lab.wire()
    session = await other.call("session.start")
    wait = {"method": "session.wait", "params": {"session_id": session["session_id"]}}
    wire.send(*[wait] * 64, *[{"method": "system.drain"}] * 20_000)
    await until(
        lambda: any(c.dispatcher._pending for c in lab.daemon.server._connections),
        "they are pending",
    )
    wire.reset()
    await until(lambda: lab.daemon.server.connections == 1, "its place is free again")
    assert (await other.call("system.status"))["draining"] is False


async def test_output_that_nobody_reads_is_bounded_over_all_connections(tmp_path: Path) -> None:
    """A5: of a crowd that asks for much and reads nothing, the worst go, and the memory stays as it is."""
    overlay = {"limits": {"output_total": "8MiB", "output_bytes": "1MiB"}}
    async with in_process(tmp_path / "s", overlay) as lab:
        other = await lab.wire()
        await other.call("system.describe")
        before = psutil.Process(os.getpid()).memory_info().rss
        crowd = [await lab.wire() for _ in range(60)]
        for wire in crowd:
            wire.writer.transport.pause_reading()
            wire.send(*['{"method":"system.describe"}'] * 400)
        await until(lambda: lab.daemon.server.connections < 60, "the worst begin to go")
        assert (await other.call("system.ping"))["pong"]

        def waiting() -> int:
            return sum(c._out.unread for c in lab.daemon.server._connections)

        await until(lambda: waiting() <= 8 * 1024**2, "the worst have gone, a few at a time")
        grown = psutil.Process(os.getpid()).memory_info().rss - before
        assert grown < 64 * 1024**2, f"{grown >> 20} MiB"
        for wire in crowd:
            wire.reset()


async def test_few_peers_are_accepted_before_the_loop_has_its_turn(lab: Lab) -> None:
    """A12: however many come at once, the others have their turn after a few of them."""
    before = lab.daemon.server._serial
    with contextlib.ExitStack() as held:
        for _ in range(200):
            sock = held.enter_context(socket.socket())
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.connect(lab.address)
        most, seen = 0, before
        while seen < before + 200:
            await asyncio.sleep(0)
            most, seen = max(most, lab.daemon.server._serial - seen), lab.daemon.server._serial
        assert 0 < most <= AT_ONCE


async def test_refused_peer_that_stays_is_cut_off(tmp_path: Path) -> None:
    """S4: a peer that was told to go and goes on sending loses its connection, and its descriptor is free."""
    limits = {"refused_linger": 0.1, "idle_timeout": 3}
    async with in_process(tmp_path / "s", {"limits": limits}) as lab:
        wire = await lab.wire()
        await until(lambda: lab.daemon.server.connections == 1, "it is let in")
        [connection] = lab.daemon.server._connections
        assert os.fstat(connection.descriptor)
        wire.writer.write(b"GET / HTTP/1.1\r\n")
        assert "error" in await wire.line()
        silent = await lab.wire()
        assert "limits.idle_timeout" in (await silent.line())["error"]["message"]
        assert connection not in lab.daemon.server._connections, "it is cut off before that"
        sock = connection._transport.get_extra_info("socket")
        await until(lambda: sock.fileno() < 0, "it is closed")


async def test_running_out_of_descriptors_is_told_as_that(tmp_path: Path) -> None:
    """A7: with 256 descriptors and a flood, connections wait or are told why, and sessions start as ever."""
    below = ("sh", "-c", 'ulimit -n 256; exec "$0" "$@"')
    async with serving(tmp_path / "s", "--engine", "process", below=below) as served:
        flood = []
        for _ in range(600):
            sock = socket.socket()
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.connect(served.address)
            flood.append(sock)
        try:
            last = await asyncio.get_running_loop().sock_recv(flood[-1], 4096)
            assert json.loads(last)["error"]["data"]["type"] == "too_many_requests"
            for sock in flood[:10]:
                sock.close()
            wire = await _served_wire(served)
            session = await wire.call("session.start", count=3)
            assert session["phase"] == "running"
            await wire.call("session.stop", session_id=session["session_id"])
            await wire.close()
        finally:
            for sock in flood:
                sock.close()
        assert await served.stop() == 0  # all of the log has been written then
    complaints = [line for line in served.log if line.get("level") in ("error", "critical")]
    assert len(complaints) <= 2, complaints
    assert not any("Traceback" in str(line) for line in served.log)


async def test_listener_without_descriptors_waits_and_says_so_once(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A7: while no descriptor is free peers wait, one line says why, and then they are let in."""
    monkeypatch.setattr("operatord.control.wire.listener.PAUSE", 0.01)
    [listener] = lab.daemon.server._listeners
    tries = 0

    class Short:
        """A listening socket of a process without descriptors, five times."""

        def __getattr__(self, name: str) -> object:
            return getattr(sock, name)

        def accept(self) -> object:
            nonlocal tries
            tries += 1
            if tries <= 5:
                raise OSError(errno.EMFILE, "Too many open files")
            return sock.accept()

    sock, listener._sock = listener._sock, Short()  # type: ignore[assignment]
    assert (await (await lab.wire()).call("system.ping"))["pong"]
    assert tries > 5
    listener._sock = sock
    told = [record for record in caplog.records if "no peer can be accepted" in record.message]
    assert len(told) == 1
    assert "open files" in told[0].message


async def _served_wire(served: Served) -> Wire:
    """Return a connection that is not turned away."""
    async with asyncio.timeout(PATIENCE):
        while True:
            wire = await Wire.connect(served.address)
            with contextlib.suppress(AssertionError, ConnectionResetError):
                if "result" in await wire.ask('{"method":"system.ping"}'):
                    return wire
            await wire.close()
