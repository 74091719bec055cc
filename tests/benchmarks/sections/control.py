# SPDX-License-Identifier: MIT
"""The control plane against a bare echo: requests a second, and how long one takes.

The load comes from one blocking socket: prebuilt batches go out, newlines are counted as they come
back, and nothing is parsed. A crowd of connections is a process of its own (`crowd.py`). Both servers
get the same bytes, in turn, in processes of their own.

The servers have one core and the load has another: left alone, a kernel puts two processes that wake
each other on one core or on two, for rounds at a time, and the same echo answers 8,000 or 20,000 pings.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack

from daemons import PATIENCE, PROGRAMS, BenchFailed, operatord, script
from tables import Table

REQUEST = b'{"jsonrpc":"2.0","id":%d,"method":"system.ping"}\n'
BATCH = 100
"""Requests in one batch."""
AHEAD = 8
"""Batches on their way at once, so that the server never waits for the load."""
CROWD = 1000
"""Connections at once."""
OURS, ECHO = "operatord", "bare echo"


class Load:
    """One connection, and what it sends."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._batch = b"".join(REQUEST % number for number in range(BATCH))

    @classmethod
    def connect(cls, address: tuple[str, int]) -> Load:
        sock = socket.create_connection(address, PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(sock)

    def close(self) -> None:
        self._sock.close()

    def one_by_one(self, requests: int) -> list[float]:
        """Return the seconds that each of ``requests`` took, sent when the one before was answered."""
        taken, line = [], REQUEST % 1
        for _ in range(requests):
            begun = time.perf_counter()
            self._sock.sendall(line)
            self._receive(1)
            taken.append(time.perf_counter() - begun)
        return taken

    def batches(self, count: int, ahead: int) -> float:
        """Return requests a second with ``ahead`` batches on their way all the time."""
        begun = time.perf_counter()
        self._sock.sendall(self._batch * ahead)
        owed = ahead * BATCH
        for _ in range(count - ahead):
            owed = self._receive(owed, down_to=(ahead - 1) * BATCH)
            self._sock.sendall(self._batch)
            owed += BATCH
        self._receive(owed)
        return count * BATCH / (time.perf_counter() - begun)

    def _receive(self, owed: int, down_to: int = 0) -> int:
        """Read until at most ``down_to`` of ``owed`` answers are missing; return how many are."""
        while owed > down_to:
            data = self._sock.recv(1 << 18)
            if not data:
                raise BenchFailed("the connection was closed under load")
            owed -= data.count(b"\n")
        return owed


def measure(rounds: int, short: bool) -> list[Table]:
    """Return rates and latencies of both, round about."""
    singles, batches = (50, 20) if short else (1000, 200)
    rate = Table("control.unpipelined", "system.ping, one at a time", "requests/s", ECHO)
    latency = Table("control.latency", "system.ping, time for one", "µs", ECHO, paired=False)
    pairs = Table("control.batches", f"system.ping, {BATCH} at a time", "requests/s", ECHO)
    flood = Table("control.saturated", f"system.ping, {AHEAD} × {BATCH} ahead", "requests/s", ECHO)
    for table in (rate, pairs, flood):
        table.more_is_better = True
    rate.notes.append("both servers on one core, the load on the others")
    flood.notes.append("the echo decodes and encodes each line, checks nothing and does nothing")
    limits = {"limits": {"connections": CROWD + 10}}
    with ExitStack() as stack:
        own = stack.enter_context(core_for_servers())
        daemon = stack.enter_context(operatord("process", limits))
        addresses = {OURS: daemon.address, ECHO: stack.enter_context(script("echo.py"))}
        os.sched_setaffinity(0, own)
        loads = {
            name: stack.enter_context(contextlib.closing(Load.connect(address)))
            for name, address in addresses.items()
        }
        for load in loads.values():
            load.batches(batches, AHEAD)
        for _ in range(rounds):
            for name, load in loads.items():
                taken = load.one_by_one(singles)
                rate.add(name, singles / sum(taken))
                latency.add(name, *(seconds * 1e6 for seconds in taken))
            for name, load in loads.items():
                pairs.add(name, load.batches(batches, 1))
            for name, load in loads.items():
                flood.add(name, load.batches(batches, AHEAD))
        crowds = _crowds(addresses, max(1, rounds // 3), short)
    return [rate, latency, pairs, flood, *crowds]


@contextlib.contextmanager
def core_for_servers() -> Iterator[set[int]]:
    """Have processes started on one core, until this one is moved to the others, which it is given."""
    before = os.sched_getaffinity(0)
    last = {max(before)}
    os.sched_setaffinity(0, last)
    try:
        yield before - last or last
    finally:
        os.sched_setaffinity(0, before)


def _crowds(addresses: Mapping[str, tuple[str, int]], rounds: int, short: bool) -> list[Table]:
    """Return what many connections get together, and how evenly; round about."""
    connections, pings = (50, 10) if short else (CROWD, 30)
    each = f"{connections:,} connections, each {pings} pings one at a time"
    rate = Table("control.crowd", each, "requests/s", ECHO, more_is_better=True)
    even = Table("control.fairness", f"{each}: time of the slowest ÷ of the quickest", "×", ECHO)
    even.notes.append("1.0: all connections are served alike")
    for _ in range(rounds):
        for name, address in addresses.items():
            done = _crowd(address, connections, pings)
            rate.add(name, connections * pings / done[-1])
            even.add(name, done[-1] / done[0])
    return [rate, even]


def _crowd(address: tuple[str, int], connections: int, pings: int) -> list[float]:
    """Return the seconds after which each connection had all its answers, the quickest first."""
    command = [sys.executable, str(PROGRAMS / "crowd.py"), *map(str, address)]
    command += [str(connections), str(pings)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    if done.returncode:
        raise BenchFailed(f"{connections} connections: {done.stderr.strip()}")
    finished: list[float] = json.loads(done.stdout)
    return finished
