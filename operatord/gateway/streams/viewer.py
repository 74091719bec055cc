# SPDX-License-Identifier: MIT
"""`GET /sessions/ID/stream`: frames for a browser, over a WebSocket, in the stream format.

A viewer has the newest frame whenever it can take one. What passes it by is counted, and told it.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

import msgspec
from aiohttp import WSCloseCode, WSMsgType, web

from operatord.gateway.answers import STATUS
from operatord.gateway.pictures.cutter import Picture
from operatord.gateway.process.patience import whole
from operatord_protocol.errors import InvalidRequest, WireError
from operatord_protocol.stream import End, StreamError

from .budget import Budget
from .finding import find, until_refused
from .first_of import first_of
from .hub import HUB, Hub
from .source import Source

OPEN_SECONDS = 10.0
"""Seconds for the first message."""
OPEN_BYTES = 8192
STALLED = 30.0
"""Seconds after which a viewer is let go that has not taken a frame."""
GOODBYE_SECONDS = 5.0
KERNEL_BYTES = 512 * 1024
"""What the kernel keeps for a viewer: what it keeps is old when it arrives."""
NOTE_SECONDS = 1.0
"""Seconds between two notes of what has passed a viewer by."""
OWN_CODES = 4000
"""Close codes of ours are the status of HTTP, above this."""
REASON_BYTES = 120
"""The protocol of WebSockets allows 123."""
NOT_OPENED = 'the first message is {"type":"open"}, with the "token" of a login where one is needed'


class Open(msgspec.Struct, forbid_unknown_fields=True, tag="open", tag_field="type"):
    """What a viewer says first."""

    token: str | None = None
    watch: bool = False
    """Look only: neither begin the frames nor keep them going."""


_decode = msgspec.json.Decoder(Open).decode


class Viewer:
    """Somebody who looks: what was sent, and what has passed by."""

    def __init__(self, ws: web.WebSocketResponse, source: Source, budget: Budget) -> None:
        self._ws, self._source, self._budget = ws, source, budget
        self._frames = self._dropped = 0
        self._last: int | None = None  # the number of the frame that was sent
        self._noted = (-1, -1)
        self._note_due = 0.0

    async def show(self) -> None:
        """Send the hello, frames and the end. Raises `StreamError`, `TimeoutError` for one that stalls."""
        await self._ws.send_bytes(await self._source.ready())
        number = 0
        while self._source.number > number or not self._source.over:
            await self._note()
            if (picture := await self._next(number)) is not None:
                number = self._source.number
                await self._send(picture)
        if self._source.fault is not None:
            raise self._source.fault
        end = End(frames=self._frames, dropped=self._dropped)
        await self._ws.send_bytes(msgspec.json.encode(end) + b"\n")

    async def _next(self, number: int) -> Picture | None:
        """Return the newest frame; None if there is no other than ``number`` until the next note is due."""
        with suppress(TimeoutError):
            async with asyncio.timeout(NOTE_SECONDS):
                return await self._source.after(number)
        return None

    async def _send(self, picture: Picture) -> None:
        """Send a frame, unless there is no memory for it: then it has passed by."""
        if (room := self._budget.take(len(picture.raw))) is None:
            return
        with room:
            async with asyncio.timeout(STALLED):
                await self._ws.send_bytes(picture.raw)
        if self._last is not None:
            self._dropped += max(0, picture.seq - self._last - 1)
        self._last = picture.seq
        self._frames += 1

    async def _note(self) -> None:
        """Say how many frames have passed by and how many look, if that is news."""
        now = asyncio.get_running_loop().time()
        news = self._dropped, self._source.viewers
        if news == self._noted or now < self._note_due:
            return
        self._noted, self._note_due = news, now + NOTE_SECONDS
        said = {"type": "viewer", "dropped": self._dropped, "viewers": self._source.viewers}
        await self._ws.send_str(msgspec.json.encode(said).decode())


async def view(request: web.Request) -> web.StreamResponse:
    """Serve a viewer until the stream is over, or it leaves. Raises `InvalidRequest`: no WebSocket."""
    ws = web.WebSocketResponse(compress=False, max_msg_size=OPEN_BYTES, heartbeat=2 * STALLED)
    if not ws.can_prepare(request):
        raise InvalidRequest("frames come over a WebSocket here; players want stream.y4m")
    await ws.prepare(request)
    _keep_little(request)
    try:
        await _serve(request, ws, request.app[HUB])
    except OSError:  # it has gone, or stalls
        _abort(request)
    return ws


async def _serve(request: web.Request, ws: web.WebSocketResponse, hub: Hub) -> None:
    try:
        said = await _opened(ws)
        location = await find(request, said.token)
        whole(request)
        async with hub.watched(location, watch=said.watch) as source:
            show = Viewer(ws, source, hub.opener.budget).show()
            await first_of(show, _listen(ws), until_refused(request, said.token))
        await _close(ws, WSCloseCode.OK, "the stream has ended")
    except WireError as exc:
        await ws.send_str(msgspec.json.encode({"type": "error", "error": exc.to_wire()}).decode())
        await _close(ws, OWN_CODES + STATUS.get(exc.type, 500), exc.message)
    except StreamError as exc:
        code = WSCloseCode.GOING_AWAY if hub.ending else WSCloseCode.INTERNAL_ERROR
        await _close(ws, code, str(exc))


async def _opened(ws: web.WebSocketResponse) -> Open:
    """Return what the viewer says first. Raises `InvalidRequest`, and `ConnectionError` if it leaves."""
    try:
        async with asyncio.timeout(OPEN_SECONDS):
            message = await ws.receive()
    except TimeoutError as exc:
        raise InvalidRequest(f"{NOT_OPENED}, within {OPEN_SECONDS:g} s") from exc
    if ws.closed:
        raise ConnectionError
    try:
        return _decode(message.data if message.type is WSMsgType.TEXT else b"")
    except (msgspec.DecodeError, RecursionError) as exc:
        raise InvalidRequest(f"{NOT_OPENED}: {exc}") from exc


async def _listen(ws: web.WebSocketResponse) -> None:
    """Return when the viewer leaves. Raises `InvalidRequest` if it says anything else."""
    async for _ in ws:
        raise InvalidRequest("nothing may be sent after the first message")


async def _close(ws: web.WebSocketResponse, code: int, why: str) -> None:
    """Close, which needs a viewer that reads. Raises `TimeoutError`."""
    async with asyncio.timeout(GOODBYE_SECONDS):
        reason = why.encode()[:REASON_BYTES].decode(errors="ignore")
        await ws.close(code=code, message=reason.encode())


def _keep_little(request: web.Request) -> None:
    if (transport := request.transport) is not None:
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BYTES)


def _abort(request: web.Request) -> None:
    if (transport := request.transport) is not None:
        transport.abort()
