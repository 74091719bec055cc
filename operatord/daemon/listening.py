# SPDX-License-Identifier: MIT
"""Where the daemon listens: what the service manager hands over, and what the settings name."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from pathlib import Path
from typing import NamedTuple

from operatord.access.origin import Entrance
from operatord.control.wire.listener import WAITING
from operatord.control.wire.server import Server
from operatord.settings.config import Config
from operatord.settings.listeners import ListenerSettings
from operatord.systemd.activation import name_of
from operatord.systemd.manager import ServiceManager

from .assembly import Assembly
from .gateway import GatewayMeans, GatewayProcess, absolute, told
from .passage import Announced

log = logging.getLogger(__name__)


class Listening(NamedTuple):
    """Where the daemon listens."""

    address: tuple[str, int]
    """Of TCP."""
    http: list[socket.socket]
    """Where the gateway is to listen."""


IN_USE = 5.0
"""Seconds in which an address for HTTP may be in use: a gateway ends a moment after its daemon was killed."""
AGAIN = 0.05
"""Seconds until the next try."""


async def listen(server: Server, config: Config, manager: ServiceManager) -> Listening:
    """Listen wherever it is to be; return where. Raises `OSError`."""
    for sock in manager.sockets:
        log.info("taking connections of %s, which the service manager has made", name_of(sock))
    server.hand_over(manager.sockets)
    http = await _listen_for_http(server, config)  # before anybody is served, since it may fail
    try:
        address = await _listen_for_lines(server, config)
    except BaseException:
        for sock in http:
            sock.close()
        raise
    for door in config.open_doors:
        log.info("%s", door)
    return Listening(address, http)


async def _listen_for_lines(server: Server, config: Config) -> tuple[str, int]:
    """Listen for the protocol; return the address of TCP. Raises `OSError`."""
    host, port = await server.listen(*config.address)
    log.info("listening on %s:%d", host, port)
    if config.unix:
        await server.listen_unix(Path(config.unix))
        log.info("listening on %s", config.unix)
    for place, each in enumerate(config.listeners):
        await _listen_also(server, place, each)
    server.listen_on_the_rest()
    return host, port


async def _listen_for_http(server: Server, config: Config) -> list[socket.socket]:
    """Return where the gateway is to listen, if it is to. Raises `OSError`, which names the setting."""
    if config.http.listen is None:
        return []
    tries = int(IN_USE / AGAIN)
    while True:
        try:
            found = await server.bound(*config.http.address)
            break
        except OSError as exc:
            tries -= 1
            if exc.errno != errno.EADDRINUSE or tries < 0:
                raise OSError(
                    exc.errno, exc.strerror, f"http.listen: {config.http.listen}"
                ) from exc
            await asyncio.sleep(AGAIN)
    asks = "token" if config.http.asks(config.auth) else "none"
    for sock in found:
        sock.listen(WAITING)
        how = "https" if config.http.tls else "http"
        log.info("listening on %s://%s, auth: %s", how, name_of(sock), asks)
    return found


async def _listen_also(server: Server, place: int, each: ListenerSettings) -> None:
    """Listen where one of `listeners` says. Raises `OSError`."""
    if each.is_unix:
        await server.listen_unix(Path(each.address), each.auth)
        log.info("listening on %s, auth: %s", each.address, each.auth)
        return
    host, port = await server.listen(*each.tcp, each.auth, place)
    how = "TLS" if each.tls else "no TLS"
    log.info("listening on %s:%d, %s, auth: %s", host, port, how, each.auth)


def make_gateway(parts: Assembly, sockets: list[socket.socket]) -> GatewayProcess:
    """Return what keeps a gateway that listens on ``sockets``; nothing is started yet."""
    http = parts.config.http
    files = None if http.tls is None else absolute(http.tls)[:2]

    def make(said: Announced) -> asyncio.BaseProtocol:
        entrance = Entrance(said.place, files, by_gateway=True)
        return parts.server.client_of_gateway(said.source, entrance, http.auth)

    means = GatewayMeans(
        sockets,
        lambda: told(parts.config, ready=parts.supervisor.availability.state == "up"),
        make,
        lambda: parts.server.crowded,
        parts.keeper.show,
        parts.clock,
    )
    return GatewayProcess(means)
