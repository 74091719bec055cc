# SPDX-License-Identifier: MIT
"""Sends lines whole and in order, although their writers may be interrupted at any moment.

Python raises `KeyboardInterrupt` between any two steps of the main thread. A line of which nobody knows how
much has gone out would spoil all that follow it, a ``request.cancel`` first of all. So what has gone out is
counted by the call that sends it: ``list.extend`` of a ``map`` runs both in C, and there is no step between
them. Everything else is kept in one tuple, which is replaced at once.
"""

from __future__ import annotations

import select
import socket
import threading
from contextlib import suppress
from typing import NamedTuple

from .locks import locked, take

LOOK_EVERY = 0.02
"""Seconds after which a closing thread checks whether the peer still reads what another thread writes."""


class _Pending(NamedTuple):
    """Bytes that are to go out, and how many of them each call has sent."""

    data: bytes
    sent: list[int]

    @property
    def left(self) -> bytes:
        return self.data[sum(self.sent) :]


class Outgoing:
    """The writing half of a blocking socket, for any number of threads."""

    def __init__(self, sock: socket.socket) -> None:
        """Write to ``sock``. Errors of writing are left to the reader, which may find out why."""
        self._socket = sock
        self._writing = threading.Lock()
        self._pending = _Pending(b"", [])

    def put(self, line: bytes) -> None:
        """Write a line, behind what an interrupted call may have left of an earlier one."""

        def write() -> None:
            self._pending = _Pending(self._pending.left + line, [])
            while left := self._pending.left:
                self._pending.sent.extend(map(self._socket.send, (left,)))

        with suppress(OSError):
            locked(self._writing, write)

    def put_last(self, lines: bytes) -> None:
        """Write what the peer takes without waiting for it, and close."""
        held: list[bool] = []
        with suppress(OSError):  # the peer was faster
            self._socket.setblocking(False)
            try:
                if lines:
                    self._write_alone(held)
                if held:
                    self._socket.send(self._pending.left + lines)
            finally:
                if held:
                    self._writing.release()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        locked(self._writing, self._socket.close)

    def _write_alone(self, held: list[bool]) -> None:
        """Acquire the right to write, as ``held`` shows, unless another thread is blocked because the peer
        does not read.
        """
        poll = select.poll()
        poll.register(self._socket, select.POLLOUT)
        while not held:
            take(self._writing, held, LOOK_EVERY)
            if not held and not poll.poll(0):
                return
