# SPDX-License-Identifier: MIT
"""Fixtures of the client's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from client_stub import Ran, Run, StreamServer, StubDaemon
from daemon_lab import PATIENCE

from operatord_client import AsyncClient, Client, operatorctl


@pytest.fixture
def daemon() -> Iterator[StubDaemon]:
    """A daemon that says what the test tells it to."""
    stub = StubDaemon()
    yield stub
    stub.close()


@pytest.fixture
def client(daemon: StubDaemon) -> Iterator[Client]:
    with Client(daemon.address, timeout=PATIENCE) as client:
        yield client


@pytest.fixture
async def aclient(daemon: StubDaemon) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(daemon.address, timeout=PATIENCE) as client:
        yield client


@pytest.fixture
def serve() -> Iterator[Callable[..., StreamServer]]:
    """Return a function that serves a stream."""
    servers: list[StreamServer] = []

    def start(stream: bytes, *, chunk: int = 1 << 20, hold: bool = False) -> StreamServer:
        servers.append(StreamServer(stream, chunk=chunk, hold=hold))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def ctl(daemon: StubDaemon, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs operatorctl in this process."""
    host, port = daemon.address

    def run(*args: str) -> Ran:
        try:
            code = operatorctl.main(["--address", f"{host}:{port}", *args])
        except SystemExit as exc:
            code = int(exc.code or 0)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run
