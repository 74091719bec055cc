# SPDX-License-Identifier: MIT
"""Connections that the gateway makes for its clients.

The gateway hands each of them over: one end of a pair of sockets, with a line of the PROXY protocol, version
1, that says from where the client comes and where it has connected. From then on the connection is that
client's: counted, made to wait and written down by its address, and told of locations that it reaches. Nobody
but the gateway has the socket that they come by, so what the line says is believed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import socket
from collections.abc import Callable
from typing import NamedTuple

from operatord.access.origin import Origin
from operatord.control.wire.listener import AT_ONCE

log = logging.getLogger(__name__)

LONGEST = 107
"""Bytes of a line, its end included (the protocol's text, section 2.1)."""
FAMILIES = {"TCP4": 4, "TCP6": 6}


class Announced(NamedTuple):
    """What a line says."""

    source: Origin
    """Where the client comes from."""
    place: str
    """The address of this machine that it has connected to."""


def announced(line: bytes) -> Announced:
    """Return what a line says. Raises `ValueError`."""
    if not line.endswith(b"\r\n"):
        raise ValueError("it has no end")
    word, family, source, place, *ports = line[:-2].decode("ascii").split(" ")
    if word != "PROXY" or family not in FAMILIES or len(ports) != 2:
        raise ValueError("it is not a line of the PROXY protocol")
    here, there = ipaddress.ip_address(place), ipaddress.ip_address(source)
    if {here.version, there.version} != {FAMILIES[family]}:
        raise ValueError(f"its addresses are none of {family}")
    port, _ = (_port(each) for each in ports)
    return Announced(Origin(str(there), port), str(here))


def _port(text: str) -> int:
    if not text.isdigit() or str(int(text)) != text or int(text) > 65535:
        raise ValueError(f"{text!r} is not a port")
    return int(text)


class Passage:
    """One gateway's way to hand connections over."""

    def __init__(
        self,
        sock: socket.socket,
        make: Callable[[Announced], asyncio.BaseProtocol],
        crowded: Callable[[], bool],
    ) -> None:
        """Make each connection that comes by ``sock`` the transport of what ``make`` returns, until `close`.

        While it is ``crowded``, they wait there. ``sock`` stays its owner's.
        """
        self._sock, self._make, self._crowded = sock, make, crowded
        self._loop = asyncio.get_running_loop()
        self._making: set[asyncio.Task[None]] = set()
        self._heard = False
        self._loop.add_reader(sock, self._take)

    def close(self) -> None:
        """Take no more. Idempotent."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)

    def shut(self) -> None:
        """Take no more, and have the gateway know: it tells its clients. Idempotent."""
        if self._sock.fileno() >= 0:
            self.close()
            with contextlib.suppress(OSError):  # it has gone
                self._sock.shutdown(socket.SHUT_RD)

    def _take(self) -> None:
        for _ in range(AT_ONCE):
            if self._crowded():
                return  # and is called again at once, after waiting callbacks
            try:
                line, descriptors, _, _ = socket.recv_fds(self._sock, LONGEST + 1, 1)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as exc:
                log.debug("nothing more comes by the gateway's passage: %s", exc)
                line, descriptors = b"", []
            if not line:
                self.close()
                return
            self._take_on(line, descriptors)

    def heard(self) -> bool:
        """Tell whether the gateway has given a sign of life since this was asked last."""
        heard, self._heard = self._heard, False
        return heard

    def _take_on(self, line: bytes, descriptors: list[int]) -> None:
        """Begin to serve whoever is announced. What comes without a descriptor is a sign of life."""
        self._heard = True
        if not descriptors:
            return
        try:
            said = announced(line)
        except ValueError as exc:
            log.error("the gateway announces a client in no way that is known: %s", exc)
            os.close(descriptors[0])
            return
        peer = socket.socket(fileno=descriptors[0])
        peer.setblocking(False)
        task = self._loop.create_task(self._connect(peer, self._make(said)))
        self._making.add(task)
        task.add_done_callback(self._making.discard)

    async def _connect(self, peer: socket.socket, protocol: asyncio.BaseProtocol) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: protocol, peer)
        except OSError:  # it has gone
            peer.close()
