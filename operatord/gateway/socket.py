# SPDX-License-Identifier: MIT
"""`GET /api/v1/socket`: the protocol's own lines over a WebSocket, each of them a text message."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiohttp import WSMsgType, web

from operatord_protocol.codec import encode_error
from operatord_protocol.errors import InvalidRequest
from operatord_protocol.framing import LineSplitter, LineTooLong

from .conversation import ANSWER_BYTES, READ_BYTES
from .upstream import UPSTREAM

HEARTBEAT = 20.0
"""Seconds between two looks at whether the browser is still there."""
MESSAGE_BYTES = 1024 * 1024


def routes() -> Sequence[web.RouteDef]:
    """Return the routes of this file."""
    return [web.get("/api/v1/socket", serve)]


async def serve(request: web.Request) -> web.StreamResponse:
    """Pass lines on, until one of both sides leaves."""
    reader, writer = await request.app[UPSTREAM].lines(request)
    try:
        socket = web.WebSocketResponse(heartbeat=HEARTBEAT, max_msg_size=MESSAGE_BYTES)
        await socket.prepare(request)
        down = asyncio.create_task(_down(reader, socket))
        try:
            await _up(socket, writer)
        finally:
            down.cancel()
            await asyncio.gather(down, return_exceptions=True)
    finally:
        writer.close()
    return socket


async def _up(socket: web.WebSocketResponse, writer: asyncio.StreamWriter) -> None:
    async for message in socket:
        line = message.data.strip() if message.type is WSMsgType.TEXT else "\n"
        if "\n" in line or "\r" in line:
            await _refuse(socket, "a message is one line of the protocol, as text")
            continue
        writer.write(line.encode() + b"\n")
        await writer.drain()


async def _refuse(socket: web.WebSocketResponse, why: str) -> None:
    await socket.send_str(encode_error("plain", None, InvalidRequest(why)).decode().strip())


async def _down(reader: asyncio.StreamReader, socket: web.WebSocketResponse) -> None:
    splitter = LineSplitter(ANSWER_BYTES)
    try:
        while data := await reader.read(READ_BYTES):
            for line in splitter.feed(data):
                await socket.send_str(line.decode())
    except (OSError, LineTooLong, UnicodeDecodeError):
        pass
    await socket.close(code=1001, message=b"the daemon has gone")
