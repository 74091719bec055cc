# SPDX-License-Identifier: MIT
"""The gateway as a process: it listens, and serves until a signal comes, or its daemon has gone."""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from aiohttp import web

from operatord.alerts import send_alerts
from operatord.gateway.app import make_app
from operatord.gateway.bodies import BODY_BYTES
from operatord.gateway.guard import GUARD
from operatord.gateway.upstream import UPSTREAM, Means, Upstream
from operatord.tls_memory import keep_small

from .certificate import Certificate
from .fair_turns import FairTurns
from .passage import Passage
from .patience import Crowd, PatientHandler

log = logging.getLogger(__name__)

STOP = (signal.SIGTERM, signal.SIGINT)
GOODBYE = 2.0
"""Seconds that requests which are under way get at the end."""
WAITING = 256
"""Peers that the system lets wait to be accepted."""


class Gateway:
    """An application on its sockets."""

    def __init__(self, app: web.Application) -> None:
        """Serve ``app``, once `start` is called."""
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=GOODBYE)
        self._crowd, self._turns = Crowd(), FairTurns()
        self._servers: list[asyncio.Server] = []

    async def start(self) -> None:
        """Begin; nothing is listened on yet."""
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with suppress(OSError, ValueError):  # a client takes three
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        await self._runner.setup()

    async def listen(
        self, sockets: Sequence[socket.socket], tls: ssl.SSLContext | None = None
    ) -> None:
        """Listen on ``sockets``, which are this object's from now on."""
        send_alerts()
        keep_small()
        loop = asyncio.get_running_loop()
        self._servers = [
            await loop.create_server(self._handler, sock=each, ssl=tls, backlog=WAITING)
            for each in sockets
        ]

    def _handler(self) -> PatientHandler:
        assert self._runner.server is not None
        return PatientHandler(self._crowd, self._turns, self._runner.server)

    async def end(self) -> None:
        """Listen no more, and give requests that are under way a moment. Idempotent."""
        for server in self._servers:
            server.close()
        await self._runner.cleanup()


class Place(NamedTuple):
    """Where one listens that was started by hand."""

    host: str
    port: int
    hosts: Sequence[str] = ()
    """Names that it is known by, besides its addresses."""


async def serve(means: Means, place: Place, listening: Callable[[str], None]) -> None:
    """Serve until a signal comes; ``listening`` is told each URL. Raises `OSError`."""
    stop = _signalled()
    gateway = Gateway(make_app(Upstream(means), (place.host, *place.hosts)))
    sockets = await _bound(place.host, place.port)
    await gateway.start()
    try:
        await gateway.listen(sockets)
        for each in sockets:
            listening(f"http://{_shown(each)}/")
        await stop.wait()
    finally:
        await gateway.end()


async def serve_for(passage: Passage, configure: Callable[[str, str], None]) -> None:
    """Serve for the daemon behind ``passage``, as it says, until it has gone or a signal comes.

    ``configure`` is called with the level and the format of the log. Raises `OSError`.
    """
    stop = _signalled()
    app = make_app(Upstream(Means(passage)))
    gateway = Gateway(app)
    await gateway.start()
    following = asyncio.create_task(_follow(passage, app, gateway, configure))
    stopping = asyncio.create_task(stop.wait())
    living = asyncio.create_task(passage.live())
    try:
        await asyncio.wait((following, stopping), return_when=asyncio.FIRST_COMPLETED)
        if following.done():
            following.result()
    finally:
        following.cancel()
        stopping.cancel()
        await gateway.end()
        living.cancel()


async def _follow(
    passage: Passage, app: web.Application, gateway: Gateway, configure: Callable[[str, str], None]
) -> None:
    """Do as the daemon says, until it has gone. Raises `OSError`."""
    certificate: Certificate | None = None
    listens = False
    while (said := await passage.said()) is not None:
        configure(*said["log"])
        app[UPSTREAM].ready = said["ready"]
        app[GUARD].know(said["hosts"])
        app[BODY_BYTES][0] = said["body_bytes"]
        if certificate is not None:
            certificate.reread()
        if not listens:
            certificate = Certificate(*said["tls"]) if said["tls"] else None
            sockets = [socket.socket(fileno=each) for each in said["sockets"]]
            await gateway.listen(sockets, None if certificate is None else certificate.context)
            listens = True


def _signalled() -> asyncio.Event:
    """Return what is set when this process is told to end."""
    stop = asyncio.Event()
    for each in STOP:
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    return stop


async def _bound(host: str, port: int) -> list[socket.socket]:
    """Return a socket at each address of ``host``. Raises `OSError`."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return [
        socket.create_server(address[:2], family=family)
        for family, *_, address in dict.fromkeys(found)
    ]


def _shown(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
