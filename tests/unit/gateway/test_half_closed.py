# SPDX-License-Identifier: MIT
"""Who ends its input is answered, but not waited with for long, nor where something is to end with it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from operatord.gateway.process import patience
from operatord.gateway.process.patience import COUNTED, must_stay
from operatord.gateway.process.serving import Gateway

GET = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"
UPGRADE = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
PATIENCE = 20.0
TOLD = b"keep the connection open until the answer has come"


class Work:
    """A handler that goes on until it is cancelled, after ``first``."""

    def __init__(self, first: Callable[[web.Request], Awaitable[object]]) -> None:
        self._first = first
        self.begun, self.cancelled = asyncio.Event(), asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        try:
            await self._first(request)
            self.begun.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        raise AssertionError


@contextlib.asynccontextmanager
async def asked(work: Work, *, head: bytes = b"") -> AsyncIterator[Callable[[], Awaitable[bytes]]]:
    """Yield what ends the input of a connection with a request for ``work``, and returns what comes then."""
    app = web.Application(middlewares=[COUNTED])
    app.add_routes([web.get("/", work.handle)])
    gateway, sock = Gateway(app), socket.create_server(("127.0.0.1", 0))
    await gateway.start()
    await gateway.listen([sock])
    reader, writer = await asyncio.open_connection(*sock.getsockname())
    writer.write(GET + head + b"\r\n")

    async def end() -> bytes:
        writer.write_eof()
        return await reader.read()

    try:
        async with asyncio.timeout(PATIENCE):
            yield end
    finally:
        writer.close()
        await gateway.end()


async def nothing(_: web.Request) -> None:
    """Do nothing."""


async def stay(request: web.Request) -> None:
    """Be there for as long as the client."""
    must_stay(request)


async def speak(request: web.Request) -> None:
    """Begin an answer that goes on as long as the client is there."""
    must_stay(request)
    response = web.StreamResponse(headers={"Content-Length": "100"})
    await response.prepare(request)
    await response.write(b"first")


async def test_it_is_waited_with_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "HALF_CLOSED_SECONDS", 0.05)
    async with asked(work := Work(nothing)) as end:
        await work.begun.wait()
        assert TOLD in await end()
        await work.cancelled.wait()


async def test_what_ends_with_its_client_ends_at_once() -> None:
    async with asked(work := Work(stay)) as end:
        await work.begun.wait()
        assert TOLD in await end()
        await work.cancelled.wait()


async def test_an_answer_that_has_begun_is_cut_off_and_nothing_else_is_in_it() -> None:
    async with asked(work := Work(speak)) as end:
        await work.begun.wait()
        assert (await end()).endswith(b"\r\n\r\nfirst")
        await work.cancelled.wait()


async def test_nothing_is_begun_that_would_end_with_it() -> None:
    async with asked(work := Work(stay)) as end:
        assert TOLD in await end()
        assert not work.begun.is_set()
    async with asked(work := Work(nothing), head=UPGRADE) as end:
        assert await end() == b""  # a WebSocket has no other words
        assert not work.begun.is_set()
