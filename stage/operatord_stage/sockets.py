# SPDX-License-Identifier: MIT
"""Listen and connect by names that may resolve only a little later, and see how far a peer has got."""

from __future__ import annotations

import errno
import fcntl
import socket
import sys
import termios
import time

from operatord_stage.stage import NO_NEIGHBOUR, Fault, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    T = TypeVar("T")


def keep_trying(attempt: Callable[[], T], what: str, seconds: float) -> T:
    """Return attempt()'s result, repeating it while the system refuses.

    Each pause is a tenth of what has been waited so far, 0.2 to 250 ms: whenever the neighbour
    comes, little time is lost over it.

    Raises:
        Fault: the time is over.
    """
    begun = time.monotonic()
    while True:
        try:
            return attempt()
        except OSError as exc:
            waited = time.monotonic() - begun
            pause = min(max(0.0002, waited / 10), 0.25)
            if waited + pause > seconds:
                raise Fault(NO_NEIGHBOUR, f"cannot {what} within {seconds} s: {exc}") from exc
        time.sleep(pause)


def resolve(host: str, port: int) -> list[Any]:
    """Look a name up, as socket.getaddrinfo does.

    For a name in str Python first loads its codec for names beyond ASCII, which takes milliseconds
    that nearly all names can do without.
    """
    name = host.encode() if host.isascii() else host
    return socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)


def listen(stage: str, host: str, port: int, seconds: float) -> socket.socket:
    """Listen on a name, which may resolve only a little later, and print where.

    Raises:
        Fault: the port is in use, or the name does not resolve within the seconds.
    """

    def bind() -> socket.socket:
        found = resolve(host, port)
        try:
            return socket.create_server(found[0][4][:2], family=found[0][0], backlog=128)
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE:
                raise
            raise Fault(NO_NEIGHBOUR, f"port {port} of {host} is in use") from exc

    server = keep_trying(bind, f"listen on {host}:{port}", seconds)
    address = server.getsockname()
    say(type="listening", stage=stage, host=address[0], port=address[1])
    return server


def receive_now(sock: socket.socket) -> bytes | None:
    """Return what the peer has sent, None for nothing so far, b"" once it sends no more."""
    try:
        return sock.recv(4096, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return None


def unconfirmed_bytes(sock: socket.socket) -> int:
    """Return how many bytes the peer's kernel has yet to confirm (tcp(7), SIOCOUTQ)."""
    return int.from_bytes(fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
