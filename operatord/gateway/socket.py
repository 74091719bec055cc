# SPDX-License-Identifier: MIT
"""`GET /api/v1/socket`: the protocol's own lines over a WebSocket, each of them a text message."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiohttp import WSMessage, WSMsgType, web

from operatord_protocol.codec import Request, decode_line, encode, encode_error, encode_result
from operatord_protocol.errors import InvalidRequest, Unauthorized, WireError
from operatord_protocol.framing import LineSplitter, LineTooLong

from .conversation import ANSWER_BYTES, READ_BYTES, Conversation
from .process.patience import whole
from .upstream import UPSTREAM, require_login

HEARTBEAT = 20.0
"""Seconds between two looks at whether the browser is still there."""
LOGIN_SECONDS = 2.0
"""Time for a login where one is needed, as on the daemon's socket."""
MESSAGE_BYTES = 1024 * 1024
FIRST_LOGIN = "log in first: auth.login with a token"


def routes() -> Sequence[web.RouteDef]:
    """Return the routes of this file."""
    return [web.get("/api/v1/socket", serve)]


async def serve(request: web.Request) -> web.StreamResponse:
    """Pass lines on, until one of both sides leaves. Raises `InvalidRequest`: no WebSocket."""
    socket = web.WebSocketResponse(heartbeat=HEARTBEAT, max_msg_size=MESSAGE_BYTES, compress=False)
    if not socket.can_prepare(request):
        raise InvalidRequest("this is a WebSocket; for a single request, POST /api/v1/METHOD")
    upstream = request.app[UPSTREAM]
    reader, writer = await upstream.lines(request)
    try:
        await socket.prepare(request)
        if not upstream.token_needed or await _logged_in(socket, Conversation(reader, writer)):
            whole(request)  # the daemon itself has no patience with strangers
            await _pass_on(socket, reader, writer)
    finally:
        writer.close()
    return socket


async def _pass_on(
    socket: web.WebSocketResponse, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    down = asyncio.create_task(_down(reader, socket))
    try:
        async for message in socket:
            if (line := await _line(socket, message)) is not None:
                writer.write(line + b"\n")
                await writer.drain()
    except ConnectionError:  # of the daemon, which `_down` sees as well
        await asyncio.wait((down,), timeout=1)
    finally:
        down.cancel()
        await asyncio.gather(down, return_exceptions=True)


async def _logged_in(socket: web.WebSocketResponse, daemon: Conversation) -> bool:
    """Pass nothing on but one login, where the daemon itself may ask nobody; return whether it was good."""
    try:
        message = await socket.receive(timeout=LOGIN_SECONDS)
    except TimeoutError:
        await socket.close(code=1008, message=b"no login")
        return False
    line = await _line(socket, message)
    asked = decode_line(line or b"")
    try:
        if not isinstance(asked, Request) or asked.method != "auth.login":
            raise Unauthorized(FIRST_LOGIN)
        said = await daemon.ask(asked.method, encode(asked.params))
        require_login(said)
    except WireError as exc:
        dialect, number = (
            ("plain", None) if not isinstance(asked, Request) else (asked.dialect, asked.id)
        )
        await _send(socket, encode_error(dialect, number, exc))
        await socket.close(code=1008, message=b"no login")
        return False
    await _send(socket, encode_result(asked, said))
    return True


async def _line(socket: web.WebSocketResponse, message: WSMessage) -> bytes | None:
    """Return the line that a message is; None, and the sender is told, if it is none."""
    text = message.data.strip() if message.type is WSMsgType.TEXT else "\n"
    if "\n" in text or "\r" in text:
        why = InvalidRequest("a message is one line of the protocol, as text")
        await _send(socket, encode_error("plain", None, why))
        return None
    return bytes(text.encode())


async def _send(socket: web.WebSocketResponse, line: bytes) -> None:
    if not socket.closed:
        await socket.send_str(line.decode().strip())


async def _down(reader: asyncio.StreamReader, socket: web.WebSocketResponse) -> None:
    splitter = LineSplitter(ANSWER_BYTES)
    try:
        while data := await reader.read(READ_BYTES):
            for line in splitter.feed(data):
                await _send(socket, line)
    except (OSError, LineTooLong, UnicodeDecodeError):
        pass
    await socket.close(code=1001, message=b"the daemon has gone")
