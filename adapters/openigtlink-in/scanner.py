# SPDX-License-Identifier: MIT
"""The OpenIGTLink server: connect to it, read its messages, and connect again when it is lost."""

from __future__ import annotations

import contextlib
import socket
import sys
import time

from igtl.messages import HEADER, Header, crc64
from operatord_stage.source import open_connection
from operatord_stage.stage import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

MOST_BODY = 16 * 1024 * 1024
"""Bytes of a body that is read; one with more is left out."""
SCRAP = 64 * 1024
"""Bytes of what is left out that are read at once."""
CONNECTS = 5.0
"""Seconds that a connection may take."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds until the next try to connect: each time in a row twice as many."""
KEEPALIVE = {socket.TCP_KEEPIDLE: 10, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}
"""When a silent scanner's kernel is asked whether it is there: seconds, seconds between, times."""
MOST_TOLD = 64
"""Different sentences that are printed."""


class Scanner:
    """A server's messages, however often it has to be connected to.

    What it sends that cannot be used is counted in `figures`, and each reason is printed once.
    """

    def __init__(
        self, host: str, port: int, objection: Callable[[Header], str], figures: dict[str, Any]
    ) -> None:
        """`objection` returns why a message is left out, and "" for one that is to be read."""
        # What it was registered as says more to people than a relay's address.
        self.place = text("source_shown", f"{host}:{port}")
        self.problem = "it has not been connected to"  # why no message comes, for people
        self._address, self._objection, self._figures = (host, port), objection, figures
        self._told: set[str] = set()

    def messages(self) -> Iterator[tuple[Header, bytearray, memoryview]]:
        """Yield the messages that are wanted, for ever: header, whole message, and the body in it."""
        pause = FIRST_PAUSE
        while True:
            try:
                for found in self._connection():
                    pause = FIRST_PAUSE
                    yield found
            except (OSError, ValueError) as exc:
                self.problem = str(exc) or type(exc).__name__
            if pause == FIRST_PAUSE:  # and not in each of several tries in vain
                self._print(f"no connection: {self.problem}; tried again until it is back")
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def refuse(self, why: str) -> None:
        """Count a message that cannot be used, and say why if nobody has."""
        self._figures["refused"] += 1
        self._tell(why)

    def _tell(self, sentence: str) -> None:
        """Print a sentence once."""
        if sentence not in self._told and len(self._told) < MOST_TOLD:
            self._told.add(sentence)
            self._print(sentence)

    def _print(self, sentence: str) -> None:
        print(f"openigtlink-in: {self.place}: {sentence}", file=sys.stderr, flush=True)

    def _connection(self) -> Iterator[tuple[Header, bytearray, memoryview]]:
        """Connect and yield what is wanted, until the connection is lost: raise OSError, ValueError."""
        with open_connection(*self._address, CONNECTS) as sock:
            sock.settimeout(None)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in KEEPALIVE.items():
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
            self._figures["connects"] += 1
            self.problem = "it is connected, and has sent no picture that can be used"
            while True:
                yield from self._message(sock)

    def _message(self, sock: socket.socket) -> Iterator[tuple[Header, bytearray, memoryview]]:
        """Read a message, and yield it if it is wanted."""
        data = bytearray(HEADER.size)
        fill(sock, memoryview(data))
        try:
            header = Header(data)
        except ValueError as exc:
            raise ValueError(f"what it sends is not OpenIGTLink: {exc}") from exc
        why = self._objection(header)
        if header.body_bytes > MOST_BODY and not why:
            why = f"a message of {header.body_bytes} bytes is left out: {MOST_BODY} are the most"
        if why:
            self.refuse(why)
            discard(sock, header.body_bytes)
            return
        data += bytes(header.body_bytes)
        body = memoryview(data)[HEADER.size :]
        fill(sock, body)
        if crc64(body) == header.crc:
            yield header, data, body
            return
        self._figures["bad_crc"] += 1
        self._tell("messages whose checksum is wrong are left out (counted as bad_crc)")


def fill(sock: socket.socket, space: memoryview) -> None:
    """Receive as many bytes as there is space for. Raises `OSError`."""
    while space:
        received = sock.recv_into(space)
        if not received:
            raise ConnectionError("it has closed the connection")
        space = space[received:]


def discard(sock: socket.socket, count: int) -> None:
    """Receive bytes that nobody wants. Raises `OSError`."""
    scrap = memoryview(bytearray(SCRAP))
    while count:
        piece = scrap[: min(count, SCRAP)]
        fill(sock, piece)
        count -= len(piece)


def shut(sock: socket.socket) -> None:
    """Close a socket that another thread may be using."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()
