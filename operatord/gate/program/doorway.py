# SPDX-License-Identifier: MIT
"""A door: one listening socket, and those who came by it."""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
from collections.abc import Callable

from .consumer import Consumer
from .loop import READS, Loop
from .terms import FULL, Terms

WAITING = 128
"""Those whom the system lets wait to be accepted."""
AT_ONCE = 16
"""Those who are accepted until others have their turn."""
GREETERS = 64
"""Those who may be about to show that they may pass; one more, and the first of them is sent away."""
ANYWHERE = "0.0.0.0"  # noqa: S104  # the door asks who comes
PAUSE = 0.2
"""Seconds until the next try after the system had no descriptor for somebody."""

Refused = Callable[[Terms, str, str], None]
"""Hears by which door somebody may not pass, from which address that came, and why."""


class Doorway:
    """Lets consumers through to one stage."""

    def __init__(
        self, terms: Terms, loop: Loop, refused: Refused, emptied: Callable[[], None]
    ) -> None:
        """Listen. ``emptied`` is called when it is closed and nobody is there. Raises `OSError`."""
        self._emptied = emptied
        self.loop = loop
        self._refused = refused
        self._listener = _listener(terms)
        self.terms = terms._replace(port=self._listener.getsockname()[1])
        self.context: ssl.SSLContext | None = None
        self._consumers: dict[Consumer, None] = {}
        self._admitted: set[Consumer] = set()
        early = self._prove()
        self.loop.watch(self._listener.fileno(), READS, self._accept)
        for client, peer in early:
            self._take(client, peer)

    def _prove(self) -> list[tuple[socket.socket, str]]:
        """Connect to the door once; return others who came meanwhile. Raises `OSError`.

        From here, as nobody else can: the stage would take the daemon's connection for a consumer.
        """
        others: list[tuple[socket.socket, str]] = []
        try:
            with _connected(self._listener.getsockname()) as probe:
                while True:
                    client, address = self._listener.accept()
                    if address[:2] == probe.getsockname()[:2]:
                        client.close()
                        return others
                    others.append((client, address[0]))
        except OSError:
            self._listener.close()
            raise

    @property
    def is_empty(self) -> bool:
        """Whether nobody is there."""
        return not self._consumers

    def close(self) -> None:
        """Let nobody else in, and those who read finish. Idempotent."""
        if self._listener.fileno() >= 0:
            self.loop.forget(self._listener.fileno())
            self._listener.close()
            for consumer in tuple(self._consumers):
                consumer.let_go()

    def _accept(self, events: int) -> None:
        for _ in range(AT_ONCE):
            try:
                client, address = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                return
            except OSError:
                self._pause()
                return
            self._take(client, address[0])

    def _take(self, client: socket.socket, peer: str) -> None:
        greeting = [each for each in self._consumers if each not in self._admitted]
        if len(greeting) >= GREETERS:
            greeting[0].close()
        try:
            consumer = Consumer(self, client, peer, self.context)
        except OSError:  # it has gone already
            client.close()
            return
        if not consumer.is_over:
            self._consumers[consumer] = None

    def _pause(self) -> None:
        """Take nobody for a moment: they are there, so the loop would come back here at once."""
        self.loop.forget(self._listener.fileno())
        self.loop.later(PAUSE, self._go_on)

    def _go_on(self) -> None:
        if self._listener.fileno() >= 0:
            self.loop.watch(self._listener.fileno(), READS, self._accept)

    def admitted(self, consumer: Consumer) -> str | None:
        """See `consumer.Door`."""
        if len(self._admitted) >= self.terms.most:
            return FULL
        self._admitted.add(consumer)
        return None

    def refused(self, consumer: Consumer, why: str) -> None:
        """See `consumer.Door`."""
        self._admitted.discard(consumer)
        self._refused(self.terms, consumer.peer, why)

    def left(self, consumer: Consumer) -> None:
        """See `consumer.Door`."""
        self._consumers.pop(consumer, None)
        self._admitted.discard(consumer)
        if self._listener.fileno() < 0 and not self._consumers:
            self._emptied()


def _listener(terms: Terms) -> socket.socket:
    """Return a socket that listens where a door is to be. Raises `OSError`."""
    if terms.port or terms.ports is None:
        return _bound(terms.listen, terms.port)
    first, last = terms.ports
    for port in range(first, last + 1):
        with contextlib.suppress(OSError):
            return _bound(terms.listen, port)
    raise OSError(errno.EADDRINUSE, f"no port of gate_ports ({first}-{last}) is free")


def _connected(address: tuple[object, ...]) -> socket.socket:
    """Return a connection to an address on which is listened here. Raises `OSError`."""
    host = {ANYWHERE: "127.0.0.1", "::": "::1"}.get(str(address[0]), address[0])
    sock = socket.socket(socket.AF_INET6 if ":" in str(host) else socket.AF_INET)
    try:
        sock.settimeout(PAUSE)
        sock.connect((host, *address[1:]))
    except BaseException:
        sock.close()
        raise
    return sock


def _bound(address: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address == "::":
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        host, _, scope = address.partition("%")
        sock.bind((host, port, 0, socket.if_nametoindex(scope)) if scope else (host, port))
        sock.setblocking(False)
        sock.listen(WAITING)
    except BaseException:
        sock.close()
        raise
    return sock
