# SPDX-License-Identifier: MIT
"""A socket in front of the engine's that understands requests, and does harm to those it is told to.

A request is named as the engine's manual does, without the version: ``POST /containers/create?name=x``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Fault = Literal["swallow", "refuse", "hold"]
"""The answer is lost; it is a 500 and nothing has happened; the request waits until it is let go."""

WORDS = "a sentence of the engine's own, with /its/paths"
_REFUSAL = b'{"message":"%s"}' % WORDS.encode()
_BODILESS = (b"204", b"304")


@dataclass
class Rule:
    """What is done to requests that match."""

    requests: str
    fault: Fault
    times: float = 1
    """How many requests it is for."""
    met: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once a request has come."""
    go: asyncio.Event = field(default_factory=asyncio.Event)
    """Lets those go that are held."""

    def takes(self, request: str) -> bool:
        if self.times < 1 or re.search(self.requests, request) is None:
            return False
        self.times -= 1
        self.met.set()
        return True


Way = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Gone(Exception):
    """One of the two ends has gone."""


class EngineProxy:
    """Stands between a daemon and the engine."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.host = f"unix://{path}"
        self._target = os.environ["DOCKER_HOST"].removeprefix("unix://")
        self._server: asyncio.Server | None = None
        self._rules: list[Rule] = []
        self._connections: dict[asyncio.Task[None], str] = {}
        """Those who serve a connection, and what is asked on it."""

    async def appear(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def vanish(self) -> None:
        """End every connection, and take no new ones. Idempotent."""
        if self._server is not None:
            self._server.close()
        self.path.unlink(missing_ok=True)
        await self.cut("")

    async def cut(self, requests: str) -> None:
        """End the connections on which matching requests are being answered."""
        tasks = [t for t, request in self._connections.items() if re.search(requests, request)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @contextlib.contextmanager
    def rule(self, requests: str, fault: Fault, times: float = 1) -> Iterator[Rule]:
        """Do harm to matching requests meanwhile."""
        made = Rule(requests, fault, times)
        self._rules.append(made)
        try:
            yield made
        finally:
            self._rules.remove(made)
            made.go.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = "-"
        try:
            with contextlib.suppress(
                OSError, asyncio.IncompleteReadError, asyncio.CancelledError, _Gone
            ):
                await self._converse(task, reader, writer)
        finally:
            del self._connections[task]
            writer.close()

    async def _converse(
        self, task: asyncio.Task[None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        up_reader, up_writer = await asyncio.open_unix_connection(self._target)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                message = head + await reader.readexactly(
                    int(_header(head, b"content-length") or 0)
                )
                request = re.sub(r"^(\w+) (?:/v[\d.]+)?(\S+) .*", r"\1 \2", _first_line(head))
                self._connections[task] = request
                await self._handle(request, message, (up_reader, up_writer), (reader, writer))
                self._connections[task] = "-"
        finally:
            up_writer.close()

    async def _handle(
        self,
        request: str,
        message: bytes,
        engine: Way,
        client: Way,
    ) -> None:
        reader, writer = client
        rule = next((rule for rule in self._rules if rule.takes(request)), None)
        fault = None if rule is None else rule.fault
        if fault == "refuse":
            writer.write(
                b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\n"
            )
            writer.write(b"Content-Length: %d\r\n\r\n%s" % (len(_REFUSAL), _REFUSAL))
            return
        if rule is not None and fault == "hold":
            await rule.go.wait()
        up_reader, up_writer = engine
        up_writer.write(message)
        if re.search(rb"\r\nupgrade: tcp\r\n", message, re.IGNORECASE):
            if fault != "swallow":
                await _both_ways((reader, writer), engine)
            raise _Gone
        async for data in _answer(up_reader):
            if fault != "swallow":
                writer.write(data)
                await writer.drain()
        if fault == "swallow":
            raise _Gone


async def _answer(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Yield an answer piece by piece, to its end."""
    head = await reader.readuntil(b"\r\n\r\n")
    yield head
    length = _header(head, b"content-length")
    if _header(head, b"transfer-encoding") == b"chunked":
        size = 1
        while size:
            line = await reader.readline()
            size = int(line, 16)
            yield line + await reader.readexactly(size + 2)
    elif length is not None:
        yield await reader.readexactly(int(length))
    elif head.split()[1] not in _BODILESS:
        while data := await reader.read(65536):
            yield data
        raise _Gone


async def _both_ways(client: Way, engine: Way) -> None:
    """Pass everything on until the engine has no more to say."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()

    asking = asyncio.ensure_future(pass_on(client[0], engine[1]))
    try:
        await pass_on(engine[0], client[1])
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


def _first_line(head: bytes) -> str:
    return head.partition(b"\r\n")[0].decode()


def _header(head: bytes, name: bytes) -> bytes | None:
    found = re.search(rb"^" + name + rb": *(.*?)\r$", head, re.IGNORECASE | re.MULTILINE)
    return found[1].lower() if found else None


@contextlib.asynccontextmanager
async def engine_proxy(folder: Path) -> AsyncIterator[EngineProxy]:
    """Have a proxy, which lets everything through until it is told otherwise."""
    proxy = EngineProxy(folder / "engine.sock")
    await proxy.appear()
    try:
        yield proxy
    finally:
        await proxy.vanish()
