# SPDX-License-Identifier: MIT
"""What a daemon takes that waits: memory and processor time, at rest, for connections and for sessions.

What a connection or a session costs is the difference between few and many of them, so that nothing
counts that is paid once: the allocator's first arenas, modules loaded late, threads.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from control import ECHO, OURS, REQUEST
from daemons import (
    PATIENCE,
    PROGRAMS,
    BenchFailed,
    Daemon,
    cpu_seconds,
    many_files,
    operatord,
    resident_kib,
    scratch,
    served,
)
from engine_api import EngineApi
from on_docker import operatord_on_docker, shipped
from tables import Table
from warm import await_slots

RESERVE = 500
"""Open files for everything but connections."""
WARM = "operatord, 2 warm slots"
BOTH, FAKE, DIFFERENCE = (
    "operatord and fake engine",
    "fake engine alone",
    "operatord: the difference",
)


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    settle: float
    """Seconds in which a daemon that was just busy comes to rest."""
    idle: float
    """Seconds at rest."""
    connections: tuple[int, int]
    sessions: tuple[int, int]


FULL = Size(settle=0.5, idle=20.0, connections=(500, 5500), sessions=(50, 250))
SHORT = Size(settle=0.1, idle=1.0, connections=(50, 550), sessions=(10, 110))


def measure(engine: EngineApi, url: str, short: bool) -> list[Table]:
    """Return what it takes, in a table for each unit."""
    size = SHORT if short else FULL
    memory = Table("footprint.memory", "at rest: resident memory", "MiB", ECHO)
    work = Table("footprint.cpu", "at rest: processor time", "% of a core", WARM)
    work.notes += [
        f"over {size.idle:g} s each. Slots: on a Docker engine. Connections: on the process engine.",
        "Sessions: on the tests' engine in memory, whose own work counts as well",
    ]
    pipelines = {"segmented": shipped("segmented", warm=2)}
    config = {"pipelines": pipelines, "pressure": {"cpu": None}}
    with operatord_on_docker(engine, url, config) as daemon, served("echo.py") as (_, echo):
        await_slots(daemon)
        time.sleep(size.settle)
        work.add(WARM, 100 * _busy(daemon.pid, size.idle))
        memory.add(WARM, resident_kib(daemon.pid) / 1024)
        memory.add(ECHO, resident_kib(echo) / 1024)
    connections, sessions = _connections(size, work), _sessions(size, work)
    return [memory, work, connections, sessions]


def _busy(pid: int, seconds: float) -> float:
    """Return the share of one core that a process uses."""
    used, begun = cpu_seconds(pid), time.monotonic()
    time.sleep(seconds)
    return (cpu_seconds(pid) - used) / (time.monotonic() - begun)


def _connections(size: Size, work: Table) -> Table:
    first, last = size.connections
    last = min(last, many_files() - RESERVE)
    title = "an idle connection: resident memory of the server"
    table = Table("footprint.connection", title, "KiB", ECHO)
    table.notes.append(f"from {first:,} to {last:,} connections, each of which has pinged once")
    limits = {"limits": {"connections": last + 10}}
    with operatord("process", limits) as daemon, served("echo.py") as (address, pid):
        for row, where, process in ((OURS, daemon.address, daemon.pid), (ECHO, address, pid)):
            with ExitStack() as held:
                _connect(held, where, first)
                before = _at_rest(process, size)
                _connect(held, where, last - first)
                table.add(row, (_at_rest(process, size) - before) / (last - first))
                if row == OURS:
                    work.add(
                        f"operatord, {last:,} idle connections", 100 * _busy(process, size.idle)
                    )
    return table


def _connect(held: ExitStack, address: tuple[str, int], count: int) -> None:
    for _ in range(count):
        sock = held.enter_context(socket.create_connection(address, PATIENCE))
        sock.sendall(REQUEST % 1)
        if not sock.recv(4096):
            raise BenchFailed("the server takes no more connections")


def _at_rest(pid: int, size: Size) -> float:
    time.sleep(size.settle)
    return resident_kib(pid)


def _sessions(size: Size, work: Table) -> Table:
    first, last = size.sessions
    title = "a running session: resident memory of the daemon"
    table = Table("footprint.session", title, "KiB", BOTH)
    table.notes += [
        f"from {first} to {last} segmented sessions on the tests' engine in memory: as many containers would",
        "be a load of their own. It is part of the process, so what it takes alone is subtracted",
    ]
    with _fake_daemon() as daemon:
        _start(daemon, first)
        before = _at_rest(daemon.pid, size)
        _start(daemon, last - first)
        both = (_at_rest(daemon.pid, size) - before) / (last - first)
        work.add(f"operatord, {last:,} sessions", 100 * _busy(daemon.pid, size.idle))
    alone = _fake_alone(first, last)
    for row, value in ((BOTH, both), (FAKE, alone), (DIFFERENCE, both - alone)):
        table.add(row, value)
    return table


def _start(daemon: Daemon, count: int) -> None:
    for _ in range(count):
        daemon.call("session.start")


@contextlib.contextmanager
def _fake_daemon() -> Iterator[Daemon]:
    with scratch() as folder, served("fake_daemon.py", str(folder)) as (address, pid):
        yield Daemon(address, "test", pid)


def _fake_alone(first: int, last: int) -> float:
    script = PROGRAMS / "fake_daemon.py"
    with scratch() as folder:
        command = [sys.executable, str(script), str(folder), str(first), str(last)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    if done.returncode:
        raise BenchFailed(f"the engine in memory: {done.stderr.strip()}")
    return float(done.stdout)
