# SPDX-License-Identifier: MIT
"""Ping a daemon on one connection until SIGTERM, and write a line for each ping as soon as it is answered.

    python neighbour.py HOST PORT PID [TOKEN]

The line has two numbers: the milliseconds that the ping took, and the milliseconds of processor time that the
daemon used meanwhile, for whomever. On a machine that is busy with other things the second is what counts.
"""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # daemons, tables
sys.path.append(str(Path(__file__).resolve().parents[1] / "sections"))  # control

from control import REQUEST
from daemons import cpu_seconds, log_in

from operatord.machine.latency import ask_for_short_slices

PAUSE = 0.005
"""Seconds between an answer and the next request."""


def main(host: str, port: str, pid: str, token: str = "") -> None:
    """Ping for ever."""
    line, daemon = REQUEST % 1, int(pid)
    ask_for_short_slices()  # or what it waits for a core is counted, too
    with socket.create_connection((host, int(port))) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if token:
            log_in(sock, token)
        while True:
            begun, used = time.perf_counter(), cpu_seconds(daemon)
            sock.sendall(line)
            while not (data := sock.recv(4096)).endswith(b"\n"):
                if not data:
                    raise ConnectionResetError("the daemon closed the connection")
            taken, work = time.perf_counter() - begun, cpu_seconds(daemon) - used
            print(f"{taken * 1000:.3f} {work * 1000:.3f}", flush=True)
            time.sleep(PAUSE)


if __name__ == "__main__":
    main(*sys.argv[1:])
