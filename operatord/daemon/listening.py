# SPDX-License-Identifier: MIT
"""Where the daemon listens: what the service manager hands over, and what the settings name."""

from __future__ import annotations

import logging
from pathlib import Path

from operatord.control.wire.server import Server
from operatord.settings.config import Config
from operatord.settings.listeners import ListenerSettings, is_loopback
from operatord.systemd.activation import name_of
from operatord.systemd.manager import ServiceManager

log = logging.getLogger(__name__)


async def listen(server: Server, config: Config, manager: ServiceManager) -> tuple[str, int]:
    """Listen wherever it is to be; return the address of TCP. Raises `OSError`."""
    for sock in manager.sockets:
        log.info("taking connections of %s, which the service manager has made", name_of(sock))
    server.hand_over(manager.sockets)
    host, port = await server.listen(*config.address)
    log.info("listening on %s:%d", host, port)
    if config.unix:
        await server.listen_unix(Path(config.unix))
        log.info("listening on %s", config.unix)
    for place, each in enumerate(config.listeners):
        await _listen_also(server, place, each)
    server.listen_on_the_rest()
    for door in config.open_doors:
        log.info("%s", door)
    return host, port


async def _listen_also(server: Server, place: int, each: ListenerSettings) -> None:
    """Listen where one of `listeners` says. Raises `OSError`."""
    if each.is_unix:
        await server.listen_unix(Path(each.address), each.auth)
        log.info("listening on %s, auth: %s", each.address, each.auth)
        return
    host, port = await server.listen(*each.tcp, each.auth, place)
    how = "TLS" if each.tls else "no TLS"
    log.info("listening on %s:%d, %s, auth: %s", host, port, how, each.auth)
    if each.tls is None and not is_loopback(each.tcp[0]):
        log.warning("tokens go to %s in clear: set tls there", each.address)
