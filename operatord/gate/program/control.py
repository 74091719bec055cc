# SPDX-License-Identifier: MIT
"""What the daemon says to the gate, and what it is told: lines of JSON on a Unix socket."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable
from typing import Any

from .loop import EDGES, READS, WRITES, Loop

CHUNK = 64 * 1024
MOST = 4 * 1024 * 1024
"""Bytes that a daemon may not have read before it is told no more."""
VERSION = 1

Answer = Callable[[dict[str, Any]], dict[str, Any]]


class Controls:
    """The connections of daemons: one, most of the time."""

    def __init__(
        self,
        listener: socket.socket,
        loop: Loop,
        answer: Answer,
        left: Callable[[], None],
    ) -> None:
        """Accept them; ``answer`` returns what is said to a line, ``left`` hears when one has gone."""
        self._listener, self._loop, self._answer, self._left = listener, loop, answer, left
        self._there: set[_Control] = set()
        listener.setblocking(False)
        listener.listen(
            16
        )  # once more: so it is this process that whoever connects sees at its end
        loop.watch(listener.fileno(), READS, self._accept)

    def __bool__(self) -> bool:
        return bool(self._there)

    def tell(self, **event: Any) -> None:
        """Tell all of something that happened."""
        for control in self._there:
            control.say(event)

    def close(self) -> None:
        """Accept no more."""
        self._loop.forget(self._listener.fileno())
        self._listener.close()

    def _accept(self, events: int) -> None:
        with contextlib.suppress(OSError):  # whoever came has left already
            sock, _ = self._listener.accept()
            control = _Control(sock, self._loop, self._answer, self._forget)
            self._there.add(control)
            control.say({"gate": VERSION, "pid": os.getpid()})

    def _forget(self, control: _Control) -> None:
        self._there.discard(control)
        self._left()


class _Control:
    """One of them."""

    def __init__(
        self,
        sock: socket.socket,
        loop: Loop,
        answer: Answer,
        gone: Callable[[_Control], None],
    ) -> None:
        self._sock, self._loop, self._answer, self._gone = sock, loop, answer, gone
        self._in = self._out = b""
        sock.setblocking(False)
        loop.watch(sock.fileno(), READS | WRITES | EDGES, self._hear)

    def say(self, message: dict[str, Any]) -> None:
        """Send a line, as soon as there is room for it."""
        self._out += json.dumps(message).encode() + b"\n"
        self._hear(0)

    def _hear(self, events: int) -> None:
        try:
            self._write()
            while events and (data := self._sock.recv(CHUNK)):
                self._take(data)
        except BlockingIOError:
            return
        except (OSError, ValueError):  # it has gone, or is none of ours
            events = READS
        if events:
            self._close()

    def _write(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._out:
                self._out = self._out[self._sock.send(self._out) :]
        if len(self._out) > MOST:
            raise ConnectionResetError

    def _take(self, data: bytes) -> None:
        *lines, self._in = (self._in + data).split(b"\n")
        for line in lines:
            self.say(self._answer(json.loads(line)))

    def _close(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.forget(self._sock.fileno())
            self._sock.close()
            self._gone(self)
