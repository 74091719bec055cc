# SPDX-License-Identifier: MIT
"""A gateway in this process, and who looks at streams through it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from aiohttp import WSMsgType, web
from daemon_lab import PATIENCE, Json

from operatord.gateway.app import make_app
from operatord.gateway.upstream import Means, Upstream
from operatord_client.address import Tcp

SIZE = 256 * 256


class Site:
    """A gateway that answers HTTP at ``url``."""

    def __init__(self, url: str, http: aiohttp.ClientSession, runner: web.AppRunner) -> None:
        self.url, self.http, self.runner = url, http, runner

    @contextlib.asynccontextmanager
    async def viewer(self, session_id: str, **said: Any) -> AsyncIterator[Viewer]:
        """Look at a session; say something else first than ``{"type":"open"}`` with more members."""
        path = f"{self.url}/sessions/{session_id}/stream"
        async with self.http.ws_connect(path, max_msg_size=0, compress=15) as ws:
            await ws.send_str(json.dumps({"type": "open", **said}))
            yield Viewer(ws)

    async def get(self, path: str, method: str = "GET", **more: Any) -> tuple[int, Any, bytes]:
        """Return status, headers and body."""
        async with self.http.request(method, self.url + path, **more) as response:
            return response.status, response.headers, await response.read()

    async def refused(self, path: str, **more: Any) -> tuple[int, Json]:
        """Ask for what must be refused; return the status and the error."""
        status, headers, body = await self.get(path, **more)
        assert headers["Content-Type"].startswith("application/json"), body[:200]
        return status, json.loads(body)["error"]


class Viewer:
    """A WebSocket of frames, whose first message has been said."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws
        self.notes: list[Json] = []

    async def message(self) -> tuple[Json, bytes] | None:
        """Return the next message that is no note: its header and what follows; None at the close."""
        async with asyncio.timeout(PATIENCE):
            while True:
                message = await self.ws.receive()
                if message.type is WSMsgType.TEXT:
                    self.notes.append(json.loads(message.data))
                elif message.type is WSMsgType.BINARY:
                    line, _, rest = message.data.partition(b"\n")
                    return json.loads(line), rest
                else:
                    return None

    async def hello(self) -> Json:
        found = await self.message()
        assert found is not None and found[0]["type"] == "hello"
        return found[0]

    async def frame(self) -> tuple[Json, bytes]:
        found = await self.message()
        assert found is not None and found[0]["type"] == "frame", found
        return found

    async def rest(self) -> tuple[list[tuple[Json, bytes]], Json]:
        """Return all frames to come, and the end."""
        frames = []
        while (found := await self.message()) is not None:
            if found[0]["type"] == "end":
                return frames, found[0]
            frames.append(found)
        raise AssertionError(f"closed without an end: {self.ws.close_code} {self.notes}")

    async def close_code(self) -> int | None:
        """Return the code of the close, which must be next, notes apart."""
        assert await self.message() is None
        return self.ws.close_code


@contextlib.asynccontextmanager
async def a_site(daemon: tuple[str, int]) -> AsyncIterator[Site]:
    """Run a gateway for the daemon at an address."""
    app = make_app(Upstream(Means(Tcp(*daemon))))
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=2)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        async with aiohttp.ClientSession() as http:
            yield Site(f"http://{host}:{port}", http, runner)
    finally:
        await runner.cleanup()
