# SPDX-License-Identifier: MIT
"""Limits on connections without a whole request: how long its head may take, and how many of them there may
be. Those with one get their turn.

Who holds a connection and says nothing, or says it a byte at a time, loses it. Where there are too many, the
one that has been without a whole request for longest goes: its body has not come, or, of a WebSocket, the
message that says what it is for.

Who ends its input (`nc -N`) looks like one who has left. It is answered all the same, unless that takes long,
or what it asks for is there only as long as it is: a start would leave a session that nobody knows of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import hdrs, web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.typedefs import Middleware

from operatord.gateway.answers import LINES, NOT_HTTP, refused
from operatord.gateway.guard import HEADERS
from operatord_protocol.codec import encode
from operatord_protocol.errors import InvalidRequest

from .fair_turns import PAUSE, FairTurns

HEAD_SECONDS = 10.0
"""Time from the first byte of a request, or from the connection, to the end of its head."""
KEPT_SECONDS = 75.0
"""Time for which a connection is kept for another request."""
LINGER_SECONDS = 2.0
"""Time in which a body that is not wanted is read and thrown away, so that the answer is read."""
MOST = 512
"""Connections; 256 browsers have two each."""
LATE = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\nServer: operatord\r\n\r\n"
FULL = LATE.replace(b"408 Request Timeout", b"503 Service Unavailable")
HALF_CLOSED_SECONDS = 10.0
"""Time for the answer to who has ended its input."""
LEFT = InvalidRequest(
    "who ends its input looks like one who has left, and is not waited with: keep the connection open until "
    "the answer has come (netcat: without -N)"
)


def _written(error: InvalidRequest) -> bytes:
    """Return the answer to a request that is refused so, after which the connection is closed."""
    body = encode({"error": error.to_wire()})
    head = LATE.replace(b"408 Request Timeout", b"400 Bad Request")
    length = b"Content-Type: application/json\r\nContent-Length: %d" % len(body)
    return head.replace(b"Content-Length: 0", length) + body


class Crowd:
    """All connections of a server, and those of them that have no whole request now, the oldest first."""

    def __init__(self, most: int = MOST) -> None:
        """There are none."""
        self._most = most
        self._all: set[PatientHandler] = set()
        self._idle: dict[PatientHandler, None] = {}

    def add(self, handler: PatientHandler) -> bool:
        """Add one; return False if there is no room, though others have gone that could."""
        if len(self._all) >= self._most and self._idle:
            next(iter(self._idle)).turn_away(FULL)
        if len(self._all) >= self._most:
            return False
        self._all.add(handler)
        self._idle[handler] = None
        return True

    def busy(self, handler: PatientHandler) -> None:
        """Note that one has a whole request."""
        self._idle.pop(handler, None)

    def idle(self, handler: PatientHandler) -> None:
        """Note that one has none any more."""
        if handler in self._all:
            self._idle[handler] = None

    def remove(self, handler: PatientHandler) -> None:
        """Forget one. Idempotent."""
        self._all.discard(handler)
        self._idle.pop(handler, None)


class PatientHandler(web.RequestHandler):
    """One connection of HTTP."""

    def __init__(self, crowd: Crowd, turns: FairTurns, server: web.Server) -> None:
        """Belong to ``crowd``, and have requests answered by ``server``, each at its turn."""
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=KEPT_SECONDS,
            lingering_time=LINGER_SECONDS,
            access_log=None,  # type: ignore[arg-type]  # there may be tokens in what is asked for
            auto_decompress=False,
        )
        self._crowd, self._turns = crowd, turns
        self._late: asyncio.TimerHandle | None = None
        self._is_busy = self._is_upgraded = False
        self._request: web.Request | None = None
        self._ended: asyncio.TimerHandle | None = None
        self._stays = False
        self._answered = 0
        self._begin = b""
        self._had, self._done_at = 0, 0.0
        self._address = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, unless there are too many."""
        super().connection_made(transport)
        self._address = str((transport.get_extra_info("peername") or ("",))[0])
        if self._crowd.add(self):
            self._expect_head()
        else:
            self.turn_away(FULL)

    def connection_lost(self, exc: BaseException | None) -> None:
        """End."""
        self._crowd.remove(self)
        self._head_came()
        if self._ended is not None:
            self._ended.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Give a head that begins its time."""
        self._begin = self._begin or data[:1]
        if not self._is_busy:
            self._expect_head()
            if asyncio.get_running_loop().time() >= self._done_at + PAUSE:
                self._had = 0
        super().data_received(data)

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio asks, and aiohttp says nothing
        """Still answer what was asked for; return whether the connection stays open for that."""
        is_tls = self.transport is None or self.transport.get_extra_info("ssl_object") is not None
        waits = self._waiter is not None and not self._waiter.done()  # for another request
        if is_tls or waits or self._is_upgraded:
            return False
        loop = asyncio.get_running_loop()
        self._ended = loop.call_later(HALF_CLOSED_SECONDS, self._leave)
        if self._stays:
            self._leave()
        elif self._answered == self._request_count:
            self.close()  # when the answer has gone
        return True

    def begun(self, request: web.Request, *, upgrades: bool) -> None:
        """Note that the head of a request has come, maybe of a WebSocket. Raises `ConnectionResetError`."""
        self._is_busy, self._is_upgraded, self._request = True, upgrades, request
        self._head_came()
        if upgrades:
            self.must_stay()

    def must_stay(self) -> None:
        """Have a client that ends its input count as one that has left, until its request is answered.

        Raises `ConnectionResetError` if it has ended it already.
        """
        self._stays = True
        if self._ended is not None:
            self._leave()
            raise ConnectionResetError("the client has ended its input")

    async def turn(self) -> None:
        """Return when it is to be answered."""
        had, self._had = self._had, self._had + 1
        await self._turns.take(self._address, had)

    @property
    def is_first(self) -> bool:
        """Whether the request that has come follows no other one."""
        return self._had == 0

    def whole(self) -> None:
        """Note that all of it has come."""
        self._crowd.busy(self)

    def done(self) -> None:
        """Note that it is answered."""
        self._is_busy = self._stays = False
        self._request = None
        self._answered += 1
        self._done_at = asyncio.get_running_loop().time()
        self._crowd.idle(self)
        if self._ended is not None and self._answered == self._request_count:
            self.close()

    def turn_away(self, farewell: bytes) -> None:
        """End it with an answer to what has not come; a WebSocket that has been answered only ends."""
        self._crowd.remove(self)
        if self.transport is not None and not self._is_upgraded:
            self.transport.write(farewell)
        self.force_close()

    def _leave(self) -> None:
        """End it, with a sentence if a request has no answer yet that has begun."""
        if self._request is None or self._request.writer.output_size:
            self.force_close()
        else:
            self.turn_away(_written(LEFT))

    def _expect_head(self) -> None:
        if self._late is None:
            self._late = asyncio.get_running_loop().call_later(HEAD_SECONDS, self.turn_away, LATE)

    def _head_came(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP, or too much of it."""
        if isinstance(exc, LineTooLong):
            status, why = 431, "the address or a header is too long"
        else:
            why = LINES if self._begin == b"{" else NOT_HTTP
        response = refused(InvalidRequest(why), status)
        response.headers.update(HEADERS)  # this answer passes by what adds them to others
        response.force_close()
        return response


