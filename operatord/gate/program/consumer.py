# SPDX-License-Identifier: MIT
"""Somebody at a door: TLS, a first line, the way to the stage; from there on it is a `stream`."""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
from collections.abc import Callable
from typing import Protocol

from .flows import say_goodbye
from .loop import EDGES, READS, WRITES, Loop
from .stream import Stream
from .terms import FIRST_LINE, FULL, GONE, LATE, LINE, LONG, PLAIN, Terms, error_line

HANDSHAKE = b"\x16"
"""How a record of TLS begins in which a handshake does (RFC 8446, 5.1)."""
_WAITS = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))
"""Half a minute after which somebody whose machine has gone counts as gone."""


class Door(Protocol):
    """What a consumer needs of the door that it came by."""

    terms: Terms
    loop: Loop

    def admitted(self, consumer: Consumer) -> str | None:
        """Note that one has shown that it may pass; return why it may not all the same, if so."""
        ...

    def refused(self, consumer: Consumer, why: str) -> None:
        """Note that one may not pass."""
        ...

    def left(self, consumer: Consumer) -> None:
        """Note that one has gone."""
        ...


class Consumer:
    """Somebody who has connected."""

    def __init__(
        self, door: Door, client: socket.socket, peer: str, context: ssl.SSLContext | None
    ) -> None:
        """``peer`` is its address; ``context`` is what TLS is spoken with, if it is."""
        self.peer = peer
        self._door, self._loop = door, door.loop
        client.setblocking(False)
        _tune(client)
        self._client = client
        self._target: socket.socket | None = None
        self._line = b""
        self._stream: Stream | None = None
        self.is_over = False
        self._objection = door.terms.objection(peer)
        self._context = context
        self._step: Callable[[], None] = self._greet if context is None else self._meet
        self._loop.watch(self._client.fileno(), READS | WRITES | EDGES, self._hear)
        self._loop.later(FIRST_LINE, self._late)
        self._go_on()

    # Before the stream

    def _go_on(self) -> None:
        """Do what is next, whichever that is; whatever breaks is the end of the connection."""
        try:
            self._step()
        except _WAITS:
            return
        except OSError:
            self.close()

    def _meet(self) -> None:
        """Begin with TLS, unless what comes first is none."""
        if (first := self._client.recv(1, socket.MSG_PEEK)) != HANDSHAKE:
            if not first:
                raise ConnectionResetError
            self._refuse(PLAIN)
            return
        assert self._context is not None
        # It keeps its descriptor, and so is watched as before.
        self._client = self._context.wrap_socket(
            self._client, server_side=True, do_handshake_on_connect=False
        )
        self._step = self._shake
        self._shake()

    def _shake(self) -> None:
        assert isinstance(self._client, ssl.SSLSocket)
        self._client.do_handshake()
        self._step = self._greet
        self._greet()

    def _greet(self) -> None:
        if self._objection is not None:
            self._refuse(self._objection)
            return
        if self._door.terms.allow != "token":
            self._connect()
            return
        while b"\n" not in self._line:
            if len(self._line) > LINE:
                self._refuse(LONG)
                return
            data = self._client.recv(LINE + 1 - len(self._line))
            if not data:
                raise ConnectionResetError
            self._line += data
        line, _, self._line = self._line.partition(b"\n")
        if why := self._door.terms.refusal(line):
            self._refuse(why)
        else:
            self._connect()

    def _connect(self) -> None:
        if why := self._door.admitted(self):
            self._refuse(why)
            return
        host, port = self._door.terms.target
        target = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        target.setblocking(False)
        _tune(target)
        self._target = target
        self._step = self._await_target
        code = target.connect_ex((host, port))
        if code not in (0, errno.EINPROGRESS):
            self._refuse(GONE)
            return
        self._loop.watch(target.fileno(), READS | WRITES | EDGES, self._hear_target)

    def _await_target(self) -> None:
        """Wait for the target: nothing of the client is read meanwhile."""

    def _refuse(self, why: str) -> None:
        """Tell why, and let it read that."""
        self._door.refused(self, why)
        self._step = self._leave
        with contextlib.suppress(*_WAITS):  # who does not read is not told
            self._client.send(error_line(why))
        if isinstance(self._client, ssl.SSLSocket):
            say_goodbye(self._client)
        else:
            self._client.shutdown(socket.SHUT_WR)
        self._loop.later(FIRST_LINE, self.close)
        self._leave()

    def _leave(self) -> None:
        """Take what still comes: unread, it would undo what was said."""
        for _ in range(16):
            if not self._client.recv(LINE):
                self.close()
                return
        self.close()

    def _late(self) -> None:
        if self._step in (self._meet, self._shake):
            self.close()
        elif self._step == self._greet:
            self._say(LATE)
        elif self._step == self._await_target and self._stream is None and not self.is_over:
            self._say(GONE)

    def _say(self, why: str) -> None:
        try:
            self._refuse(why)
        except _WAITS:
            return
        except OSError:
            self.close()

    def _hear(self, events: int) -> None:
        self._go_on()

    def _hear_target(self, events: int) -> None:
        if self._step == self._await_target and self._stream is None:
            self._arrive()

    def _arrive(self) -> None:
        """Begin to pass bytes on, unless the stage refuses the connection."""
        client, target = self._client, self._target
        assert target is not None
        if target.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._say(GONE)
            return
        for end in (client, target):
            self._loop.forget(end.fileno())
        try:
            self._stream = Stream(client, target, self._line, self._loop, self._ended)
        except RuntimeError:
            self._say(FULL)
        except OSError:
            self.close()

    # The end

    def let_go(self) -> None:
        """Let it read what is there, and end."""
        if self._stream is None:
            self.close()
        else:
            self._stream.let_go()

    def close(self) -> None:
        """End the connection. Idempotent."""
        if self._stream is not None:
            self._stream.close()
            return
        for end in filter(None, (self._client, self._target)):
            if end.fileno() >= 0:
                self._loop.forget(end.fileno())
                end.close()
        self._ended()

    def _ended(self) -> None:
        self.is_over, self._step = True, self._await_target
        self._door.left(self)


def _tune(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
