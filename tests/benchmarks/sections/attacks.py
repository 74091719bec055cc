# SPDX-License-Identifier: MIT
"""What a neighbour's pings take while others attack the daemon, and how soon it acts on SIGTERM then.

Each attack has a daemon of its own, as it is shipped. First nobody is there but the neighbour; then as many
processes as attack later keep the machine busy and ask for nothing; then they attack. What a ping takes says
what the neighbour feels, and how long the daemon worked meanwhile says how much of that is its doing: that is
the same however busy the machine is.

    python attacks.py SECONDS [NAME …]      these attacks only
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from attacker import ALL, BEFORE_LOGIN, ON_TLS, line
from daemons import (
    PATIENCE,
    PROGRAMS,
    BenchFailed,
    Daemon,
    cpu_seconds,
    many_files,
    operatord_in,
    process,
    scratch,
    until,
)
from tables import Table
from tls import guarded

ATTACKERS = 2
"""Processes that attack: one for each core of the machine of the figures."""
WARM_UP = 0.5
"""Seconds that an attack takes until it is in full swing."""
SESSIONS = 2
"""Sessions that there is room for."""
AHEAD = 50
"""Requests on their way at once while a daemon is prepared."""
CONFIG = {"limits": {"sessions": SESSIONS, "queue": 10_000}}
LEAST = 0.01
"""MiB that any growth counts as: there is no ratio to nothing."""
CALM, BUSY = "undisturbed", "busy machine"


class Ping(NamedTuple):
    """Milliseconds: what it took, and what the daemon worked meanwhile."""

    taken: float
    work: float


class Neighbour:
    """Whoever pings the daemon all the while."""

    def __init__(self, child: subprocess.Popen[bytes], log: Path) -> None:
        self._child, self._log = child, log

    def pings(self, seconds: float) -> list[Ping]:
        """Return the pings that are answered in so many seconds, and the one that is under way then."""
        begin = len(self._lines())
        time.sleep(seconds)
        end = len(self._lines())
        deadline = time.monotonic() + PATIENCE
        while len(lines := self._lines()) <= end:
            if self._child.poll() is not None or time.monotonic() > deadline:
                raise BenchFailed(f"the neighbour is not answered: {self._log.read_text()[-300:]}")
            time.sleep(0.01)
        return [Ping(*map(float, each.split())) for each in lines[begin:]]

    def _lines(self) -> list[str]:
        return self._log.read_text("ascii").split("\n")[:-1]


class Tables:
    """The four tables, to which each attack adds a row."""

    def __init__(self, seconds: float) -> None:
        beside = f"beside {ATTACKERS} attackers, pings for {seconds:g} s"
        self.taken = Table("attacks.ping", f"a neighbour's ping {beside}", "ms", CALM, paired=False)
        work = f"the daemon's processor time during a ping, {beside}"
        self.work = Table("attacks.work", work, "ms", CALM, paired=False)
        self.term = Table("attacks.sigterm", "until SIGTERM is acted on", "ms", CALM, paired=False)

        grown = f"what the daemon's memory has grown by, {beside}"
        self.memory = Table("attacks.memory", grown, "MiB", CALM, paired=False)

    def add(self, row: str, pings: Sequence[Ping], term: Ping | None = None) -> None:
        """Add what was measured in one attack, or while nobody attacked."""
        self.taken.add(row, *(ping.taken for ping in pings))
        self.work.add(row, *(ping.work for ping in pings))
        if term is not None:
            self.term.add(row, term.taken)

    def add_growth(self, row: str, grown: int) -> None:
        """Add by how many bytes memory has grown."""
        self.memory.add(row, max(grown / 1024**2, LEAST))

    def all(self) -> list[Table]:
        """Return them, with the longest pings as notes: no percentile of a few hundred shows these."""
        for table in (self.taken, self.work):
            longest = (f"{name} {max(values):.0f}" for name, values in table.samples.items())
            table.notes.append(f"the longest: {', '.join(longest)}")
        return [self.taken, self.work, self.term, self.memory]


def measure(seconds: float, names: Sequence[str] = ()) -> list[Table]:
    """Return the pings without and with each attack, the daemon's work meanwhile, and SIGTERM's time."""
    tables = Tables(seconds)
    with scratch() as folder:
        with operatord_in(folder, "process", CONFIG) as daemon:
            _prepare(daemon, small=bool(names))
            tables.add(CALM, [], _time_to_end(daemon))
        for name in names or ALL:
            _attack(folder, name, seconds, tables)
    return tables.all()


class Target(NamedTuple):
    """A daemon, and where it is attacked."""

    daemon: Daemon
    at: tuple[str, int]
    token: str = ""
    """What the neighbour logs in with."""

    def memory(self) -> int:
        """Return the bytes of the daemon's memory."""
        found: int = psutil.Process(self.daemon.pid).memory_info().rss
        return found


