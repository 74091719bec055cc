# SPDX-License-Identifier: MIT
"""Who is let in, and when; with TLS, what their connections hold, and that those that ended hold nothing."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import socket
import ssl
import threading
import weakref
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority

from operatord import tls_memory
from operatord.control.wire import handshakes
from operatord.control.wire.listener import Listener, Tls

BYTES = 3 * 1024**2
"""Of each stream: dozens of buffers full."""


class Reader(asyncio.BufferedProtocol):
    """Reads all there is, and keeps its transport, as a connection of the daemon does."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.size, self.sum = 0, hashlib.sha256()
        self.lost = asyncio.Event()
        self._buffer = memoryview(bytearray(5000))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.size += nbytes
        self.sum.update(self._buffer[:nbytes])

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()


class Tunnels:
    """Connections with TLS whose SSL objects are counted."""

    def __init__(self, folder: Path) -> None:
        authority = Authority(folder)
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server.load_cert_chain(*authority.sign("daemon"))
        self.client = ssl.create_default_context(cafile=str(authority.certificate))
        self.alive: weakref.WeakSet[ssl.SSLObject] = weakref.WeakSet()
        self.made: list[str] = []
        alive, made = self.alive, self.made

        class Counted(ssl.SSLObject):
            @classmethod
            def _create(cls, *args: Any, **more: Any) -> Any:
                found = super()._create(*args, **more)  # type: ignore[misc]
                alive.add(found)
                made.append("one")
                return found

        self.server.sslobject_class = Counted

    async def open(self) -> tuple[Reader, asyncio.StreamWriter]:
        """Return both ends of a new one."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        reader = Reader()
        shaking = asyncio.create_task(handshakes.shake(ours, lambda: reader, self.server))
        _, writer = await asyncio.open_connection(
            sock=theirs, ssl=self.client, server_hostname="localhost"
        )
        await shaking
        return reader, writer


@pytest.fixture
def tunnels(tmp_path: Path) -> Tunnels:
    return Tunnels(tmp_path)


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Run without the garbage collector: what lives on is held by somebody, or in a circle."""
    gc.disable()
    yield
    gc.enable()


def buffer_of(reader: Reader) -> object:
    return reader.transport._ssl_protocol._ssl_buffer


async def fill(writer: asyncio.StreamWriter, data: bytes) -> None:
    for begin in range(0, len(data), 10_007):
        writer.write(data[begin : begin + 10_007])
        await writer.drain()
    writer.close()


async def test_peers_wait_with_the_system_while_it_is_crowded() -> None:
    """A12: whoever is there already has his turn before newcomers are let in."""
    crowded, asked, let_in = True, asyncio.Event(), asyncio.Event()

    def is_crowded() -> bool:
        asked.set()
        return crowded

    class Peer(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            let_in.set()
            transport.close()

    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    listener = Listener(sock, Peer, is_crowded)
    with socket.create_connection(listener.address):
        for _ in range(3):
            asked.clear()
            await asked.wait()
        assert not let_in.is_set()
        crowded = False
        await let_in.wait()
    listener.close()


async def test_connections_of_a_loop_share_a_buffer_and_no_bytes(tunnels: Tunnels) -> None:
    opened = [await tunnels.open() for _ in range(4)]
    assert len({id(buffer_of(reader)) for reader, _ in opened}) == 1
    streams = [bytes([number]) * BYTES for number in range(4)]
    async with asyncio.TaskGroup() as group:
        for (_, writer), data in zip(opened, streams, strict=True):
            group.create_task(fill(writer, data))
    for (reader, _), data in zip(opened, streams, strict=True):
        await reader.lost.wait()
        assert reader.size == BYTES
        assert reader.sum.digest() == hashlib.sha256(data).digest()


async def test_each_loop_has_a_buffer_of_its_own(tunnels: Tunnels) -> None:
    """Loops of several threads read at the same time."""
    seen: list[object] = []

    async def one() -> None:
        reader, writer = await tunnels.open()
        seen.append(buffer_of(reader))
        writer.close()
        await reader.lost.wait()

    await one()
    thread = threading.Thread(target=asyncio.run, args=(one(),))
    thread.start()
    await asyncio.to_thread(thread.join)
    assert seen[0] is not seen[1]


async def test_an_asyncio_with_another_buffer_keeps_it(
    tunnels: Tunnels, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tls_memory._made

    def with_array(self: Any, *args: Any, **more: Any) -> None:
        made(self, *args, **more)
        self._ssl_buffer = array("B", self._ssl_buffer)
        self._ssl_buffer_view = memoryview(self._ssl_buffer)

    monkeypatch.setattr(tls_memory, "_made", with_array)
    opened = [await tunnels.open() for _ in range(2)]
    assert len({id(buffer_of(reader)) for reader, _ in opened}) == 2
    for reader, writer in opened:
        await fill(writer, b"x" * BYTES)
        await reader.lost.wait()
        assert reader.size == BYTES


async def test_a_connection_that_has_ended_is_gone(tunnels: Tunnels, uncollected: None) -> None:
    """A12: six hundred that come and go made a hundred megabytes."""
    reader, writer = await tunnels.open()
    assert len(tunnels.alive) == 1
    writer.transport.abort()
    await reader.lost.wait()
    del reader
    await asyncio.sleep(0)
    assert not tunnels.alive


@pytest.mark.parametrize("end", ["wrong", "late", "cancelled"])
async def test_a_handshake_that_fails_leaves_nothing(
    tunnels: Tunnels, uncollected: None, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr(handshakes, "SECONDS", 0.05 if end == "late" else 60.0)
    shaking: list[asyncio.Task[Any]] = []
    tls = Tls(lambda: tunnels.server, lambda _, task, __: shaking.append(task), lambda *_: None)
    listener = Listener(socket.create_server(("127.0.0.1", 0)), Reader, lambda: False, tls)
    with socket.create_connection(listener.address) as peer:
        peer.setblocking(False)
        peer.send(b"\x16 and no handshake" if end == "wrong" else b"\x16")
        while not tunnels.made:
            await asyncio.sleep(0)
        if end == "cancelled":
            shaking[0].cancel()
        await asyncio.wait(shaking)
        shaking.clear()
        with contextlib.suppress(ConnectionResetError):
            while await asyncio.get_running_loop().sock_recv(peer, 100):
                pass
    await asyncio.sleep(0)
    assert not tunnels.alive
    listener.close()
