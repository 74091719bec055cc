# SPDX-License-Identifier: MIT
"""Look at a session's stream through a gateway, so many at once, until SIGTERM.

    python viewers.py HOST PORT SESSION VIEWERS

Says ``looking`` once each has had some frames, and at the end how many they have had since, together. They
are counted and not looked at.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import struct
import sys

READ = 1 << 18
HELLO = """GET /sessions/{session}/stream HTTP/1.1\r
Host: {host}:{port}\r
Connection: Upgrade\r
Upgrade: websocket\r
Sec-WebSocket-Version: 13\r
Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r
\r
"""
WARM_UP = 10
"""Frames before it counts: the first one to look at a session is sent at once what was kept for it."""
TEXT, BINARY = 0x81, 0x82
OPEN = json.dumps({"type": "open"}).encode()


class Viewer:
    """A WebSocket, of whose messages only the headers are read."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.frames = -1  # the hello is a message as well
        self._head = b""
        self._left = 0  # bytes of the message that are to come

    @classmethod
    def connect(cls, host: str, port: int, session: str) -> Viewer:
        sock = socket.create_connection((host, port))
        sock.sendall(HELLO.format(host=host, port=port, session=session).encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += sock.recv(1)
        # Masked with zeros, which leave a text as it is.
        sock.sendall(bytes((TEXT, 0x80 | len(OPEN))) + bytes(4) + OPEN)
        return cls(sock)

    def take(self, data: memoryview) -> None:
        """Count the messages in what has come."""
        while data:
            if self._left:
                passed = min(self._left, len(data))
                self._left -= passed
                data = data[passed:]
                continue
            self._head += bytes(data[:1])
            data = data[1:]
            self._begin()

    def _begin(self) -> None:
        """Begin a message, if all of its header has come."""
        head = self._head
        short = head[1] if len(head) > 1 else 0
        size = {126: 4, 127: 10}.get(short, 2)
        if len(head) < size:
            return
        self._left = {2: short, 4: 0, 10: 0}[size]
        if size > 2:
            self._left = struct.unpack(">H" if size == 4 else ">Q", head[2:])[0]
        self.frames += head[0] == BINARY
        self._head = b""


def main() -> None:
    host, port, session, number = sys.argv[1:]
    viewers = [Viewer.connect(host, int(port), session) for _ in range(int(number))]
    ended, told = socket.socketpair()
    signal.signal(signal.SIGTERM, lambda *_: None)
    told.setblocking(False)
    signal.set_wakeup_fd(told.fileno())
    with contextlib.closing(selectors.DefaultSelector()) as selector:
        selector.register(ended, selectors.EVENT_READ)
        for viewer in viewers:
            selector.register(viewer.sock, selectors.EVENT_READ, viewer)
        before = look(selector, viewers)
    print(sum(viewer.frames for viewer in viewers) - before, flush=True)


def look(selector: selectors.BaseSelector, viewers: list[Viewer]) -> int:
    """Look until a signal comes; return how many frames there were when it was said that all look."""
    buffer = memoryview(bytearray(READ))
    before = -1
    while True:
        for key, _ in selector.select():
            if key.data is None:
                return before
            size = key.data.sock.recv_into(buffer)
            if not size:
                sys.exit("a viewer was closed")
            key.data.take(buffer[:size])
        if before < 0 and all(viewer.frames > WARM_UP for viewer in viewers):
            before = sum(viewer.frames for viewer in viewers)
            os.write(1, b"looking\n")


if __name__ == "__main__":
    main()
