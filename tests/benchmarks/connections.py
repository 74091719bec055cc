# SPDX-License-Identifier: MIT
"""Many connections to one daemon: what an idle one costs in memory, and how evenly busy ones are served.

python tests/benchmarks/connections.py [--idle 5000] [--busy 1000] [--seconds 5]
"""

from __future__ import annotations

import argparse
import contextlib
import math
import resource
import selectors
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from daemons import PATIENCE, BenchFailed, Daemon, operatord

PING = b'{"jsonrpc":"2.0","id":1,"method":"system.ping"}\n'
SETTLE = 2.0
"""Seconds after which a daemon that was just busy is taken to be at rest."""
RESERVE = 200
"""Descriptors for everything but connections."""


def main() -> int:
    """Measure both, print both, and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--idle", type=int, default=5000, help="idle connections")
    parser.add_argument("--busy", type=int, default=1000, help="busy connections")
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="for each measurement of the busy ones"
    )
    options = parser.parse_args()
    most = max(options.idle, options.busy) + RESERVE
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with operatord("process", {"limits": {"connections": most}}) as daemon:
        kib = memory(daemon, options.idle)
        print(
            f"{options.idle} idle connections: {kib:.2f} KiB of resident memory for each",
            flush=True,
        )
        for ahead in (1, 10, 100):
            done = rates(daemon, options.busy, ahead, options.seconds)
            text = (
                f"{options.busy} connections, {ahead} requests ahead: {sum(done):,.0f} requests/s"
            )
            print(f"{text}, fastest/slowest {spread(done):.2f}", flush=True)
    return 0


def spread(done: Sequence[float]) -> float:
    """Return how many times as much the fastest got as the slowest; infinite when that got nothing."""
    return max(done) / min(done) if min(done) else math.inf


def memory(daemon: Daemon, count: int) -> float:
    """Return the KiB by which each of ``count`` connections makes the daemon larger; each pings once."""
    with connected(daemon, 5) as first:
        for sock in first:
            ping(sock)
    time.sleep(SETTLE)
    before = resident(daemon.pid)
    with connected(daemon, count) as idle:
        for sock in idle:
            ping(sock)
        time.sleep(SETTLE)
        return (resident(daemon.pid) - before) / count


def resident(pid: int) -> int:
    """Return the resident memory of a process in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise BenchFailed(f"process {pid} has no memory any more")


@contextlib.contextmanager
def connected(daemon: Daemon, count: int) -> Iterator[list[socket.socket]]:
    """Open connections and close them when the block ends."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection(daemon.address, PATIENCE))
            for _ in range(count)
        ]


def ping(sock: socket.socket) -> None:
    """Ask once and wait for the answer. Raises `BenchFailed`."""
    sock.sendall(PING)
    answer = b""
    while not answer.endswith(b"\n"):
        data = sock.recv(4096)
        if not data:
            raise BenchFailed("the connection was closed")
        answer += data
    if b"pong" not in answer:
        raise BenchFailed(f"the answer was {answer!r}")


def rates(daemon: Daemon, count: int, ahead: int, seconds: float) -> list[float]:
    """Return the answers a second that each of ``count`` connections got, always ``ahead`` on their way."""
    with connected(daemon, count) as socks, selectors.DefaultSelector() as selector:
        for number, sock in enumerate(socks):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(sock, selectors.EVENT_READ, number)
        for sock in socks:
            sock.sendall(PING * ahead)
        return _exchange(selector, socks, ahead, seconds)


def _exchange(
    selector: selectors.BaseSelector, socks: Sequence[socket.socket], ahead: int, seconds: float
) -> list[float]:
    done, owed = [0] * len(socks), [ahead] * len(socks)
    begun = time.monotonic()
    while time.monotonic() < begun + seconds:
        for key, _ in selector.select(PATIENCE):
            number: int = key.data
            got = socks[number].recv(1 << 16).count(b"\n")
            if not got:
                raise BenchFailed("the connection was closed under load")
            done[number] += got
            owed[number] -= got
            if not owed[number]:
                socks[number].sendall(PING * ahead)
                owed[number] = ahead
    return [count / seconds for count in done]


if __name__ == "__main__":
    sys.exit(main())
