# SPDX-License-Identifier: MIT
"""Ping a server on one connection until SIGTERM; then print the milliseconds that each one took, as JSON.

    python pinger.py HOST PORT

The list is begun as soon as there is a connection: from then on it may be told to end.

A process of its own, so that what else the benchmark does meanwhile is in none of the times.
"""

from __future__ import annotations

import json
import signal
import socket
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # daemons, tables
sys.path.append(str(Path(__file__).resolve().parents[1] / "sections"))  # control

from control import REQUEST

PAUSE = 0.002
"""Seconds between an answer and the next request: it is to look on, not to be a load."""


def main(host: str, port: str) -> None:
    """Ping and print."""
    ending: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ending.append(number))
    taken, line = [], REQUEST % 1
    with socket.create_connection((host, int(port))) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        print("[", end="", flush=True)
        while not ending:
            begun = time.perf_counter()
            sock.sendall(line)
            while not sock.recv(4096).endswith(b"\n"):
                pass
            taken.append((time.perf_counter() - begun) * 1000)
            time.sleep(PAUSE)
    print(json.dumps(taken)[1:])


if __name__ == "__main__":
    main(*sys.argv[1:])
