# SPDX-License-Identifier: MIT
"""What all competitors are held to: a stream header, or a frame's header, at the requester."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from daemons import PATIENCE, BenchFailed

PAUSE = 0.005


def first_header(host: str, port: int) -> float:
    """Connect, again and again where nobody serves yet, until a header line comes; return when."""
    return _first(host, port, _hello)[0]


def first_frame(host: str, port: int) -> tuple[float, float]:
    """Do the same, on to a frame's header line; return when each of the two came."""
    header, frame = _first(host, port, _frame)
    return header, frame


def _first(
    host: str, port: int, read: Callable[[socket.socket], tuple[float, ...]]
) -> tuple[float, ...]:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((host, port), PATIENCE) as sock:
                return read(sock)
        except OSError:
            pass  # a refused connection, or a proxy's that nobody took
        time.sleep(PAUSE)
    raise BenchFailed(f"no stream at {host}:{port} within {PATIENCE:g} s")


def _frame(sock: socket.socket) -> tuple[float, float]:
    return (*_hello(sock), _line(sock, b'"frame"'))


def _hello(sock: socket.socket) -> tuple[float]:
    return (_line(sock, b'"hello"'),)


def _line(sock: socket.socket, kind: bytes) -> float:
    """Read one line and nothing beyond; return when it was there. Raises `BenchFailed` for another kind."""
    received = b""
    while not received.endswith(b"\n"):
        byte = sock.recv(1)
        if not byte:
            raise ConnectionResetError("the stream ended before its first lines")
        received += byte
    moment = time.perf_counter()
    if kind not in received:
        raise BenchFailed(f"{received!r} has no {kind!r}")
    return moment
