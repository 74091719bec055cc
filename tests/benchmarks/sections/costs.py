# SPDX-License-Identifier: MIT
"""What a call costs the daemon: processor time, pipelined, and how many pings' worth that is.

All in one run against one daemon, on the tests' engine in memory: with sessions that live and others that
are remembered, each asked for in turn, so that it is never the same question twice in a row.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
from collections.abc import Iterator
from typing import Any, NamedTuple

from daemons import PATIENCE, BenchFailed, Daemon, cpu_seconds, scratch, served
from tables import Table

PING = "system.ping"
METRICS = "system.metrics"
FIFTY = f"fifty of {PING}"
LIVING = 100
"""Sessions that run."""
MANY = 1000
"""Sessions that run while `system.metrics` is asked for."""
ENDED = 1000
"""Sessions that have ended and are remembered."""
BATCH = 100
"""Requests that are sent together."""
AHEAD = 800
"""Requests on their way at once, as in the benchmark of `system.ping` alone."""


class Ask(NamedTuple):
    """A row: what is asked, how often in a round, and how many sessions one answer lists."""

    name: str
    lines: list[bytes]
    calls: int
    listed: int = 1


def measure(rounds: int, short: bool) -> list[Table]:
    """Return processor time a call, and what that is in pings."""
    living, ended = (10, 20) if short else (LIVING, ENDED)
    title = f"processor time a call, pipelined, {living} sessions, {ended:,} remembered"
    table = Table("control.cost", title, "µs", PING)
    table.notes.append("session.list: for each session listed; plans all differ; gets go round")
    with _daemon() as daemon:
        ids = _sessions(daemon, living, ended)
        asks = _asks(ids, short)
        for ask in asks:
            _processor_time(daemon, ask)
        for _ in range(rounds):
            for ask in asks:
                seconds = _processor_time(daemon, ask)
                table.add(ask.name, seconds / ask.calls / ask.listed * 1e6)
        return [table, _metrics(daemon, rounds, len(ids), short)]


def _metrics(daemon: Daemon, rounds: int, living: int, short: bool) -> Table:
    """Return what `system.metrics` takes of the daemon, while very many sessions live."""
    many, calls = (living, 20) if short else (MANY, 200)
    for _ in range(many - living):
        daemon.call("session.start")
    title = f"processor time of an answer, one at a time, {many:,} sessions"
    table = Table("control.metrics", title, "µs", FIFTY)
    for _ in range(rounds):
        for name, asked, times in (
            (FIFTY, PING, 50),
            (METRICS, METRICS, 1),
            ("system.status", "system.status", 1),
        ):
            seconds = _one_at_a_time(daemon, _line(asked), calls * times)
            table.add(name, seconds / calls * 1e6)
    return table


def _one_at_a_time(daemon: Daemon, line: bytes, calls: int) -> float:
    """Return the seconds of processor time that the calls took, each sent when the last one was answered."""
    with socket.create_connection(daemon.address, PATIENCE) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        before = cpu_seconds(daemon.pid)
        for _ in range(calls):
            sock.sendall(line)
            while not _lines(sock):
                pass
        return cpu_seconds(daemon.pid) - before


@contextlib.contextmanager
def _daemon() -> Iterator[Daemon]:
    with scratch() as folder, served("fake_daemon.py", str(folder)) as (address, pid):
        yield Daemon(address, "test", pid)


def _sessions(daemon: Daemon, living: int, ended: int) -> list[str]:
    """Have so many sessions, and return the ids of those that live."""
    for _ in range(ended):
        session = daemon.call("session.start")
        daemon.call("session.stop", session_id=session["session_id"])
    return [daemon.call("session.start")["session_id"] for _ in range(living)]


def _asks(ids: list[str], short: bool) -> list[Ask]:
    calls, page = (200, 10) if short else (4000, 100)
    few = max(BATCH, calls // 20)
    plans = [{"count": 1000 + number} for number in range(calls)]
    return [
        Ask(PING, [_line(PING)], 5 * calls),
        Ask("session.get", [_line("session.get", session_id=each) for each in ids], calls),
        Ask("session.plan", [_line("session.plan", **each) for each in plans], calls),
        Ask("system.status", [_line("system.status")], calls),
        Ask("system.describe", [_line("system.describe")], few),
        Ask("session.list, living", [_line("session.list", phase="running")], few, len(ids)),
        Ask("session.list, ended", [_line("session.list", phase="ended", limit=page)], few, page),
        Ask("a method that is none", [_line(f"session.{each:x}") for each in range(calls)], few),
    ]


def _line(method: str, **params: Any) -> bytes:
    request: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": method}
    if params:
        request["params"] = params
    return json.dumps(request, separators=(",", ":")).encode() + b"\n"


def _processor_time(daemon: Daemon, ask: Ask) -> float:
    """Return the seconds of processor time that the calls of ``ask`` took, so many on their way at once."""
    lines = itertools.cycle(ask.lines)
    with socket.create_connection(daemon.address, PATIENCE) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        before, owed = cpu_seconds(daemon.pid), 0
        for _ in range(ask.calls // BATCH):
            sock.sendall(b"".join(itertools.islice(lines, BATCH)))
            owed += BATCH
            while owed > AHEAD - BATCH:
                owed -= _lines(sock)
        while owed:
            owed -= _lines(sock)
        return cpu_seconds(daemon.pid) - before


def _lines(sock: socket.socket) -> int:
    """Wait for something, and return how many lines ended in it."""
    data = sock.recv(1 << 18)
    if not data:
        raise BenchFailed("the connection was closed under load")
    return data.count(b"\n")