@web.middleware
async def counted(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Note that a request has come, have it answered at its turn, and note when it is.

    One with a body, or of a WebSocket, is whole once `whole` says so. One that follows others keeps no
    connection from being given to somebody else before its turn has come.
    """
    protocol: Any = request.protocol
    try:
        if isinstance(protocol, PatientHandler):
            await _turn(request, protocol)
        return await handler(request)
    finally:
        if isinstance(protocol, PatientHandler):
            protocol.done()


async def _turn(request: web.Request, protocol: PatientHandler) -> None:
    upgrades = hdrs.UPGRADE in request.headers
    protocol.begun(request, upgrades=upgrades)
    is_whole = not (upgrades or request.can_read_body)
    if is_whole and protocol.is_first:
        protocol.whole()
    await protocol.turn()
    if is_whole:
        protocol.whole()


COUNTED: Middleware = counted


def must_stay(request: web.BaseRequest) -> None:
    """Have a client that ends its input count as gone from now on: what it asks for is to end with it.

    Raises `ConnectionResetError` if it has ended it already; it has been told so.
    """
    protocol: Any = request.protocol
    if isinstance(protocol, PatientHandler):
        protocol.must_stay()


def whole(request: web.BaseRequest) -> None:
    """Note that all of a request has come: its connection is not given to others any more."""
    protocol: Any = request.protocol
    if isinstance(protocol, PatientHandler):
        protocol.whole()
