# SPDX-License-Identifier: MIT
"""The process that passes bytes on to a probe which only the host can reach, from its start to its end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import psutil
import pytest
from daemon_lab import PATIENCE, relays_to, until
from shared_host import free_port

from operatord.machine.processes import ProcessId, end, identify
from operatord.streams import relay_process
from operatord.streams.relay import PROGRAM, Relay

HOST = "127.0.0.1"
MUCH = os.urandom(1 << 20) * 5
"""More than the relay and the kernel hold."""

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Way = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextlib.asynccontextmanager
async def relayed(serve: Serve) -> AsyncIterator[tuple[Relay, tuple[str, int]]]:
    """Have a relay to a server; give it with its address."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(accept, HOST, 0, backlog=300)
    port = server.sockets[0].getsockname()[1]
    relay = Relay(HOST, port)
    try:
        async with asyncio.timeout(PATIENCE):
            yield relay, await relay.open(HOST)
    finally:
        await relay.close()
        server.close()
        assert relays_to(port) == []


@contextlib.asynccontextmanager
async def connected(address: tuple[str, int]) -> AsyncIterator[Way]:
    reader, writer = await asyncio.open_connection(*address)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def give_back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take all to the end, and only then send it back."""
    taken = await reader.read()
    writer.write(taken)
    await writer.drain()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1000):
        writer.write(data)
        await writer.drain()


async def send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()
    writer.write_eof()


# Bytes


async def test_end_of_one_direction_leaves_the_other_open() -> None:
    async with relayed(give_back) as (_, address), connected(address) as (reader, writer):
        await send(writer, MUCH)
        assert await reader.read() == MUCH


async def test_target_that_has_said_all_still_hears_the_rest() -> None:
    heard: list[bytes] = []
    done = asyncio.Event()

    async def speak_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await send(writer, b"hello\n")
        heard.append(await reader.read())
        done.set()

    async with relayed(speak_first) as (_, address), connected(address) as (reader, writer):
        assert await reader.read() == b"hello\n"
        await send(writer, MUCH)
        await done.wait()
    assert heard == [MUCH]


async def test_reader_that_does_not_read_holds_the_target_back_and_loses_nothing() -> None:
    written = 0

    async def stream(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        for _ in range(100):
            writer.write(MUCH[: 1 << 20])
            await writer.drain()
            written += 1

    async with relayed(stream) as (_, address):
        with socket.create_connection(address) as silent:
            silent.setblocking(False)
            loop = asyncio.get_running_loop()
            taken = 0
            while taken < 1 << 20:
                taken += len(await loop.sock_recv(silent, 1 << 16))
            assert written < 50
            while data := await loop.sock_recv(silent, 1 << 20):
                taken += len(data)
    assert taken == 100 << 20


async def test_all_connections_are_served_and_those_too_many_wait_for_their_turn() -> None:
    most = relay_process.MOST_CONNECTIONS
    async with relayed(echo) as (_, address), contextlib.AsyncExitStack() as stack:
        ways = [await stack.enter_async_context(connected(address)) for _ in range(most + 3)]
        for number, (_, writer) in enumerate(ways):
            writer.write(b"%d\n" % number)
        for number, (reader, _) in enumerate(ways[:most]):
            assert await reader.readline() == b"%d\n" % number
        late = ways[most:]
        for (_, leaving), (number, (reader, _)) in zip(ways, enumerate(late, most), strict=False):
            leaving.close()
            assert await reader.readline() == b"%d\n" % number


async def test_target_that_refuses_ends_the_connection_and_not_the_relay() -> None:
    relay = Relay(HOST, free_port())
    try:
        address = await relay.open(HOST)
        for _ in range(2):
            async with connected(address) as (reader, _):
                with contextlib.suppress(ConnectionResetError):
                    assert await reader.read() == b""
    finally:
        await relay.close()


async def test_reset_on_one_side_ends_the_other() -> None:
    gone = asyncio.Event()

    async def wait_for_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while True:
                writer.write(MUCH)
                await writer.drain()
        gone.set()

    async with relayed(wait_for_the_end) as (_, address):
        async with connected(address) as (reader, writer):
            await reader.readexactly(1000)
            writer.transport.abort()
        await gone.wait()


# Life and death


def start_process(target: int) -> subprocess.Popen[bytes]:
    """Start the program as the daemon does, and return once it listens."""
    process = subprocess.Popen(
        [sys.executable, "-IS", str(PROGRAM), HOST, HOST, str(target)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    assert int(process.stdout.readline()) > 0
    return process


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A relay's process, as the daemon starts it."""
    process = start_process(free_port())
    yield process
    process.kill()
    process.communicate()