@contextlib.contextmanager
def _target(folder: Path, name: str) -> Iterator[Target]:
    """Run what one attack needs."""
    if name in BEFORE_LOGIN or name in ON_TLS:
        with scratch() as own, guarded(own, "process", CONFIG) as found:
            at = found.tls if name in ON_TLS else found.daemon.address
            yield Target(found.daemon, at, found.token)
    else:
        with operatord_in(folder, "process", CONFIG) as daemon:
            daemon.call("session.start", plain_stream=True)
            yield Target(daemon, daemon.address)


def _attack(folder: Path, name: str, seconds: float, tables: Tables) -> None:
    with _target(folder, name) as target, _neighbour(target) as neighbour:
        before = target.memory()
        tables.add(CALM, neighbour.pings(seconds))
        tables.add_growth(CALM, target.memory() - before)
        with _crew("spin", target):
            tables.add(BUSY, neighbour.pings(seconds))
        with _crew(name, target):
            pings = neighbour.pings(seconds)
            tables.add_growth(name, target.memory() - before)
            tables.add(name, pings, _time_to_end(target.daemon))


def _prepare(daemon: Daemon, *, small: bool) -> None:
    """Have sessions that are remembered, and events: as many as a daemon keeps, or a few."""
    ended, drains = (10, 10) if small else (1000, 4500)
    for _ in range(SESSIONS):
        daemon.call("session.start", plain_stream=True)
    accepted = [line("session.start", wait="accepted")] * ended
    queued = [reply["session_id"] for reply in _replies(daemon, accepted)]
    _replies(daemon, [line("session.stop", session_id=each) for each in queued])
    _replies(daemon, [line("system.drain"), line("system.undrain")] * drains)


def _replies(daemon: Daemon, lines: Sequence[bytes]) -> list[dict[str, Any]]:
    """Return the results of requests, sent a few at a time."""
    found = []
    with socket.create_connection(daemon.address, PATIENCE) as sock, sock.makefile("rb") as file:
        for begin in range(0, len(lines), AHEAD):
            some = lines[begin : begin + AHEAD]
            sock.sendall(b"".join(some))
            found += [json.loads(file.readline()) for _ in some]
    return [reply["result"] for reply in found]


def _time_to_end(daemon: Daemon) -> Ping:
    """Return what it takes until SIGTERM is acted on, which the daemon says first of all."""
    begun, used = time.perf_counter(), cpu_seconds(daemon.pid)
    os.kill(daemon.pid, signal.SIGTERM)
    while b"SIGTERM: stopping" not in daemon.log.read_bytes():
        if time.perf_counter() - begun > PATIENCE:
            raise BenchFailed("SIGTERM is not acted on")
        time.sleep(0.001)
    taken, work = time.perf_counter() - begun, cpu_seconds(daemon.pid) - used
    return Ping(taken * 1000, work * 1000)


@contextlib.contextmanager
def _crew(name: str, target: Target) -> Iterator[None]:
    """Have so many processes do the same to a daemon."""
    path = PROGRAMS / "attacker.py"
    command = [sys.executable, str(path), name, *map(str, target.at)]
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(scratch())
        for number in range(ATTACKERS):
            log = folder / str(number)
            child = stack.enter_context(process(*command, log=log))
            until(child, log, lambda said: b"attacking" in said)
        time.sleep(WARM_UP)
        yield


@contextlib.contextmanager
def _neighbour(target: Target) -> Iterator[Neighbour]:
    path = PROGRAMS / "neighbour.py"
    command = [sys.executable, str(path), *map(str, target.daemon.address)]
    command += [str(target.daemon.pid), *([target.token] if target.token else [])]
    with scratch() as folder:
        log = folder / "pings"
        with process(*command, log=log) as child:
            until(child, log, lambda said: b"\n" in said)
            yield Neighbour(child, log)


if __name__ == "__main__":
    many_files()
    for table in measure(float(sys.argv[1]), sys.argv[2:]):
        print(*table.lines(), "", sep="\n")
