# SPDX-License-Identifier: MIT
"""A consumer that reads when a trial wants it to, and notes what comes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
from collections.abc import Callable
from typing import Literal

from operatord.engines.base import Address
from operatord_protocol.stage_lines import object_in
from operatord_protocol.stream import (
    CHECK,
    HEADER_BYTES,
    End,
    Frame,
    Hello,
    StreamError,
    StreamParser,
    check_parts,
)

from .seen import Reading

SILENT = b""
CONSUME = b'{"type":"consume"}\n'
LIVE = b'{"type":"consume","policy":"live"}\n'
WATCH = b'{"type":"watch"}\n'
NARROW = 16 * 1024
"""Bytes of a receive buffer in which little is left waiting while the consumer pauses."""
WIDE = 1024 * 1024
GREETING = 100
"""Bytes that are kept of the first line of another protocol."""
MOST_BYTES = 8 * 2**30
"""That are read of a stage: twice what the longest stream of a trial has, if its frames are large."""
RETRY = 0.02
"""Seconds between two tries to connect."""
__all__ = ["CHECK", "CONSUME", "LIVE", "NARROW", "SILENT", "WATCH", "Consumer", "meet"]


class Consumer:
    """One connection, maybe after others that were refused or closed before anything came."""

    def __init__(
        self, address: Address, said: bytes, buffer: int | None = None, *, most: int
    ) -> None:
        """Say ``said`` as soon as it is connected; have ``buffer`` bytes for what comes.

        A stage that sends more than ``most`` frames, or `MOST_BYTES`, is not read on.
        """
        self._address, self._said, self._buffer = address, said, buffer
        self._most = most
        self._loop = asyncio.get_running_loop()
        self._sock: socket.socket | None = None
        self._begun = 0.0
        self._greeting = 0
        self._line = bytearray()
        self._parser = StreamParser()
        self._header: Hello | None = None
        self.wire: Literal["nothing", "json", "other"] = "nothing"
        self.hello: dict[str, object] = {}
        self.hello_after: float | None = None
        self.greeted_at = 0.0
        """When its first line came, by the loop's clock."""
        self.first_after: float | None = None
        self.seqs: list[int] = []
        self.end: tuple[int, int] | None = None
        self.closed = False
        self.flooded = False
        """More has come than is read."""
        self.fault = ""
        self.bytes = 0
        self.greeting = ""
        self.parts: tuple[str, ...] = ()

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.closed or self.end is not None

    @property
    def served(self) -> int:
        """How many frames have come; of another protocol, 3 once more than a greeting has come."""
        return 3 if self.wire == "other" and self.bytes > self._greeting else len(self.seqs)

    def seen(self) -> Reading:
        """Return what has come so far."""
        return Reading(
            wire=self.wire,
            hello=self.hello,
            hello_after=self.hello_after,
            seqs=tuple(self.seqs),
            first_after=self.first_after,
            end=self.end,
            closed=self.closed,
            fault=self.fault,
            bytes=self.bytes,
            greeting=self.greeting,
            parts=self.parts,
            served=self.served > 0,
        )

    async def open(self) -> None:
        """Connect, and say what there is to say in the same moment. Raises `OSError`."""
        sock = socket.socket()
        sock.setblocking(False)
        if self._buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer)
        try:
            await self._introduce(sock)
        except BaseException:
            sock.close()
            raise
        self._sock, self._begun, self.closed = sock, self._loop.time(), False

    async def _introduce(self, sock: socket.socket) -> None:
        code = sock.connect_ex((self._address.host, self._address.port))
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))
        if code == 0 or self._said:
            with contextlib.suppress(BlockingIOError):
                sock.send(self._said)
                return
        await self._loop.sock_connect(sock, (self._address.host, self._address.port))
        sock.send(self._said)  # a fresh socket takes it whole

    async def take(self, seconds: float, enough: Callable[[Consumer], bool]) -> bool:
        """Read until it is enough or over, for so many seconds; return whether it is enough."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not (self.closed or self.flooded or enough(self)):
                    await self._receive()
                    await asyncio.sleep(0)  # a read of what waits gives time and signals no turn
        return enough(self)

    async def _receive(self) -> None:
        if self._sock is None:  # it was never connected
            self.closed = True
            return
        try:
            data = await self._loop.sock_recv(self._sock, 65536)
        except OSError as exc:
            self.fault = self.fault or f"the connection broke: {exc.strerror}"
            data = b""
        if data:
            self._take(data)
        else:
            self.closed = True

    def widen(self) -> None:
        """Have space from now on for as much as comes."""
        if self._sock is not None:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WIDE)

    def leave(self) -> None:
        """Close the connection; what has not been read resets it."""
        if self._sock is not None:
            self._sock.close()

    def vanish(self) -> None:
        """Reset the connection."""
        if self._sock is not None:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.leave()

    def _take(self, data: bytes) -> None:
        self.bytes += len(data)
        if self.bytes > MOST_BYTES:
            self._flood(f"more than {MOST_BYTES // 2**30} GiB")
        if self.hello_after is None:
            self.greeted_at = self._loop.time()
            self.hello_after = self.greeted_at - self._begun
            self._greeting = len(data)
            self.wire = "json" if data.startswith(b"{") else "other"
            if self.wire == "other":
                self.greeting = data[:GREETING].partition(b"\n")[0].decode("ascii", "replace")
        if self.wire == "json" and not self.fault:
            self._read_hello(data)
            self._parse(data)

    def _read_hello(self, data: bytes) -> None:
        """Keep the first line as it is: it may say more than a `Hello` knows."""
        if not self.hello and len(self._line) < HEADER_BYTES:
            self._line += data
            line, newline, _ = self._line.partition(b"\n")
            if newline:
                self.hello = object_in(line.decode("utf-8", "replace"))

    def _parse(self, data: bytes) -> None:
        try:
            for item in self._parser.feed(data):
                self._note(item)
                if len(self.seqs) > self._most:
                    self._flood(f"more than {self._most} frames")
                    return
            if self._parser.fault is not None:
                raise self._parser.fault
        except StreamError as exc:
            self.fault = str(exc)

    def _flood(self, what: str) -> None:
        self.flooded = True
        self.fault = self.fault or f"it sent {what}, and was not read on"

    def _note(self, item: Hello | Frame | End) -> None:
        if isinstance(item, Hello):
            self._header = item
        elif isinstance(item, End):
            self.end = item.frames, item.dropped
        else:
            assert self._header is not None
            check_parts(item.header, self._header)
            self.first_after = self.first_after or self._loop.time() - self._begun
            self.parts = self.parts or tuple(part.name for part in item.header.parts)
            self.seqs.append(item.seq)


async def meet(consumer: Consumer, seconds: float) -> bool:
    """Connect until a first line comes, for so many seconds; return whether one has come.

    A refused connection, and one that is closed before anything has come, mean "later".
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not consumer.hello_after:
                with contextlib.suppress(OSError):
                    await consumer.open()
                    await consumer.take(seconds, _has_greeting)
                if not consumer.hello_after:
                    consumer.leave()
                    await asyncio.sleep(RETRY)
    return bool(consumer.hello or consumer.wire == "other")


def _has_greeting(consumer: Consumer) -> bool:
    return bool(consumer.hello) or consumer.wire == "other" or bool(consumer.fault)
