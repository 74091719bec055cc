# SPDX-License-Identifier: MIT
"""Many connections at once, each of which pings, reads the answer, and pings again; the result as JSON.

    python crowd.py HOST PORT CONNECTIONS PINGS

Nothing but epoll and non-blocking sockets, so that the server is what is measured. All connections are
made before the clock runs.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # daemons, tables
sys.path.append(str(Path(__file__).resolve().parents[1] / "sections"))  # control

from control import REQUEST

PATIENCE = 60.0


class Crowd:
    """The connections, by file descriptor, and what each is still owed."""

    def __init__(self, address: tuple[str, int], connections: int, pings: int) -> None:
        self._line = REQUEST % 1
        self._socks: dict[int, socket.socket] = {}
        self._poll = select.epoll()
        for _ in range(connections):
            self._join(socket.create_connection(address, PATIENCE))
        self._owed = dict.fromkeys(self._socks, pings)

    def _join(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Answered once: then the server has accepted it, and not only its kernel.
        sock.sendall(self._line)
        while not sock.recv(4096).endswith(b"\n"):
            pass
        sock.setblocking(False)
        self._socks[sock.fileno()] = sock
        self._poll.register(sock, select.EPOLLIN)

    def run(self) -> list[float]:
        """Return the seconds after which each connection had all its answers, in that order."""
        done: list[float] = []
        begun = time.perf_counter()
        for sock in self._socks.values():
            sock.send(self._line)
        while len(done) < len(self._socks):
            for number, _ in self._poll.poll(PATIENCE):
                if self._answered(number):
                    done.append(time.perf_counter() - begun)
        return done

    def _answered(self, number: int) -> bool:
        """Take an answer, or a part of one, and send the next request; tell whether it was the last."""
        sock = self._socks[number]
        data = sock.recv(4096)
        if not data:
            raise ConnectionResetError("the server closed a connection")
        if not data.endswith(b"\n"):
            return False
        self._owed[number] -= 1
        if self._owed[number]:
            sock.send(self._line)
        return self._owed[number] == 0


if __name__ == "__main__":
    host, port, connections, pings = sys.argv[1:]
    print(json.dumps(Crowd((host, int(port)), int(connections), int(pings)).run()))
