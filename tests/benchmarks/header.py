# SPDX-License-Identifier: MIT
"""The one proof of readiness that all competitors are held to: a stream header at the requester."""

from __future__ import annotations

import socket
import time

from daemons import PATIENCE, BenchFailed

PAUSE = 0.005


def first_header(host: str, port: int) -> bytes:
    """Connect, again and again where nobody serves yet, until a header line comes; return it."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((host, port), PATIENCE) as sock:
                if line := _line(sock):
                    return line
        except OSError:
            pass  # a refused connection, or a proxy's that nobody took
        time.sleep(PAUSE)
    raise BenchFailed(f"no stream at {host}:{port} within {PATIENCE:g} s")


def _line(sock: socket.socket) -> bytes:
    received = b""
    while not received.endswith(b"\n"):
        byte = sock.recv(1)
        if not byte:
            return b""
        received += byte
    if b'"hello"' not in received:
        raise BenchFailed(f"not a stream header: {received!r}")
    return received