def test_end_of_input_before_it_is_to_stay_ends_it(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(PATIENCE) == 0
    process.stdin = None


def test_after_it_is_to_stay_only_a_signal_ends_it(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(relay_process.STAY)
    process.stdin.close()
    process.stdin = None
    assert process.stdout.read() == b"", "its output is let go as soon as the port is told"
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.2)
    process.terminate()
    assert process.wait(PATIENCE) == -signal.SIGTERM


async def test_process_holds_nothing_of_its_daemons() -> None:
    async with relayed(echo) as (relay, address), connected(address):
        assert relay.process is not None
        relay.stay()
        pid = relay.process.pid
        folder = Path(f"/proc/{pid}/fd")

        def held() -> set[str]:
            found: set[str] = set()
            for each in folder.iterdir():
                with contextlib.suppress(OSError):  # it was closed meanwhile
                    found.add(str(each.readlink()).partition(":")[0])
            return found

        await until(lambda: held() == {"/dev/null", "anon_inode", "socket"}, "its pipes are closed")
        assert psutil.Process(pid).cwd() == "/"
        assert os.getsid(pid) == pid


@pytest.mark.parametrize("came", [False, True])
def test_process_that_nobody_needs_ends_by_itself(
    monkeypatch: pytest.MonkeyPatch, came: bool
) -> None:
    """In a thread, with less patience."""
    monkeypatch.setattr(relay_process, "FIRST_WITHIN", 1e9 if came else 0.05)
    monkeypatch.setattr(relay_process, "LINGER", 0.05 if came else 1e9)
    listener = socket.create_server((HOST, 0))
    address = listener.getsockname()
    control, daemon = os.pipe()
    server = relay_process.RelayServer(listener, (socket.AF_INET, (HOST, free_port())), control)
    thread = threading.Thread(target=server.run)
    thread.start()
    if came:
        with socket.create_connection(address) as client, contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""
    thread.join(0.2)
    assert thread.is_alive(), "it is its daemon's until it is told to stay"
    os.write(daemon, relay_process.STAY)
    thread.join(PATIENCE)
    assert not thread.is_alive()
    os.close(daemon)


async def test_relay_that_cannot_listen_says_so() -> None:
    relay = Relay(HOST, free_port())
    try:
        with pytest.raises(OSError) as refused:
            await relay.open("192.0.2.1")
    finally:
        await relay.close()
    sentence = refused.value.strerror
    assert "cannot listen on 192.0.2.1" in sentence
    assert "register the probe with an address that the engine's host reaches" in sentence


async def test_relay_may_listen_before_the_address_is_there() -> None:
    """Podman makes the bridge of a network when its first container is started."""
    relay = Relay(HOST, free_port())
    try:
        assert (await relay.open("192.0.2.1", early=True))[0] == "192.0.2.1"
    finally:
        await relay.close()


async def test_relay_that_was_let_stay_is_ended_by_who_reads_of_it() -> None:
    async with relayed(echo) as (relay, address):
        relay.stay()
        assert relay.process is not None
        async with connected(address) as (reader, writer):
            writer.write(b"x\n")
            assert await reader.readline() == b"x\n"
            await Relay(HOST, 1, relay.process).close()
            assert await reader.read() == b""
        relay.stay()


async def test_stuck_process_is_killed() -> None:
    async with relayed(echo) as (relay, _):
        assert relay.process is not None
        os.kill(relay.process.pid, signal.SIGSTOP)
        await relay.close()
        assert not psutil.pid_exists(relay.process.pid)


async def test_want_of_descriptors_does_not_hold_up_who_ends_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none_left(pid: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async with relayed(echo) as (relay, _):
        with monkeypatch.context() as patch:
            patch.setattr(os, "pidfd_open", none_left)
            await relay.close()
        assert "is left running: Too many open files" in caplog.text


async def test_process_with_a_used_number_is_not_taken_for_the_one_that_had_it(
    process: subprocess.Popen[bytes],
) -> None:
    known = identify(process.pid)
    await end(ProcessId(known.pid, known.started - 1))
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.2)
