# SPDX-License-Identifier: MIT
"""A consumer that has passed the door, and the stage: bytes in both directions, until one of them ends."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
from collections.abc import Callable

from .flows import Carriage, Copy
from .loop import EDGES, READS, WRITES, Loop

STALLED = 30.0
"""Seconds in which somebody who is let go of has to take something, as long as there is something to take."""
_AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER: the other side is to see at once that this one has gone."""
_BROKEN = select.EPOLLERR | select.EPOLLHUP


class Stream:
    """Passes on what the stage sends, and what little the consumer does."""

    def __init__(
        self,
        client: socket.socket,
        target: socket.socket,
        first: bytes,
        loop: Loop,
        over: Callable[[], None],
    ) -> None:
        """Own both, connected; ``first`` was read from the client. ``over`` is called when both are closed.

        Raises `RuntimeError` if there is no thread for it, `OSError`.
        """
        self._client, self._target, self._loop, self._over = client, target, loop, over
        self._encrypted = isinstance(client, ssl.SSLSocket)
        self._is_let_go = self._is_closed = False
        self._waits = False
        """The target is watched for room."""
        self._up = Copy(client, target, first)
        self._down: Carriage | Copy
        if self._encrypted:
            self._down = Copy(target, client)
        else:
            for end in (client, target):
                end.setblocking(True)
            self._down = Carriage(target, client, lambda: loop.call(self._arrived))
        both = READS | WRITES | EDGES
        loop.watch(client.fileno(), both if self._encrypted else READS | EDGES, self._hear_client)
        loop.watch(target.fileno(), both if self._encrypted else EDGES, self._hear_target)
        self._pump()

    def _hear_client(self, events: int) -> None:
        self._up.readable = True
        if isinstance(self._down, Copy):
            self._down.writable = True
        self._go_on(self._client, events)

    def _hear_target(self, events: int) -> None:
        self._up.writable = True
        if self._encrypted:
            self._up.readable = True  # TLS may have had to write before it could read
        if isinstance(self._down, Copy):
            self._down.readable = True
        self._go_on(self._target, events)

    def _go_on(self, end: socket.socket, events: int) -> None:
        if events & _BROKEN and end.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.close(at_once=end is self._client)
        else:
            self._pump()

    def _pump(self) -> None:
        if self._is_closed:
            return
        try:
            busy = self._up.pump()
            if isinstance(self._down, Copy):
                busy |= self._down.pump()
        except OSError:
            self.close(at_once=True)
            return
        if self._up.ended and self._down.ended:
            self.close()
            return
        if busy:
            self._loop.again(self._pump)
        if self._down.ended:
            self.let_go()
        if not self._encrypted:
            self._watch_target(self._up.is_held_up)

    def _watch_target(self, waits: bool) -> None:
        """Wait for room at the target only while that is wanted: all that comes from it would wake this."""
        if waits != self._waits:
            self._waits = waits
            self._loop.change(self._target.fileno(), (WRITES if waits else 0) | EDGES)

    def _arrived(self) -> None:
        """The thread of the stage's direction has ended."""
        if self._is_closed:
            self._close_both()
        elif self._down.ended:
            self._pump()
        else:
            self.close(at_once=True)

    def let_go(self) -> None:
        """Let the consumer read what is there, and end."""
        if not self._is_let_go:
            self._is_let_go = True
            self._look(-1)

    def _look(self, before: int) -> None:
        """Close unless something was passed on since there were ``before`` bytes."""
        passed = self._down.passed
        if passed == before:
            self.close()
        elif not self._is_closed:
            self._loop.later(STALLED, lambda: self._look(passed))

    def close(self, *, at_once: bool = False) -> None:
        """End both connections. Idempotent. ``at_once``: one has gone, and the stage is to see that."""
        if self._is_closed:
            return
        self._is_closed = True
        for end in (self._client, self._target):
            self._loop.forget(end.fileno())
        if at_once:
            self._target.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        if isinstance(self._down, Copy) or self._down.is_over:
            self._close_both()
            return
        for end in (self._client, self._target):  # its thread sees that
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _close_both(self) -> None:
        if self._target.fileno() >= 0:
            self._target.close()
            self._client.close()
            self._over()
