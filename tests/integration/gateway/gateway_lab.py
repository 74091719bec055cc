# SPDX-License-Identifier: MIT
"""A daemon with a gateway, and what asks it over HTTP. It is written from the text of HTTP, without the
gateway's own library, so that a mistake that both would make does not stay hidden."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from daemon_lab import PATIENCE, Json, Lab, in_process

JSON = {"Content-Type": "application/json"}


class Answer(NamedTuple):
    """An answer of HTTP."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Json:
        return json.loads(self.body)

    @property
    def error(self) -> Json:
        """The error object; its ``type`` is taken out of ``data`` for convenience."""
        error = self.json["error"]
        assert set(self.json) == {"error"}
        assert set(error) == {"code", "message", "data"}
        return {**error, "type": error["data"]["type"]}


class Caller:
    """Asks at one address, each time on a connection of its own."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address

    async def connect(
        self, source: str | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return a connection, from an address of this machine if one is given."""
        local = (source, 0) if source else None
        return await asyncio.open_connection(*self.address, local_addr=local)

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        source: str | None = None,
    ) -> Answer:
        """Send one request and return its answer; a body that is no text is sent as JSON."""
        reader, writer = await self.connect(source)
        try:
            writer.write(self.text(method, path, body, headers))
            async with asyncio.timeout(PATIENCE):
                return await answer(reader)
        finally:
            writer.close()

    def text(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """Return the request as it goes out."""
        raw = (
            b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        )
        host, port = self.address
        said = {"Host": f"{host}:{port}", "Connection": "close", **(headers or {})}
        if method == "POST":
            said = {**JSON, "Content-Length": str(len(raw)), **said}
        lines = [f"{method} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in said.items() if v)]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + raw

    async def post(
        self, path: str, body: Any = None, token: str | None = None, **more: Any
    ) -> Answer:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return await self.ask("POST", path, body, {**headers, **more.pop("headers", {})}, **more)

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.ask("GET", path, headers=headers)

    async def call(self, method: str, **params: Any) -> Json:
        """Call a method of the protocol and return its result."""
        answer = await self.post(f"/api/v1/{method}", params)
        assert answer.status == 200, answer
        return answer.json


async def answer(reader: asyncio.StreamReader) -> Answer:
    """Return the answer that comes on a connection; it says how long it is."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {
        name.lower(): value.strip()
        for name, _, value in (line.partition(":") for line in head[1:] if line)
    }
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Answer(int(head[0].split(" ")[1]), headers, body)


class Gatewayed(NamedTuple):
    """A daemon in this process, its gateway in another one, and who asks there."""

    lab: Lab
    http: Caller

    @property
    def pid(self) -> int:
        """The number of the gateway's process."""
        process = self.lab.daemon.gateway
        assert process is not None
        assert process.pid is not None
        return process.pid


def address_of(lab: Lab) -> tuple[str, int]:
    """Return where the gateway listens: it takes connections before it has started."""
    gateway = lab.daemon.gateway
    assert gateway is not None
    address: tuple[str, int] = gateway.addresses[0][:2]
    return address


@contextlib.asynccontextmanager
async def gatewayed(
    state_dir: Path, *overlays: Mapping[str, Any], http: Json | None = None, **more: Any
) -> AsyncIterator[Gatewayed]:
    """Run a daemon with a gateway."""
    setting = {"http": {"listen": "127.0.0.1:0", **(http or {})}}
    async with in_process(state_dir, setting, *overlays, **more) as lab:
        yield Gatewayed(lab, Caller(address_of(lab)))
