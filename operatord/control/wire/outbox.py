# SPDX-License-Identifier: MIT
"""A peer's output: lines joined into few writes, and tasks that wait until it takes more."""

from __future__ import annotations

import asyncio
import socket

from .unread import Unread

WRITE = 64 * 1024
"""Bytes of answers that are joined at most before one write shows whether the peer still reads."""
SYSTEM = 128 * 1024
"""Bytes that the system is asked to keep for a peer that does not read them. By itself Linux keeps up to
4 MiB, and then each write to one that reads again, and the end of one that never does, takes some tenths of
a millisecond."""


class Outbox:
    """The way out of a connection. There may be thousands, most of them empty: hence the slots."""

    __slots__ = ("_bytes", "_deferred", "_lines", "_transport", "_unread", "_waiters", "writable")

    def __init__(self, transport: asyncio.Transport, most: int, unread: Unread) -> None:
        """Assume that the peer reads until ``most`` bytes wait. ``unread`` counts the waiting bytes of all
        peers.
        """
        self._unread = unread
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SYSTEM)
        transport.set_write_buffer_limits(high=most)
        self._transport = transport
        self._lines: list[bytes] = []
        self._bytes = 0
        self._deferred = False
        self._waiters: list[asyncio.Future[None]] = []
        self.writable = True
        """Whether the peer reads what it is sent."""

    @property
    def is_full(self) -> bool:
        """Whether so much is to be written that it had better be now."""
        return self._bytes > WRITE

    @property
    def takes_more(self) -> bool:
        """Whether the peer is there, and reads."""
        return self.writable and not self._transport.is_closing()

    @property
    def unread(self) -> int:
        """Bytes that were written and that the system has not taken, for the peer does not read."""
        return self._transport.get_write_buffer_size()

    def abort(self) -> None:
        """Give up on the peer."""
        self._transport.abort()

    def put(self, lines: bytes) -> None:
        """Add what the next `flush` writes."""
        self._lines.append(lines)
        self._bytes += len(lines)

    def send(self, line: bytes) -> None:
        """Add a line, and have it written soon, with whatever else comes until then."""
        self.put(line)
        if not self._deferred:
            self._deferred = True
            asyncio.get_running_loop().call_soon(self.flush)

    def defer_flush(self) -> None:
        """Have `send` ask for no flush, for one follows."""
        self._deferred = True

    def flush(self) -> None:
        """Write what there is."""
        self._deferred = False
        if self._lines and not self._transport.is_closing():
            self._transport.write(b"".join(self._lines))
            if size := self.unread:
                self._unread.note(self, size)
        self._lines.clear()
        self._bytes = 0

    async def drained(self) -> None:
        """Return when the peer takes more; if the peer goes, waiting tasks are cancelled."""
        if not self.takes_more:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def resume(self) -> None:
        """Wake everybody who waits for the peer to read."""
        self.writable = True
        self._unread.note(self, self.unread)
        self.release()

    def close(self) -> None:
        """Nobody is there any more."""
        self._unread.forget(self)
        self.release()

    def release(self) -> None:
        """Wake those who wait in `drained`."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
