# SPDX-License-Identifier: MIT
"""Accepts peers on one listening socket: a few at a time, and none while there are no descriptors.

asyncio's own servers accept as many peers at once as may wait, and without descriptors they try again and
again.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
import ssl
import traceback
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from .handshakes import shake

log = logging.getLogger(__name__)

WAITING = 1024
"""Peers that the system lets wait to be accepted."""
AT_ONCE = 4
"""Peers that are accepted until the event loop has its turn: about a millisecond's work."""
PAUSE = 0.2
"""Seconds until the next try after the system had no descriptor, or no memory, for a peer."""
TOLD_EVERY = 60.0
"""Seconds in which that is said once."""


class Tls(NamedTuple):
    """What a listener with TLS goes by."""

    context: Callable[[], ssl.SSLContext]
    """Returns what it is spoken with now."""
    begun: Callable[[Any, asyncio.Task[Any], int], None]
    """Hears of a peer at an address that a task shakes hands with, and of its descriptor."""
    note: Callable[[Any, ssl.SSLError], None]
    """Hears from which address came who could not, or had not the right certificate."""


class Listener:
    """One listening socket."""

    def __init__(
        self,
        sock: socket.socket,
        protocol: Callable[[], asyncio.BaseProtocol],
        crowded: Callable[[], bool],
        tls: Tls | None = None,
    ) -> None:
        """Make each peer of ``sock`` the transport of a new ``protocol``, from now until `close`.

        While it is ``crowded``, peers wait with the system.
        """
        self._tls = tls
        self._sock = sock
        self._crowded = crowded
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._making: set[asyncio.Task[Any]] = set()
        self._paused: asyncio.TimerHandle | None = None
        self._told = -TOLD_EVERY
        sock.setblocking(False)
        sock.listen(WAITING)
        self._loop.add_reader(sock, self._accept)

    @property
    def address(self) -> Any:
        """Where it listens."""
        return self._sock.getsockname()

    def close(self) -> None:
        """Accept no more. Idempotent."""
        if self._paused is not None:
            self._paused.cancel()
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)
            self._sock.close()
        for task in tuple(self._making):
            task.cancel()

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            if self._crowded():
                return  # and is called again at once, after waiting callbacks
            try:
                peer, address = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as exc:
                self._pause(exc)
                return
            peer.setblocking(False)
            task = self._loop.create_task(self._make(peer, address))
            self._making.add(task)
            task.add_done_callback(functools.partial(self._made, peer))
            if self._tls is not None:
                self._tls.begun(address, task, peer.fileno())

    def _made(self, peer: socket.socket, task: asyncio.Task[Any]) -> None:
        self._making.discard(task)
        if task.cancelled():  # maybe before its first step
            peer.close()

    async def _make(self, peer: socket.socket, address: Any) -> None:
        try:
            if self._tls is None:
                await self._loop.connect_accepted_socket(self._protocol, peer)
            else:
                await shake(peer, self._protocol, self._tls.context())
        except BaseException as exc:
            peer.close()
            # They hold the error, and what was made for TLS, in a circle.
            traceback.clear_frames(exc.__traceback__)
            if isinstance(exc, ssl.SSLError) and self._tls is not None:
                self._tls.note(address, exc)
            elif not isinstance(exc, OSError):
                raise

    def _pause(self, exc: OSError) -> None:
        """Accept no peers for a moment: they are still waiting, so the loop would call this again at once."""
        self._wait_for(PAUSE)
        if self._loop.time() - self._told >= TOLD_EVERY:
            self._told = self._loop.time()
            log.error(
                "no peer can be accepted just now: %s; connections wait. Raise the limit on open files "
                "(LimitNOFILE, ulimit -n) or lower limits.connections",
                exc.strerror,
            )

    def _wait_for(self, seconds: float) -> None:
        self._loop.remove_reader(self._sock)
        self._paused = self._loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._paused = None
        self._loop.add_reader(self._sock, self._accept)


async def bound(host: str, port: int, there: Collection[socket.socket] = ()) -> list[socket.socket]:
    """Return a socket bound to each address of ``host``, of ``there`` where one is. Raises `OSError`."""
    ready = {sock.getsockname()[:2]: sock for sock in there if sock.family != socket.AF_UNIX}
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    with contextlib.ExitStack() as made:
        sockets = []
        for family, kind, proto, _, address in dict.fromkeys(found):
            if address[:2] in ready:
                sockets.append(ready[address[:2]])
                continue
            sock = made.enter_context(socket.socket(family, kind, proto))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)
            sockets.append(sock)
        made.pop_all()
    return sockets
