# SPDX-License-Identifier: MIT
"""Checks whether a silent peer is still there. A peer that half-closes and one that leaves look alike: an
end, and then silence.

``nc -N`` half-closes and waits for its answer; a program that was interrupted is gone, and what it had
asked for should be given up. Only what is sent to them tells them apart: the system of one that is gone
answers with a reset. So while an answer takes its time, a blank is sent now and then, which is nothing
before a line of JSON. The same goes for subscriptions, which may be silent for hours, and for a peer that has
asked for so much that it is read no more: its end would not be seen either.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

FIRST = 2.0
"""Seconds after the end of the input until the first blank; most answers come sooner."""
EVERY = 3.0
"""Seconds between blanks."""
KEEPALIVE = (15, 5, 3)
"""Seconds of silence before the system asks after a peer, seconds between its questions, how many."""
ROUND_TRIP = 0.25
"""Seconds in which a reset comes back, or is seen at the next look."""


class Presence:
    """Looks after one half-closed connection while ``busy`` says that something is due."""

    def __init__(self, transport: asyncio.Transport, busy: Callable[[], bool]) -> None:
        """Nothing happens before `watch`."""
        self._transport = transport
        self._busy = busy
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """Look from now on, until nothing is due. Idempotent."""
        if self._timer is None:
            self._timer = self._loop.call_later(FIRST, self._knock)

    def end(self) -> None:
        """Look no more. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _knock(self) -> None:
        self._timer = None
        if self._transport.is_closing() or not self._busy():
            return
        if not self._transport.get_write_buffer_size():  # else what waits there knocks as well
            self._transport.write(b" ")
        self._timer = self._loop.call_later(ROUND_TRIP, self._look)

    def _look(self) -> None:
        if _is_gone(self._transport.get_extra_info("socket")):
            self._transport.abort()
        else:
            self._timer = self._loop.call_later(EVERY, self._knock)


def _is_gone(sock: socket.socket) -> bool:
    """Tell whether the peer has reset the connection: the input that would say so is not read any more."""
    with contextlib.suppress(OSError):
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
    return True


def notice_dead_peers(sock: socket.socket) -> None:
    """Have the system ask after a silent TCP peer: leases and queue places end with a connection."""
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE[0])
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE[1])
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE[2])
